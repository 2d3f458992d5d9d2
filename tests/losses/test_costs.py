"""Preferences between classes: against a loop over pairs, and what the best scores choose."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from polyana.losses import class_preferences


def test_it_is_the_sum_over_pairs_and_its_gradient_is_right():
    torch.manual_seed(0)
    scores, cost = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.rand(5, 4, dtype=torch.float64)
    gaps = (scores[:, :, None] - scores[:, None, :]).detach()
    wanted = [
        sum(
            (float(cost[a, j]) - float(cost[a, i])) * math.log1p(math.exp(float(gaps[a, j, i])))
            for i in range(4) for j in range(4) if cost[a, i] < cost[a, j]
        )
        for a in range(5)
    ]  # fmt: skip
    assert class_preferences(scores, cost).tolist() == pytest.approx(wanted)
    assert torch.autograd.gradcheck(lambda each: class_preferences(each, cost), scores)


def test_with_two_classes_it_is_logistic_regression_weighted_by_cost():
    torch.manual_seed(1)
    scores, right = torch.randn(8, 2), torch.randint(2, (8,))
    matrix = torch.tensor([[0.0, 5.0], [1.0, 0.0]])  # to miss class 0 costs 5
    found = class_preferences(scores, matrix[right])
    weight = matrix.sum(1)[right]
    wanted = weight * binary_cross_entropy_with_logits(scores[:, 1] - scores[:, 0], right.float(), reduction="none")
    torch.testing.assert_close(found, wanted)


def test_the_best_scores_choose_the_least_expected_cost_where_the_likeliest_class_is_another():
    matrix = torch.tensor([[0.0, 10.0, 10.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    share = torch.tensor([0.2, 0.5, 0.3])  # of the right classes, where nothing tells them apart
    expected = share @ matrix
    assert int(share.argmax()) == 1
    assert int(expected.argmin()) == 0
    scores = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (share * class_preferences(scores.expand(3, 3), matrix)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert scores.argsort(descending=True).tolist() == expected.argsort().tolist()
