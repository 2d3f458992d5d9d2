"""How far a model has moved from its reference, on what it writes itself.

Shapes: N tokens of some texts, A answers, R rows of a chunk, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from polyana.models import head_weight, hidden_states, longest_text

__all__ = ["Divergence", "divergence"]

_TOKENS = 4096  # of the texts that are looked at together; guess
_ROWS = 256  # of logits at once: 50 MB for a vocabulary of 49,152


@dataclass(frozen=True, slots=True)
class Divergence:
    """Of one answer, in nats: KL, summed over its tokens; the mean entropy of a token."""

    kl: float
    entropy: float


def divergence(
    model: Any, reference: Callable[[], AbstractContextManager[Any]],
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> list[Divergence]:  # fmt: skip
    """KL(model || reference) over answers that were drawn from `model` at temperature 1, each as (prompt, answer).

    The mean over answers estimates the KL of whole answers. Of each token the KL of the two distributions is taken
    whole, and not only the log-ratio of the token that was drawn: unbiased too, never below 0, and of less variance
    (Rao-Blackwell; Amini et al. 2025). `reference`: a context in which it gives the model to compare with, which may be
    `model` itself without its adapter.
    """
    found = list[Divergence]()
    for batch in _batches(texts):
        longest = longest_text(model)
        tokens, lengths, places, counts = list[int](), list[int](), list[int](), list[int]()
        for asked, answer in batch:
            text = [*asked, *answer][-longest:]
            said = min(len(answer), len(text) - 1)
            places += range(len(tokens) + len(text) - said - 1, len(tokens) + len(text) - 1)
            counts.append(said)
            lengths.append(len(text))
            tokens += text
        device = next(model.parameters()).device
        tokens_N = torch.tensor(tokens, device=device)
        position_N = torch.cat([torch.arange(length) for length in lengths]).to(device)
        with torch.no_grad():
            ours = hidden_states(model, tokens_N, position_N, lengths)[places], head_weight(model)
            with reference() as other:
                theirs = hidden_states(other, tokens_N, position_N, lengths)[places], head_weight(other)
                kl_N, entropy_N = _compare(*ours, *theirs)
        for kl, entropy in zip(torch.split(kl_N, counts), torch.split(entropy_N, counts), strict=True):
            found.append(Divergence(float(kl.sum()), float(entropy.mean()) if len(entropy) else 0.0))
    return found


def _compare(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, other_ND: torch.Tensor, other_VD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(KL, entropy) of each row, [N]."""
    kl, entropy = list[torch.Tensor](), list[torch.Tensor]()
    for mine, theirs in zip(torch.split(hidden_ND, _ROWS), torch.split(other_ND, _ROWS), strict=True):
        log_p_RV = (mine.float() @ weight_VD.float().T).log_softmax(-1)
        log_q_RV = (theirs.float() @ other_VD.float().T).log_softmax(-1)
        p_RV = log_p_RV.exp()
        kl.append((p_RV * (log_p_RV - log_q_RV)).sum(-1))
        entropy.append(-(p_RV * log_p_RV).sum(-1))
    empty = hidden_ND.new_empty(0)
    return torch.cat([*kl, empty]), torch.cat([*entropy, empty])


def _batches(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> Iterator[Sequence[tuple[Sequence[int], Sequence[int]]]]:
    begin = size = 0
    for place, (asked, answer) in enumerate(texts):
        more = len(asked) + len(answer)
        if place > begin and size + more > _TOKENS:
            yield texts[begin:place]
            begin, size = place, 0
        size += more
    if begin < len(texts):
        yield texts[begin:]
