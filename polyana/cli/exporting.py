"""`polyana models export`: a save as other programs run it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polyana.cli.doors import RevisionName, models, print_result, relative, writing
from polyana.errors import UserError
from polyana.storage import home_directory, show_bytes

__all__ = ["export"]


@models.command()
def export(
    context: typer.Context,
    model: RevisionName,
    to: Annotated[
        Literal["gguf", "merged"],
        typer.Option(
            help="gguf: one file for llama.cpp and what stands on it; merged: a directory without an adapter."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; default: RUN-step-N.gguf, or RUN-step-N.")
    ] = None,
    dtype: Annotated[
        Literal["f32", "f16", "bf16", "q8_0"] | None,
        typer.Option(help="Of the weights; default: as they are. q8_0, 8 bits and a bit, is for gguf alone."),
    ] = None,
) -> None:
    """Write a save, adapter or not, as one model: tokenizer, chat template and all.

    An ordinary directory that any Hugging Face tool loads, or a GGUF file.
    """
    from polyana.revisions import held_revision
    from polyana.tracking import Console

    if to == "merged" and dtype == "q8_0":
        raise UserError("--dtype q8_0 is for --to gguf; write f32, f16 or bf16")
    revision = context.with_resource(held_revision(model, home_directory()))
    base, name = revision.base(Console()), str(revision).replace("@", "-")
    if to == "merged" and base is None and dtype is None:
        raise UserError(f"{revision} is a whole model, not an adapter; it lies in {relative(revision.directory)}")
    from polyana.export import export_gguf, export_merged

    if to == "merged":
        assert dtype != "q8_0"
        directory = output or Path(name)
        with writing(directory):
            merging = export_merged(revision.directory, base, directory, dtype)
        off = f"; {_differs(merging.off)}" if merging.off is not None else ""
        print_result(f"{relative(directory)}: {str(merging.dtype).removeprefix('torch.')}{off}")
        return
    file = output or Path(f"{name}.gguf")
    with writing(file):
        exported = export_gguf(revision.directory, base, file, dtype, name)
    found = exported.file
    print_result(
        f"{relative(file)}: {found.architecture}, {found.weights:,} weights, {show_bytes(found.bytes)}, {found.kind}, "
        + ("with a chat template" if found.chats else "without a chat template")
    )
    if exported.merging is not None and exported.merging.off is not None:
        print_result(f"  merged: {_differs(exported.merging.off)}")
    for remark in found.remarks:
        print_result(f"  note: {remark}")


def _differs(off: float) -> str:
    return f"log probabilities differ from the adapter's by at most {off:.1e}"
