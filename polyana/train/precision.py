"""Which device and number format to compute in, and why."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Precision", "choose_precision"]


@dataclass(frozen=True)
class Precision:
    """`dtype` is what matrix products are computed in; weights stay in fp32."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which torch computes matrix products in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def __str__(self) -> str:
        name = {torch.bfloat16: "bf16", torch.float32: "fp32"}[self.dtype]
        return f"{name} on {self.device.type}: {self.reason}"


def choose_precision(wanted: Literal["auto", "bf16", "fp32"]) -> Precision:
    """The GPU if there is one (not run on a GPU yet), else the CPU; bf16 where the hardware has instructions for it.

    On a CPU with AVX512-BF16 bf16 products run four times as fast as fp32 (docs/log.md); without, many times slower.
    """
    if torch.cuda.is_available():
        device, has_bf16, what = (
            torch.device("cuda"),
            torch.cuda.is_bf16_supported(including_emulation=False),
            "GPU",
        )
    else:
        device, has_bf16, what = torch.device("cpu"), _cpu_has_bf16(), "processor"
    if wanted == "auto":
        reason = f"the {what} has {'' if has_bf16 else 'no '}bf16 instructions"
        return Precision(device, torch.bfloat16 if has_bf16 else torch.float32, reason)
    slow = f"; slow, the {what} has no bf16 instructions" if wanted == "bf16" and not has_bf16 else ""
    return Precision(device, {"bf16": torch.bfloat16, "fp32": torch.float32}[wanted], f"as the recipe says{slow}")


def _cpu_has_bf16() -> bool:
    # torch has no public question for this; the private ones have stood since 2.4
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
