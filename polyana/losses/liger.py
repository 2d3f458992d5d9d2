"""The same sums by Liger's fused linear cross entropy (Hsu et al. 2024), on GPUs that Triton compiles for.

Its kernel takes a chunk's logits to their gradient in one pass. Compared with ours in Triton's interpreter; not run on
a GPU yet.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

__all__ = ["liger_fits", "liger_linear_cross_entropy_and_z_sum"]

_LEAST_CAPABILITY = (8, 0)  # of an NVIDIA GPU: Triton's README, "Compatibility"
_NO_TARGET = -100  # that no row is left out by: only rows with a label come here


def liger_fits(hidden_ND: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether the extra `gpu` is installed and can compute this.

    Not in fp16: the weight's gradient comes in the weight's precision, and sums over tokens leave fp16's range.
    Not where the weight alone is trained: without a gradient for the hidden states Liger gives none for the weight.
    """
    return (
        hidden_ND.is_cuda
        and dtype != torch.float16
        and hidden_ND.requires_grad == torch.is_grad_enabled()
        and _installed()
        and torch.cuda.get_device_capability(hidden_ND.device) >= _LEAST_CAPABILITY
    )


@cache
def _installed() -> bool:
    return find_spec("liger_kernel") is not None


def liger_linear_cross_entropy_and_z_sum(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, dtype: torch.dtype, z_loss: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `linear_cross_entropy_and_z_sum`. The weight's gradient is summed in fp32 and rounded to `dtype` once.

    The hidden states stay in fp32 and autocast rounds each chunk of them, since Liger gives the z-loss in their
    precision; the weight is rounded once, where autocast would do it for every chunk.
    """
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    with torch.autocast(hidden_ND.device.type, dtype, enabled=dtype != torch.float32):
        total, added, *_ = LigerFusedLinearCrossEntropyFunction.apply(
            hidden_ND.float(), weight_VD.to(dtype), targets_N,
            None, None,  # no bias, no weight for each class
            _NO_TARGET, z_loss,
            0.0, "sum", None,  # no label smoothing, no soft cap
            z_loss > 0, torch.float32,
        )  # fmt: skip
    return total, torch.zeros_like(total) if added is None else added.detach()
