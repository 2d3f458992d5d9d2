"""Log-probabilities of answers, and a loss of them, without ever holding all logits.

What a token's gradient is multiplied with is known only when its whole answer is scored, and with it all others that it
is compared with. So a chunk of rows holds whole items, a pair each: their loss is found while their logits are still
there, and every product of the head is made once. An item larger than a chunk is computed in parts, and its logits
twice.

Shapes: N rows, one for each token of an answer, D model width, V vocabulary, C rows of a chunk, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from polyana.losses.cross_entropy import add_product_to, handed_over, softmax_in_place

__all__ = ["answer_log_probs", "linear_answer_loss"]

_ROWS = 512
"""Rows that items are gathered up to, as in cross_entropy."""

_MOST = 1024
"""Rows of the largest item that is one chunk: with it the buffer doubles, and a larger one's logits are made twice."""

_TRANSPOSED = 4
"""Chunks from which on a transposed copy of the weight is worth it: making it takes 23 ms, and each of 390 rows then 27
for 32 (V 49152, D 576, two cores); and 57 MB."""

AnswerLoss = Callable[[torch.Tensor, slice], torch.Tensor]
"""(log-probabilities of the answers of some items, which answers they are) -> the sum of their losses, a scalar."""


def answer_log_probs(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, rows: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """The sum of log p over the tokens of each answer, [A] in fp32, without gradient. `rows`: of each answer, which lie
    one behind the other; the rest as in `linear_cross_entropy_sum`."""
    with torch.no_grad(), torch.autocast(hidden_ND.device.type, enabled=False):
        head = _Head(hidden_ND.to(dtype), weight_VD.to(dtype), targets_N, _ROWS)
        log_probs_N = [head.log_probs(chunk)[0] for chunk in _cut(slice(0, len(targets_N)), _ROWS)]
        return _sums(torch.cat([*log_probs_N, hidden_ND.new_empty(0, dtype=torch.float32)]), rows)


def linear_answer_loss(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    rows: Sequence[int],
    of_an_item: int,
    loss: AnswerLoss,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the sum of the items' losses, a scalar in fp32; log-probabilities of the answers without gradient, [A]).

    `of_an_item`: answers that are compared with each other, and lie side by side. Gradients are computed together with
    the loss, as in `linear_cross_entropy_sum`, and each row's is multiplied with d loss / d log p of its answer.
    """
    assert len(rows) % of_an_item == 0
    return _LinearAnswerLoss.apply(hidden_ND, weight_VD, targets_N, tuple(rows), of_an_item, loss, dtype)  # type: ignore[no-any-return,no-untyped-call]


class _LinearAnswerLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        rows: tuple[int, ...],
        of_an_item: int,
        loss: AnswerLoss,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            total, log_probs_A, *gradients = _loss_and_gradients(
                hidden_ND.to(dtype), weight_VD.to(dtype), targets_N, rows, of_an_item, loss, *ctx.needs_input_grad[:2]
            )
        ctx.gradients, ctx.dtypes = gradients, (hidden_ND.dtype, weight_VD.dtype)
        ctx.mark_non_differentiable(log_probs_A)
        return total, log_probs_A

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale, _ = grad_outputs
        gradients = handed_over(ctx)
        if scale.is_cuda or scale != 1:
            gradients = tuple(gradient * scale for gradient in gradients)
        found = [gradient.to(dtype) for gradient, dtype in zip(gradients, ctx.dtypes, strict=False)]
        return found[0], found[1] if len(found) > 1 else None, None, None, None, None, None


def _loss_and_gradients(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    rows: Sequence[int],
    of_an_item: int,
    loss: AnswerLoss,
    of_hidden: bool,
    of_weight: bool,
) -> tuple[torch.Tensor, ...]:
    """The loss, the answers' log-probabilities, d loss / d hidden, and d loss / d weight unless that is frozen."""
    groups = list(_groups(rows, of_an_item))
    largest = max((sum(rows[answers]) for answers in groups), default=0)
    head = _Head(hidden_ND, weight_VD, targets_N, largest if largest <= _MOST else _ROWS)
    with_gradients = of_hidden or of_weight
    if with_gradients:
        head.want_gradients(of_weight)
    total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
    parts, first = [total.new_empty(0)], 0
    for answers in groups:
        place = slice(first, first := first + sum(rows[answers]))
        chunks = list(_cut(place, head.size))
        scored = []
        for chunk in chunks:
            log_probs_C, probabilities_CV = head.log_probs(chunk)
            scored.append(log_probs_C)
        log_probs_A = _sums(torch.cat(scored), rows[answers]).requires_grad_()
        with torch.enable_grad():
            part = loss(log_probs_A, answers)
        total += part.detach()
        parts.append(log_probs_A.detach())
        if not with_gradients:
            continue
        (slope_A,) = torch.autograd.grad(part, log_probs_A)
        counts = torch.tensor(rows[answers], device=slope_A.device)
        slope_N1 = slope_A.repeat_interleave(counts)[:, None]
        for chunk, log_probs_C in zip(chunks, scored, strict=True):
            if len(chunks) > 1:  # the buffer holds the last chunk's by now
                _, probabilities_CV = head.log_probs(chunk)
            head.add(chunk, probabilities_CV, log_probs_C, slope_N1[chunk.start - place.start :][: len(log_probs_C)])
    return total, torch.cat(parts), *head.gradients()


class _Head:
    """The output layer over some rows at a time, in buffers that are made once."""

    def __init__(self, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, size: int) -> None:
        self.hidden_ND, self.weight_VD, self.targets_N = hidden_ND, weight_VD, targets_N
        self.size = min(size, len(hidden_ND))
        self._products_CV = hidden_ND.new_empty(self.size, weight_VD.shape[0])
        self._places_C = torch.arange(self.size, device=hidden_ND.device)
        self._of_hidden: torch.Tensor | None = None
        self._of_weight: torch.Tensor | None = None

    def want_gradients(self, of_weight: bool) -> None:
        many = len(self.hidden_ND) > _TRANSPOSED * _ROWS
        self._weight_DV = self.weight_VD.T.contiguous() if many else self.weight_VD.T  # as in cross_entropy
        self._of_hidden = torch.empty_like(self.hidden_ND)
        if of_weight:
            self._of_weight = torch.zeros(self.weight_VD.shape, dtype=torch.float32, device=self.weight_VD.device)

    def gradients(self) -> list[torch.Tensor]:
        return [each for each in (self._of_hidden, self._of_weight) if each is not None]

    def log_probs(self, chunk: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """log p of each row's target, [C] in fp32; the probabilities of all tokens, until the next call."""
        hidden_CD, targets_C1 = self.hidden_ND[chunk], self.targets_N[chunk, None]
        products_CV = self._products_CV[: len(targets_C1)]
        torch.mm(hidden_CD, self.weight_VD.T, out=products_CV)
        chosen_C1 = products_CV.gather(1, targets_C1).float()
        probabilities_CV, log_z_C1 = softmax_in_place(products_CV, hidden_CD, self.weight_VD)
        return (chosen_C1 - log_z_C1)[:, 0], probabilities_CV

    def add(
        self, chunk: slice, probabilities_CV: torch.Tensor, log_probs_C: torch.Tensor, slope_C1: torch.Tensor
    ) -> None:
        """Add a chunk to the gradients. d log p / d logits = one-hot - softmax.

        What each row is multiplied with meets the D numbers of its state and not the V of its logits: a pass over those
        less, and in bf16 with fp32 torch would make a copy of them.
        """
        assert self._of_hidden is not None
        wrong_C = torch.expm1(log_probs_C)  # softmax - 1, not from the rounded probability
        probabilities_CV[self._places_C[: len(log_probs_C)], self.targets_N[chunk]] = wrong_C.to(probabilities_CV.dtype)
        difference_CV, hidden_CD = probabilities_CV.to(self.hidden_ND.dtype), self.hidden_ND[chunk]
        torch.mm(difference_CV, self._weight_DV.T, out=self._of_hidden[chunk])
        self._of_hidden[chunk].mul_(-slope_C1)
        if self._of_weight is not None:
            add_product_to(self._of_weight, difference_CV, (hidden_CD * -slope_C1).to(hidden_CD.dtype))


def _groups(rows: Sequence[int], of_an_item: int) -> Iterator[slice]:
    """The answers of whole items, as many as have up to `_ROWS` rows together, or of one item."""
    begin = size = 0
    for first in range(0, len(rows), of_an_item):
        more = sum(rows[first : first + of_an_item])
        if first > begin and size + more > _ROWS:
            yield slice(begin, first)
            begin, size = first, 0
        size += more
    if begin < len(rows):
        yield slice(begin, len(rows))


def _cut(rows: slice, size: int) -> Iterator[slice]:
    for first in range(rows.start, rows.stop, max(size, 1)):
        yield slice(first, min(first + size, rows.stop))


def _sums(log_probs_N: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """The sum over each answer's rows, [A]."""
    return torch.stack([part.sum() for part in torch.split(log_probs_N, list(rows))]) if rows else log_probs_N
