"""Commands that show runs: tables, curves, the dashboard, comparisons."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyana.cli.doors import AsJson, app, picked_by, print_result, relative, rich_console, runs
from polyana.errors import UserError
from polyana.storage import home_directory

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["compare", "import_runs", "list_runs", "ui", "watch"]


@runs.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until Ctrl-C.")] = False,
) -> None:
    """List runs, finished and live, with a small curve of their loss; or bring old ones along."""
    from rich.live import Live

    if context.invoked_subcommand is not None:
        return
    directory = home_directory() / "runs"
    if as_json:
        print_result(json.dumps(_overview(directory), ensure_ascii=False, indent=1))
        return
    console = rich_console(width=None if sys.stdout.isatty() else 120)
    if not watch:
        console.print(_runs_table(directory, console.width))
        return
    with Live(_runs_table(directory, console.width), console=console, refresh_per_second=1) as live:
        while True:
            time.sleep(2)
            live.update(_runs_table(directory, console.width))


@runs.command("import")
def import_runs(
    paths: Annotated[list[Path], typer.Argument(help="Files, or directories with such files at any depth.")],
    as_json: AsJson = False,
) -> None:
    """Bring runs of TensorBoard (event files), Trackio (*.db) and W&B (offline, *.wandb) into this home.

    Importing again brings up to date what has grown, and makes no second run.
    """
    from polyana.importers import bring

    brought = bring(paths, home_directory())
    if as_json:
        print_result(json.dumps([asdict(each) for each in brought], ensure_ascii=False, indent=1))
        return
    for each in brought:
        attempts = f", {each.attempts} attempts" if each.attempts > 1 else ""
        print_result(f"{each.what:<10}{each.run}  ({each.kind}, {each.points:,} numbers{attempts})")
        for trouble in each.troubles:
            print_result(f"          {trouble}")


@app.command()
def watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, or the beginning of its name: the newest such.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="A chart of this metric alone; repeatable. Default: the most telling.")
    ] = None,
    smoothing: Annotated[float, typer.Option(min=0.0, max=0.999, help="As in the page.")] = 0.0,
    log: Annotated[bool, typer.Option("--log", help="Powers of ten on the y axis.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print one picture, also into a pipe.")] = False,
) -> None:
    """Watch a run's curves here in the terminal, live; Ctrl-C ends the watching and leaves training alone."""
    from polyana.terminal import Watched
    from polyana.terminal import watch as watch_live
    from polyana.tracking import find_run

    home = home_directory()
    watched = Watched(find_run(home / "runs", run), home, metric or (), smoothing, log)
    piped = not sys.stdout.isatty()
    console = rich_console(width=100 if piped else None, height=40 if piped else None)
    if once or piped:
        console.print(watched)
    else:
        watch_live(watched, console)


@app.command()
def ui(
    home: Annotated[
        Path | None, typer.Option(help="The directory with the runs; default: $POLYANA_HOME, else .polyana/.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; what others can reach, as 0.0.0.0, asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: the first free one from 8018 on.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address alone.")] = False,
) -> None:
    """Watch runs in the browser, live: curves, samples, saves, reports. Ctrl-C ends it."""
    from polyana.dashboard import open_server

    directory = (home or home_directory()).absolute()
    if not directory.is_dir():
        raise UserError(f"there is no {relative(directory)} yet; `polyana run RECIPE` makes it, or name it with --home")
    if hasattr(os, "nice"):
        os.nice(10)  # a training on this machine goes before whoever looks at it
    address, server = open_server(directory, host, port)
    print_result(address.url)
    sys.stdout.flush()
    if not no_browser:
        import webbrowser

        webbrowser.open(address.url)
    with suppress(KeyboardInterrupt):
        server.serve_until_stopped()


