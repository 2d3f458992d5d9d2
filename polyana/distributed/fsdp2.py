"""A model cut up among the devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor import empty as empty_dtensor

from polyana.distributed.shards import begin_to_write_shards
from polyana.distributed.strategy import DDP, Door, OptimizerState
from polyana.distributed.world import World

__all__ = ["FSDP2"]


class FSDP2(DDP):
    """Weights, gradients and optimizer state cut up among the devices; a block's weights are whole while it computes
    (Rajbhandari et al. 2020, ZeRO stage 3)."""

    name = "fsdp2"

    def __init__(self, world: World, device: torch.device) -> None:
        super().__init__(world, device)
        self.weights_cut_into = world.size
        # Shards are written in the background, so their messages must not mix with those of training.
        self._background = dist.new_group(backend="gloo")

    def prepare(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        mesh = init_device_mesh(self.device.type, (self.world.size,), mesh_dim_names=("data",))
        for block in blocks:
            fully_shard(block, mesh=mesh)
        self._door = Door(model)
        fully_shard(self._door, mesh=mesh)  # what is in no block: embeddings, and a head tied to them

    def part(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def accumulating(self) -> AbstractContextManager[object]:
        return nullcontext()  # copies that stay would be a whole model in memory

    def exchanging(self, last: bool) -> AbstractContextManager[object]:
        cast("FSDPModule", self._door).set_requires_gradient_sync(last)
        return nullcontext()

    def gradient_norm(self, gradients: list[torch.Tensor]) -> float:
        norm = torch.nn.utils.get_total_norm(gradients)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def whole_weights(self, model: nn.Module) -> Mapping[str, torch.Tensor]:
        cast("FSDPModule", self._door).reshard()  # after evaluating, what is in no block is still whole
        gathered: dict[int, torch.Tensor] = {}  # tied weights once
        weights = {}
        for name, tensor in self.saved(model).items():
            if id(tensor) not in gathered:
                whole = tensor.detach()
                whole = whole.full_tensor() if isinstance(whole, DTensor) else whole
                gathered[id(tensor)] = whole.cpu() if self.world.main else torch.empty(0)
            weights[name] = gathered[id(tensor)]
        return weights if self.world.main else {}

    def place(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        if not isinstance(like, DTensor):
            return super().place(whole, like)
        whole = whole.to(like.device)
        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)  # nothing is sent

    def take_shards(self, state: OptimizerState) -> tuple[OptimizerState, dict[str, torch.Tensor]]:
        kept: OptimizerState = {index: {} for index in state}
        shards: dict[str, torch.Tensor] = {}
        for index, values in state.items():
            for name, value in values.items():
                if isinstance(value, DTensor):
                    shards[f"{index}.{name}"], kept[index][name] = value, None
                else:  # training goes on while this is written
                    kept[index][name] = value.clone() if isinstance(value, torch.Tensor) else value
        return kept, shards

    def write_shards(self, shards: dict[str, torch.Tensor], directory: Path) -> Future[Any]:
        return begin_to_write_shards(shards, directory, self._background)

    def _empty(self, size: torch.Size, dtype: torch.dtype, like: torch.Tensor) -> torch.Tensor:
        if not isinstance(like, DTensor):
            return super()._empty(size, dtype, like)
        return empty_dtensor(size, dtype=dtype, device_mesh=like.device_mesh, placements=like.placements)
