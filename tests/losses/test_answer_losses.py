"""The head over answers, chunk by chunk, against plain logits and autograd."""

import pytest
import torch
from torch.nn import functional as F

from polyana.losses import Answers, answer_log_probs, dpo, linear_answer_loss
from polyana.losses import answers as module

VOCABULARY, WIDTH = 700, 24


def work(rows, dtype=torch.float32):
    random = torch.Generator().manual_seed(5)
    hidden = torch.randn(sum(rows), WIDTH, generator=random)
    weight = torch.randn(VOCABULARY, WIDTH, generator=random) / 4
    targets = torch.randint(VOCABULARY, (sum(rows),), generator=random)
    reference = torch.randn(len(rows), generator=random) * 3 - torch.tensor(rows) * 6.5
    return [each.requires_grad_() for each in (hidden, weight)], targets, reference


def loss_of(reference, rows, log_probs, answers):
    scored = [
        Answers(log_probs[side::2], torch.tensor(rows[answers][side::2]), reference[answers][side::2])
        for side in (0, 1)
    ]
    return dpo(*scored, beta=0.1).sum()


def plain(hidden, weight, targets, rows):
    log_probs = F.linear(hidden, weight).log_softmax(1).gather(1, targets[:, None])[:, 0]
    return torch.stack([part.sum() for part in log_probs.split(list(rows))])


@pytest.mark.parametrize(
    "rows",
    [
        (3, 5, 400, 90, 8, 8, 500, 12),  # pairs that share a chunk, and some that fill one
        (600, 400, 2, 3),  # one pair is larger than a chunk and still one
        (900, 700, 30, 40, 1200, 5),  # some are computed in parts
        (1, 1),
    ],
)
def test_loss_and_gradients_are_those_of_whole_logits(rows):
    (hidden, weight), targets, reference = work(rows)
    found, log_probs = linear_answer_loss(
        hidden, weight, targets, rows, 2, lambda *each: loss_of(reference, rows, *each), torch.float32
    )
    gradients = torch.autograd.grad(3.0 * found, (hidden, weight))
    whole = plain(hidden, weight, targets, rows)
    wanted = loss_of(reference, rows, whole, slice(None))
    expected = torch.autograd.grad(3.0 * wanted, (hidden, weight))
    assert torch.allclose(log_probs, whole, rtol=1e-5)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-4)
    assert torch.allclose(answer_log_probs(hidden, weight, targets, rows, torch.float32), whole, rtol=1e-5)


def test_in_bf16_it_is_as_near_as_bf16_is():
    rows = (200, 150, 90, 300)
    (hidden, weight), targets, reference = work(rows)
    found, log_probs = linear_answer_loss(
        hidden, weight, targets, rows, 2, lambda *each: loss_of(reference, rows, *each), torch.bfloat16
    )
    gradient, _ = torch.autograd.grad(found, (hidden, weight))
    exact = plain(hidden, weight, targets, rows)
    wanted, _ = torch.autograd.grad(loss_of(reference, rows, exact, slice(None)), (hidden, weight))
    assert torch.allclose(log_probs, exact, rtol=2e-3)
    assert F.cosine_similarity(gradient.flatten(), wanted.flatten(), dim=0) > 0.999


def test_a_frozen_head_has_no_gradient_and_costs_none(monkeypatch):
    rows = (30, 20)
    (hidden, weight), targets, reference = work(rows)
    weight.requires_grad_(False)
    monkeypatch.setattr(module, "add_product_to", None)
    found, _ = linear_answer_loss(
        hidden, weight, targets, rows, 2, lambda *each: loss_of(reference, rows, *each), torch.float32
    )
    found.backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_without_gradients_the_loss_is_the_same():
    rows = (30, 20, 7, 9)
    (hidden, weight), targets, reference = work(rows)
    found, _ = linear_answer_loss(
        hidden.detach(), weight.detach(), targets, rows, 2, lambda *each: loss_of(reference, rows, *each), torch.float32
    )
    wanted = loss_of(reference, rows, plain(hidden, weight, targets, rows), slice(None))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
