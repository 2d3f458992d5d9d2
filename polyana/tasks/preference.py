"""Learning from preferences: answers that people like become more likely than others, and more than a reference finds
them.

What the loss needs of a text is one number, the sum of its answer's log-probabilities; the prompt of a pair is computed
once (data/answers.py), and only rows of answers reach the head (losses/answers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import KeyPath
from polyana.corpus import Split
from polyana.data import AnswerBatch, AnswerSequences, Batch, TokenData
from polyana.losses import (
    Answers,
    DpoConfig,
    KtoConfig,
    PairLossConfig,
    PreferenceLossConfig,
    answer_log_probs,
    kto_kl,
    linear_answer_loss,
)
from polyana.models import has_adapter, head_weight, hidden_states, load_base, rounded, without_adapter
from polyana.storage import read_json
from polyana.tasks.answers import AnswersConfig, AnswersTask, SumOverItems, item_facts, without_dropout
from polyana.tasks.fine_tune import begin_fine_tuning
from polyana.tasks.gold import GOLD_METRIC, GoldConfig, GoldWatch, HeldTo
from polyana.train import LossOutput, Precision, SumOverBatch, TrainingPlan, Verdict

__all__ = ["PreferenceConfig", "PreferenceTask", "load_reference", "preference_task", "score_documents"]


class PreferenceConfig(AnswersConfig):
    """Align a model with preferences: pairs of answers, or answers that are good or bad."""

    kind: Literal["preference"]
    loss: PreferenceLossConfig = Field(
        default_factory=DpoConfig, description="a kind, as `ipo`, or settings, as `{kind: kto, beta: 0.2}`"
    )
    reference: Literal["auto", "adapter_off", "stored", "model"] = Field(
        "auto",
        description="where the reference's log-probabilities come from, which is the base: `adapter_off`, the model "
        "itself without its adapter; `stored`, computed once before training; `model`, a second copy in memory; `auto` "
        "is adapter_off where there is an adapter, else stored",
    )

    gold: GoldConfig | None = Field(
        None, description="another measure, which training never sees, beside what the preferences were made by"
    )

    @property
    def best_by(self) -> str:
        return f"-{GOLD_METRIC}" if self.gold is not None else super().best_by

    @property
    def single(self) -> bool:
        return isinstance(self.loss, KtoConfig)

    @property
    def needs_held_out(self) -> list[KeyPath]:
        """Where gold is measured there is something to evaluate without held-out pairs."""
        found = super().needs_held_out
        return found if self.gold is None else [path for path in found if path != ("eval", "every")]

    @property
    def chosen_reference(self) -> Literal["none", "adapter_off", "stored", "model"]:
        """`reference`, with what auto stands for; none where the loss has none."""
        if not self.loss.uses_reference:
            return "none"
        if self.reference == "auto":
            return "stored" if self.adapter.kind == "full" else "adapter_off"
        return self.reference

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.reference != "auto" and not self.loss.uses_reference:
            yield ("reference",), f"`loss: {self.loss.kind}` has no reference, so this would do nothing; leave it out"
        if self.reference == "adapter_off" and self.adapter.kind == "full":
            yield ("reference",), "with `adapter: full` there is no adapter to switch off; write `stored` or `model`"
        if self.good_from is not None and not self.single:
            yield ("good_from",), "`good_from` makes labels, which only `loss: kto` learns from"


def preference_task(
    config: PreferenceConfig, data: TokenData, base: Path, seed: int, precision: Precision, gold: HeldTo | None = None
) -> PreferenceTask:
    """The base with its adapter, and the items. Where the reference is stored, `data` has it (reference.npz)."""

    def load(directory: Path) -> Any:
        model = load_base(directory)
        without_dropout(model)
        return model

    model, tokenizer = begin_fine_tuning(config, data, base, seed, precision, load)
    sequences = {split: _sequences(config, data, split, seed) for split in ("train", "eval")}
    held_out = sequences["eval"] if sequences["eval"].held else None
    copy = load_reference(config, data, base, precision) if config.chosen_reference == "model" else None
    train = item_facts(data, "train")["desirable"]
    weights = (1.0, 1.0)
    if isinstance(config.loss, KtoConfig):
        weights = config.loss.weights(int(train.sum()), int((~train).sum()))
    return PreferenceTask(
        config, model, tokenizer, sequences["train"], held_out, None, precision, data.directory, base, copy, weights,
        GoldWatch.open(config.gold, gold, tokenizer, seed) if config.gold is not None and gold is not None else None,
    )  # fmt: skip


def load_reference(config: PreferenceConfig, data: TokenData, base: Path, precision: Precision) -> Any:
    """The base as training begins with it, in evaluation, for use in `without_adapter`: with the tokens that the
    template of `data` adds, and in 4 bits where the model that learns is."""
    model, _ = begin_fine_tuning(config, data, base, 0, precision)
    return model.eval().requires_grad_(False)


def _sequences(config: PreferenceConfig, data: TokenData, split: Split, seed: int) -> AnswerSequences:
    facts = item_facts(data, split)
    if config.chosen_reference == "stored":
        with np.load(data.directory / "reference.npz") as file:
            facts["reference"] = file[split].reshape(-1, 2)
    items = None
    if isinstance(config.loss, KtoConfig) and config.loss.balance == "resample" and split == "train":
        items = _resampled(facts["desirable"])
    side: Literal["first", "both"] = "first" if config.single else "both"
    return AnswerSequences(data.shards(split), config.sequence_length, seed, side, items, facts=facts)


def _resampled(desirable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Items so that there are as many good as bad ones: those of the rarer kind over and over, in their order."""
    kinds = sorted((np.flatnonzero(desirable), np.flatnonzero(~desirable)), key=len)
    return np.concatenate([kinds[1], np.resize(kinds[0], len(kinds[1]))]) if len(kinds[0]) else kinds[1]


