"""A save, adapter or not, as one GGUF file or as one directory without an adapter."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from polyana.errors import UserError
from polyana.export.gguf_file import Kind, Origin, Written, write_gguf
from polyana.models import merge_adapter, save_model
from polyana.storage import building

__all__ = ["Exported", "Merging", "export_gguf", "export_merged"]

_TYPES: dict[str, torch.dtype] = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_OF_A_COMMIT = ("commit.json", "README.md", "curves.png")  # which tell of the save, and how to load that


@dataclass(frozen=True)
class Merging:
    """dtype: of the weights. off: by how much at most the logarithm of a next token's probability differs from the
    save's; None where nothing was merged."""

    dtype: torch.dtype
    off: float | None


@dataclass(frozen=True)
class Exported:
    """A GGUF file, and what merging an adapter has changed before it was written."""

    file: Written
    merging: Merging | None


def export_gguf(save: Path, base: Path | None, output: Path, kind: Kind | None, name: str) -> Exported:
    """Write the model in `save`, an adapter over `base` where there is one, as the file `output`; by default in the
    precision of its whole weights.

    An adapter is merged beside `output` first, in as much memory as the model takes in fp32; a whole model is read in
    pieces. Raises UserError for what GGUF cannot hold, before anything is merged.
    """
    _check_new(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    origin = Origin(name, _licence(save))
    if base is None:
        return Exported(write_gguf(save, output, kind, origin), None)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".merging-") as place:
        # q8_0 is made of the exact sum, not of one that was rounded before
        dtype = None if kind is None else _TYPES.get(kind, torch.float32)
        merged = merge_adapter(base, save, Path(place), dtype)
        return Exported(write_gguf(Path(place), output, kind, origin), Merging(merged.dtype, merged.off))


def export_merged(
    save: Path, base: Path | None, output: Path, kind: Literal["f32", "f16", "bf16"] | None = None
) -> Merging:
    """Write it as an ordinary directory that any Hugging Face tool loads; by default in the precision it has."""
    from transformers import AutoModelForCausalLM

    _check_new(output)
    dtype = None if kind is None else _TYPES[kind]
    with building(output) as directory:
        if base is not None:
            merged = merge_adapter(base, save, directory, dtype)
            return Merging(merged.dtype, merged.off)
        for path in save.iterdir():
            if path.name not in _OF_A_COMMIT:
                shutil.copyfile(path, directory / path.name)
        model = AutoModelForCausalLM.from_pretrained(save, dtype="auto")
        if dtype in (None, model.dtype):
            return Merging(model.dtype, None)
        for path in directory.glob("*.safetensors*"):
            path.unlink()
        save_model(model.to(dtype), directory, model.state_dict())
    assert dtype is not None
    return Merging(dtype, None)


def _check_new(output: Path) -> None:
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    if output.exists():
        raise UserError(f"{output} is there already; name another with --output")


def _licence(save: Path) -> str | None:
    """As the save's model card says it."""
    from huggingface_hub import ModelCard

    card = save / "README.md"
    known = ModelCard.load(card).data.license if card.exists() else None
    return str(known) if known and known != "other" else None
