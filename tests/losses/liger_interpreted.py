"""Liger's sums and gradients and ours for the same numbers, in Triton's interpreter.

    TRITON_INTERPRET=1 python liger_interpreted.py CASES.pt OUT.pt

A case: (hidden, weight, targets, dtype, z_loss). Not a test itself: Triton reads the variable when it is imported,
which another test's imports may have done.
"""

import sys

import torch

from polyana.losses.cross_entropy import linear_cross_entropy_and_z_sum
from polyana.losses.liger import liger_linear_cross_entropy_and_z_sum


def computed(function, hidden, weight, targets, dtype, z_loss):
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    total, added = function(hidden * 1, weight * 1, targets, dtype, z_loss)
    (total * 0.25).backward()
    assert not added.requires_grad
    return total.detach(), added, hidden.grad, weight.grad


both = (liger_linear_cross_entropy_and_z_sum, linear_cross_entropy_and_z_sum)
torch.save([[computed(each, *case) for each in both] for case in torch.load(sys.argv[1])], sys.argv[2])