def score_documents(
    model: Any,
    sequences: AnswerSequences,
    batches: list[range],
    precision: Precision,
    keep: Callable[[range, list[float]], None],
) -> None:
    """The log-probability of each item's answers under `model`, in evaluation; `keep` is given them batch by batch."""
    model.eval()
    with torch.no_grad(), precision.autocast():
        for items in batches:
            batch = sequences.of(items, "both").to(precision.device)
            keep(items, _log_probs(model, batch, precision).tolist())


def _log_probs(model: Any, batch: AnswerBatch, precision: Precision) -> torch.Tensor:
    """The log-probability of each answer, [A], without gradient."""
    with torch.no_grad():
        counts_N = batch.weight_N != 0
        hidden_ND = hidden_states(model, batch.tokens_N, batch.position_N, batch.lengths, batch.after, counts_N)
        return answer_log_probs(hidden_ND, head_weight(model), batch.targets_N[counts_N], batch.rows, precision.dtype)


class PreferenceTask(AnswersTask):
    """A preference loss of items of answers."""

    _config: PreferenceConfig

    def __init__(self, *others: Any) -> None:
        """As FineTuneTask; then a second model as the reference or None, kto's weights, and the watch or None."""
        *shared, self._copy, self._weights, self._watch = others
        super().__init__(*shared)
        self._kl = 0.0
        if self._copy is not None:
            self._copy.to(self.precision.device)

    def foresee(self, sum_over_batch: SumOverBatch) -> None:
        """KTO's KL is estimated over the whole batch, on all ranks: each part of it is then learned with the same."""

        def over(compute: Callable[[AnswerSequences, Sequence[int]], Sequence[float]]) -> Sequence[float]:
            return sum_over_batch(lambda part: compute(self._sequences, part.items))  # type: ignore[attr-defined]

        self.foresee_evaluation(over)

    def foresee_evaluation(self, sum_over_items: SumOverItems) -> None:
        if isinstance(self._config.loss, KtoConfig):
            self._kl = kto_kl(*sum_over_items(self._mismatched))

    def _mismatched(self, sequences: AnswerSequences, items: Sequence[int]) -> tuple[float, float]:
        """(the sum of log-ratios of the answers to other prompts that stand beside these items', how many)."""
        batch = sequences.of(items, "second").to(self.precision.device)
        ratios_A = _log_probs(self.model, batch, self.precision) - self._reference(batch, (1,))
        return float(ratios_A.sum()), float(len(ratios_A))

    def _reference(self, batch: AnswerBatch, sides: tuple[int, ...]) -> torch.Tensor:
        """The reference's log-probability of each answer, [A]."""
        if self._config.chosen_reference == "stored":
            return batch.facts["reference"][:, list(sides)].flatten()
        model = self.model if self._copy is None else self._copy
        with without_adapter(model):
            return _log_probs(model, batch, self.precision)

    def loss(self, batch: Batch) -> LossOutput:
        assert isinstance(batch, AnswerBatch)
        loss, single = self._config.loss, self._config.single
        reference_A = self._reference(batch, (0,) if single else (0, 1)) if loss.uses_reference else None
        counts_N, rows = batch.weight_N != 0, batch.rows
        hidden_ND = hidden_states(self.model, batch.tokens_N, batch.position_N, batch.lengths, batch.after, counts_N)
        tokens_A = torch.tensor(rows, dtype=torch.float32, device=hidden_ND.device)
        weight_I, desirable_I = batch.facts["weight"], batch.facts["desirable"]

        def answers(log_probs_A: torch.Tensor, which: slice) -> Answers:
            return Answers(log_probs_A, tokens_A[which], reference_A[which] if reference_A is not None else None)

        def losses(log_probs_A: torch.Tensor, which: slice) -> torch.Tensor:
            if isinstance(loss, KtoConfig):
                each_I = loss.losses(answers(log_probs_A, which), desirable_I[which], self._kl, self._weights)
                return (weight_I[which] * each_I).sum()
            chosen, rejected = (
                answers(log_probs_A[side::2], slice(which.start + side, which.stop, 2)) for side in (0, 1)
            )
            return (weight_I[which.start // 2 : which.stop // 2] * loss.losses(chosen, rejected)).sum()

        total, log_probs_A = linear_answer_loss(
            hidden_ND, head_weight(self.model), batch.targets_N[counts_N], rows, 1 if single else 2, losses,
            self.precision.dtype,
        )  # fmt: skip
        with torch.no_grad():
            found = answers(log_probs_A, slice(0, len(rows)))
            metrics = _single_metrics(loss, found, desirable_I, self._kl) if isinstance(loss, KtoConfig) else (
                _pair_metrics(loss, found)
            )  # fmt: skip
        return LossOutput(total, float(weight_I.sum()), metrics=metrics)

    def score_answers(self, run: Path | None) -> dict[str, float]:
        if self._watch is None:
            return {}
        watch: GoldWatch = self._watch
        return watch.look(self.model, self._tokenizer, self._reference_model, run, self._writing_in)

    @contextmanager
    def _writing_in(self, model: Any) -> Iterator[None]:
        with rounded(model, self.precision.dtype) as whole, nullcontext() if whole else self.precision.autocast():
            yield

    @contextmanager
    def _reference_model(self) -> Iterator[Any]:
        """The base, which the reference is; a full one is read again, for nothing of it is kept meanwhile."""
        if has_adapter(self.model):
            with without_adapter(self.model):
                yield self.model
        elif self._copy is not None:
            yield self._copy
        else:
            data = TokenData(self._data)
            yield load_reference(self._config, data, self._base, self.precision).to(self.precision.device)

    def keep_answers(self, run: Path, step: int) -> None:
        if self._watch is not None:
            self._watch.keep(run, step)

    def verdict(self, run: Path, step: int) -> Verdict | None:
        return None if self._watch is None else self._watch.verdict(run, step)

    def conclude(self, run: Path, step: int) -> dict[str, Any]:
        return {} if self._watch is None else self._watch.conclude(run, step)

    def outlook(self, plan: TrainingPlan) -> list[str]:
        config, unit = self._config, "answers" if self._config.single else "pairs"
        source = {
            "none": "no reference", "adapter_off": "the reference is the model without its adapter",
            "stored": "the reference's log-probabilities are stored",
            "model": "the reference is a second copy of the base, in memory",
        }[config.chosen_reference]  # fmt: skip
        lines = super().outlook(plan)
        lines[1] = f"{plan.sequences:,} {unit} in {plan.steps:,} steps of {plan.batch}; {config.loss.kind}, {source}"
        if isinstance(config.loss, KtoConfig):
            counts = read_json(self._data / "report.json")["preferences"]["train"]
            good, bad = self._weights
            balance = f"{counts['good']:,} good and {counts['bad']:,} bad answers"
            lines.append(f"{balance}: lambda_D {good:.4g}, lambda_U {bad:.4g}")
        return lines


Metrics = dict[str, tuple[float, float]]


def _pair_metrics(loss: PairLossConfig, answers: Answers) -> Metrics:
    """Under the names that the field gives them: sums, and how many pairs they are of."""
    rewards_P2 = loss.rewards(answers).view(-1, 2)
    chosen_P, rejected_P = rewards_P2.T
    columns = {
        "rewards/chosen": chosen_P, "rewards/rejected": rejected_P, "rewards/margins": chosen_P - rejected_P,
        "rewards/accuracies": (chosen_P > rejected_P).float(),
        "logps/chosen": answers.log_probs_A[0::2], "logps/rejected": answers.log_probs_A[1::2],
        "lengths/chosen": answers.tokens_A[0::2], "lengths/rejected": answers.tokens_A[1::2],
    }  # fmt: skip
    if not loss.uses_reference:
        columns["nll"] = -answers.means[0::2]
    return {name: (float(column.sum()), float(len(column))) for name, column in columns.items()}


def _single_metrics(loss: KtoConfig, answers: Answers, desirable_A: torch.Tensor, kl: float) -> Metrics:
    """The same of single answers. An accurate reward is above beta KL for a good answer, below it for a bad one."""
    rewards_A, bar = loss.rewards(answers), loss.beta * kl
    right_A = torch.where(desirable_A, rewards_A > bar, rewards_A < bar)
    metrics = {"rewards/accuracies": (float(right_A.sum()), float(len(right_A))), "kl": (kl, 1.0)}
    for name, which_A in (("chosen", desirable_A), ("rejected", ~desirable_A)):
        for what, column in (
            ("rewards", rewards_A), ("logps", answers.log_probs_A), ("lengths", answers.tokens_A)
        ):  # fmt: skip
            metrics[f"{what}/{name}"] = float(column[which_A].sum()), float(which_A.sum())
    return metrics
