"""`polyana models ...`: what can be done with saves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyana.cli.doors import RevisionName, models, print_result, relative
from polyana.errors import UserError
from polyana.storage import home_directory

__all__ = ["merge"]


@models.command()
def merge(
    model: RevisionName,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to write; new or empty.")],
) -> None:
    """Write a saved adapter and its base as one model, an ordinary directory that any Hugging Face tool loads."""
    from polyana.revisions import find_revision
    from polyana.tracking import Console

    if directory.exists() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty; name a new directory")
    revision = find_revision(model, home_directory())
    base = revision.base(Console())
    if base is None:
        raise UserError(f"{revision} is a whole model, not an adapter; it lies in {relative(revision.directory)}")
    from polyana.models import merge_adapter

    directory.mkdir(parents=True, exist_ok=True)
    merged = merge_adapter(base, revision.directory, directory)
    kind = str(merged.dtype).removeprefix("torch.")
    print_result(
        f"{relative(directory)}: {kind}; log probabilities differ from the adapter's by at most {merged.off:.1e}"
    )
