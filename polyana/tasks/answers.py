"""What learning from preferences and from rewards share: the data, their report, tasks over items of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from polyana.config import KeyPath, Share
from polyana.corpus import Split
from polyana.data import AnswerBatch, AnswerSequences, Batch, TokenData, write_examples
from polyana.errors import UserError
from polyana.examples import (
    ChatTemplate,
    ExamplesReport,
    PreferencesConfig,
    preference_items,
    preference_report,
)
from polyana.losses import head_bytes
from polyana.models import Activations, activation_bytes, head_weight
from polyana.tasks.fine_tune import (
    ABOUT_BASE,
    BASE,
    FineTuneConfig,
    FineTuneTask,
    FineTuneTrainConfig,
    check_context,
    save_tokenizer,
)
from polyana.train import SumOver

__all__ = [
    "EVAL_TOKENS",
    "AnswersConfig",
    "AnswersTask",
    "SumOverItems",
    "build_answers",
    "item_facts",
    "without_dropout",
]

EVAL_TOKENS = 8192  # scored at once: bounds memory; guess, as with texts


SumOverItems = Callable[[Callable[[AnswerSequences, Sequence[int]], Sequence[float]]], Sequence[float]]
"""sum_over_items(compute): the sum of compute(sequences, numbers of items) over parts of the items."""


class AnswersTrainConfig(FineTuneTrainConfig):
    """The optimisation, with what suits learning from preferences as defaults."""

    packing: Literal["none"] = Field(
        "none", description="a sequence is an item: a pair of answers, or one; nothing is padded"
    )
    lr: float = Field(
        5e-6,  # of LoRA; 5e-7 suits `adapter: full`: both Tunstall et al. 2023 (Zephyr) and its handbook's recipes
        gt=0,
        description="peak learning rate: about 5e-6 with an adapter, 5e-7 with `adapter: full`",
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled, on matrices (embeddings too)")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.z_loss:
            yield ("z_loss",), "a z-loss belongs to predicting text; among preferences it would do nothing"


class AnswersConfig(PreferencesConfig, FineTuneConfig):
    """What stages that learn from judged answers have."""

    base: Annotated[str, BASE] = Field(description=ABOUT_BASE)
    context: int = Field(1024, ge=2, description="tokens of a prompt with an answer at most")
    held_out: Share = Field(
        0.05, ge=0, lt=1, description="share of the prompts held out for evaluation, by a hash of their words"
    )
    train: AnswersTrainConfig = Field(default_factory=AnswersTrainConfig)

    @property
    def single(self) -> bool:
        """Whether an item is one answer and no pair."""
        return False

    @property
    def sequence_length(self) -> int:
        return self.context if self.single else 2 * self.context

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.vocabulary.grows:
            yield ("vocabulary",), "answers are judged in the base's own tokens; add tokens in an sft stage before it"
        if not self.held_out:
            for path in self.needs_held_out:
                yield (
                    path,
                    f"`{'.'.join(map(str, path))}` needs held-out prompts, but there are none with `held_out: 0`",
                )

    def examples_identity(self) -> dict[str, Any]:
        """The settings that decide what the items are."""
        names = {*PreferencesConfig.model_fields, "context", "held_out"}
        return {name: value for name, value in self.identity().items() if name in names} | {"single": self.single}


def build_answers(config: AnswersConfig, recipe_base: Path, base: Path, directory: Path) -> dict[str, Any]:
    """Write the shards of the items, what is known of each (SPLIT.items.npz), the tokenizer with its template, and
    report.json; the report."""
    check_context(config, base)
    template, report = ChatTemplate(base, config.template, recipe_base), ExamplesReport()
    items = preference_items(config, recipe_base, template, config.context, config.held_out, config.single, report)
    write_examples(
        ((item.split, f"{item.id} {side}", *text) for item in items
         for side, text in zip(("chosen", "rejected") if not config.single else ("answer", "another's"), item.texts,
                               strict=True)),
        len(template.tokenizer), directory,
    )  # fmt: skip
    for split in ("train", "eval"):
        part = [item for item in items if item.split == split]
        if not part and (split == "train" or config.held_out):
            what = "raise it, or write `held_out: 0` to train without evaluation" if split == "eval" else "lower it"
            raise UserError(
                f"none of {len(items):,} items fell to {split} at `held_out: {config.held_out:.1%}`; {what}"
            )
        np.savez(
            directory / f"{split}.items.npz", margin=np.array([item.margin for item in part], dtype=np.float32),
            desirable=np.array([item.desirable for item in part], dtype=bool),
            weight=np.array([item.weight for item in part], dtype=np.float32),
        )  # fmt: skip
    found = report.as_data() | {"preferences": preference_report(items, config.single)}
    return save_tokenizer(template, directory, found)


def item_facts(data: TokenData, split: Split) -> dict[str, NDArray[Any]]:
    """`margin`, `desirable` and `weight` of every item of a split."""
    with np.load(data.directory / f"{split}.items.npz") as file:
        return dict(file)


def without_dropout(model: nn.Module) -> None:
    """Let the model compute the same in training as in evaluation: noise would be taken for a difference from the
    reference, or between answers. To be called before an adapter, which may have dropout of its own, is attached."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # where Llama and its kin keep it
            module.attention_dropout = 0.0  # type: ignore[assignment]


class AnswersTask(FineTuneTask):
    """A loss of items of answers."""

    _config: Any
    _sequences: AnswerSequences  # type: ignore[assignment]  # other batches
    _held_out: AnswerSequences | None  # type: ignore[assignment]

    def batch(self, first: int, count: int) -> AnswerBatch:
        return self._sequences.batch(first, count)

    def foresee_evaluation(self, sum_over_items: SumOverItems) -> None:
        """As `foresee`, of all held-out items together."""

    def evaluate(self, sum_over: SumOver) -> dict[str, float]:
        """`eval/loss`, and each metric of the loss as `eval/NAME`."""
        held_out = self._held_out
        if held_out is None:
            return {}
        limit = int(self._config.eval.tokens.amount) if self._config.eval.tokens is not None else None
        batches = held_out.in_order(EVAL_TOKENS, limit)

        self.foresee_evaluation(lambda compute: sum_over(batches, lambda items: compute(held_out, items)))
        names: list[str] = []

        def figures(items: range) -> list[float]:
            output = self.loss(held_out.of(items).to(self.precision.device))
            names[:] = output.metrics
            told = [figure for pair in output.metrics.values() for figure in pair]
            return [float(output.total), output.count, *told]

        total, count, *told = sum_over(batches, figures)
        more = {
            f"eval/{name}": above / below
            for name, above, below in zip(names, told[::2], told[1::2], strict=True)
            if below
        }
        return {"eval/loss": total / count} | more

    def activations(self, sequences: int) -> Activations:
        dtype, texts = self.precision.dtype, sequences * (1 if self._config.single else 2)
        found = activation_bytes(self.model, self.blocks, [self._config.context] * texts, dtype)
        vocabulary, width = head_weight(self.model).shape
        return replace(found, rest=found.rest + head_bytes(texts * self._config.context, vocabulary, width, dtype))

    def describe(self, batch: Batch) -> str:
        assert isinstance(batch, AnswerBatch)
        ids = self._sequences.shards.ids(2 * item for item in batch.items)
        names = [name.rpartition(" ")[0] for name in ids]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"the item{'s' if len(names) > 1 else ''} {', '.join(names[:5])}{more}"
