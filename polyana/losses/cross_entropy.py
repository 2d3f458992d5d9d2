"""Cross entropy of a language model's head, without ever holding all logits.

Shapes: N labelled tokens, D model width, V vocabulary, C rows of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch

from polyana.losses.liger import liger_fits, liger_linear_cross_entropy_and_z_sum

__all__ = ["head_bytes", "linear_cross_entropy_and_z_sum", "linear_cross_entropy_sum", "logits_bytes"]

_ROWS = 512
"""Rows of one chunk. GFLOP/s of one core at 128, 256, 512, 1024 and 2048 rows, where a plain product has 390: 281, 317,
329, 329, 333 (N 2048, D 768, V 50257); 271, 305, 328, 329, 307 (4096, 384, 30000); 269, 305, 310, 319, 322 (8192, 256,
8192). Fewer rows need less memory, more rows add to the weight's gradient less often."""

_SAMPLE = 256
"""Logits of a row that log Z is recovered from, its first: they lie together, and strided ones took 1.8 ms of a
chunk's 60 (512 rows, D 192, V 30000, one core)."""

_ADDED = 2048
"""Rows of the weight's gradient that a chunk's product is made of and added to at a time, so that it, and the fp32 copy
that torch makes of it, stay in the cache. Milliseconds of 512 rows at 1024, 2048, 4096, 8192 and all rows at once, two
cores: 39.6, 38.2, 40.6, 43.4, 38.2 (V 49152, D 576); 27.4, 26.9, 27.6, 28.3, 34.5 (V 50257, D 384). The same bits."""

_ALIKE = 0.1
"""Logits this close to each other have probabilities that lie within a few of bf16's steps, 2^-8 of a number; guess."""


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
    if liger_fits(hidden_ND, dtype):
        return liger_linear_cross_entropy_and_z_sum(hidden_ND, weight_VD, targets_N, dtype, z_loss)
    return _LinearCrossEntropySum.apply(hidden_ND, weight_VD, targets_N, dtype, z_loss)  # type: ignore[no-any-return,no-untyped-call]


def logits_bytes(rows: int, vocabulary: int, dtype: torch.dtype) -> int:
    """Bytes of the logits and probabilities that are held at once, however many `rows` there are."""
    return min(_ROWS, rows) * vocabulary * (dtype.itemsize + torch.float32.itemsize)


def head_bytes(rows: int, vocabulary: int, width: int, dtype: torch.dtype) -> int:
    """Bytes that loss and gradients of the output layer need, beside its weight and that weight's gradient."""
    states, weight = rows * width * dtype.itemsize, vocabulary * width
    return logits_bytes(rows, vocabulary, dtype) + 2 * states + weight * (2 * dtype.itemsize + torch.float32.itemsize)


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
                hidden_ND.to(dtype), weight_VD.to(dtype), targets_N, z_loss, *ctx.needs_input_grad[:2]
            )
        ctx.gradients, ctx.dtypes = gradients, (hidden_ND.dtype, weight_VD.dtype)
        ctx.mark_non_differentiable(added)
        return total + added, added

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale, _ = grad_outputs
        gradients = handed_over(ctx)
        if scale.is_cuda or scale != 1:  # a pass over both, saved on a CPU where asking costs nothing
            gradients = tuple(gradient * scale for gradient in gradients)
        found = [gradient.to(dtype) for gradient, dtype in zip(gradients, ctx.dtypes, strict=False)]
        return found[0], found[1] if len(found) > 1 else None, None, None, None


def handed_over(ctx: Any) -> tuple[torch.Tensor, ...]:
    """The gradients that a forward pass has left in `ctx`, once. As nobody else holds them, autograd adds a tied
    embedding's to the weight's in place. Raises RuntimeError the second time."""
    gradients: tuple[torch.Tensor, ...] | None = ctx.gradients
    if gradients is None:
        raise RuntimeError("the gradients of a head have been handed over already; it can go backward once")
    ctx.gradients = None
    return gradients


