"""The loss scale of fp16, in which numbers below 6e-8 vanish: the loss is multiplied before backward and the gradients
are divided after it (Micikevicius et al. 2018, section 3.2).

The rule is torch.amp.GradScaler's. GradScaler itself would pass over all gradients twice more: the trainer knows their
norm before it updates, which is finite only if all of them are, on every rank; and dividing by the scale joins dividing
by the count.
"""

from __future__ import annotations

import math

__all__ = ["LEAST_SCALE", "first_scale", "next_scale"]

_FIRST = 2.0**16  # on a mean loss; GradScaler's
_GROWTH_INTERVAL = 2000  # steps without overflow until it is doubled; GradScaler's
LEAST_SCALE = 1e-4
"""On a mean loss; below it gradients are not finite for another reason. fairseq's `--min-loss-scale`."""


def first_scale(tokens: float) -> float:
    """What to multiply a loss with that is summed over about `tokens` tokens: a power of two, so it costs no digits."""
    return _FIRST / 2.0 ** round(math.log2(tokens))


def next_scale(scale: float, clean_steps: int, overflowed: bool) -> tuple[float, int]:
    """(scale, steps without overflow since it changed) after a step; the step of an overflow is to be skipped."""
    if overflowed:
        return scale / 2, 0
    if clean_steps + 1 == _GROWTH_INTERVAL:
        return scale * 2, 0
    return scale, clean_steps + 1
