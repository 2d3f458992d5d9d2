"""Tensors that are cut up among ranks, in torch's distributed checkpoint: each rank writes what it has, and any number
of ranks reads what it needs."""

from __future__ import annotations

import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from polyana.errors import TrainingFailed

__all__ = ["begin_to_write_shards", "read_shards", "shapes_of"]


def begin_to_write_shards(
    shards: dict[str, torch.Tensor], directory: Path, group: dist.ProcessGroup | None
) -> Future[Any]:
    """Done when every rank has written its part; the tensors may change as soon as this returns.

    Where one rank could not write, the result of all is a TrainingFailed with what the system said.
    """
    written = cast("Future[Any]", async_save(shards, checkpoint_id=directory, process_group=group))
    told: Future[Any] = Future()

    def tell(_: object) -> None:
        error = written.exception()
        if isinstance(error, CheckpointException):
            why = "; ".join(f"process {rank + 1}: {cause}" for rank, (cause, _) in error.failures.items())
            kept = "What was saved before is whole; the same command goes on from there"
            told.set_exception(TrainingFailed(f"the optimizer's state could not be saved ({why}). {kept}"))
        elif error is not None:
            told.set_exception(error)
        else:
            told.set_result(None)

    written.add_done_callback(tell)
    return told


def shapes_of(directory: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Whole size and type of each tensor that was written."""
    written = FileSystemReader(directory).read_metadata().state_dict_metadata
    tensors = {name: about for name, about in written.items() if isinstance(about, TensorStorageMetadata)}
    return {name: (about.size, about.properties.dtype) for name, about in tensors.items()}


def read_shards(into: dict[str, torch.Tensor], directory: Path) -> None:
    """Fill tensors, whole ones or this rank's part of cut ones. Each rank reads for itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # that is meant
        load(into, checkpoint_id=directory, no_dist=True)
