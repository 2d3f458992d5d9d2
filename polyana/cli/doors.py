"""What all commands share: the command line's groups, arguments that recur, and how results are printed."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyana.storage import is_disk_full

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "AsJson",
    "Overrides",
    "RecipePath",
    "RevisionName",
    "app",
    "models",
    "picked_by",
    "print_columns",
    "print_json",
    "print_result",
    "relative",
    "rich_console",
    "runs",
    "show",
    "writing",
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train language models from one YAML recipe: raw text in, a model out, every step in between in sight.",
    epilog="Everything is kept in .polyana/ (or $POLYANA_HOME). "
    "Exit codes: 0 done, 1 failed, 2 the input is wrong, 128+n stopped by signal n after saving.",
)
show = typer.Typer(no_args_is_help=True, help="Look at the data: batches, the corpus and its drops, the tokenizer.")
app.add_typer(show, name="show")
runs = typer.Typer(help="List runs, finished and live, with a small curve of their loss; or bring old ones along.")
app.add_typer(runs, name="runs")
models = typer.Typer(help="List what was saved, with sizes and the best metric; or do things with it.")
app.add_typer(models, name="models")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="As stages.pretrain.train.lr=3e-4; repeatable."),
]
RevisionName = Annotated[
    str, typer.Argument(metavar="RUN[@REV]", help="A run, or the beginning of its name; @best, @step-500.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def print_result(text: str) -> None:
    sys.stdout.write(text + "\n")


def print_json(content: object) -> None:
    print_result(json.dumps(content, ensure_ascii=False, indent=1))


def print_columns(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Container[str] = ()) -> None:
    """Rows below their heads; columns in `right` end at one edge. Plain text: rich takes a second for 300 rows."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = [
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ]
        print_result("  ".join(cells).rstrip())


def picked_by(best: Mapping[str, Any] | None) -> str:
    """By what the best save, as `describe_best` has it, is picked: `gold/reward 0.81 at 300, more is better`. Empty
    where it is by the loss, which is shown anyway."""
    if best is None or best["by"] == "eval/loss" or best["value"] is None:
        return ""
    return f"{best['by']} {best['value']:.4g} at {best['step']:,}, {'less' if best['lowest'] else 'more'} is better"


def rich_console(width: int | None = None, height: int | None = None) -> Console:
    """What prints colours and tables. rich is imported when something needs it: it takes longer than most commands."""
    from rich.console import Console

    return Console(highlight=False, width=width, height=height)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fills the disk in the block, and does not say where, was writing `path`."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error) and getattr(error, "filename", None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def relative(path: Path) -> str:
    """The path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
