"""The file that a save keeps its weights in, written as safetensors does, byte for byte, but not as it does it.

safetensors (0.8) holds Python's global lock for as long as it writes, so training would stand still beside it, and what
it has written would have to be read again to be hashed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polyana.models.adapter import has_adapter, stored_weights
from polyana.models.build import quiet_transformers
from polyana.storage import HashedFile

__all__ = ["copy_bytes", "names_to_store", "save_settings", "weights_to_store", "write_tensors"]

# By the order in which safetensors sorts: tensors of the last types come first.
_TYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3", torch.int16: "I16", torch.uint16: "U16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int32: "I32", torch.uint32: "U32", torch.float32: "F32", torch.complex64: "C64",
    torch.float64: "F64", torch.int64: "I64", torch.uint64: "U64",
}  # fmt: skip
_RANK = {kind: rank for rank, kind in enumerate(_TYPES)}


def save_settings(model: Any, directory: Path) -> None:
    """config.json and generation_config.json, as `save_pretrained` writes them, into a directory that has no weights
    yet: such as are there would go."""
    with quiet_transformers():
        model.save_pretrained(directory, state_dict={})
    for weights in directory.glob("*.safetensors*"):  # of no tensors
        weights.unlink()


def weights_to_store(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of `model` under the names that its file has: tied ones once, and as transformers 5 wants them where it
    computes with others; of an adapter as peft names them."""
    if has_adapter(model):
        return stored_weights(model, weights)
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    left_out = set(model._keys_to_ignore_on_save or ())
    stored = {name: tensor for name, tensor in weights.items() if name not in left_out}
    return dict(revert_weight_conversion(model, remove_tied_weights_from_state_dict(stored, model)))


def names_to_store(weights: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]) -> dict[str, str] | None:
    """Under which names `stored`, made of `weights` by `weights_to_store`, has them: {stored: own}. It is the same for
    every save of a model, and costs milliseconds to find out. None where some of `stored` were computed."""
    own = {id(tensor): name for name, tensor in weights.items()}
    if all(id(tensor) in own for tensor in stored.values()):
        return {name: own[id(tensor)] for name, tensor in stored.items()}
    return None


def copy_bytes(tensor: torch.Tensor, first: int, into: memoryview) -> None:
    """Fill `into` with the bytes of a contiguous tensor on the CPU from `first` on; other threads of Python run on."""
    source = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    np.copyto(np.frombuffer(into, np.uint8), source[first : first + len(into)])


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], copy: Callable[[torch.Tensor, int, memoryview], None] = copy_bytes
) -> str:
    """Write a new .safetensors file and flush it to the disk; its checksum. `tensors`: contiguous ones on the CPU.

    `copy(tensor, first, into)` fills `into` with a tensor's bytes.
    """
    order = sorted(tensors, key=lambda name: (-_RANK[tensors[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        tensor, begin = tensors[name], end
        end += tensor.nbytes
        kind = _TYPES[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = torch.frombuffer(bytearray(struct.pack("<Q", len(text)) + text), dtype=torch.uint8)
    with HashedFile(path) as file:
        filled, buffer = 0, file.buffer()
        for tensor, read in ((head, copy_bytes), *((tensors[name], copy) for name in order)):
            done = 0
            while done < tensor.nbytes:
                room = buffer[filled : filled + tensor.nbytes - done]
                read(tensor, done, room)
                done, filled = done + len(room), filled + len(room)
                if filled == len(buffer):
                    file.write(filled)
                    filled, buffer = 0, file.buffer()
        file.write(filled)
    return file.checksum
