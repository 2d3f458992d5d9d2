"""Learning a language from plain text: predict the next token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from rich.text import Text

from polyana.config import Config, Duration, KeyPath, StageReference, Tokens
from polyana.data import Batch, EvalBlocks, TokenData, TrainBlocks
from polyana.evaluate import SampleConfig, evaluate_language_model, generate
from polyana.losses import linear_cross_entropy_and_z_sum
from polyana.models import ModelConfig, build_model, count_parameters, head_weight, hidden_states, save_model
from polyana.tokenizer import TextTokenizer
from polyana.train import LossOutput, Precision, SaveConfig, TrainConfig, TrainingPlan, sequences_in

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

        self._config, self._precision = config, precision
        self._tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer.directory)
        self._blocks = TrainBlocks(tokens.shards("train"), config.model.context, seed)
        held_out = tokens.shards("eval")
        limit = int(config.eval.tokens.amount) if config.eval.tokens is not None else None
        self._eval_blocks = EvalBlocks(held_out, config.model.context, limit) if len(held_out) > 1 else None
        whole = tokens.count("eval", "bytes") / max(len(held_out), 1)
        self._eval_bytes = whole * self._eval_blocks.tokens if self._eval_blocks else 0.0
        self.model = build_model(config.model, tokenizer.vocab_size, tokenizer.end_of_text, seed)

    @property
    def per_epoch(self) -> int:
        return self._blocks.per_epoch

    @property
    def context(self) -> int:
        return self._blocks.context

    def batch(self, first: int, count: int) -> Batch:
        return self._blocks.batch(first, count)

    def loss(self, batch: Batch) -> LossOutput:
        hidden_BTD = hidden_states(self.model, batch.tokens_BT)
        mask = batch.loss_mask_BT
        z_loss = self._config.train.z_loss
        total, z = linear_cross_entropy_and_z_sum(
            hidden_BTD[mask], head_weight(self.model), batch.targets_BT[mask], self._precision.dtype, z_loss
        )
        return LossOutput(total, batch.real_tokens, {"train/z_loss": z} if z_loss else {})

    def describe(self, batch: Batch) -> str:
        ids = self._blocks.shards.ids(set(batch.document_BT.flatten().tolist()))
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        return f"the document{'s' if len(ids) > 1 else ''} {', '.join(ids[:5])}{more}"

    def evaluate(self) -> dict[str, float]:
        if self._eval_blocks is None:
            return {}

        def total(batch: Batch) -> tuple[float, int]:
            output = self.loss(batch.to(self._precision.device))
            return float(output.reported), output.count

        return evaluate_language_model(total, self._eval_blocks, self._eval_bytes)

    def sample(self) -> list[dict[str, str]]:
        wanted = self._config.sample
        if wanted is None:
            return []
        return [
            {"prompt": prompt, "text": generate(self.model, self._tokenizer, prompt, wanted)}
            for prompt in wanted.prompts
        ]

    def save(self, directory: Path) -> None:
        save_model(self.model, directory)
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
            f"{plan.tokens:,} tokens in {plan.steps:,} steps of {plan.batch * plan.context:,}",
            f"{ratio:.2g} tokens per parameter: {verdict}",
            f"{self._precision}",
            *plan.remarks(),
        ]

    def picture(self, batch: Batch) -> Text:
        """A batch for people: tokens apart by |, each document in its own colour, tokens without loss dim."""
        colours = ("cyan", "yellow", "green", "magenta", "blue", "red")
        picture = Text()
        for row in range(batch.sequences):
            documents = batch.document_BT[row].tolist()
            names = dict(zip(sorted(set(documents)), self._blocks.shards.ids(documents), strict=True))
            picture.append(f"sequence {row + 1}: {self.context} tokens of {', '.join(names.values())}\n", "bold")
            for token, document, labelled in zip(
                batch.tokens_BT[row].tolist(), documents, batch.loss_mask_BT[row].tolist(), strict=True
            ):
                style = colours[document % len(colours)] if labelled else "dim"
                picture.append(self._tokenizer.decode([token]), style)
                picture.append("|", "bright_black")
            picture.append("\n")
        return picture
