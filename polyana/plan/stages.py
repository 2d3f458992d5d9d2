"""Which stages a recipe would run and why, and the plan of each training among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polyana.plan.figures import RecipePlan, StagePlan
from polyana.plan.training import RehearsedTraining
from polyana.recipe import Recipe
from polyana.run import Pipeline
from polyana.storage import disk_used, home_directory
from polyana.tasks import PretrainConfig
from polyana.tracking import Console

__all__ = ["plan_recipe"]


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
            console.say(f"{name}: rehearsing some steps")
            planned = replace(planned, training=RehearsedTraining(pipeline, name, config, price).training())
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
