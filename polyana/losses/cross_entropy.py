"""Cross entropy of a language model's head, without ever holding all logits.

Shapes: N labelled tokens, D model width, V vocabulary, C rows of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["linear_cross_entropy_and_z_sum", "linear_cross_entropy_sum", "logits_bytes"]

_ROWS = 512
"""Rows of one chunk. GFLOP/s of one core at 128, 256, 512, 1024 and 2048 rows, where a plain product has 390: 281, 317,
329, 329, 333 (N 2048, D 768, V 50257); 271, 305, 328, 329, 307 (4096, 384, 30000); 269, 305, 310, 319, 322 (8192, 256,
8192). Fewer rows need less memory, more rows add to the weight's gradient less often."""

_TINY = 1e-30
"""A probability below it, near the least that fp32 holds, is measured by the logarithm of the sum instead."""


def linear_cross_entropy_sum(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """The sum over N of -log softmax(hidden weight^T)[target]: a scalar in fp32, in nats.

    Matrix products are computed in `dtype`, softmax and sums in fp32. Gradients are computed together
    with the loss, so the logits of a chunk are made once. torch's own `linear_cross_entropy` does the same but returns
    the loss in the inputs' precision: in bf16 it gives 9.3125 for 9.3382 (torch 2.13).
    """
    return linear_cross_entropy_and_z_sum(hidden_ND, weight_VD, targets_N, dtype, 0.0)[0]


def linear_cross_entropy_and_z_sum(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, dtype: torch.dtype, z_loss: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same sum plus the z-loss: the sum over N of `z_loss` (log Z)^2, Z being what softmax divides by (Chowdhery et
    al. 2022, section 5); and, without gradient, what the z-loss has added."""
    return _LinearCrossEntropySum.apply(hidden_ND, weight_VD, targets_N, dtype, z_loss)  # type: ignore[no-any-return,no-untyped-call]


def logits_bytes(rows: int, vocabulary: int, dtype: torch.dtype) -> int:
    """Bytes of the logits and probabilities that are held at once, however many `rows` there are."""
    return min(_ROWS, rows) * vocabulary * (dtype.itemsize + torch.float32.itemsize)


class _LinearCrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        dtype: torch.dtype,
        z_loss: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            total, added, *gradients = _sums_and_gradients(
                hidden_ND.to(dtype), weight_VD.to(dtype), targets_N, z_loss, any(ctx.needs_input_grad)
            )
        ctx.save_for_backward(*gradients)
        ctx.dtypes = hidden_ND.dtype, weight_VD.dtype
        ctx.mark_non_differentiable(added)
        return total + added, added

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale, _ = grad_outputs
        gradients: tuple[torch.Tensor, ...] = ctx.saved_tensors
        if scale.is_cuda or scale != 1:  # a pass over both, saved on a CPU where asking costs nothing
            gradients = tuple(gradient * scale for gradient in gradients)
        hidden_ND, weight_VD = (gradient.to(dtype) for gradient, dtype in zip(gradients, ctx.dtypes, strict=True))
        return hidden_ND, weight_VD, None, None, None


def _sums_and_gradients(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, z_loss: float, with_gradients: bool
) -> tuple[torch.Tensor, ...]:
    """Cross entropy and z-loss in fp32; of both together d loss / d hidden and d loss / d weight (this one in fp32).

    The buffers of a chunk are made once: asking the system for fresh memory costs a CPU more than what is done with it.
    """
    (rows, width), vocabulary = hidden_ND.shape, weight_VD.shape[0]
    size = min(_ROWS, rows)
    products_CV = hidden_ND.new_empty(size, vocabulary)
    probabilities_CV = torch.empty_like(products_CV, dtype=torch.float32)
    total, added = torch.zeros(2, dtype=torch.float32, device=hidden_ND.device)
    grad_hidden, grad_weight, part_VD = hidden_ND, weight_VD, weight_VD
    if with_gradients:
        grad_hidden, part_VD = torch.empty_like(hidden_ND), torch.empty_like(weight_VD)
        grad_weight = torch.zeros(vocabulary, width, dtype=torch.float32, device=weight_VD.device)
    for start in range(0, rows, size):
        chunk = slice(start, min(start + size, rows))
        hidden_CD, targets_C1 = hidden_ND[chunk], targets_N[chunk, None]
        products, probabilities = products_CV[: len(targets_C1)], probabilities_CV[: len(targets_C1)]
        torch.mm(hidden_CD, weight_VD.T, out=products)
        probabilities.copy_(products)
        torch.softmax(probabilities, dim=1, out=probabilities)
        chosen_C1 = probabilities.gather(1, targets_C1)
        losses_C1 = chosen_C1.log().neg_()
        if bool((chosen_C1 < _TINY).any()):
            losses_C1 = products.float().logsumexp(1, keepdim=True) - products.gather(1, targets_C1).float()
        total += losses_C1.sum()
        if z_loss:
            log_z_C1 = losses_C1 + products.gather(1, targets_C1)
            added += z_loss * log_z_C1.square().sum()
        if with_gradients:
            # d loss / d logits = softmax - one-hot; d log(Z)^2 / d logits = 2 log(Z) softmax
            if z_loss:
                probabilities.mul_(1 + 2 * z_loss * log_z_C1)
            probabilities.scatter_add_(1, targets_C1, torch.full_like(chosen_C1, -1))
            slope = products.copy_(probabilities) if products.dtype != torch.float32 else probabilities
            torch.mm(slope, weight_VD, out=grad_hidden[chunk])
            torch.mm(slope.T, hidden_CD, out=part_VD)
            grad_weight += part_VD
    return (total, added, grad_hidden, grad_weight) if with_gradients else (total, added)
