"""What the hardware can do at best: the floor that a step's time is measured against."""

from __future__ import annotations

import time

import torch

__all__ = ["matmul_rate"]

_SIZE = 1024
_TRIALS = 8


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a product of two matrices of 1024 x 1024, the best of 8: long enough to measure (2.7 ms in bf16 and 14
    in fp32 on two cores), short enough to do at every start."""
    left, right = (torch.ones(_SIZE, _SIZE, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(_TRIALS):
        began = _now(device)
        left @ right
        best = min(best, _now(device) - began)
    return 2 * _SIZE**3 / best


def _now(device: torch.device) -> float:
    if device.type == "cuda":  # it computes on while Python goes ahead
        torch.cuda.synchronize(device)
    return time.perf_counter()
