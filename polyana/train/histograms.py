"""How weights, gradients and updates are spread, by block and kind.

Everything is computed where the tensors are; 67 numbers a group come over. Nothing is changed and no random number
is drawn, so what is learned stays the same bit for bit. Frozen weights are left out: they neither move nor have a
gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from polyana.distributed import Strategy
from polyana.models import head_weight
from polyana.tracking import Histogram

__all__ = ["Histograms", "group_parameters", "spread"]

_BINS = 64
_PIECE = 1 << 24  # numbers counted at once: histc counts in fp32, which skips numbers from here on

Gather = Callable[[Any], list[Any]]


class Histograms:
    """Measures one step: `before_update` once the gradients are whole, `after_update` when the weights have moved.

    With FSDP2 every rank measures its part and all come to the same; otherwise rank 0 measures alone, for every rank
    has everything. In between a copy of the trained weights is held, 4 bytes each, when the activations are freed.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module], strategy: Strategy) -> None:
        self._groups = group_parameters(model, blocks)
        self._strategy = strategy
        cut_up = strategy.weights_cut_into > 1
        self._measures = cut_up or strategy.world.main
        self._gather = strategy.world.gather if cut_up else None
        self._gradients: dict[str, Histogram] = {}
        self._before: dict[str, list[torch.Tensor]] = {}

    def before_update(self, scale: float) -> None:
        """`scale`: what the gradients are still to be multiplied with before they are clipped."""
        if not self._measures:
            return
        gradients = {
            name: [self._strategy.part(each.grad) for each in group if each.grad is not None]
            for name, group in self._groups.items()
        }
        learned = {name: group for name, group in gradients.items() if group}
        self._gradients = spread(learned, self._gather, scale)
        self._before = {name: [part.clone() for part in group] for name, group in self._weights().items()}

    def after_update(self) -> dict[str, Histogram]:
        """`weights/GROUP` as they are now, `gradients/GROUP` before clipping, `updates/GROUP` of this step."""
        if not self._measures:
            return {}
        weights = self._weights()
        for name, before in self._before.items():
            for old, new in zip(before, weights[name], strict=True):
                torch.sub(new, old, out=old)
        updates, self._before = self._before, {}
        measured = {
            "weights": spread(weights, self._gather),
            "gradients": self._gradients,
            "updates": spread(updates, self._gather),
        }
        return {f"{what}/{name}": found for what, groups in measured.items() for name, found in groups.items()}

    def _weights(self) -> dict[str, list[torch.Tensor]]:
        return {name: [self._strategy.part(each.detach()) for each in group] for name, group in self._groups.items()}


def group_parameters(model: nn.Module, blocks: Sequence[nn.Module]) -> dict[str, list[nn.Parameter]]:
    """The trained parameters as `embeddings`, `block 0 attention`, `block 0 mlp`, ..., `norms`, `head`; each once.

    Within a block the first part of a parameter's name says its kind, as transformers' architectures name them
    (`self_attn`, `attn`, `mlp`, `input_layernorm`, `ln_1`); what has another name stands under it.
    """
    names: dict[int, str] = {}
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            names |= {id(each): "embeddings" for each in module.parameters()}
    names.setdefault(id(head_weight(model)), "head")
    digits = len(str(len(blocks) - 1))
    for number, block in enumerate(blocks):
        for path, parameter in block.named_parameters():
            kind = _kind(path)
            names[id(parameter)] = kind if kind == "norms" else f"block {number:0{digits}d} {kind}"
    groups: dict[str, list[nn.Parameter]] = {}
    last = {"norms": 1, "head": 2}
    for path, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(names.get(id(parameter)) or _outside(path), []).append(parameter)
    return {name: groups[name] for name in sorted(groups, key=lambda name: last.get(name, 0))}


def _kind(path: str) -> str:
    first = path.partition(".")[0].lower()
    if "norm" in first or first.startswith("ln"):
        return "norms"
    return "attention" if "attn" in first or "attention" in first else first


def _outside(path: str) -> str:
    """The group of a parameter in no block: a last norm, the head's bias, an adapter of embeddings or head."""
    parts = path.lower().split(".")
    if any("norm" in part or part.startswith("ln") for part in parts):
        return "norms"
    return "head" if any("head" in part for part in parts) else "embeddings" if "embed" in path.lower() else "other"


def spread(
    groups: Mapping[str, Sequence[torch.Tensor]], gather: Gather | None = None, scale: float = 1.0
) -> dict[str, Histogram]:
    """A histogram of each group's numbers times `scale`, which is above 0; 64 bins from the lowest to the highest.

    `gather`: gives the values of all ranks, each of which has a part of every group. A group with a number that is not
    finite is left out. Where all numbers are one, low is high and one bin has all.
    """
    ranges = torch.stack([_range(tensors) for tensors in groups.values()]).double().cpu() if groups else torch.empty(0)
    if gather is not None and groups:
        every = torch.tensor(gather(ranges.tolist()), dtype=torch.float64)  # [ranks, groups, 2]
        ranges = torch.stack([every[..., 0].amin(0), every[..., 1].amax(0)], dim=1)
    bounds = {
        name: (low, high)
        for name, (low, high) in zip(groups, ranges.tolist(), strict=True)
        if math.isfinite(low) and math.isfinite(high)
    }
    if not bounds:
        return {}
    counted = torch.stack([_count(groups[name], low, high) for name, (low, high) in bounds.items()]).tolist()
    norms = torch.stack([_norm(groups[name]) for name in bounds]).tolist()
    if gather is not None:
        counted = torch.tensor(gather(counted)).sum(0).tolist()
        norms = torch.tensor(gather(norms), dtype=torch.float64).norm(dim=0).tolist()
    found = {}
    for (name, (low, high)), (*counts, zeros, count), norm in zip(bounds.items(), counted, norms, strict=True):
        found[name] = Histogram(low * scale, high * scale, counts, zeros / count, norm * scale)
    return found


def _range(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """[lowest, highest]; of nothing, as a rank may have of a group, [inf, -inf]."""
    extremes = [torch.stack(torch.aminmax(each)).float() for each in tensors if each.numel()]
    if not extremes:
        return torch.tensor([math.inf, -math.inf], device=tensors[0].device)
    lowest, highest = torch.stack(extremes, dim=1)
    return torch.stack([lowest.amin(), highest.amax()])


def _count(tensors: Sequence[torch.Tensor], low: float, high: float) -> torch.Tensor:
    """int64 [66]: numbers in each bin, exact zeros, all."""
    counts = torch.zeros(_BINS + 2, dtype=torch.int64, device=tensors[0].device)
    for piece in _pieces(tensors):
        counts[:_BINS] += torch.histc(piece.float(), _BINS, low, high).long()
        counts[_BINS] += piece.numel() - torch.count_nonzero(piece)
        counts[_BINS + 1] += piece.numel()
    return counts


def _norm(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(each).float() for each in tensors])
    )
    return norms


def _pieces(tensors: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The tensors in pieces of at most `_PIECE` numbers, which share their memory."""
    for each in tensors:
        if each.numel() <= _PIECE:
            yield each
        else:
            yield from torch.split(each, max(1, _PIECE * len(each) // each.numel()))
