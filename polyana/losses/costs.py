"""Classes that are not equally bad to be wrong about: preferences between classes, weighted by what they save.

Shapes: A examples, K classes.
"""

from __future__ import annotations

import torch
from torch.nn.functional import log_softmax

__all__ = ["class_preferences"]


def class_preferences(scores_AK: torch.Tensor, cost_AK: torch.Tensor) -> torch.Tensor:
    """The loss of each example, [A]: of every class that it is the one preferred to all others (Plackett 1975, Luce
    1959), counted by what it saves where the dearest would have been said,

        sum over i of (max_j cost_j - cost_i) -log softmax(score)_i

    Its expectation is least where softmax(score)_i is proportional to E max_j cost_j - E cost_i: so the class with the
    highest score is the one whose expected cost is least, whatever the costs, and no probabilities are needed when it
    is chosen. Where a mistake costs the same whatever is said instead, it is cross entropy weighted by that cost, and
    with two classes the rule of Elkan 2001, theorem 1. A sum over pairs of classes of (cost_j - cost_i)
    -log s(score_i - score_j) would not do: its pairs pull at each other, and in one of twenty random problems of 3 to 6
    classes its best scores have another class in front.

    cost_AK: what each class costs where it is said of the example, 0 for its own.
    """
    saved_AK = cost_AK.amax(1, keepdim=True) - cost_AK
    return -(saved_AK * log_softmax(scores_AK, 1)).sum(1)
