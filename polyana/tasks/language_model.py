"""Predicting the next token: what every kind of training of a language model shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from rich.text import Text

from polyana.config import Config, Duration, KeyPath, Tokens
from polyana.data import Batch, EvalSequences, TokenData, TrainSequences
from polyana.evaluate import evaluate_language_model
from polyana.generation import SampleConfig, generate
from polyana.losses import head_bytes, linear_cross_entropy_and_z_sum
from polyana.models import (
    Activations,
    activation_bytes,
    count_parameters,
    head_weight,
    hidden_states,
    save_settings,
    training_flops,
    transformer_blocks,
)
from polyana.train import (
    LossOutput,
    Precision,
    SaveConfig,
    SumOver,
    SumOverBatch,
    TrackConfig,
    TrainConfig,
    TrainingPlan,
    Verdict,
    sequences_in,
)

__all__ = ["EvalConfig", "LanguageModelTask", "TrainingStageConfig", "split_sequences"]


class EvalConfig(Config):
    """When held-out text is predicted; every save does it too."""

    every: Duration | None = Field(None, description="as `100 steps`; default: only before training and at each save")
    tokens: Tokens | None = Field(None, description="of the held-out text, as `100k tokens`; default: all of it")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.tokens is not None and self.tokens.amount < 2:
            yield ("tokens",), "a token is predicted from those before it, so at least 2 tokens are needed"


class TrainingStageConfig(Config):
    """What every stage that trains a model has."""

    kind: str
    train: TrainConfig = Field(default_factory=TrainConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    save: SaveConfig = Field(default_factory=SaveConfig, json_schema_extra={"watching": True})
    sample: SampleConfig | None = Field(None, json_schema_extra={"watching": True})
    track: TrackConfig = Field(default_factory=TrackConfig, json_schema_extra={"watching": True})

    @property
    def best_by(self) -> str:
        """The metric by which saves are ranked, `-metric` where higher is better."""
        return "eval/loss"

    @property
    def sequence_length(self) -> int:
        """Tokens that a training sequence holds at most."""
        raise NotImplementedError  # each kind has its own

    @property
    def needs_held_out(self) -> list[KeyPath]:
        """The settings that mean nothing where nothing is held out."""
        settings: dict[KeyPath, Any] = {
            ("train", "patience"): self.train.patience,
            ("eval", "every"): self.eval.every,
            ("eval", "tokens"): self.eval.tokens,
        }
        return [path for path, value in settings.items() if value is not None]

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.train.patience is not None and self.eval.every is None:
            yield ("train", "patience"), "`patience` counts evaluations; say when they are: `eval: {every: 100 steps}`"
        counts = {}
        for name in ("batch", "micro_batch"):
            quantity = getattr(self.train, name)
            if quantity is not None:
                try:
                    counts[name] = sequences_in(quantity, self.sequence_length)
                except ValueError as error:
                    yield ("train", name), f"`{name}`: {error}"
        if len(counts) == 2 and counts["batch"] % counts["micro_batch"]:
            batch, part = counts["batch"], counts["micro_batch"]
            near = " or ".join(str(number) for number in (batch // part * part, (batch // part + 1) * part) if number)
            yield (
                ("train", "batch"),
                f"`batch: {self.train.batch}` is not a multiple of `micro_batch: {self.train.micro_batch}`; try {near} "
                "sequences",
            )


def split_sequences(
    config: TrainingStageConfig, data: TokenData, seed: int
) -> tuple[TrainSequences, EvalSequences | None]:
    """The sequences of both splits; None where nothing is held out. Raises PolyanaError when there is too little text
    for one."""
    context, packing = config.sequence_length, config.train.packing
    limit = int(config.eval.tokens.amount) if config.eval.tokens is not None else None
    held_out = data.shards("eval")
    return (
        TrainSequences(data.shards("train"), context, packing, seed),
        EvalSequences(held_out, context, packing, limit) if len(held_out) > 1 else None,
    )


class LanguageModelTask:
    """Cross entropy of the next token."""

    def __init__(
        self,
        config: TrainingStageConfig,
        model: Any,
        tokenizer: Any,
        sequences: TrainSequences,
        held_out: EvalSequences | None,
        held_out_bytes: float | None,
        precision: Precision,
    ) -> None:
        """`held_out_bytes`: of the text that `held_out` stands for, where bits per byte are to be told."""
        self._config, self.model, self._tokenizer, self.precision = config, model, tokenizer, precision
        self._sequences, self._held_out, self._held_out_bytes = sequences, held_out, held_out_bytes

    @property
    def best_by(self) -> str:
        return self._config.best_by

    @property
    def blocks(self) -> list[torch.nn.Module]:
        return transformer_blocks(self.model)

    @property
    def per_epoch(self) -> int:
        return self._sequences.per_epoch

    @property
    def tokens_per_epoch(self) -> int:
        return self._sequences.tokens_per_epoch

    @property
    def context(self) -> int:
        return self._sequences.context

    def batch(self, first: int, count: int) -> Batch:
        return self._sequences.batch(first, count)

    def foresee(self, sum_over_batch: SumOverBatch) -> None:
        pass

    def loss(self, batch: Batch) -> LossOutput:
        targets_N, weight_N, labelled = batch.targets_N, batch.weight_N, batch.labelled
        counts_N = weight_N != 0 if labelled < batch.tokens else None  # only rows with a label reach the head
        hidden_ND = hidden_states(self.model, batch.tokens_N, batch.position_N, batch.lengths, read_N=counts_N)
        if counts_N is not None:
            targets_N, weight_N = targets_N[counts_N], weight_N[counts_N]
        if labelled and bool((weight_N == 1).all()):
            total, z = self._sums(hidden_ND, targets_N)
        else:  # what weighs the same together; and a part without a label has a graph too
            total, z = hidden_ND.sum() * 0.0, torch.zeros((), device=hidden_ND.device)
            for weight in torch.unique(weight_N).tolist():
                part, part_z = self._sums(hidden_ND[weight_N == weight], targets_N[weight_N == weight])
                total, z = total + weight * part, z + weight * part_z
        return LossOutput(total, float(weight_N.sum()), {"train/z_loss": z} if self._config.train.z_loss else {})

    def _sums(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return linear_cross_entropy_and_z_sum(
            hidden_ND, head_weight(self.model), targets_N, self.precision.dtype, self._config.train.z_loss
        )

    def activations(self, sequences: int) -> Activations:
        lengths, dtype = [self.context] * sequences, self.precision.dtype
        found = activation_bytes(self.model, self.blocks, lengths, dtype)
        vocabulary, width = head_weight(self.model).shape
        head = head_bytes(sum(lengths), vocabulary, width, dtype)
        return replace(found, rest=found.rest + head)

    def flops(self, batch: Batch) -> float:
        return training_flops(self.model, batch.lengths, batch.labelled, batch.after)

    def describe(self, batch: Batch) -> str:
        ids = self._sequences.shards.ids(set(batch.document_N.tolist()))
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        return f"the document{'s' if len(ids) > 1 else ''} {', '.join(ids[:5])}{more}"

    def evaluate(self, sum_over: SumOver) -> dict[str, float]:
        if self._held_out is None:
            return {}

        def total(batch: Batch) -> tuple[float, float]:
            output = self.loss(batch.to(self.precision.device))
            return float(output.reported), output.count

        return evaluate_language_model(total, self._held_out, self._held_out_bytes, sum_over)

    def score_answers(self, run: Path | None) -> dict[str, float]:  # noqa: ARG002  for tasks whose model is asked
        return {}

    def keep_answers(self, run: Path, step: int) -> None:
        pass

    def verdict(self, run: Path, step: int) -> Verdict | None:  # noqa: ARG002  for tasks that look back
        return None

    def conclude(self, run: Path, step: int) -> dict[str, Any]:  # noqa: ARG002  for tasks that have more to tell
        """What the summary of a run whose best step was `step` tells besides; `run`: its directory."""
        return {}

    def sample(self) -> list[dict[str, str]]:
        wanted = self._config.sample
        if wanted is None:
            return []
        return [
            {"prompt": prompt, "text": generate(self.model, self._tokenizer, asked, wanted),
             "form": "text" if asked == prompt else "chat"}
            for prompt, asked in ((prompt, self.prompt(prompt)) for prompt in wanted.prompts)
        ]  # fmt: skip

    def prompt(self, text: str) -> str | list[int]:
        """What the model is given to go on from, for a text that a person wrote."""
        return text

    def save_settings(self, directory: Path) -> None:
        save_settings(self.model, directory)
        self._tokenizer.save_pretrained(directory)

    def outlook(self, plan: TrainingPlan) -> list[str]:
        """What is about to happen, in the user's words."""
        parameters = count_parameters(self.model)
        ratio = plan.tokens / parameters
        # About 20 tokens a parameter give the best model for a budget of computation: Hoffmann et al. 2022, table 3.
        verdict = "near the about 20 that are best for a given amount of computation"
        if ratio < 10:
            verdict = "few: a smaller model or more text would do better with this much computation (about 20 is best)"
        elif ratio > 40:
            verdict = "many: a small model trained long, which is good for cheap use"
        return [
            f"{parameters:,} parameters",
            f"{plan.tokens:,} tokens in {plan.steps:,} steps of {plan.tokens / plan.steps:,.0f}",
            f"{ratio:.2g} tokens per parameter: {verdict}",
            f"{self.precision}",
            *plan.remarks(),
        ]

    def picture(self, batch: Batch, *, marks: bool = False) -> Text:
        """A batch for people: tokens apart by |, each document in its own colour, what is not learned dim: the first
        token of a text, for which nothing asks, and those whose prediction does not count. The last is seen by nobody,
        and learned. `marks`, where there are no colours: what is learned stands between « and »."""
        colours = ("cyan", "yellow", "green", "magenta", "blue", "red")
        picture = Text()
        for number, part in enumerate(batch.micro_batches(1), start=1):
            documents = part.document_N.tolist()
            names = self._sequences.shards.ids(documents)
            picture.append(f"sequence {number}: {part.tokens} tokens of {', '.join(names)}\n", "bold")
            end = 0
            for length in part.lengths:
                text, end = slice(end, end + length), end + length
                tokens = [int(part.tokens_N[text][0]), *part.targets_N[text].tolist()]
                weights, of = [0.0, *part.weight_N[text].tolist()], [*documents[text], documents[text][-1]]
                before: int | None = None
                learned = False
                for token, document, weight in zip(tokens, of, weights, strict=True):
                    if marks and bool(weight) != learned:
                        learned = not learned
                        picture.append("«" if learned else "»")
                    style = colours[document % len(colours)] if weight else "dim"
                    picture.append(self._shown(before, token), style)
                    picture.append("|", "bright_black")
                    before = token
                picture.append("»" if marks and learned else "")
            picture.append("\n")
        return picture

    def _shown(self, before: int | None, token: int) -> str:
        """A token's text, with the space that SentencePiece's tokenizers leave out where a text begins."""
        alone = str(self._tokenizer.decode([token]))
        if before is None:
            return alone
        head, both = (str(self._tokenizer.decode(ids)) for ids in ([before], [before, token]))
        return both[len(head) :] if both.startswith(head) else alone  # else both are parts of one character
