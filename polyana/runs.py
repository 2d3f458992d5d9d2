"""The training runs of a home: which one belongs to a stage, how one is begun, and how it comes to its end."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyana.card import ModelCard, facts_of
from polyana.distributed import World, choose_strategy
from polyana.errors import Interrupted, PolyanaError
from polyana.recipe import Recipe
from polyana.registry import PushConfig, PushQueue, Repository, apply_retention, offer_base, pushing, send_rest
from polyana.storage import Making, changes, disk_used, read_json, write_json
from polyana.tasks import HeldTo, LanguageModelTask, PreferenceConfig, TrainingStageConfig, make_task
from polyana.tracking import Console, RunDirectory, find_runs
from polyana.tracking.sinks import SinkConfig, Sinks
from polyana.train import Trainer, TrainingPlan, choose_precision, sampled_schedule

__all__ = ["Ingredients", "Runs", "push_setting", "train", "train_along"]


class Runs:
    """The runs below HOME/runs. A run belongs to a stage by the fingerprint of all that decides what it learns."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.directory = home / "runs"

    def of(self, making: Making) -> RunDirectory | None:
        """The newest run of a stage with just these settings, unless it was set aside."""
        runs = [run for run in find_runs(self.directory) if run.about()["fingerprint"] == making.fingerprint]
        usable = [run for run in runs if not run.about().get("set_aside")]
        return usable[-1] if usable else None

    def unfinished(self, making: Making) -> bool:
        """Whether there is a run to go on with."""
        run = self.of(making)
        return run is not None and run.about().get("outcome") != "finished"

    def saves_are_gone(self, making: Making) -> bool:
        """Whether somebody has deleted what a finished run saved, or the run itself."""
        run = self.of(making)
        return run is None or "best" not in Repository(self.home / "hub", run.name).refs()

    def send_rest(self, recipe: Recipe, stage: str, making: Making, console: Console) -> None:
        """Push what an earlier training of a finished stage did not come to."""
        setting, run = push_setting(recipe, stage), self.of(making)
        if setting is not None and run is not None and run.status() == "finished":
            repository = Repository(self.home / "hub", run.name)
            if repository.exists() and send_rest(repository, setting, run.path / "push.log", console.say):
                _let_go(repository, recipe, stage)

    def set_aside(self, making: Making) -> None:
        """Let the stage begin a new run; what the earlier one saved stays. Raises Busy while it is being trained."""
        if run := self.of(making):
            with run.lock():
                run.note(set_aside=True)

    def begin(self, recipe: Recipe, stage: str, making: Making, console: Console) -> RunDirectory:
        """A new run; one that was interrupted with other settings is named, for it will not be gone on with."""
        earlier = [
            (run, about)
            for run in find_runs(self.directory)
            if ((about := run.about())["recipe"], about["stage"]) == (recipe.name, stage)
        ]
        if earlier:
            run, about = earlier[-1]
            if about.get("outcome") == "interrupted" and not about.get("set_aside"):
                found = changes(about["settings"], making.settings) or ["its corpus or tokenizer has changed"]
                console.say(f"  {run.name} was interrupted and stays as it is, for now {'; '.join(found[:3])}")
        about = {"fingerprint": making.fingerprint, "settings": making.settings, "seed": recipe.seed}
        return RunDirectory.create(self.directory, recipe.name, stage, about)


@dataclass(frozen=True)
class Ingredients:
    """What a stage trains on: `data`, its shards, and `start`, a tokenizer or a model to begin with; `gold`: what it is
    held to; `text`: the corpus that the shards were made of, if it is still there; as directories."""

    stage: str
    data: Path
    start: Path
    gold: Path | None = None
    text: Path | None = None

    def task(self, recipe: Recipe) -> LanguageModelTask:
        """A model at its start, its data and its loss."""
        config = recipe.stages[self.stage]
        assert isinstance(config, TrainingStageConfig)
        held = _held_to(recipe, self.stage, self.gold) if self.gold is not None else None
        return make_task(config, self.data, self.start, recipe.seed, held)


def _held_to(recipe: Recipe, stage: str, gold: Path) -> HeldTo:
    config = recipe.stages[stage]
    assert isinstance(config, PreferenceConfig)
    assert config.gold is not None
    owner, at, proxy = recipe.proxy_of(stage, config)
    wheres = {
        "reward": [recipe.where(stage, "gold", "reward", place) for place in range(len(config.gold.reward))],
        "proxy": [recipe.where(owner, *at, place) for place in range(len(proxy))],
    }
    return HeldTo(gold, proxy, wheres, recipe.base)


def train_along(recipe: Recipe, order: tuple[Ingredients, Path], world: World) -> None:
    """A rank's part in a training that rank 0 leads by `train`: it computes, and neither writes nor speaks."""
    ingredients, run = order
    task = ingredients.task(recipe)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        _trainer(RunDirectory(run), recipe, ingredients.stage, task, world, Console(nothing)).fit()


