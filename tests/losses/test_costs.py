"""Preferences between classes: against a loop, and what the best scores choose."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from polyana.losses import class_preferences


def test_each_class_counts_by_what_it_saves_and_its_gradient_is_right():
    torch.manual_seed(0)
    scores, cost = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.rand(5, 4, dtype=torch.float64)
    wanted = []
    for row, costs in zip(scores.tolist(), cost.tolist(), strict=True):
        total = math.log(sum(math.exp(score) for score in row))
        wanted.append(sum((max(costs) - each) * (total - score) for each, score in zip(costs, row, strict=True)))
    assert class_preferences(scores, cost).tolist() == pytest.approx(wanted)
    assert torch.autograd.gradcheck(lambda each: class_preferences(each, cost), scores)


def test_where_all_mistakes_cost_the_same_it_is_cross_entropy():
    torch.manual_seed(2)
    scores, right = torch.randn(8, 5), torch.randint(5, (8,))
    found = class_preferences(scores, (1 - torch.eye(5))[right])
    torch.testing.assert_close(found, cross_entropy(scores, right, reduction="none"))


def test_with_two_classes_it_is_logistic_regression_weighted_by_cost():
    torch.manual_seed(1)
    scores, right = torch.randn(8, 2), torch.randint(2, (8,))
    matrix = torch.tensor([[0.0, 5.0], [1.0, 0.0]])  # to miss class 0 costs 5
    found = class_preferences(scores, matrix[right])
    weight = matrix.sum(1)[right]
    wanted = weight * binary_cross_entropy_with_logits(scores[:, 1] - scores[:, 0], right.float(), reduction="none")
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("seed", range(40))
def test_the_best_scores_rank_classes_by_expected_cost(seed):
    """Of any costs and probabilities: seeds 0 to 39 have 27 in which the likeliest class is not the cheapest."""
    generator = torch.Generator().manual_seed(seed)
    classes = 3 + seed % 4
    matrix = torch.rand(classes, classes, generator=generator, dtype=torch.float64)
    matrix *= torch.where(torch.rand(classes, classes, generator=generator) < 0.5, 1.0, 10.0)
    matrix.fill_diagonal_(0)
    share = torch.rand(classes, generator=generator, dtype=torch.float64)
    share /= share.sum()  # of the right classes, where nothing tells them apart
    scores = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (share * class_preferences(scores.expand(classes, classes), matrix)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = share @ matrix
    wanted = (share @ matrix.amax(1) - expected) / (share @ matrix.amax(1) - expected).sum()
    torch.testing.assert_close(scores.detach().softmax(0), wanted, atol=1e-4, rtol=0)
    assert int(scores.argmax()) == int(expected.argmin())
