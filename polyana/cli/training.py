"""Commands that run a recipe, or say what it would need."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyana.cli.doors import AsJson, Overrides, RecipePath, app, picked_by, print_result, relative, rich_console
from polyana.errors import UserError
from polyana.storage import home_directory

if TYPE_CHECKING:
    from rich.table import Table

    from polyana.tracking import RunDirectory

__all__ = ["doctor", "plan", "run"]


@app.command()
def run(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="Only this stage and what it needs.")] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Fail unless there is an interrupted run.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again from the start, in a new run.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Train in so many processes on this machine.")] = 1,
    restarts: Annotated[
        int, typer.Option(min=0, help="With --processes: start again so often when one dies, from the last save.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a recipe. What is finished and unchanged is kept; what was interrupted goes on where it stopped."""
    from polyana.distributed import is_main, launch
    from polyana.recipe import load_recipe
    from polyana.run import run_recipe
    from polyana.tracking import show_clock

    if resume and fresh:
        raise UserError("--resume goes on with a run and --fresh begins a new one; choose one of them")
    loaded = load_recipe(recipe, overrides or ())
    if (processes > 1 or restarts) and "RANK" not in os.environ:  # else this is one of them
        sys.exit(launch(processes, restarts, ["-m", "polyana", *sys.argv[1:]]))
    began = time.time()
    summaries = run_recipe(loaded, stage=stage, resume=resume, fresh=fresh)
    if not is_main():
        return
    if as_json:
        print_result(json.dumps(summaries, ensure_ascii=False, indent=1))
        return
    seconds = time.time() - began
    for name, summary in summaries.items():
        _show_summary(summary, loaded.stages[name].kind, seconds if len(summaries) == 1 else None)
    if len(summaries) > 1:
        print_result(f"\nAll of it took {show_clock(seconds)}.")


