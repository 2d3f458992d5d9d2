"""The optimizer of a model, and what its memory costs."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import nn

from polyana.models import hidden_matrices
from polyana.train.config import AdafactorConfig, AdamW8bitConfig, AdamWConfig, MuonConfig, OptimizerConfig, TrainConfig

__all__ = ["Optimizers", "build_optimizer", "optimizer_bytes"]

_8BIT_BLOCK = 256  # values that share a scale in bitsandbytes' optimizers; smaller tensors than 4096 stay whole
_8BIT_LEAST = 4096


class Optimizers:
    """torch optimizers that share a model's parameters among them, as one.

    `parts` are for who needs them one by one (torch.distributed.checkpoint takes a list).
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """As torch's own of one optimizer, with parameters numbered through all parts."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for part in self.parts:
            saved, before = part.state_dict(), sum(len(group["params"]) for group in groups)
            state |= {before + number: value for number, value in saved["state"].items()}
            groups += [
                group | {"params": [before + each for each in group["params"]]} for group in saved["param_groups"]
            ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        groups = iter(saved["param_groups"])
        for part in self.parts:
            theirs = [next(groups) for _ in part.param_groups]
            numbers = {number for group in theirs for number in group["params"]}
            state = {number: value for number, value in saved["state"].items() if number in numbers}
            part.load_state_dict({"state": state, "param_groups": theirs})


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizers:
    """The optimizer a recipe asks for. Matrices decay, embeddings among them; vectors (norms, biases) do not.

    Muon and 8-bit AdamW have the matrices of the blocks; embeddings, the output layer and vectors have AdamW beside.
    Muon takes GPT-2's Q, K and V as the one matrix they are there.
    """
    lr, kind = config.lr, config.optimizer
    inner, outer = _shares(model, kind)
    if isinstance(kind, AdafactorConfig):
        rho, clip = kind.beta2_decay, kind.update_clip
        return Optimizers([torch.optim.Adafactor(_groups(outer, config.weight_decay), lr=lr, beta2_decay=rho, d=clip)])
    betas = (kind.beta1, kind.beta2)
    parts: list[torch.optim.Optimizer] = []
    if isinstance(kind, MuonConfig):
        parts.append(
            torch.optim.Muon(
                inner, lr=lr, weight_decay=config.weight_decay, momentum=kind.momentum, nesterov=kind.nesterov,
                adjust_lr_fn="match_rms_adamw",
            )
        )  # fmt: skip
    elif isinstance(kind, AdamW8bitConfig):
        # On import it warns that fast 4-bit products are missing, which nobody here asks for.
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        from bitsandbytes.optim import AdamW8bit

        parts.append(AdamW8bit(inner, lr=lr, betas=betas, eps=kind.epsilon, weight_decay=config.weight_decay))
    outside = _groups(outer, config.weight_decay)
    return Optimizers([*parts, torch.optim.AdamW(outside, lr=lr, betas=betas, eps=kind.epsilon, fused=True)])


def optimizer_bytes(model: nn.Module, config: OptimizerConfig) -> int:
    """Bytes that an optimizer of `model` holds from its first step on, without its step counters; the model may be on
    torch's meta device."""
    inner, outer = _shares(model, config)

    def of_one(parameter: nn.Parameter, kind: type[OptimizerConfig]) -> int:
        size = parameter.numel()
        if kind is MuonConfig:
            return 4 * size  # the momentum
        if kind is AdafactorConfig and parameter.dim() >= 2:
            return 4 * (size // parameter.shape[-1] + size // parameter.shape[-2])  # a mean a row, and a column
        if kind is AdafactorConfig:
            return 4 * size
        if kind is AdamW8bitConfig and size >= _8BIT_LEAST:
            return 2 * (size + 4 * math.ceil(size / _8BIT_BLOCK))  # two moments, a scale a block
        return 8 * size  # two moments

    rest = AdafactorConfig if isinstance(config, AdafactorConfig) else AdamWConfig
    return sum(of_one(each, type(config)) for each in inner) + sum(of_one(each, rest) for each in outer)


def _shares(model: nn.Module, config: OptimizerConfig) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trained parameters: those that a second optimizer has, and the others."""
    split = isinstance(config, MuonConfig | AdamW8bitConfig)
    inner = [each for each in hidden_matrices(model) if each.requires_grad] if split else []
    theirs = {id(each) for each in inner}
    return inner, [each for each in model.parameters() if each.requires_grad and id(each) not in theirs]


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [each for each in parameters if each.dim() >= 2], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each.dim() < 2], "weight_decay": 0.0},
    ]
