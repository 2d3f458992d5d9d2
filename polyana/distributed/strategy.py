"""How a model is trained on the devices of a world: on one, copied to each (DDP), or cut up among them (FSDP2).

A single device is a world of one: the trainer asks a Strategy and never how many there are, and models know no machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from polyana.distributed.world import World, backend

__all__ = ["DDP", "Door", "OptimizerState", "Share", "Strategy", "StrategyName", "choose_strategy"]

T = TypeVar("T")
StrategyName = Literal["auto", "single", "ddp", "fsdp2"]
OptimizerState = dict[int, dict[str, Any]]  # parameter's number -> name -> value, as in torch's own state_dict


@dataclass(frozen=True)
class Share:
    """What one rank computes of a batch: the sequences from `first` on, in `parts` parts.

    Every rank computes equally many parts, for gradients and shards of weights are exchanged in each. A rank without a
    part of its own computes along with one that does not count.
    """

    first: int
    count: int
    parts: int
    counts: bool

    def fill(self, parts: Sequence[T]) -> list[tuple[T, bool]]:
        """Each part with whether it counts."""
        more = self.parts - len(parts)
        return [(part, self.counts) for part in parts] + [(parts[-1], False)] * more


class Door(nn.Module):
    """A model whose forward is any function of it, so that a strategy's hooks run around whatever reads its weights:
    the loss, evaluation, sampling."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)


class Strategy:
    """One device, and what the others do differently."""

    name = "single"
    averaged_over = 1
    """What gradients are too small by once they are exchanged: DDP and FSDP2 average them over the ranks."""

    weights_cut_into = 1
    """Parts of weights, gradients and optimizer state of which a rank holds one."""

    def __init__(self, world: World, device: torch.device) -> None:
        self.world, self.device = world, device

    def __str__(self) -> str:
        return f"{self.name} over {self.world.size} processes" if self.world.size > 1 else self.name

    # The model

    def prepare(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:  # noqa: ARG002  for those that cut it up
        """Put `model` on this rank's device, in place; optimizers are made of its parameters after this.

        `blocks`: its layers, what FSDP2 gathers at a time. Tensor parallelism would enter here, before the rest:
        torch's `parallelize_module` on each block, over a second dimension of the device mesh.
        """
        model.to(self.device)
        self._door: nn.Module = Door(model)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments)`, which may use the model's weights; all ranks together.

        Tensors to be differentiated must stand in the result openly, in a tuple, list or dict.
        """
        return self._door(function, *arguments)  # type: ignore[no-any-return]

    def part(self, tensor: torch.Tensor) -> torch.Tensor:
        """What this rank has of a weight, its gradient or its optimizer state; shares its memory."""
        return tensor

    # A step

    def share(self, first: int, count: int, part: int) -> Share:
        """This rank's share of the `count` sequences from `first` on, in parts of at most `part`: in their order, so
        that which sequences a step sees does not depend on the number of ranks."""
        rank, size = self.world.rank, self.world.size
        begin, end = count * rank // size, count * (rank + 1) // size
        parts = math.ceil(math.ceil(count / size) / part)
        return Share(first + begin, max(end - begin, 1), parts, counts=end > begin)

    def accumulating(self) -> AbstractContextManager[object]:
        """All parts of a batch: autocast's copies of the weights are made once and stay until it ends."""
        return torch.autocast(self.device.type, enabled=False)

    def exchanging(self, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002  nobody to exchange with
        """Forward and backward of one part of a batch; gradients are exchanged in the `last`."""
        return nullcontext()

    def gradient_norm(self, gradients: list[torch.Tensor]) -> float:
        """The Euclidean norm of all gradients as one vector."""
        return float(torch.nn.utils.get_total_norm(gradients))

    def sum_over(self, items: Sequence[T], compute: Callable[[T], Sequence[float]]) -> tuple[float, ...]:
        """The sum of `compute(item)` over `items`, figure by figure; each item is computed by one rank, in `run`."""
        share = self.share(0, len(items), 1)
        total: tuple[float, ...] = ()
        for item, counts in share.fill(items[share.first : share.first + share.count]):
            figures = self.run(compute, item)
            if counts:
                total = tuple(a + b for a, b in zip(total, figures, strict=True)) if total else tuple(figures)
            width = len(figures)
        return self.world.sum(*(total or (0.0,) * width))

    # Saving and resuming

    def saved(self, model: nn.Module) -> Mapping[str, torch.Tensor]:
        """What a save holds, by name, as this rank has it: all of the model, or where a part is frozen the rest."""
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        return (
            trained if any(not each.requires_grad for each in model.parameters()) else model.state_dict(keep_vars=True)
        )

    def whole_weights(self, model: nn.Module) -> Mapping[str, torch.Tensor]:
        """The same as whole tensors; only on rank 0."""
        return {name: tensor.detach() for name, tensor in self.saved(model).items()}

    def place(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """A whole tensor, laid out over the devices as `like` is."""
        return whole.to(like.device)

    def take_shards(self, state: OptimizerState) -> tuple[OptimizerState, dict[str, torch.Tensor]]:
        """What to save of an optimizer's state: (what every rank has, None in place of what is cut up among them; the
        shards by "PARAMETER.NAME")."""
        return state, {}

    def write_shards(self, shards: dict[str, torch.Tensor], directory: Path) -> Future[Any]:
        """Begin to write what `take_shards` gave; it may change as soon as this returns."""
        raise NotImplementedError(f"{self.name} has no shards of {len(shards)} tensors to write to {directory}")

    def put_shards(self, state: OptimizerState, directory: Path, parameters: list[torch.Tensor]) -> None:
        """Undo `take_shards`, whatever strategy and number of ranks wrote `directory`, and lay out what was whole."""
        cut = []
        for index, values in state.items():
            for name, value in values.items():
                if value is None:
                    cut.append((index, name))
                elif isinstance(value, torch.Tensor) and value.shape == parameters[index].shape:
                    values[name] = self.place(value, parameters[index])
        if cut:
            from polyana.distributed.shards import read_shards, shapes_of  # takes a second to import

            shapes, shards = shapes_of(directory), {}
            for index, name in cut:
                place = f"{index}.{name}"
                shards[place] = state[index][name] = self._empty(*shapes[place], parameters[index])
            read_shards(shards, directory)

    def _empty(self, size: torch.Size, dtype: torch.dtype, like: torch.Tensor) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=like.device)


class DDP(Strategy):
    """A copy of the model on each device (Li et al. 2020)."""

    name = "ddp"

    def __init__(self, world: World, device: torch.device) -> None:
        super().__init__(world, device)
        self.averaged_over = world.size
        if not dist.is_initialized():  # a world of one that the recipe wants to go this way
            alone = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(backend(), store=alone, rank=0, world_size=1)

    def prepare(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().prepare(model, blocks)
        # Buffers are constants: sending them about at every forward would be for nothing.
        self._door = DistributedDataParallel(self._door, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def exchanging(self, last: bool) -> AbstractContextManager[object]:
        ddp = cast("DistributedDataParallel", self._door)
        return nullcontext() if last else ddp.no_sync()


def choose_strategy(wanted: StrategyName, world: World, device: torch.device) -> Strategy:
    """The strategy that a recipe names; `auto` is DDP where there are several processes."""
    if wanted == "fsdp2":
        from polyana.distributed.fsdp2 import FSDP2  # takes a second to import

        return FSDP2(world, device)
    return DDP(world, device) if wanted == "ddp" or (wanted == "auto" and world.size > 1) else Strategy(world, device)