@app.command()
def plan(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="Only this stage and what it needs.")] = None,
    overrides: Overrides = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make corpus, tokenizer and tokens now where they are not there yet.")
    ] = False,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="Of an hour, as 2.5: prints what training costs.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Plan for training in so many processes on this machine.")] = 1,
    compare_compiled: Annotated[
        bool, typer.Option("--compile", help="Rehearse with and without torch.compile: which is faster in all?")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe would do and need: stages, memory, disk, time. Exit code 1 when memory or disk are short."""
    from polyana.plan import picture, plan_recipe
    from polyana.recipe import load_recipe

    planned = plan_recipe(
        load_recipe(recipe, overrides or ()), stage=stage, prepare=prepare, price=price, processes=processes,
        compare_compiled=compare_compiled,
    )  # fmt: skip
    if as_json:
        print_result(json.dumps(planned.as_json(), ensure_ascii=False, indent=1))
    else:
        rich_console(width=None if sys.stdout.isatty() else 120).print(picture(planned))
    if not planned.fits:
        raise typer.Exit(1)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Try what this machine and installation can do; exit code 1 when something is broken, with what mends it."""
    from polyana import doctor as examination

    findings = examination.examine(home_directory())
    result = examination.as_json(findings)
    if as_json:
        print_result(json.dumps(result, ensure_ascii=False, indent=1))
    else:
        width = None if sys.stdout.isatty() else 120
        rich_console(width=width).print(examination.picture(findings))
    if not result["well"]:
        raise typer.Exit(1)


def _show_summary(summary: dict[str, Any], kind: str, wall_seconds: float | None) -> None:
    """The short table at the end of a run, the first and the last sample, and what to try next. kind: the stage's;
    wall_seconds: the recipe's, None where it is not this run's alone."""
    from polyana.registry import Repository
    from polyana.registry.describe import describe_best
    from polyana.tracking import RunDirectory, as_text

    home = home_directory()
    run = RunDirectory(home / "runs" / summary["run"])
    fine_tuned = str(run.about()["start"]).startswith("base-")
    repository = Repository(home / "hub", summary["run"])
    console = rich_console()
    console.print(_table(summary, run, picked_by(describe_best(repository)), fine_tuned, wall_seconds))
    samples = run.read_samples()
    for step in sorted({min(samples), max(samples)}) if samples else ():
        first = samples[step][0]
        console.print(f"[bold]step {step}{', the base' if fine_tuned and step == 0 else ''}[/bold]: ", end="")
        console.print(as_text(first), markup=False, soft_wrap=True)
    snapshot = repository.snapshot(repository.resolve("best"))
    console.print(f"\nThe best model: {relative(snapshot)}", markup=False, soft_wrap=True)
    if kind == "translate":
        page = relative(run.path / "translations.html")
        console.print(f"What it translates, the worst first: {page}", markup=False, soft_wrap=True)
    if "gold" in summary:
        page = relative(run.path / "gold.html")
        console.print(f"Proxy and gold, and answers side by side: {page}", markup=False, soft_wrap=True)
    console.print(
        f"Try next:\n  polyana {_to_try(f'{run.name}@best', kind, snapshot, samples)}\n"
        f"  polyana runs\n"
        f"  polyana show batch {shlex.quote(relative(run.path / 'recipe.yaml'))}",
        markup=False,
        soft_wrap=True,
    )


def _to_try(best: str, kind: str, snapshot: Path, samples: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
    """The command that shows what a model has become."""
    if kind == "translate":
        return f"translate {best} FILE"
    if kind in ("reward", "classify"):  # these write nothing
        return f"models show {best}"
    if (snapshot / "chat_template.jinja").exists():
        return f"chat {best}"
    prompt = next(iter(samples.values()))[0]["prompt"] if samples else "Once"
    return f'generate {best} "{prompt}"'


def _table(
    summary: dict[str, Any], run: RunDirectory, picked: str, fine_tuned: bool, wall_seconds: float | None
) -> Table:
    """What came of a run; `picked`: by what its best save was, where that has to be said."""
    from rich.table import Table

    from polyana.storage import show_bytes
    from polyana.tracking import read_curves, show_clock

    metrics = summary["metrics"]
    table = Table(title=summary["run"], title_justify="left", show_header=False)
    table.add_row("steps", f"{summary['steps']:,} (best at {summary['best_step']:,})")
    if picked:
        table.add_row("best by", picked)
    if "eval/loss" in metrics:
        unit = " nats per token" if "eval/perplexity" in metrics else ""
        table.add_row("eval loss", f"{metrics['eval/loss']:.4f}{unit}")
        if fine_tuned:
            table.add_row("  the base's", f"{dict(read_curves(run.metrics)['eval/loss'])[0]:.4f}")
    if "eval/perplexity" in metrics:
        table.add_row("perplexity", f"{metrics['eval/perplexity']:.1f}")
    if "eval/rewards/accuracies" in metrics:
        table.add_row("held-out accuracy", f"{metrics['eval/rewards/accuracies']:.1%}")
    if "eval/rewards/margins" in metrics:
        table.add_row("  margin", f"{metrics['eval/rewards/margins']:.3f}")
    if "eval/bits_per_byte" in metrics:
        table.add_row("bits per byte", f"{metrics['eval/bits_per_byte']:.3f}")
    if summary.get("trigram_bits_per_byte") is not None:
        table.add_row("  a character trigram's", f"{summary['trigram_bits_per_byte']:.3f}")
    for name, score in summary.get("scores", {}).items():
        table.add_row(name, f"{score['value']:.1f} ({score['before']:.1f} before)")
    table.add_row("tokens per second", f"{summary['tokens_per_second']:,.0f}")
    training = show_clock(summary["training_seconds"])
    if wall_seconds is None:
        table.add_row("training steps took", training)
    else:
        at_once = len(list(run.metrics.iterdir())) == 1 and wall_seconds > summary["training_seconds"]
        rest = f"(training steps {training})" if at_once else f"this time (training steps {training} in all)"
        table.add_row("wall time", f"{show_clock(wall_seconds)} {rest}")
    table.add_row("disk used", show_bytes(summary["disk_bytes"]))
    return table
