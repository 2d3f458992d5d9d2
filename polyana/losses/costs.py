"""Classes that are not equally bad to be wrong about: preferences between classes, weighted by what they cost.

Shapes: A examples, K classes.
"""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

__all__ = ["class_preferences"]


def class_preferences(scores_AK: torch.Tensor, cost_AK: torch.Tensor) -> torch.Tensor:
    """The loss of each example, [A]: over all pairs of classes of which one costs less there,

        sum of (cost_j - cost_i) -log s(score_i - score_j) over cost_i < cost_j

    so each pair is a preference (Bradley and Terry 1952) that counts as much as it saves. Of each pair the best scores
    prefer the class whose expected cost is lower: d/ds of its expectation is 0 where s(score_i - score_j) =
    E(cost_j - cost_i)+ / E|cost_j - cost_i|, above 1/2 exactly if E cost_i < E cost_j. So the class with the highest
    score is the one to choose, and no probabilities are needed (for two classes: Elkan 2001, theorem 1).

    cost_AK: what each class costs where it is said of the example, 0 for its own.
    """
    saved_AKK = (cost_AK[:, None, :] - cost_AK[:, :, None]).clamp(min=0)  # by saying i instead of j
    behind_AKK = scores_AK[:, None, :] - scores_AK[:, :, None]
    return (saved_AKK * softplus(behind_AKK)).sum((1, 2))
