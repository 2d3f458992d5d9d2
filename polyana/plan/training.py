"""What one training would need of memory, disk and time.

What can be counted is counted (parameters, weights, gradients, the optimizer's memory, steps); what follows from code
that others wrote is measured, by rehearsing the training for some steps on its own data (polyana/rehearse.py).
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from polyana.errors import Problem, UserError
from polyana.losses import logits_bytes
from polyana.models import attention_on, build_model
from polyana.plan.figures import Choice, Disk, Memory, Time, Training, sequences
from polyana.rehearse import Order, Report, rehearse
from polyana.run import Pipeline
from polyana.storage import free_bytes, show_bytes
from polyana.tasks import PretrainConfig
from polyana.tokenizer import TextTokenizer, TokenizerConfig
from polyana.train import (
    AdafactorConfig,
    Cadence,
    TrainingPlan,
    available_bytes,
    choose_precision,
    held_bytes,
    micro_batch_of,
    optimizer_bytes,
    sequences_in,
)

__all__ = ["RehearsedTraining"]

_SAFE = 0.8  # share of the available memory that a rehearsal may take; guess
_LOG_MARGIN = 10**8  # bytes that should be free beside what a rehearsal saves; guess


class RehearsedTraining:
    """The plan of one training stage that would run."""

    def __init__(self, pipeline: Pipeline, name: str, config: PretrainConfig, price: float | None) -> None:
        self.pipeline, self.name, self.config, self.price = pipeline, name, config, price
        self.recipe = pipeline.recipe
        self.precision = choose_precision(config.train.precision)
        self.tokens = pipeline.store.find(pipeline.tokens(config).making)
        self.tokenizer = pipeline.store.find(pipeline.step(config.tokenizer).making)
        self.vocabulary = self._vocabulary()
        with torch.device("meta"):
            self.model = build_model(config.model, self.vocabulary, 0, 0)
        parameters = list(self.model.parameters())
        self.parameters = sum(each.numel() for each in parameters)
        self.trained = sum(each.numel() for each in parameters if each.requires_grad)
        self.available = available_bytes(self.precision.device)
        if self.precision.device.type == "cpu":
            self.available += held_bytes(self.precision.device)  # which ends with this process
        self.free = free_bytes(pipeline.home)
        self.batch = sequences_in(config.train.batch, config.model.context)
        self.micro_batch = micro_batch_of(config.train, config.model.context)

    def _vocabulary(self) -> int:
        """Rows of the embedding; of a tokenizer that is still to be trained as many as it may have at most."""
        if self.tokenizer is not None:
            return TextTokenizer(self.tokenizer.directory).vocab_size
        config = self.recipe.stages[self.config.tokenizer]
        assert isinstance(config, TokenizerConfig)
        if config.load is not None:
            return TextTokenizer(self.recipe.base / config.load).vocab_size
        return config.vocab_size

    def training(self) -> Training:
        train, context = self.config.train, self.config.model.context
        memory, reports = self._counted(), []
        if self.tokens is None or self.tokenizer is None:
            memory = replace(memory, how="activations are measured once the tokens are made: --prepare makes them")
        elif memory.weights + memory.gradients + memory.optimizer > _SAFE * self.available:
            memory = replace(memory, how="nothing was measured: the model does not fit into this machine's memory")
        else:
            reports = self._measure()
            memory = self._measured(memory, reports)
        report = reports[-1] if reports else None
        plan, disk, time = None, None, None
        if report is not None:
            plan = TrainingPlan.of(train, report.per_epoch, report.tokens_per_epoch, context)
            disk, time = self._disk(plan, report), self._time(plan, report)
        return Training(
            self.parameters, self.trained, self.vocabulary, plan.tokens if plan else None,
            plan.sequences / plan.per_epoch if plan else None, plan.steps if plan else None,
            plan.warmup_steps if plan else None, self.batch, self.micro_batch,
            math.ceil(self.batch / self.micro_batch), context, memory, disk, time, self._choices(report),
            self._warnings(memory, disk),
        )  # fmt: skip

    # Memory

    def _counted(self) -> Memory:
        rows = self.micro_batch * self.config.model.context
        return Memory(
            4 * self.parameters, 4 * self.trained, optimizer_bytes(self.model, self.config.train.optimizer),
            logits_bytes(rows, self.vocabulary, self.precision.dtype), self.available, "",
        )  # fmt: skip

    def _measure(self) -> list[Report]:
        """Rehearsals with parts of one and of two sequences, where parts of all might not fit; with all if they do."""
        if self._bound() < _SAFE * self.available:
            return [self._rehearse(None)]
        small = [self._rehearse(1), self._rehearse(2)]
        return small if _extrapolated(small, self.micro_batch) > _SAFE * self.available else [self._rehearse(None)]

    def _bound(self) -> float:
        """More than a training step will need. Activations of a layer and token are about (34 D + 5 H T) bytes in half
        precision (Korthikanti et al. 2022, eq. 2), of which the feed-forward layer's 4 D has 19 D; here doubled."""
        model, counted = self.config.model, self._counted()
        tokens = self.micro_batch * model.context
        inner = model.feed_forward or 4 * model.width
        activations = 2 * model.layers * tokens * (15 * model.width + 5 * inner + 5 * model.heads * model.context)
        whole = counted.weights + counted.gradients + counted.optimizer + counted.logits
        return 2 * whole + activations + 10**9  # and the libraries, and head and bf16 copies of the weights

    def _rehearse(self, micro_batch: int | None) -> Report:
        assert self.tokens is not None
        assert self.tokenizer is not None
        counted = self._counted()
        saves = self.free > 2 * counted.weights + counted.optimizer + _LOG_MARGIN
        where = {
            "stage": self.recipe.where(self.name),
            "warmup": self.recipe.where(self.name, "train", "warmup"),
            "precision": self.recipe.where(self.name, "train", "precision"),
        }
        with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=self.pipeline.home) as place:
            (Path(place) / "recipe.yaml").write_text(self.recipe.as_yaml(), encoding="utf-8")
            order = Order(
                place, self.name, str(self.tokens.directory), str(self.tokenizer.directory), micro_batch, saves,
                torch.get_num_threads(), where,
            )  # fmt: skip
            try:
                return rehearse(order)
            except MemoryError:
                size = "" if micro_batch is None else f" with `micro_batch: {micro_batch} sequences`"
                raise UserError(
                    Problem(where["stage"], f"the system ended the rehearsal{size}, most likely for want of memory")
                ) from None

    def _measured(self, memory: Memory, reports: list[Report]) -> Memory:
        report = reports[-1]
        held = memory.weights + memory.gradients + memory.optimizer
        step, how = report.peaks["step"], "measured in a rehearsal"
        if len(reports) > 1:
            step = _extrapolated(reports, self.micro_batch)
            how = "extrapolated from rehearsals with parts of 1 and 2 sequences, for the whole might not fit"
        training = step - report.libraries
        if self.config.train.find_lr:  # which keeps the first weights
            training += memory.weights
        evaluation = held + report.growth["evaluation"]
        saving = held + report.growth.get("save", 0)
        beyond = max(peak for what, peak in report.peaks.items() if what != "step") - report.libraries
        if len(reports) > 1:  # later phases find what the small steps have freed
            beyond = evaluation
        return replace(
            memory, how=how, libraries=report.libraries, training=training, evaluation=evaluation, saving=saving,
            activations=max(training - held - memory.logits, 0), peak=report.libraries + max(training, beyond),
        )  # fmt: skip

    # Disk and time

    def _disk(self, plan: TrainingPlan, report: Report) -> Disk:
        keep, saves = self.config.save.keep, self._time(plan, report).saves
        counted = self._counted()
        commit, state = report.commit_bytes or counted.weights, report.state_bytes or counted.optimizer
        multiples = plan.steps // int(keep.every.amount) if keep.every else 0
        commits = min(saves, keep.best + keep.last + multiples)
        # A state's weights are a commit's file, but for the older one's where its commit has been let go
        alone = counted.weights if saves > 1 and keep.last < 2 else 0
        kept = commits * commit + min(saves, 2) * state + alone
        return Disk(commit, commits, state, kept, kept + (commit + state if saves > 1 else 0), self.free)

    def _time(self, plan: TrainingPlan, report: Report) -> Time:
        """What is due every so many minutes depends on how long everything takes, and so on itself."""
        config = self.config
        seconds = report.seconds
        sequences = report.parts * report.micro_batch  # of a rehearsed step
        step = seconds["step"] * max(plan.batch / sequences, 1.0)
        saving, evaluating = plan.cadence(config.save.every), plan.cadence(config.eval.every)
        sampling = plan.cadence(config.sample.every) if config.sample else Cadence(None, None)
        taken = plan.steps + (100 if config.train.find_lr else 0)
        total = seconds["start"] + taken * step
        evaluations = samples = saves = 1
        for _ in range(4):
            saves = _count([saving], plan.steps, total)
            evaluations = 1 + _count([saving, evaluating], plan.steps, total) if report.eval_tokens else 0
            samples = 1 + _count([sampling], plan.steps, total) if config.sample else 0
            total = (
                seconds["start"] + taken * step + evaluations * seconds["evaluation"] + samples * seconds["sample"]
                + saves * seconds.get("save", 0.0)
            )  # fmt: skip
        cost = total / 3600 * self.price if self.price is not None else None
        return Time(
            seconds["start"], step, seconds["evaluation"], seconds["sample"], seconds.get("save", 0.0), evaluations,
            samples, saves, total, cost,
        )  # fmt: skip

    # Words

    def _choices(self, report: Report | None) -> list[Choice]:
        model, train, precision, micro_batch = self.config.model, self.config.train, self.precision, self.micro_batch
        packing = {
            "concat": "blocks without a gap; attention reaches across documents",
            "documents": "documents fill a sequence best-fit, each sees itself alone",
            "none": "a document is a sequence; nothing is padded",
        }
        tokens = f"{micro_batch * model.context:,} tokens at once"
        if train.micro_batch is not None:
            why = f"as the recipe says, {tokens}"
        elif micro_batch < self.batch:
            why = f"{tokens}; more would only need more memory"
        else:
            why = f"the whole batch, {tokens}"
        kind = "single" if train.strategy == "auto" else train.strategy
        alone = "planned for one process; `polyana run --processes N` shares the work"
        return [
            Choice("precision", precision.format, precision.reason),
            Choice("attention", *attention_on(precision.device, precision.dtype, model.dropout)),
            Choice("packing", train.packing, packing[train.packing]),
            Choice("strategy", kind, alone),
            Choice("micro-batch", sequences(micro_batch), why),
            Choice("checkpointing", *(report.checkpointing if report else ("not known", "before the tokens are made"))),
        ]

    def _warnings(self, memory: Memory, disk: Disk | None) -> list[str]:
        found = []
        held = memory.weights + memory.gradients + memory.optimizer
        needed = memory.peak if memory.peak is not None else held
        if needed > self.available:
            found.append(
                f"memory: about {show_bytes(needed)} are needed and {show_bytes(self.available)} are available. "
                + self._instead(memory, held)
            )
        if disk is not None and disk.during > disk.free:
            found.append(
                f"disk: up to {show_bytes(disk.during)} are needed and {show_bytes(disk.free)} are free, so training "
                "would pause when it is full. Free some room, or keep fewer saves: `keep: {best: 1, last: 1}`"
            )
        return found

    def _instead(self, memory: Memory, held: int) -> str:
        ways = []
        if memory.activations is not None and memory.libraries is not None:
            room = self.available - memory.libraries - held - memory.logits
            fitting = int(self.micro_batch * room / max(memory.activations, 1))
            parts = [size for size in range(1, min(fitting, self.batch) + 1) if self.batch % size == 0]
            if parts:
                ways.append(f"`micro_batch: {sequences(parts[-1])}`, which is the same training in smaller parts")
        if not isinstance(self.config.train.optimizer, AdafactorConfig):
            ways.append(f"`optimizer: adafactor`, which saves {show_bytes(memory.optimizer)}")
        if not ways or memory.activations is None:
            ways.append("a smaller `width`, fewer `layers`")
        elif self.config.model.context > 256:
            ways.append(f"a shorter `context` than {self.config.model.context}")
        return f"Write {'; or '.join(ways)}"


def _extrapolated(reports: list[Report], micro_batch: int) -> int:
    """The peak of a step with parts of `micro_batch` sequences, by the line through two smaller ones."""
    (one, two) = reports
    slope = (two.peaks["step"] - one.peaks["step"]) / (two.micro_batch - one.micro_batch)
    return round(two.peaks["step"] + slope * (micro_batch - two.micro_batch))


def _count(cadences: list[Cadence], steps: int, seconds: float) -> int:
    """How often any of these is due in a run of so many steps that takes so long; the end always counts."""
    every = [cadence.steps for cadence in cadences if cadence.steps is not None]
    due = sum(steps // each for each in every)
    if len(every) == 2:
        due -= steps // math.lcm(*every)
    by_clock = sum(int(seconds / cadence.seconds) for cadence in cadences if cadence.seconds is not None)
    ends = 0 if any(steps % each == 0 for each in every) else 1
    return due + min(by_clock, steps) + ends
