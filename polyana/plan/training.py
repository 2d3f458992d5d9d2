"""What one training would need of memory, disk and time.

What can be counted is counted (parameters, weights, gradients, the optimizer's memory, steps); what follows from code
that others wrote is measured, by rehearsing the training for some steps on its own data (polyana/rehearse.py).
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from polyana.errors import Problem, UserError
from polyana.losses import logits_bytes
from polyana.models import AdapterConfig, attention_on, build_model, bytes_of, head_weight, numbers_in
from polyana.pipeline import Pipeline
from polyana.plan.compiling import compile_choice, why_not_compiled
from polyana.plan.figures import Choice, Disk, Memory, Time, Training, sequences
from polyana.registry import Repository, would_go
from polyana.rehearse import Order, Report, rehearse
from polyana.storage import free_bytes, show_bytes
from polyana.tasks import FineTuneConfig, PretrainConfig, TrainingStageConfig, outline_model
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
_ONCE_MADE = "the rest, disk, time and cost are measured once the tokens are made: --prepare makes them"
_LOG_MARGIN = 10**8  # bytes that should be free beside what a rehearsal saves; guess


class RehearsedTraining:
    """The plan of one training stage that would run."""

    def __init__(
        self, pipeline: Pipeline, name: str, config: TrainingStageConfig, price: float | None, compare_compiled: bool
    ) -> None:
        self.pipeline, self.name, self.config, self.price = pipeline, name, config, price
        self.compare_compiled, self.processes = compare_compiled, pipeline.world.size
        self.strategy = config.train.strategy
        if self.strategy == "auto":
            self.strategy = "ddp" if self.processes > 1 else "single"
        self.recipe = pipeline.recipe
        self.precision = choose_precision(config.train.precision)
        before = pipeline.before(name, config)
        self.data, self.start = (pipeline.store.find(before[what].making) for what in ("data", "start"))
        with torch.device("meta"):
            self.model = self._model()
        self.vocabulary = head_weight(self.model).shape[0]
        parameters = list(self.model.parameters())
        self.parameters = sum(map(numbers_in, parameters))
        self.trained = sum(each.numel() for each in parameters if each.requires_grad)
        self.state = optimizer_bytes(self.model, config.train.optimizer)
        if self.strategy == "fsdp2":
            for each in parameters:  # rows are cut up; the first process has no fewer than the others
                each.data = each.data[: math.ceil(len(each) / self.processes)]
        self.weights = sum(map(bytes_of, parameters))
        self.gradients = 4 * sum(each.numel() for each in parameters if each.requires_grad)
        self.available = available_bytes(self.precision.device)
        if self.precision.device.type == "cpu":
            self.available += held_bytes(self.precision.device)  # which ends with this process
        self.free = free_bytes(pipeline.home)
        self.batch = sequences_in(config.train.batch, config.sequence_length)
        share = math.ceil(self.batch / self.processes)
        self.micro_batch = min(micro_batch_of(config.train, config.sequence_length), share)
        self.parts = math.ceil(share / self.micro_batch)

    def _model(self) -> Any:
        """What is trained, without numbers. With a tokenizer that is still to be trained it has as many rows as it may
        have at most. Raises KeyError when a base is not there yet."""
        config = self.config
        if self.start is not None:
            return outline_model(config, self.start.directory)
        if isinstance(config, FineTuneConfig):
            raise KeyError(self.name)
        assert isinstance(config, PretrainConfig)
        words = self.recipe.stages[config.tokenizer]
        assert isinstance(words, TokenizerConfig)
        known = TextTokenizer(self.recipe.base / words.load).vocab_size if words.load is not None else words.vocab_size
        return build_model(config.model, known, 0, 0)

    def training(self) -> Training:
        train, context = self.config.train, self.config.sequence_length
        memory, reports, other = self._counted(), list[Report](), None
        if self.data is None or self.start is None:
            memory = replace(memory, how=_ONCE_MADE)
        elif self._together(memory.weights + memory.gradients + memory.optimizer) > _SAFE * self.available:
            memory = replace(memory, how="nothing was measured: the model does not fit into this machine's memory")
        else:
            reports = self._measure()
            memory = self._measured(memory, reports)
            if self.compare_compiled and len(reports) == 1 and why_not_compiled(train) is None:
                other = self._rehearse(None, compiled=not train.compile)
        report = reports[-1] if reports else None
        plan, disk, time = None, None, None
        steps = int(train.duration.amount) if train.duration.unit == "steps" else None
        if report is not None:
            plan = TrainingPlan.of(train, report.per_epoch, report.tokens_per_epoch, context)
            disk, time = self._disk(plan, report), self._time(plan, report)
        other_time = self._time(plan, other) if plan and other else None
        compiling = compile_choice(train, time, plan, other_time, self.precision.device)
        return Training(
            self.processes, self.parameters, self.trained, self.vocabulary, plan.tokens if plan else None,
            plan.sequences / plan.per_epoch if plan else None, plan.steps if plan else steps,
            plan.warmup_steps if plan else None, self.batch, self.micro_batch,
            self.parts, context, memory, disk, time, [*self._choices(report), compiling], self._warnings(memory, disk),
        )  # fmt: skip

    # Memory

    def _counted(self) -> Memory:
        rows = self.micro_batch * self.config.sequence_length
        return Memory(
            self.weights, self.gradients, optimizer_bytes(self.model, self.config.train.optimizer),
            logits_bytes(rows, self.vocabulary, self.precision.dtype), self.available, "",
        )  # fmt: skip

    def _together(self, of_one: float) -> float:
        """Bytes of what each process holds so many of; on GPUs each process has its own."""
        return of_one * (self.processes if self.precision.device.type == "cpu" else 1)

    def _measure(self) -> list[Report]:
        """Rehearsals with parts of one and of two sequences, where parts of all might not fit; with all if they do."""
        if self._together(self._bound()) < _SAFE * self.available:
            return [self._rehearse(None)]
        small = [self._rehearse(1), self._rehearse(2)]
        whole = self._together(_extrapolated(small, self.micro_batch))
        return small if whole > _SAFE * self.available else [self._rehearse(None)]

    def _bound(self) -> float:
        """More than a training step will need. Activations of a layer and token are about (34 D + 5 H T) bytes in half
        precision (Korthikanti et al. 2022, eq. 2), of which the feed-forward layer's 4 D has 19 D; here doubled."""
        shape, context, counted = self.model.config, self.config.sequence_length, self._counted()
        inner = getattr(shape, "intermediate_size", None) or getattr(shape, "n_inner", None) or 4 * shape.hidden_size
        of_a_token = 15 * shape.hidden_size + 5 * inner + 5 * shape.num_attention_heads * context
        activations = 2 * shape.num_hidden_layers * self.micro_batch * context * of_a_token
        whole = counted.weights + counted.gradients + counted.optimizer + counted.logits
        return float(2 * whole + activations + 10**9)  # and the libraries, and head and bf16 copies of the weights

    def _rehearse(self, micro_batch: int | None, compiled: bool | None = None) -> Report:
        """`compiled`: None for what the recipe says."""
        assert self.data is not None
        assert self.start is not None
        saves = self.free > 8 * self.trained + self.state + _LOG_MARGIN
        compiled = self.config.train.compile if compiled is None else compiled
        where = {
            "stage": self.recipe.where(self.name),
            "warmup": self.recipe.where(self.name, "train", "warmup"),
            "precision": self.recipe.where(self.name, "train", "precision"),
        }
        with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=self.pipeline.home) as place:
            (Path(place) / "recipe.yaml").write_text(self.recipe.as_yaml(), encoding="utf-8")
            order = Order(
                place, self.name, str(self.data.directory), str(self.start.directory), micro_batch,
                compiled, saves, self.processes, torch.get_num_threads(), where,
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
        of = f" of {self.processes} processes" if self.processes > 1 else ""
        step, how = report.peaks["step"], f"measured in a rehearsal{of}"
        if len(reports) > 1:
            step = _extrapolated(reports, self.micro_batch)
            how = f"extrapolated from rehearsals{of} with parts of 1 and 2 sequences, for the whole might not fit"
        training = step - report.libraries
        if self.config.train.find_lr:  # which keeps what the trained weights were, in as many bytes as gradients take
            training += memory.gradients
        between = memory.weights + memory.optimizer  # gradients are freed with each step
        evaluation = between + report.growth["evaluation"]
        saving = between + report.growth.get("save", 0)
        beyond = max(peak for what, peak in report.peaks.items() if what != "step") - report.libraries
        if len(reports) > 1:  # later phases find what the small steps have freed
            beyond = evaluation
        peak = report.libraries + max(training, beyond)
        everything = self._together(peak)
        if len(reports) == 1 and self.precision.device.type == "cpu":
            everything += sum(report.whole) - self.processes * max(report.whole)  # not all have the same peak
        everything -= self._together(report.shared) - report.shared
        return replace(
            memory, how=how, libraries=report.libraries, training=training, evaluation=evaluation, saving=saving,
            activations=max(training - held - memory.logits, 0), peak=peak, together=round(everything),
        )  # fmt: skip

    # Disk and time

    def _disk(self, plan: TrainingPlan, report: Report) -> Disk:
        keep, saves = self.config.save.keep, self._time(plan, report).saves
        commit, state = report.commit_bytes or 4 * self.trained, report.state_bytes or self.state
        multiples = plan.steps // int(keep.every.amount) if keep.every else 0
        commits = min(saves, keep.best + keep.last + multiples)
        if keep.total is not None:
            commits = min(commits, max(keep.total.bytes // commit, 1))
        pushed = self._pushed(plan, saves)
        commits = min(saves, commits + pushed)
        # A state's weights are a commit's file, but for the older one's where its commit has been let go
        alone = 4 * self.trained if saves > 1 and keep.last < 2 else 0
        kept = commits * commit + min(saves, 2) * state + alone
        during = kept + (commit + state if saves > 1 else 0)
        return Disk(commit, commits, state, alone, kept, during, self.free, saves - commits, pushed,
                    self._deleted_at_once())  # fmt: skip

    def _pushed(self, plan: TrainingPlan, saves: int) -> int:
        """How many saves stay because they are sent; at most, for what is sent is what `keep` has left until then."""
        push, keep = self.config.save.push, self.config.save.keep
        if push is None or not push.stays:
            return 0
        times = saves / push.every.amount if push.every.unit == "saves" else plan.steps / push.every.amount
        each = min(saves / max(times, 1), keep.best + keep.last)
        return min(saves, math.ceil(max(times, 1) * each))

    def _deleted_at_once(self) -> list[str]:
        """The saves of a run that would go on which `keep`, as it is written now, wants no longer."""
        run = self.pipeline.runs.of(self.pipeline.step(self.name).making)
        if run is None:
            return []
        repository = Repository(self.pipeline.home / "hub", run.name)
        deleted = would_go(repository, self.config.save.keep, self.config.best_by)
        return [f"{run.name}@step-{commit.step}" for commit in deleted]

    def _time(self, plan: TrainingPlan, report: Report) -> Time:
        """What is due every so many minutes depends on how long everything takes, and so on itself."""
        config = self.config
        seconds = report.seconds
        step = seconds["step"] * max(plan.batch / report.sequences, 1.0)
        compiling = seconds.get("compile", 0.0) * len(_sizes_of_parts(plan, self.processes))
        saving, evaluating = plan.cadence(config.save.every), plan.cadence(config.eval.every)
        sampling = plan.cadence(config.sample.every) if config.sample else Cadence(None, None)
        range_test = 100 if config.train.find_lr else 0
        taken = plan.steps + range_test
        total = at_least = seconds["start"] + compiling + taken * step
        evaluations = samples = saves = 1
        for _ in range(4):
            saves = _count([saving], plan.steps, total)
            evaluations = 1 + _count([saving, evaluating], plan.steps, total) if report.eval_tokens else 0
            samples = 1 + _count([sampling], plan.steps, total) if config.sample else 0
            total = (
                at_least + evaluations * seconds["evaluation"] + samples * seconds["sample"]
                + saves * seconds.get("save", 0.0)
            )  # fmt: skip
        cost = total / 3600 * self.price if self.price is not None else None
        return Time(
            seconds["start"], compiling, step, seconds["evaluation"], seconds["sample"], seconds.get("save", 0.0),
            evaluations, samples, saves, range_test, total, cost,
        )  # fmt: skip

    # Words

    def _choices(self, report: Report | None) -> list[Choice]:
        train, precision, micro_batch, context = (
            self.config.train, self.precision, self.micro_batch, self.config.sequence_length,
        )  # fmt: skip
        dropout = getattr(self.model.config, "attn_pdrop", 0.0) or getattr(self.model.config, "attention_dropout", 0.0)
        packing = {
            "concat": "blocks without a gap; attention reaches across documents",
            "documents": "documents fill a sequence best-fit, each sees itself alone",
            "none": "a document is a sequence; nothing is padded",
        }
        tokens = f"{micro_batch * context:,} tokens at once"
        if train.micro_batch is not None:
            why = f"as the recipe says, {tokens}"
        elif self.parts > 1:
            why = f"{tokens}; more would only need more memory"
        else:
            why = f"the whole {'share of a' if self.processes > 1 else ''} batch, {tokens}".replace("  ", " ")
        spread = "planned for one process; `--processes N` plans for several that share the work"
        if self.processes > 1:
            spread = f"{self.processes} processes, each with a copy of the model"
        if self.processes > 1 and self.strategy == "fsdp2":
            spread = f"{self.processes} processes, among which weights, gradients and optimizer are cut up"
        return [
            *([_adapter(self.config.adapter)] if isinstance(self.config, FineTuneConfig) else []),
            Choice("precision", precision.format, precision.reason),
            Choice("attention", *attention_on(precision.device, precision.dtype, dropout)),
            Choice("packing", train.packing, packing[train.packing]),
            Choice("strategy", self.strategy, spread),
            Choice("micro-batch", sequences(micro_batch), why),
            Choice("checkpointing", *(report.checkpointing if report else ("not known", "before the tokens are made"))),
        ]

    def _warnings(self, memory: Memory, disk: Disk | None) -> list[str]:
        found = []
        held = memory.weights + memory.gradients + memory.optimizer
        needed = memory.together if memory.together is not None else round(self._together(held))
        if needed > self.available:
            found.append(
                f"memory: about {show_bytes(needed)} are needed and {show_bytes(self.available)} are available. "
                + self._instead(memory, held)
            )
        if disk is not None and (letter := self.config.save.keep.too_little(disk.commit)):
            found.append(f"disk: {letter}")
        total = self.config.save.keep.total
        if disk is not None and total is not None and disk.pushed * disk.commit > total.bytes:
            found.append(
                f"disk: up to {disk.pushed} saves of {show_bytes(disk.commit)} are pushed and stay here, more than "
                f"`keep: {{total: {total}}}` allows, so training would pause. Write `stays: false` in `push`, so that "
                "`keep` takes what has been sent; or push less often"
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
            room = self.available / self._together(1) - memory.libraries - held - memory.logits
            fitting = int(self.micro_batch * room / max(memory.activations, 1))
            parts = [size for size in range(1, min(fitting, self.micro_batch) + 1) if self.batch % size == 0]
            if parts:
                ways.append(f"`micro_batch: {sequences(parts[-1])}`, which is the same training in smaller parts")
        if self.processes > 1 and self.strategy == "ddp":
            ways.append("`strategy: fsdp2`, which cuts weights, gradients and optimizer up; or fewer `--processes`")
        enough = memory.weights + memory.gradients < self.available / self._together(1)
        if not isinstance(self.config.train.optimizer, AdafactorConfig) and self.strategy != "fsdp2" and enough:
            ways.append(f"`optimizer: adafactor`, which saves {show_bytes(memory.optimizer)}")
        if not ways or memory.activations is None:
            ways.append("a smaller `width`, fewer `layers`")
        elif self.config.sequence_length > 256:
            ways.append(f"a shorter `context` than {self.config.sequence_length}")
        return f"Write {'; or '.join(ways)}"


def _adapter(adapter: AdapterConfig) -> Choice:
    if adapter.kind == "full":
        return Choice("adapter", "none", "every weight is trained")
    where = adapter.targets if isinstance(adapter.targets, str) else ", ".join(adapter.targets)
    return Choice("adapter", adapter.kind, f"rank {adapter.rank}, alpha {adapter.scaled_by}, on {where}")


def _extrapolated(reports: list[Report], micro_batch: int) -> int:
    """The peak of a step with parts of `micro_batch` sequences, by the line through two smaller ones."""
    (one, two) = reports
    slope = (two.peaks["step"] - one.peaks["step"]) / (two.micro_batch - one.micro_batch)
    return round(two.peaks["step"] + slope * (micro_batch - two.micro_batch))


def _sizes_of_parts(plan: TrainingPlan, processes: int) -> set[int]:
    """Of how many sequences the parts of a run are: for each torch.compile makes code of its own."""
    sizes = set()
    for batch in {plan.batch, plan.sequences % plan.batch or plan.batch}:
        for share in {batch // processes or 1, math.ceil(batch / processes)}:
            sizes |= {min(share, plan.micro_batch), share % plan.micro_batch} - {0}
    return sizes


def _count(cadences: list[Cadence], steps: int, seconds: float) -> int:
    """How often any of these is due in a run of so many steps that takes so long; the end always counts."""
    every = [cadence.steps for cadence in cadences if cadence.steps is not None]
    due = sum(steps // each for each in every)
    if len(every) == 2:
        due -= steps // math.lcm(*every)
    by_clock = sum(int(seconds / cadence.seconds) for cadence in cadences if cadence.seconds is not None)
    ends = 0 if any(steps % each == 0 for each in every) else 1
    return due + min(by_clock, steps) + ends