@app.command()
def compare(
    baseline: Annotated[str, typer.Argument(metavar="A[@REV]", help="A run, or the beginning of its name.")],
    system: Annotated[str, typer.Argument(metavar="B[@REV]", help="Another one.")],
    comet: Annotated[Path | None, typer.Option(help="COMET too: the path of a downloaded checkpoint, *.ckpt.")] = None,
    comet_python: Annotated[str, typer.Option(help="The Python of an environment where COMET is.")] = "python",
    page: Annotated[Path | None, typer.Option(help="Write a page of both translations, the worst first.")] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Numbers and settings, also of runs that have learned to translate.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two runs: their numbers side by side, and which settings differ.

    Of runs that have learned to translate: is the second one's translation of the held-out text better than the
    first's, or was it chance? From what the evaluation at each save has kept; both must have translated the same text.
    """
    if metrics or not (_translates(baseline) or _translates(system)):
        _compare_runs(baseline, system, as_json)
        return
    from polyana.evaluate import CometConfig
    from polyana.revisions import find_revision
    from polyana.tasks import compare_saved

    old, new = (find_revision(text, home_directory()) for text in (baseline, system))
    settings = CometConfig(model=str(comet), python=comet_python) if comet else None
    systems = {str(each): (each.run.path, each.commit.step, each.directory) for each in (new, old)}
    found = compare_saved(systems, page, settings)
    if as_json:
        print_result(json.dumps([asdict(each) for each in found], ensure_ascii=False, indent=1))
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("", str(old), str(new), "p", "", "signature"):
        table.add_column(heading, justify="right" if heading in (str(old), str(new), "p") else "left")
    for each in found:
        verdict = "significant" if each.is_significant else "may be chance"
        digits = 3 if each.name == "COMET" else 1  # of which 1 is the best, and not 100
        values = f"{each.baseline:.{digits}f}", f"{each.system:.{digits}f} ± {each.interval:.{digits}f}"
        table.add_row(each.name, *values, f"{each.p_value:.3f}", verdict, each.signature)
    rich_console(width=None if sys.stdout.isatty() else 160).print(table)


def _translates(revision: str) -> bool:
    """Whether a run keeps translations of held-out text; so does not one that there is not."""
    from polyana.tracking import find_run

    try:
        run = find_run(home_directory() / "runs", revision.partition("@")[0])
    except UserError:
        return False
    return (run.path / "translations").is_dir()


def _compare_runs(a: str, b: str, as_json: bool) -> None:
    from polyana.terminal import compare_runs, comparison_picture
    from polyana.tracking import find_run

    home = home_directory()
    for name in (a, b):
        if "@" in name:
            raise UserError(f"{name}: runs are compared as a whole; leave @{name.partition('@')[2]} out")
    one, other = (find_run(home / "runs", name) for name in (a, b))
    found = compare_runs(one, other, home)
    if as_json:
        print_result(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        width = None if sys.stdout.isatty() else 120
        rich_console(width=width).print(comparison_picture(found))


def _overview(directory: Path) -> list[dict[str, Any]]:
    """What `polyana runs` shows of each run, as plain data."""
    from polyana.registry import Repository
    from polyana.registry.describe import describe_best
    from polyana.tracking import find_runs, read_curves

    rows = []
    for found in find_runs(directory):
        curves = read_curves(found.metrics)
        losses, evaluations = curves.get("train/loss", []), curves.get("eval/loss", [])
        rows.append(
            {
                "run": found.name,
                "status": found.status(),
                "step": losses[-1][0] if losses else 0,
                "train/loss": losses[-1][1] if losses else None,
                "eval/loss": min(value for _, value in evaluations) if evaluations else None,
                "best": describe_best(Repository(directory.parent / "hub", found.name)),
                "curve": [value for _, value in losses],
            }
        )
    return rows


def _runs_table(directory: Path, width: int) -> Table | str:
    """The runs in at most `width` columns: the curve takes what the figures leave."""
    from polyana.tracking import sparkline

    rows = _overview(directory)
    if not rows:
        return f"no runs in {relative(directory)} yet; polyana run RECIPE begins one"
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    picked = [picked_by(row["best"]) for row in rows]
    wide = max(map(len, picked))
    headings = ("run", "status", "step", "loss", "eval", *(["best by"] if wide else []), "loss curve")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("step", "loss", "eval") else "left", no_wrap=True)
    colours = {"finished": "green", "training": "cyan", "failed": "red", "interrupted": "yellow"}
    left = width - max(len(row["run"]) for row in rows) - 40  # status, step, two losses and what is between
    left -= wide + 2 if wide else 0
    for row, by in zip(rows, picked, strict=True):
        colour = colours.get(row["status"], "white")
        figures = [f"{row[name]:.3f}" if row[name] is not None else "" for name in ("train/loss", "eval/loss")]
        status = f"[{colour}]{row['status']}[/{colour}]"
        curve = sparkline(row["curve"], max(8, min(40, left)))
        table.add_row(row["run"], status, f"{row['step']:,}", *figures, *([by] if wide else []), curve)
    return table
