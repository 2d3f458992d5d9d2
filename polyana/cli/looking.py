"""`polyana show ...`: the data that a recipe trains on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from polyana.cli.doors import AsJson, Overrides, RecipePath, print_result, relative, rich_console, show
from polyana.errors import UserError
from polyana.storage import home_directory

__all__ = ["show_batch", "show_corpus", "show_tokenizer"]


@show.command("batch")
def show_batch(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="Which training stage; default: the first.")] = None,
    step: Annotated[int, typer.Option(min=1, help="The batch of which training step.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Sequences to print.")] = 2,
    overrides: Overrides = None,
) -> None:
    """Print what the model sees in one step: tokens apart by |, each document in its own colour, no-loss tokens dim."""
    from polyana.pipeline import Pipeline
    from polyana.recipe import load_recipe
    from polyana.tasks import TrainingStageConfig
    from polyana.tracking import Console
    from polyana.train import TrainingPlan

    loaded = load_recipe(recipe, overrides or ())
    training = {name: config for name, config in loaded.stages.items() if isinstance(config, TrainingStageConfig)}
    name = stage or next(iter(training), "")
    if name not in training:
        raise UserError(f"{recipe} has no training stage `{name}`; it has: {', '.join(training) or 'none'}")
    config = training[name]
    task = Pipeline(loaded, home_directory(), Console()).task(name)
    plan = TrainingPlan.of(config.train, task.per_epoch, task.tokens_per_epoch, task.context)
    if step > plan.steps:
        raise UserError(f"--step {step}: stage {name} has {plan.steps:,} steps")
    first = (step - 1) * plan.batch
    console = rich_console()
    batch = task.batch(first, min(rows, plan.batch_at(first)))
    console.print(task.picture(batch, marks=not console.is_terminal), soft_wrap=True)


@show.command("corpus")
def show_corpus(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print where every document of each corpus went: kept or dropped, and why; report.html has the whole of it."""
    from polyana.corpus import Corpus, CorpusConfig, report_lines, waterfall_lines

    for name, directory in _made(recipe, overrides, CorpusConfig):
        report = Corpus(directory).report
        print_result(json.dumps(report, ensure_ascii=False, indent=1) if as_json else f"{name}  {relative(directory)}")
        if not as_json:
            lines = [*waterfall_lines(report), "", *report_lines(report, relative(directory))]
            print_result("\n".join(f"  {line}".rstrip() for line in lines))


@show.command("tokenizer")
def show_tokenizer(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print how well each tokenizer fits its corpus, and how it splits."""
    from polyana.storage import read_json
    from polyana.tokenizer import TokenizerConfig, report_lines

    for name, directory in _made(recipe, overrides, TokenizerConfig):
        report = read_json(directory / "report.json")
        print_result(json.dumps(report, ensure_ascii=False, indent=1) if as_json else f"{name}  {relative(directory)}")
        if not as_json:
            print_result("\n".join(f"  {line}" for line in report_lines(directory, examples=10)))


def _made(recipe: Path, overrides: list[str] | None, kind: type) -> list[tuple[str, Path]]:
    """(name, directory) of a recipe's stages of one kind, made now where they are not there yet."""
    from polyana.pipeline import Pipeline
    from polyana.recipe import load_recipe
    from polyana.tracking import Console

    loaded = load_recipe(recipe, overrides or ())
    pipeline = Pipeline(loaded, home_directory(), Console())
    names = [name for name, config in loaded.stages.items() if isinstance(config, kind)]
    return [(name, pipeline.store.get(pipeline.step(name)).directory) for name in names]
