"""A plan as the user sees it: the stages, the figures of each training, what it all takes."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polyana.plan.figures import RecipePlan, Training, sequences
from polyana.storage import show_bytes
from polyana.tracking import show_clock

__all__ = ["picture"]


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

    trained = "none frozen"
    if training.frozen:
        share = training.trained / training.parameters
        size = show_bytes(4 * training.trained)  # an adapter is saved in fp32
        trained = f"of which {training.trained:,} are trained ({share:.2%}): the adapter's files take {size}"
    row("model", f"{training.parameters:,} parameters, {trained}", f"vocabulary {training.vocabulary:,}")
    parts = f"in {training.parts} parts of {training.micro_batch}" if training.parts > 1 else "in one part"
    parts += " for each process" if training.processes > 1 else ""
    batch = f"{sequences(training.batch)} of {training.context} tokens, {parts}"
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
        each = "of each process: " if training.processes > 1 else ""
        row("memory", f"{each}training {show_bytes(memory.training)}: {listed}")
        row("", f"evaluation {show_bytes(memory.evaluation)}", f"saving {show_bytes(memory.saving)}", memory.how)
        row(
            "",
            f"at most {show_bytes(memory.peak or 0)} with the libraries' {show_bytes(memory.libraries or 0)}",
            f"{show_bytes(memory.together or 0)} for all {training.processes}" if training.processes > 1 else "",
            f"{show_bytes(memory.available)} are available",
        )
    else:
        row("memory", listed, memory.how, f"{show_bytes(memory.available)} are available")
    if disk is not None:
        saves = f"{disk.commits} saves of {show_bytes(disk.commit)} kept, and {show_bytes(disk.state)} to resume, twice"
        saves += f", with {show_bytes(disk.alone)} of weights for the older" if disk.alone else ""
        saves += f"; {disk.pushed} saves stay because they are pushed" if disk.pushed else ""
        row("disk", f"{show_bytes(disk.kept)}: {saves}", f"{show_bytes(disk.during)} while saving")
        row("", f"{show_bytes(disk.free)} are free")
        if disk.deleted:
            freed = show_bytes(disk.deleted * disk.commit)
            row("", f"`keep` deletes {disk.deleted} of {disk.deleted + disk.commits} saves on the way, {freed} in all")
        if disk.at_once:
            row("", f"deleted as soon as it goes on: {', '.join(disk.at_once)}")
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
