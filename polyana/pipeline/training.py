"""A training stage: what it needs and no stage of the recipe is, its task, and its run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from polyana import tasks
from polyana.errors import Problem, UserError, blaming
from polyana.models import bytes_of, check_packing, count_parameters
from polyana.pipeline.finetuning import examples_step, reference_step, units_step
from polyana.pipeline.models import start_step
from polyana.pipeline.parallel import parallel_step
from polyana.pipeline.rewards import gold_step
from polyana.pipeline.texts import baseline_step, tokens_step
from polyana.runs import Ingredients, train
from polyana.storage import Making, Step, read_json, show_bytes, write_json
from polyana.tasks import (
    AnswersConfig,
    ClassifyConfig,
    LanguageModelTask,
    PreferenceConfig,
    PretrainConfig,
    SftConfig,
    TrainingStageConfig,
    TranslateConfig,
    outline_model,
)
from polyana.train import TrainingPlan, available_bytes, choose_precision, optimizer_bytes, probe

if TYPE_CHECKING:
    from polyana.pipeline.pipeline import Pipeline


def steps_before(pipeline: Pipeline, name: str, config: TrainingStageConfig) -> dict[str, Step]:
    """What a training stage needs and no stage of the recipe is: `data`, its shards; `start`, what its model begins
    as; others by their name."""
    if isinstance(config, SftConfig | ClassifyConfig):
        return {"start": start_step(pipeline, name, config), "data": examples_step(pipeline, name, config)}
    if isinstance(config, TranslateConfig):
        text, shards = parallel_step(pipeline, name, config), units_step(pipeline, name, config)
        return {"start": start_step(pipeline, name, config), "text": text, "data": shards}
    if isinstance(config, AnswersConfig):
        items = examples_step(pipeline, name, config)
        found = {"start": start_step(pipeline, name, config), "data": items}
        if isinstance(config, PreferenceConfig) and config.gold is not None:
            found["gold"] = gold_step(pipeline, name, config)
        if isinstance(config, PreferenceConfig) and config.chosen_reference == "stored":
            return found | {"items": items, "data": reference_step(pipeline, name, config, items)}
        return found
    assert isinstance(config, PretrainConfig)
    return {
        "data": tokens_step(pipeline, config),
        "start": pipeline.step(config.tokenizer),
        "baseline": baseline_step(pipeline, config),
    }


def _ingredients(pipeline: Pipeline, name: str, config: TrainingStageConfig) -> Ingredients:
    """What a training stage trains on, made now if it is not there yet."""
    before = steps_before(pipeline, name, config)
    found = {what: pipeline.store.get(before[what]).directory for what in ("data", "start", "gold") if what in before}
    text = pipeline.store.find(pipeline.step(config.corpus).making) if isinstance(config, PretrainConfig) else None
    return Ingredients(name, **found, text=text.directory if text is not None else None)


def task_of(pipeline: Pipeline, name: str) -> LanguageModelTask:
    """The task of the training stage `name`."""
    config = pipeline.recipe.stages[name]
    assert isinstance(config, TrainingStageConfig)
    return _ingredients(pipeline, name, config).task(pipeline.recipe)


def training_step(pipeline: Pipeline, name: str, config: TrainingStageConfig) -> Step:
    if pipeline.world.size > 1 and config.train.strategy == "single":
        what = (
            f"`strategy: single` is for one process, and {pipeline.world.size} were started; write auto, ddp or fsdp2"
        )
        raise UserError(Problem(pipeline.recipe.where(name, "train", "strategy"), what))
    where = pipeline.recipe.where(name, "train", "precision")
    try:
        choose_precision(config.train.precision)
    except UserError as error:
        raise UserError(Problem(where, error.problems[0].what)) from None
    settings = config.identity() | {"seed": pipeline.recipe.seed}
    before = steps_before(pipeline, name, config)
    inputs = dict(before["data"].making.inputs)
    if "gold" in before:  # by which the best is picked
        inputs["gold"] = before["gold"].making.fingerprint
    making = Making(config.kind, tasks.VERSION, settings, inputs)

    def fill(directory: Path) -> None:
        ingredients = _ingredients(pipeline, name, config)
        _check_memory(pipeline, name, config, ingredients)
        with blaming(pipeline.recipe.where(name)):
            task = ingredients.task(pipeline.recipe)
        try:
            TrainingPlan.of(config.train, task.per_epoch, task.tokens_per_epoch, task.context)
        except UserError as error:
            warmup = pipeline.recipe.where(name, "train", "warmup")
            raise UserError(Problem(warmup, error.problems[0].what)) from None
        probe(task, where)
        check_packing(task.model)
        baseline = steps_before(pipeline, name, config).get("baseline")
        to_beat = read_json(pipeline.store.get(baseline).directory / "baseline.json") if baseline else {}
        run = pipeline.runs.of(making) or pipeline.runs.begin(pipeline.recipe, name, making, pipeline.console)
        summary = train(run, pipeline.recipe, ingredients, task, to_beat, pipeline.world, pipeline.console)
        write_json(directory / "summary.json", summary)

    return pipeline.artifact(name, making, fill)


def _check_memory(pipeline: Pipeline, name: str, config: TrainingStageConfig, ingredients: Ingredients) -> None:
    """Raises UserError for a model that cannot be held here, before the system kills whatever is largest."""
    with torch.device("meta"), blaming(pipeline.recipe.where(name)):
        model = outline_model(config, ingredients.start)
    trained = 4 * count_parameters(model)
    held = sum(map(bytes_of, model.parameters())) + trained + optimizer_bytes(model, config.train.optimizer)
    device = choose_precision(config.train.precision).device
    # each process on this machine holds all of it; fsdp2 parts it among them
    copies = pipeline.world.local_size if device.type == "cpu" else 1
    needed = held * copies / (pipeline.world.size if config.train.strategy == "fsdp2" else 1)
    available = available_bytes(device)
    if needed > available:
        what = (
            f"weights, gradients and optimizer need {show_bytes(needed)}, and {show_bytes(available)} of memory "
            "are available; `polyana plan` says what would fit"
        )
        raise UserError(Problem(pipeline.recipe.where(name), what))
