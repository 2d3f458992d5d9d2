"""What a recipe would do, before it does it: which stages run, and what each training needs of memory, disk and time.

What can be counted is counted (parameters, weights, gradients, the optimizer's memory, steps); what follows from code
that others wrote is measured, by rehearsing the training for some steps on its own data (polyana/rehearse.py).
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polyana.errors import Problem, UserError
from polyana.losses import logits_bytes
from polyana.models import attention_on, build_model
from polyana.recipe import Recipe
from polyana.rehearse import Order, Report, rehearse
from polyana.run import Pipeline
from polyana.storage import disk_used, home_directory, show_bytes
from polyana.tasks import PretrainConfig
from polyana.tokenizer import TextTokenizer, TokenizerConfig
from polyana.tracking import Console, show_clock
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

__all__ = ["Choice", "Disk", "Memory", "RecipePlan", "StagePlan", "Time", "Training", "picture", "plan_recipe"]

_SAFE = 0.8  # share of the available memory that a rehearsal may take; guess
_LOG_MARGIN = 10**8  # bytes that should be free beside what a rehearsal saves; guess


@dataclass(frozen=True)
class Choice:
    """What was chosen and why, in a clause."""

    what: str
    chosen: str
    reason: str


@dataclass(frozen=True)
class Memory:
    """Bytes. weights to logits are counted; the others are None where nothing was measured.

    activations: all else that a training step needs, above all what the backward pass needs of the forward pass.
    training, evaluation, saving: the peak of each, beyond the libraries. peak: of the whole process, libraries
    included, which is what has to be available. how: what was measured.
    """

    weights: int
    gradients: int
    optimizer: int
    logits: int
    available: int
    how: str
    activations: int | None = None
    libraries: int | None = None
    training: int | None = None
    evaluation: int | None = None
    saving: int | None = None
    peak: int | None = None


@dataclass(frozen=True)
class Disk:
    """Bytes. commit: the files of a save in the registry. state: what resuming needs besides; two are kept.

    kept: at the end of training, at most; during: while a save is being written, at most.
    """

    commit: int
    commits: int
    state: int
    kept: int
    during: int
    free: int


@dataclass(frozen=True)
class Time:
    """Seconds of one, how many there are, and of all. start: model and data made ready, a step probed.

    range_test: steps of `find_lr`, beside those of training. cost: in the unit of the price an hour.
    """

    start: float
    step: float
    evaluation: float
    sample: float
    save: float
    evaluations: int
    samples: int
    saves: int
    range_test: int
    total: float
    cost: float | None


@dataclass(frozen=True)
class Training:
    """A training stage that would run. None: not known before its tokens are made, `steps` only if they are counted in
    tokens or epochs.

    tokens, steps: of the whole training. batch, micro_batch: sequences; parts: micro-batches of a step.
    """

    parameters: int
    trained: int
    vocabulary: int
    tokens: int | None
    epochs: float | None
    steps: int | None
    warmup_steps: int | None
    batch: int
    micro_batch: int
    parts: int
    context: int
    memory: Memory
    disk: Disk | None
    time: Time | None
    choices: list[Choice]
    warnings: list[str]

    @property
    def frozen(self) -> int:
        return self.parameters - self.trained


@dataclass(frozen=True)
class StagePlan:
    """bytes: of what is there already."""

    name: str
    kind: str
    cached: bool
    why: str
    bytes: int = 0
    training: Training | None = None


@dataclass(frozen=True)
class RecipePlan:
    recipe: str
    home: str
    stages: list[StagePlan]
    seconds: float | None
    cost: float | None

    @property
    def fits(self) -> bool:
        """Whether memory and disk suffice, as far as is known."""
        return not any(stage.training.warnings for stage in self.stages if stage.training)

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self) | {"fits": self.fits}
        for stage, shown in zip(self.stages, plain["stages"], strict=True):
            if stage.training:
                shown["training"]["frozen"] = stage.training.frozen
        return plain


def plan_recipe(recipe: Recipe, *, stage: str | None = None, prepare: bool = False, price: float | None = None,
        console: Console | None = None) -> RecipePlan:  # fmt: skip
    """The plan of every stage, or of one and what it needs. Makes no run; rehearsals are removed when they end.

    `prepare`: make what comes before training where it is not there yet, for without tokens nothing can be rehearsed.
    `price`: of an hour. Raises UserError when the recipe cannot run.
    """
    console = console or Console()
    pipeline = Pipeline(recipe, home_directory(), console)
    names = list(recipe.stages) if stage is None else recipe.needed_for(stage)
    steps = pipeline.steps(names)
    stages: list[StagePlan] = []
    for name, config in ((name, recipe.stages[name]) for name in names):
        if not isinstance(config, PretrainConfig):
            if prepare:
                pipeline.store.get(steps[name])
            stages.append(_stage(pipeline, name, steps[name]))
            continue
        for between, step in (("tokens", pipeline.tokens(config)), ("baseline", pipeline.baseline(config))):
            if prepare:
                pipeline.store.get(step)
            shown = _stage(pipeline, between, step)
            stages += [shown] if shown not in stages else []
        planned = _stage(pipeline, name, steps[name])
        if planned.cached and pipeline.runs.saves_are_gone(steps[name].making):
            planned = replace(planned, cached=False, why="its saves were deleted from the registry")
        if not planned.cached:
            if pipeline.runs.unfinished(steps[name].making):
                run = pipeline.runs.of(steps[name].making)
                planned = replace(planned, why=f"goes on with {run.name if run else ''}; what follows is of all of it")
            rehearsed = _Rehearsed(pipeline, name, config, price)
            if rehearsed.tokens is not None:
                console.say(f"{name}: rehearsing some steps")
            planned = replace(planned, training=rehearsed.training())
        stages.append(planned)
    times = [
        each.training.time if each.training else None for each in stages if each.kind == "pretrain" and not each.cached
    ]
    seconds = sum(time.total for time in times if time) if all(times) else None
    cost = seconds / 3600 * price if seconds is not None and price is not None else None
    return RecipePlan(recipe.name, str(pipeline.home), stages, seconds, cost)


def _stage(pipeline: Pipeline, name: str, step: Any) -> StagePlan:
    found = pipeline.store.find(step.making)
    if found is None:
        return StagePlan(name, step.making.kind, False, pipeline.store.why(step))
    return StagePlan(name, step.making.kind, True, "unchanged, kept", disk_used(found.directory))


class _Rehearsed:
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
        self.free = _free(pipeline.home)
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
            how = "the rest, disk, time and cost are measured once the tokens are made: --prepare makes them"
            memory = replace(memory, how=how)
        elif memory.weights + memory.gradients + memory.optimizer > _SAFE * self.available:
            memory = replace(memory, how="nothing was measured: the model does not fit into this machine's memory")
        else:
            reports = self._measure()
            memory = self._measured(memory, reports)
        report = reports[-1] if reports else None
        plan, disk, time = None, None, None
        steps = int(train.duration.amount) if train.duration.unit == "steps" else None
        if report is not None:
            plan = TrainingPlan.of(train, report.per_epoch, report.tokens_per_epoch, context)
            disk, time = self._disk(plan, report), self._time(plan, report)
        return Training(
            self.parameters, self.trained, self.vocabulary, plan.tokens if plan else None,
            plan.sequences / plan.per_epoch if plan else None, plan.steps if plan else steps,
            plan.warmup_steps if plan else None, self.batch, self.micro_batch,
            math.ceil(self.batch / self.micro_batch), context, memory, disk, time, self._choices(),
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
        range_test = 100 if config.train.find_lr else 0
        taken = plan.steps + range_test
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
            samples, saves, range_test, total, cost,
        )  # fmt: skip

    # Words

    def _choices(self) -> list[Choice]:
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
            Choice("micro-batch", _sequences(micro_batch), why),
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
                ways.append(f"`micro_batch: {_sequences(parts[-1])}`, which is the same training in smaller parts")
        if not isinstance(self.config.train.optimizer, AdafactorConfig):
            ways.append(f"`optimizer: adafactor`, which saves {show_bytes(memory.optimizer)}")
        if not ways or memory.activations is None:
            ways.append("a smaller `width`, fewer `layers`")
        elif self.config.model.context > 256:
            ways.append(f"a shorter `context` than {self.config.model.context}")
        return f"Write {'; or '.join(ways)}"


def _sequences(count: int) -> str:
    return f"{count} sequence{'' if count == 1 else 's'}"


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


def _free(home: Path) -> int:
    """Bytes free on the disk where `home` is or will be."""
    there = next(path for path in (home, *home.parents) if path.exists())
    return shutil.disk_usage(there).free


# What is shown


def picture(plan: RecipePlan) -> RenderableType:
    """The stages, then the figures of each training that would run, then what it all takes."""
    stages = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for stage in plan.stages:
        colour = "green" if stage.cached else "yellow"
        size = show_bytes(stage.bytes) if stage.cached else ""
        stages.add_row(Text(stage.name, "bold"), Text("cached" if stage.cached else "to run", colour), stage.why, size)
    shown: list[RenderableType] = [stages]
    for stage in plan.stages:
        if stage.training is not None:
            shown += [Text(f"\n{stage.name}", "bold"), _figures(stage.training)]
            shown += [Text(f"  {warning}", "bold red") for warning in stage.training.warnings]
    if all(stage.cached for stage in plan.stages):
        shown.append(Text("\nnothing is left to do"))
    elif plan.seconds:
        cost = f", {plan.cost:,.2f} at the price given" if plan.cost is not None else ""
        shown.append(Text(f"\ntraining takes about {show_clock(plan.seconds)}{cost}"))
    return Group(*shown)


def _figures(training: Training) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    memory, disk, time = training.memory, training.disk, training.time

    def row(what: str, *parts: str) -> None:
        table.add_row(f"  {what}", Text("; ".join(part for part in parts if part)))

    frozen = f"{training.frozen:,} frozen" if training.frozen else "none frozen"
    row("model", f"{training.parameters:,} parameters, {frozen}", f"vocabulary {training.vocabulary:,}")
    parts = f"in {training.parts} parts of {training.micro_batch}" if training.parts > 1 else "in one part"
    batch = f"{_sequences(training.batch)} of {training.context} tokens, {parts}"
    if training.tokens is not None:
        data = f"{training.tokens:,} tokens ({training.epochs:.2g} epochs) in {training.steps:,} steps"
        row("steps", data, f"the first {training.warmup_steps:,} of them warm-up", f"a step: {batch}")
    else:
        known = f"{training.steps:,}" if training.steps else "not known before the tokens are made"
        row("steps", known, f"a step: {batch}")
    counted = [("weights", memory.weights), ("gradients", memory.gradients), ("optimizer", memory.optimizer)]
    counted += [("logits", memory.logits)]
    counted += [("activations and the rest", memory.activations)] if memory.activations is not None else []
    listed = ", ".join(f"{what} {show_bytes(size)}" for what, size in counted)
    if memory.training is not None and memory.evaluation is not None and memory.saving is not None:
        row("memory", f"training {show_bytes(memory.training)}: {listed}")
        row("", f"evaluation {show_bytes(memory.evaluation)}", f"saving {show_bytes(memory.saving)}", memory.how)
        row(
            "",
            f"at most {show_bytes(memory.peak or 0)} with the libraries' {show_bytes(memory.libraries or 0)}",
            f"{show_bytes(memory.available)} are available",
        )
    else:
        row("memory", listed, memory.how, f"{show_bytes(memory.available)} are available")
    if disk is not None:
        saves = f"{disk.commits} saves of {show_bytes(disk.commit)} kept, and {show_bytes(disk.state)} to resume, twice"
        row("disk", f"{show_bytes(disk.kept)}: {saves}", f"{show_bytes(disk.during)} while saving")
        row("", f"{show_bytes(disk.free)} are free")
    if time is not None:
        events = (
            (training.steps or 0, "step", time.step), (time.range_test, "step before that to find a rate", time.step),
            (time.evaluations, "evaluation", time.evaluation),
            (time.samples, "sample", time.sample), (time.saves, "save", time.save),
        )  # fmt: skip
        listed = ", ".join(
            f"{count:,} {what}{'' if count == 1 else 's'} of {_seconds(each)}" for count, what, each in events if count
        )
        row("time", f"{show_clock(time.total)}: {listed}")
    for choice in training.choices:
        row(choice.what, f"{choice.chosen}: {choice.reason}")
    return table


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else show_clock(seconds)