def _sums_and_gradients(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    z_loss: float,
    of_hidden: bool,
    of_weight: bool,
) -> tuple[torch.Tensor, ...]:
    """Cross entropy and z-loss in fp32; of both together d loss / d hidden and d loss / d weight (this one in fp32),
    which a frozen head does not need.

    The buffers of a chunk are made once: asking the system for fresh memory costs a CPU more than what is done with it.
    """
    (rows, width), vocabulary = hidden_ND.shape, weight_VD.shape[0]
    size = min(_ROWS, rows)
    products_CV = hidden_ND.new_empty(size, vocabulary)
    places_C = torch.arange(size, device=hidden_ND.device)
    total, added = torch.zeros(2, dtype=torch.float32, device=hidden_ND.device)
    with_gradients = of_hidden or of_weight
    grad_hidden, grad_weight, weight_DV = hidden_ND, weight_VD, weight_VD
    if with_gradients:
        weight_DV = weight_VD.T.contiguous()  # so a chunk's product takes 15.0 ms and not 17.3
        grad_hidden = torch.empty_like(hidden_ND)
    if of_weight:
        grad_weight = torch.zeros(vocabulary, width, dtype=torch.float32, device=weight_VD.device)
    for start in range(0, rows, size):
        chunk = slice(start, min(start + size, rows))
        hidden_CD, targets_C1 = hidden_ND[chunk], targets_N[chunk, None]
        products = products_CV[: len(targets_C1)]
        torch.mm(hidden_CD, weight_VD.T, out=products)
        chosen_C1 = products.gather(1, targets_C1).float()
        probabilities, log_z_C1 = softmax_in_place(products, hidden_CD, weight_VD)
        total += (log_z_C1 - chosen_C1).sum()
        if z_loss:
            added += z_loss * log_z_C1.square().sum()
        if with_gradients:
            # d loss / d logits = softmax - one-hot; d log(Z)^2 / d logits = 2 log(Z) softmax
            more_C1 = 1 + 2 * z_loss * log_z_C1
            if z_loss:
                probabilities.mul_(more_C1)
            right_C1 = (chosen_C1 - log_z_C1).exp_().mul_(more_C1).sub_(1)  # not from the rounded probability
            probabilities[places_C[: len(targets_C1)], targets_C1[:, 0]] = right_C1[:, 0].to(probabilities.dtype)
            slope = probabilities.to(hidden_CD.dtype)
            torch.mm(slope, weight_DV.T, out=grad_hidden[chunk])
            if of_weight:
                add_product_to(grad_weight, slope, hidden_CD)
    gradients = (grad_hidden, grad_weight)[: with_gradients + of_weight]
    return total, added, *gradients


def add_product_to(whole_VD: torch.Tensor, slope_CV: torch.Tensor, hidden_CD: torch.Tensor) -> None:
    """Add a chunk's part, slope^T hidden, to the weight's gradient, so many rows at a time as the cache holds."""
    part_RD = hidden_CD.new_empty(min(_ADDED, len(whole_VD)), whole_VD.shape[1])
    for whole_RD, slope_CR in zip(torch.split(whole_VD, _ADDED), torch.split(slope_CV, _ADDED, dim=1), strict=True):
        whole_RD.add_(torch.mm(slope_CR.T, hidden_CD, out=part_RD[: len(whole_RD)]))


def softmax_in_place(
    products_CV: torch.Tensor, hidden_CD: torch.Tensor, weight_VD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax, in place but for fp16, whose range is too small for it; and log Z in fp32, [C, 1].

    In bf16 the kernel computes in fp32 and rounds only what it writes, which saves two passes over the logits. It keeps
    its normaliser to itself, but each logit less its probability's logarithm is log Z, give or take a rounding of up to
    2^-9 to either side: the mean over 256 of them is within about 1e-4. A batch's mean loss was off by 4e-6 to 8e-6
    nats (8,192 rows, vocabulary 30,000, three seeds).
    """
    scores_CV = products_CV.float() if products_CV.dtype == torch.float16 else products_CV
    logits_CS = scores_CV[:, :_SAMPLE].to(torch.float32, copy=True)
    torch.softmax(scores_CV, dim=1, out=scores_CV)
    sample_CS = scores_CV[:, :_SAMPLE].float()
    useful_CS = sample_CS > torch.finfo(scores_CV.dtype).tiny
    counts_C1 = useful_CS.sum(1, keepdim=True)
    each_CS = torch.where(useful_CS, logits_CS - sample_CS.log(), 0.0)
    log_z_C1 = each_CS.sum(1, keepdim=True) / counts_C1
    # Where all are too small to be told from 0, or so alike that they are all rounded to the same side: the sum itself.
    unsure_C = (counts_C1[:, 0] == 0) | (logits_CS.amax(1) - logits_CS.amin(1) < _ALIKE)
    if unsure_C.any():
        log_z_C1[unsure_C] = (hidden_CD[unsure_C] @ weight_VD.T).float().logsumexp(1, keepdim=True)
    return scores_CV, log_z_C1
