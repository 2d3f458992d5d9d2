"""A reward model: one number for an answer, learned from pairs of which one is better (Bradley and Terry 1952)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn.functional import linear

from polyana.config import Config, KeyPath, of_kind
from polyana.corpus import Split
from polyana.data import AnswerBatch, AnswerSequences, Batch, TokenData
from polyana.errors import UserError
from polyana.losses import bradley_terry
from polyana.models import AdapterConfig, head_weight, hidden_states, load_reward_model, padding_token
from polyana.storage import read_json
from polyana.tasks.answers import AnswersConfig, AnswersTask, item_facts, without_dropout
from polyana.tasks.fine_tune import begin_fine_tuning
from polyana.train import LossOutput, Precision, TrainingPlan

__all__ = ["RewardConfig", "RewardTask", "reward_task"]


class BradleyTerryConfig(Config):
    """How rewards are learned from pairs."""

    margin: float = Field(
        0.0,
        ge=0,
        description="times a pair's own margin (its `margin`, or the gap of its scores) by which the better answer "
        "should lead (Touvron et al. 2023, eq. 2)",
    )
    centering: float = Field(
        0.0, ge=0, description="keeps rewards near 0: times (r_w + r_l)^2 (Eisenstein et al. 2023: 0.01)"
    )


class RewardConfig(AnswersConfig):
    """Learn a reward model from pairs of answers, a number for any prompt and answer."""

    kind: Literal["reward"]
    adapter: Annotated[AdapterConfig, of_kind("lora")] = Field(default_factory=lambda: AdapterConfig(kind="full"))
    loss: BradleyTerryConfig = Field(default_factory=BradleyTerryConfig)

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.sample is not None:
            yield ("sample",), "a reward model writes nothing; leave it out"
        if self.good_from is not None:
            yield ("good_from",), "`good_from` makes labels, and rewards are learned from pairs; leave it out"


def reward_task(config: RewardConfig, data: TokenData, base: Path, seed: int, precision: Precision) -> RewardTask:
    """The base under a new head, with an adapter if the recipe wants one, and the pairs."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data.directory)
    ends = {*read_json(data.directory / "report.json")["end_of_turn"][-1:], tokenizer.eos_token_id} - {None}
    padding = padding_token(tokenizer, ends)

    def load(directory: Path) -> Any:
        model = load_reward_model(directory, seed, padding)
        without_dropout(model)
        return model

    model, tokenizer = begin_fine_tuning(config, data, base, seed, precision, load)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    sequences = partial(_sequences, config, data, seed, padding)
    train, held_out = sequences("train"), sequences("eval")
    if config.loss.margin and not train.facts["margin"].any():
        raise UserError(
            f"`margin: {config.loss.margin:g}` is times a pair's own margin, and no pair has one; leave it out, or "
            "give rows a `margin`, or scores"
        )
    return RewardTask(
        config, model, tokenizer, train, held_out if held_out.held else None, None, precision,
        data.directory, base,
    )  # fmt: skip


def _sequences(config: RewardConfig, data: TokenData, seed: int, padding: int, split: Split) -> AnswerSequences:
    facts = item_facts(data, split)
    return AnswerSequences(data.shards(split), config.sequence_length, seed, padding=padding, facts=facts)


class RewardTask(AnswersTask):
    """The Bradley-Terry loss of pairs."""

    _config: RewardConfig

    def loss(self, batch: Batch) -> LossOutput:
        assert isinstance(batch, AnswerBatch)
        ends_AD = hidden_states(
            self.model, batch.tokens_N, batch.position_N, batch.lengths, batch.after, batch.weight_N != 0
        )
        with torch.autocast(ends_AD.device.type, enabled=False):  # one number a text: nothing to save
            chosen_P, rejected_P = linear(ends_AD.float(), head_weight(self.model).float()).view(-1, 2).T
        weight_P, loss = batch.facts["weight"], self._config.loss
        margin_P = loss.margin * batch.facts["margin"]
        each_P = bradley_terry(chosen_P, rejected_P, margin_P, centering=loss.centering)
        with torch.no_grad():
            columns = {
                "rewards/chosen": chosen_P, "rewards/rejected": rejected_P, "rewards/margins": chosen_P - rejected_P,
                "rewards/accuracies": (chosen_P > rejected_P).float(), "rewards/mean": (chosen_P + rejected_P) / 2,
                "rewards/squared": (chosen_P.square() + rejected_P.square()) / 2,
            }  # fmt: skip
            metrics = {name: (float(column.sum()), float(len(column))) for name, column in columns.items()}
        return LossOutput((weight_P * each_P).sum(), float(weight_P.sum()), metrics=metrics)

    def sample(self) -> list[dict[str, str]]:
        return []

    def outlook(self, plan: TrainingPlan) -> list[str]:
        lines = super().outlook(plan)
        lines[1] = f"{plan.sequences:,} pairs in {plan.steps:,} steps of {plan.batch}; Bradley-Terry"
        return lines
