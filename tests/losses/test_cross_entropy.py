"""Oracle: torch's own cross entropy on whole logits in double precision."""

import pytest
import torch
import torch.nn.functional as F

from polyana.losses import linear_cross_entropy_and_z_sum, linear_cross_entropy_sum


def reference(hidden, weight, targets):
    hidden, weight = hidden.double().requires_grad_(), weight.double().requires_grad_()
    loss = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    loss.backward()
    return loss.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_loss_and_gradients_are_those_of_whole_logits(rows, dtype, tolerance):
    torch.manual_seed(rows)
    hidden, weight = torch.randn(rows, 24), torch.randn(301, 24) * 0.3
    targets = torch.randint(0, 301, (rows,))
    expected = reference(hidden, weight, targets)
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = linear_cross_entropy_sum(h, w, targets, dtype)
    (loss * 0.5).backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach().double(), expected[0], rtol=tolerance, atol=0)
    for gradient, true in ((h.grad, expected[1]), (w.grad, expected[2])):
        distance = (gradient.double() * 2 - true).norm() / true.norm()
        assert distance < tolerance


def test_bf16_products_do_not_round_the_loss_to_bf16():
    """torch 2.13's linear_cross_entropy does: the sum of 8,192 losses is off by 0.3 %."""
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(2048, 64), torch.randn(512, 64) * 0.05, torch.randint(0, 512, (2048,))
    expected = reference(hidden, weight, targets)[0]
    ours = linear_cross_entropy_sum(hidden, weight, targets, torch.bfloat16)
    assert abs(ours - expected) / expected < 2e-5


@pytest.mark.parametrize("z_loss", [1e-4, 0.3])
def test_z_loss_and_its_gradients_are_those_of_whole_logits(z_loss):
    torch.manual_seed(3)
    hidden, weight, targets = torch.randn(300, 24), torch.randn(301, 24) * 0.3, torch.randint(0, 301, (300,))
    h, w = hidden.double().requires_grad_(), weight.double().requires_grad_()
    logits = h @ w.T
    added = z_loss * logits.logsumexp(dim=1).square().sum()
    (F.cross_entropy(logits, targets, reduction="sum") + added).backward()
    ours_h, ours_w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    total, ours = linear_cross_entropy_and_z_sum(ours_h, ours_w, targets, torch.float32, z_loss)
    (total * 2).backward()
    assert not ours.requires_grad
    torch.testing.assert_close(ours.double(), added.detach(), rtol=1e-6, atol=0)
    plain = linear_cross_entropy_sum(hidden, weight, targets, torch.float32)
    torch.testing.assert_close(total.detach() - ours, plain, rtol=1e-6, atol=0)
    for gradient, true in ((ours_h.grad, h.grad), (ours_w.grad, w.grad)):
        assert (gradient.double() / 2 - true).norm() / true.norm() < 1e-6


def test_without_gradients_none_are_computed():
    hidden = torch.randn(4, 8)
    loss = linear_cross_entropy_sum(hidden, torch.randn(16, 8), torch.zeros(4, dtype=torch.long), torch.float32)
    assert not loss.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [0.0, 3.0, 60.0])
def test_sure_and_far_away_logits(dtype, scale):
    """All alike; some sure; and so far apart that nearly all probabilities are zero, the right one's among them."""
    torch.manual_seed(1)
    hidden, weight = torch.randn(64, 16).to(dtype).float(), torch.randn(700, 16).to(dtype).float() * scale
    weight = weight.to(dtype).float()
    targets = torch.randint(0, 700, (64,))
    targets[:32] = (hidden @ weight.T)[:32].argmax(1)
    h = hidden.clone().requires_grad_()
    loss = linear_cross_entropy_sum(h, weight, targets, dtype)
    loss.backward()
    logits = (hidden.to(dtype) @ weight.to(dtype).T).double()  # rounded as ours are
    expected = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(loss.detach().double(), expected, rtol=1e-4, atol=64 * 2e-4)
    slope = torch.softmax(logits, 1) - F.one_hot(targets, 700)
    assert (h.grad.double() - slope @ weight.double()).norm() <= 1e-2 * (slope @ weight.double()).norm() + 1e-6
