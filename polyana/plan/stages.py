"""Which stages a recipe would run and why, and the plan of each training among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyana.ablation import ablation_step
from polyana.distributed import World
from polyana.pipeline import Pipeline
from polyana.plan.figures import RecipePlan, StagePlan
from polyana.plan.training import RehearsedTraining
from polyana.recipe import KINDS, Recipe
from polyana.storage import disk_used, home_directory
from polyana.tasks import TrainingStageConfig
from polyana.tracking import Console

__all__ = ["plan_recipe"]


def plan_recipe(recipe: Recipe, *, stage: str | None = None, prepare: bool = False, price: float | None = None,
        processes: int = 1, compare_compiled: bool = False, console: Console | None = None) -> RecipePlan:  # fmt: skip
    """The plan of every stage, or of one and what it needs. Makes no run; rehearsals are removed when they end.

    `prepare`: make what comes before training where it is not there yet, for without tokens nothing can be rehearsed.
    `price`: of an hour. `processes`: that are to train together on this machine; they rehearse together too.
    `compare_compiled`: rehearse with and without torch.compile. Raises UserError when the recipe cannot run.
    """
    console = console or Console()
    pipeline = Pipeline(recipe, home_directory(), console, World(size=processes))
    names = list(recipe.stages) if stage is None else recipe.needed_for(stage)
    steps = pipeline.steps(names)
    stages: list[StagePlan] = []
    for name, config in ((name, recipe.stages[name]) for name in names):
        if not isinstance(config, TrainingStageConfig):
            if prepare:
                pipeline.store.get(steps[name])
            stages.append(_stage(pipeline, name, steps[name]))
            if (ablation := ablation_step(pipeline, name)) is not None:
                stages.append(_stage(pipeline, f"{name}.ablation", ablation))
            continue
        untrained = [
            one for one in recipe.needed_for(name)[:-1] if _is_training(recipe, one) and not _done(pipeline, steps[one])
        ]
        for step in pipeline.before(name, config).values():
            if step.making.kind in KINDS:  # a stage of its own
                continue
            if prepare and not untrained:
                pipeline.store.get(step)
            shown = _stage(pipeline, step.making.kind, step)
            stages += [shown] if shown not in stages else []
        planned = _stage(pipeline, name, steps[name])
        if planned.cached and pipeline.runs.saves_are_gone(steps[name].making):
            planned = replace(planned, cached=False, why="its saves were deleted from the registry")
        if not planned.cached:
            if pipeline.runs.unfinished(steps[name].making):
                run = pipeline.runs.of(steps[name].making)
                planned = replace(planned, why=f"goes on with {run.name if run else ''}; what follows is of all of it")
            try:
                rehearsed = RehearsedTraining(pipeline, name, config, price, compare_compiled)
            except KeyError:
                then = f"once {untrained[0]} is trained" if untrained else "with --prepare, which fetches its base"
                stages.append(replace(planned, why=f"{planned.why}; can be planned {then}"))
                continue
            if rehearsed.data is not None and rehearsed.start is not None:
                console.say(f"{name}: rehearsing some steps")
            planned = replace(planned, training=rehearsed.training())
        stages.append(planned)
    to_train = [each for each in stages if each.name in names and _is_training(recipe, each.name) and not each.cached]
    times = [each.training.time if each.training else None for each in to_train]
    seconds = sum(time.total for time in times if time) if all(times) else None
    cost = seconds / 3600 * price if seconds is not None and price is not None else None
    return RecipePlan(recipe.name, str(pipeline.home), stages, seconds, cost)


def _is_training(recipe: Recipe, name: str) -> bool:
    return isinstance(recipe.stages[name], TrainingStageConfig)


def _done(pipeline: Pipeline, step: Any) -> bool:
    return pipeline.store.find(step.making) is not None and not pipeline.runs.saves_are_gone(step.making)


def _stage(pipeline: Pipeline, name: str, step: Any) -> StagePlan:
    found = pipeline.store.find(step.making)
    if found is None:
        return StagePlan(name, step.making.kind, False, pipeline.store.why(step))
    return StagePlan(name, step.making.kind, True, "unchanged, kept", disk_used(found.directory))