def _trainer(
    run: RunDirectory, recipe: Recipe, stage: str, task: LanguageModelTask, world: World, console: Console,
    queue: PushQueue | None = None,
    card: ModelCard | None = None,
) -> Trainer:  # fmt: skip
    config = recipe.stages[stage]
    assert isinstance(config, TrainingStageConfig)
    precision = choose_precision(config.train.precision)
    plan = TrainingPlan.of(config.train, task.per_epoch, task.tokens_per_epoch, task.context)
    return Trainer(
        task, plan, config.train, config.save, precision,
        choose_strategy(config.train.strategy, world, precision.device), run,
        Repository(run.path.parent.parent / "hub", run.name), console, seed=recipe.seed,
        evaluate_every=config.eval.every, sample_every=config.sample.every if config.sample else None,
        histograms_every=config.track.histograms,
        recipe_hash=recipe.hash, pushing=queue, describe=card.write if card is not None else None,
    )  # fmt: skip


def _sinks(recipe: Recipe, stage: str) -> list[SinkConfig]:
    """Who else is told of a stage's training, paths made absolute."""
    config = recipe.stages[stage]
    assert isinstance(config, TrainingStageConfig)
    return [type(sink)(**sink.resolved(recipe.base)) for sink in config.track.sinks]


def push_setting(recipe: Recipe, stage: str) -> PushConfig | None:
    """Where a stage's saves are sent, paths made absolute."""
    config = recipe.stages[stage]
    assert isinstance(config, TrainingStageConfig)
    return PushConfig(**config.save.push.resolved(recipe.base)) if config.save.push else None


def _let_go(repository: Repository, recipe: Recipe, stage: str) -> None:
    """Of what was kept because it waited to be sent, delete what `keep` does not want."""
    config = recipe.stages[stage]
    assert isinstance(config, TrainingStageConfig)
    apply_retention(repository, config.save.keep, config.best_by)


def train(
    run: RunDirectory,
    recipe: Recipe,
    ingredients: Ingredients,
    task: LanguageModelTask,
    baseline: dict[str, float | None],
    world: World,
    console: Console,
) -> dict[str, Any]:
    """Train a run to its end, from its start or its last save; the summary.

    Raises Interrupted after a stop signal and other PolyanaErrors when training fails; run.json tells which.
    """
    config = recipe.stages[ingredients.stage]
    assert isinstance(config, TrainingStageConfig)
    sinks = Sinks(run, _sinks(recipe, ingredients.stage), console.say)
    repository = Repository(run.path.parent.parent / "hub", run.name)
    sending = pushing(repository, push_setting(recipe, ingredients.stage), run.path / "push.log", console.say)
    with run.lock(), console.copied_to(run.path / "log.txt"), sending as queue, sinks:
        run.describe(recipe.as_yaml())
        run.note(outcome="interrupted")  # until it is known better
        world.send((ingredients, run.path))
        facts = facts_of(
            recipe.name, ingredients.stage, config, task.model, recipe.told(ingredients.stage), recipe.seed,
            data=ingredients.data, start=ingredients.start, text=ingredients.text,
        )  # fmt: skip
        card = ModelCard(facts, run.metrics)
        trainer = _trainer(run, recipe, ingredients.stage, task, world, console, queue, card)
        known = read_json(ingredients.start / "base.json") if (ingredients.start / "base.json").exists() else {}
        if "name" in known:
            offer_base(repository.path.parent, known["name"], known["revision"], ingredients.start)
        about = {"strategy": str(trainer.strategy), "recomputed_layers": trainer.checkpointing.recomputed}
        run.note(**about, start=ingredients.start.name, data=ingredients.data.name, planned_steps=trainer.plan.steps)
        write_json(run.path / "schedule.json", sampled_schedule(trainer.config, trainer.plan))
        trigram = baseline.get("trigram_bits_per_byte")
        bar = [] if trigram is None else [f"to beat: {trigram:.3f} bits per byte, a character trigram's"]
        spread = [str(trainer.strategy)] if world.size > 1 else []
        again = [str(trainer.checkpointing)] if trainer.checkpointing.recomputed else []
        for line in [f"run {run.name}", *task.outlook(trainer.plan), *spread, *again, *bar]:
            console.say(f"  {line}")
        try:
            position = trainer.fit()
        except Interrupted:
            raise
        except PolyanaError as error:
            run.note(outcome="failed", why=str(error))
            raise
        best = repository.resolve("best")
        more = baseline | task.conclude(run.path, best.step)
        summary = {
            "run": run.name, "steps": position.step, "best_step": best.step, "metrics": best.metrics, **more,
            "tokens_per_second": position.tokens / max(position.seconds, 1e-9),
            "training_seconds": position.seconds, "disk_bytes": disk_used(run.path, repository.path),
        }  # fmt: skip
        run.note(outcome="finished", finished=time.time(), **summary)
    if queue is not None:  # what waited to be sent was kept for that
        _let_go(repository, recipe, ingredients.stage)
    return summary
