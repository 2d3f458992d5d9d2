"""The stages of a recipe, in order. Read this first: it is the table of contents.

    corpus      raw files   -> documents, a reason for every drop      polyana/corpus/
    ablation    both        -> what cleaning them bought               polyana/ablation/
    tokenizer   documents   -> a tokenizer                             polyana/tokenizer/
    tokens      both        -> token shards                            polyana/data/
    baseline    documents   -> what letter statistics would reach      polyana/evaluate/
    pretrain    shards      -> a model, every save of it a commit      polyana/tasks/, train/, registry/
    base        a reference -> a pretrained model's directory          polyana/models/
    start       base, text  -> one with more tokens, or a new one      polyana/tasks/start.py, tokenizer/
    examples    rows, base  -> shards with what each token counts      polyana/examples/, data/
    sft         both        -> a model or an adapter, as above         polyana/tasks/, train/, registry/
    synthesize  prompts, models -> answers with scores, and pairs      polyana/synthesis/, rewards/
    parallel    aligned files -> sentences, a reason for every drop    polyana/parallel/
    units       both, base  -> shards of questions and translations    polyana/tasks/translate_units.py, data/
    translate   both        -> a model or an adapter, and its scores   polyana/tasks/, evaluate/, train/, registry/
    answers     rows, base  -> shards of judged answers, their report  polyana/examples/, tasks/answers.py
    reference   both        -> the base's log-probability of each      polyana/tasks/reference.py
    preference  both        -> a model or an adapter, aligned          polyana/tasks/, losses/, train/, registry/
    reward      both        -> a number for any answer                 polyana/tasks/, losses/, train/, registry/
    labelled    rows, base  -> shards of texts, the class of each      polyana/tasks/classify.py
    classify    both        -> a class for any text, by what it costs  polyana/tasks/, losses/, train/, registry/
    evaluate    saves, suites -> scores, and whether they differ       polyana/scores.py, evaluate/

What a stage makes is found again by a hash of its settings, its inputs and its code's version; only what is missing,
has changed or is damaged is made again (polyana/storage/artifact.py).
"""

from __future__ import annotations

from typing import Any

from polyana.ablation import ablation_step
from polyana.distributed import open_world
from polyana.errors import UserError
from polyana.evaluate import EvaluateConfig
from polyana.pipeline import Pipeline
from polyana.recipe import Recipe
from polyana.runs import train_along
from polyana.storage import Step, home_directory, read_json
from polyana.tasks import TrainingStageConfig
from polyana.tracking import Console

__all__ = ["run_recipe"]


def run_recipe(recipe: Recipe, *, stage: str | None = None, resume: bool = False, fresh: bool = False,
        console: Console | None = None) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Run every stage of a recipe, or one and what it needs; the summary of each training stage by its name.

    `resume`: raise UserError unless there is an interrupted run to go on with. `fresh`: train again from the start.
    Where several processes were started, rank 0 does all of it and sends for the others when it trains.
    """
    with open_world() as world:
        return world.lead(
            lambda: _run_stages(Pipeline(recipe, home_directory(), console or Console(), world), stage, resume, fresh),
            lambda order: train_along(recipe, order, world),
        )


def _run_stages(pipeline: Pipeline, stage: str | None, resume: bool, fresh: bool) -> dict[str, dict[str, Any]]:
    recipe = pipeline.recipe
    if pipeline.world.restarts:
        pipeline.console.say(f"a process died and all were started again, restart {pipeline.world.restarts}")
        fresh = False  # the first start has set the earlier run aside; this one goes on with what was begun then
    names = list(recipe.stages) if stage is None else recipe.needed_for(stage)
    steps = pipeline.steps(names)
    training = {name: step for name, step in steps.items() if isinstance(recipe.stages[name], TrainingStageConfig)}
    if resume and not any(pipeline.runs.unfinished(step.making) for step in training.values()):
        raise UserError(f"--resume: there is no interrupted run of {recipe.name} with these settings to go on with")
    _let_go(pipeline, steps, training, fresh)
    for name, step in steps.items():
        for each in filter(None, (step, ablation_step(pipeline, name))):
            if pipeline.store.find(each.making):
                pipeline.console.stage(each.used_by.rpartition("/")[2], "unchanged, kept")
                if name in training:
                    pipeline.runs.send_rest(recipe, name, each.making, pipeline.console)
            else:
                pipeline.store.get(each)
    return {name: read_json(pipeline.store.get(step).directory / "summary.json") for name, step in training.items()}


def _let_go(pipeline: Pipeline, steps: dict[str, Step], training: dict[str, Step], fresh: bool) -> None:
    """Discard the trainings that are to be done anew, and what was measured of their saves."""
    anew, recipe = set[str](), pipeline.recipe
    for name, step in training.items():
        found = pipeline.store.find(step.making)
        gone = found is not None and pipeline.runs.saves_are_gone(step.making)
        if gone:
            pipeline.console.stage(name, "its saves were deleted from the registry")
        if fresh:
            pipeline.runs.set_aside(step.making)
        if found and (gone or fresh):
            pipeline.store.discard(found)
            anew.add(name)
    for name in [one for one in steps if isinstance(recipe.stages[one], EvaluateConfig)]:
        if anew & set(recipe.needed_for(name)) and (found := pipeline.store.find(steps[name].making)):
            pipeline.store.discard(found)
