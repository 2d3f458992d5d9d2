"""Learning a language from plain text: predict the next token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from rich.text import Text

from polyana.config import Config, Duration, KeyPath, StageReference, Tokens
from polyana.data import Batch, EvalSequences, TokenData, TrainSequences
from polyana.evaluate import SampleConfig, evaluate_language_model, generate
from polyana.losses import head_bytes, linear_cross_entropy_and_z_sum
from polyana.models import (
    Activations,
    ModelConfig,
    activation_bytes,
    build_model,
    count_parameters,
    head_weight,
    hidden_states,
    save_model,
    training_flops,
    transformer_blocks,
)
from polyana.tokenizer import TextTokenizer
from polyana.train import LossOutput, Precision, SaveConfig, SumOver, TrainConfig, TrainingPlan, sequences_in

__all__ = ["VERSION", "EvalConfig", "PretrainConfig", "PretrainTask"]

VERSION = 1


class EvalConfig(Config):
    """When held-out text is predicted; every save does it too."""

    every: Duration | None = Field(None, description="as `100 steps`; default: only before training and at each save")
    tokens: Tokens | None = Field(None, description="of the held-out text, as `100k tokens`; default: all of it")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.tokens is not None and self.tokens.amount < 2:
            yield ("tokens",), "a token is predicted from those before it, so at least 2 tokens are needed"


class PretrainConfig(Config):
    """Train a language model from scratch on a corpus."""

    kind: Literal["pretrain"]
    corpus: Annotated[str, StageReference("corpus")] = Field(description="the stage whose text is learned")
    tokenizer: Annotated[str, StageReference("tokenizer")] = Field(description="the stage that cuts it into tokens")
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    save: SaveConfig = Field(default_factory=SaveConfig, json_schema_extra={"watching": True})
    sample: SampleConfig | None = Field(None, json_schema_extra={"watching": True})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.train.patience is not None and self.eval.every is None:
            yield ("train", "patience"), "`patience` counts evaluations; say when they are: `eval: {every: 100 steps}`"
        if self.train.precision == "fp8" and (self.model.architecture == "gpt2" or self.model.width % 16):
            what = "`precision: fp8` needs `architecture: llama` (GPT-2's layers are not torch's linear ones) and a "
            yield ("train", "precision"), f"{what}`width` that is a multiple of 16; or write bf16"
        layers, again = self.model.layers, self.train.checkpointing
        if not isinstance(again, bool | str) and again > layers:
            what = f"`checkpointing: {again}`, but the model has {layers} layers; write true for all of them"
            yield ("train", "checkpointing"), what
        counts = {}
        for name in ("batch", "micro_batch"):
            quantity = getattr(self.train, name)
            if quantity is not None:
                try:
                    counts[name] = sequences_in(quantity, self.model.context)
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


class PretrainTask:
    """Cross entropy of the next token on blocks of a corpus."""

    def __init__(
        self,
        config: PretrainConfig,
        tokens: TokenData,
        tokenizer: TextTokenizer,
        seed: int,
        precision: Precision,
    ) -> None:
        """Raises PolyanaError when the corpus is shorter than a block."""
        from transformers import AutoTokenizer

        self._config, self.precision = config, precision
        self._tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer.directory)
        context, packing = config.model.context, config.train.packing
        self._sequences = TrainSequences(tokens.shards("train"), context, packing, seed)
        held_out = tokens.shards("eval")
        limit = int(config.eval.tokens.amount) if config.eval.tokens is not None else None
        self._held_out = EvalSequences(held_out, context, packing, limit) if len(held_out) > 1 else None
        whole = tokens.count("eval", "bytes") / max(len(held_out), 1)
        self._eval_bytes = whole * self._held_out.tokens if self._held_out else 0.0
        self.model = build_model(config.model, tokenizer.vocab_size, tokenizer.end_of_text, seed)

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

    def loss(self, batch: Batch) -> LossOutput:
        hidden_ND = hidden_states(self.model, batch.tokens_N, batch.position_N, batch.lengths)
        targets_N, labelled = batch.targets_N, batch.labelled
        if labelled < batch.tokens:  # only rows with a label reach the head
            hidden_ND, targets_N = hidden_ND[batch.loss_mask_N], targets_N[batch.loss_mask_N]
        z_loss = self._config.train.z_loss
        total, z = linear_cross_entropy_and_z_sum(
            hidden_ND, head_weight(self.model), targets_N, self.precision.dtype, z_loss
        )
        return LossOutput(total, labelled, {"train/z_loss": z} if z_loss else {})

    def activations(self, sequences: int) -> Activations:
        lengths, dtype = [self.context] * sequences, self.precision.dtype
        found = activation_bytes(self.model, self.blocks, lengths, dtype)
        vocabulary, width = head_weight(self.model).shape
        head = head_bytes(sum(lengths), vocabulary, width, dtype)
        return replace(found, rest=found.rest + head)

    def flops(self, batch: Batch) -> float:
        return training_flops(self.model, batch.lengths, batch.labelled)

    def describe(self, batch: Batch) -> str:
        ids = self._sequences.shards.ids(set(batch.document_N.tolist()))
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        return f"the document{'s' if len(ids) > 1 else ''} {', '.join(ids[:5])}{more}"

    def evaluate(self, sum_over: SumOver) -> dict[str, float]:
        if self._held_out is None:
            return {}

        def total(batch: Batch) -> tuple[float, int]:
            output = self.loss(batch.to(self.precision.device))
            return float(output.reported), output.count

        return evaluate_language_model(total, self._held_out, self._eval_bytes, sum_over)

    def sample(self) -> list[dict[str, str]]:
        wanted = self._config.sample
        if wanted is None:
            return []
        return [
            {"prompt": prompt, "text": generate(self.model, self._tokenizer, prompt, wanted)}
            for prompt in wanted.prompts
        ]

    def save(self, directory: Path, weights: Mapping[str, torch.Tensor]) -> None:
        save_model(self.model, directory, weights)
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

    def picture(self, batch: Batch) -> Text:
        """A batch for people: tokens apart by |, each document in its own colour, tokens without loss dim."""
        colours = ("cyan", "yellow", "green", "magenta", "blue", "red")
        picture = Text()
        for number, part in enumerate(batch.micro_batches(1), start=1):
            documents = part.document_N.tolist()
            names = self._sequences.shards.ids(documents)
            picture.append(f"sequence {number}: {part.tokens} tokens of {', '.join(names)}\n", "bold")
            for token, document, labelled in zip(
                part.tokens_N.tolist(), documents, part.loss_mask_N.tolist(), strict=True
            ):
                style = colours[document % len(colours)] if labelled else "dim"
                picture.append(self._tokenizer.decode([token]), style)
                picture.append("|", "bright_black")
            picture.append("\n")
        return picture
