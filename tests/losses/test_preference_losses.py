"""Preference losses against trl's own code on the same tensors (make_trl_preference.py recorded it), and against the
papers' equations, written again here, where the two differ."""

import json
import math
from pathlib import Path

import pytest
import torch

from polyana.losses import (
    Answers,
    bradley_terry,
    cpo,
    dpo,
    ipo,
    kto,
    kto_kl,
    kto_weights,
    orpo,
    robust_dpo,
    simpo,
)

TRL = json.loads(Path(__file__).with_name("trl_preference.json").read_text())
MASK = torch.tensor(TRL["mask"])
REFERENCE = torch.tensor(TRL["reference"])
CLOSE = {"abs": 1e-5, "rel": 1e-5}


def tokens() -> torch.Tensor:
    return torch.tensor(TRL["log_probs"]).requires_grad_()


def pairs(log_probs: torch.Tensor) -> tuple[Answers, Answers]:
    """(chosen, rejected): trl has all chosen answers before all rejected ones."""
    parts = zip(*(each.chunk(2) for each in (log_probs.sum(1), MASK.sum(1), REFERENCE)), strict=True)
    chosen, rejected = (Answers(*part) for part in parts)
    return chosen, rejected


def agrees(found: torch.Tensor, leaf: torch.Tensor, recorded: dict, where: torch.Tensor = MASK) -> None:
    """The mean loss, and its gradient at the tokens that there are: trl's stand-in differentiates padding, too."""
    assert found.mean().item() == pytest.approx(recorded["loss"], **CLOSE)
    (gradient,) = torch.autograd.grad(found.mean(), leaf)
    assert torch.allclose(gradient * where, torch.tensor(recorded["gradient"]) * where, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("dpo", lambda chosen, rejected: dpo(chosen, rejected, beta=0.1)),
        ("robust", lambda chosen, rejected: robust_dpo(chosen, rejected, beta=0.1, epsilon=0.2)),
        ("ipo", lambda chosen, rejected: ipo(chosen, rejected, tau=0.3, average="mean")),
        ("simpo", lambda chosen, rejected: simpo(chosen, rejected, beta=2.0, gamma=1.0)),
        ("cpo", lambda chosen, rejected: cpo(chosen, rejected, beta=0.1, alpha=0.0)),
        ("orpo", lambda chosen, rejected: orpo(chosen, rejected, lambda_=0.1) + chosen.means),
    ],
)
def test_losses_of_pairs_are_trls(name, loss):
    leaf = tokens()
    agrees(loss(*pairs(leaf)), leaf, TRL[name])


@pytest.mark.parametrize("name", ["kto", "kto, KL below 0", "kto, one class"])
def test_kto_is_trls(name):
    weights = {"kto": (1.0, 1.25), "kto, KL below 0": (1.5, 1.0), "kto, one class": (1.0, 1.0)}[name]
    recorded, leaf = TRL[name], tokens()
    kl = kto_kl(sum(recorded["kl_ratios"]), len(recorded["kl_ratios"]))
    answers = Answers(leaf.sum(1), MASK.sum(1), REFERENCE)
    labels = torch.tensor(recorded["labels"])
    agrees(kto(answers, labels, kl, beta=0.1, lambda_D=weights[0], lambda_U=weights[1]), leaf, recorded)


@pytest.mark.parametrize("name", ["reward", "reward, margin", "reward, centred"])
def test_bradley_terry_is_trls(name):
    recorded = TRL[name]
    leaf = torch.tensor(recorded["rewards"]).requires_grad_()
    chosen, rejected = leaf.chunk(2)
    margin = torch.tensor(recorded["margin"] or [0.0] * len(chosen))
    found = bradley_terry(chosen, rejected, margin, centering=recorded["centering"] or 0.0)
    assert found.mean().item() == pytest.approx(recorded["loss"], **CLOSE)
    (gradient,) = torch.autograd.grad(found.mean(), leaf)
    assert torch.allclose(gradient, torch.tensor(recorded["gradient"])[:, 0], atol=1e-5)


# Where trl is no oracle: in plain numbers, one pair at a time


def ratios() -> list[tuple[float, float, int, int]]:
    """(d_w, d_l, |y_w|, |y_l|) of each pair."""
    chosen, rejected = pairs(tokens())
    columns = (chosen.ratios, rejected.ratios, chosen.tokens_A.int(), rejected.tokens_A.int())
    return list(zip(*(column.tolist() for column in columns), strict=True))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_label_smoothing_does_something_here_and_nothing_in_trl():
    assert TRL["dpo, label_smoothing ignored"] == TRL["dpo"]
    wanted = [
        -0.7 * math.log(sigmoid(0.1 * (w - losing))) - 0.3 * math.log(sigmoid(-0.1 * (w - losing)))
        for w, losing, *_ in ratios()
    ]
    assert dpo(*pairs(tokens()), beta=0.1, label_smoothing=0.3).tolist() == pytest.approx(wanted, **CLOSE)


def test_robust_loss_is_in_expectation_the_loss_of_the_right_labels():
    chosen, rejected = pairs(tokens())
    noise = 0.2
    right, wrong = (robust_dpo(*each, beta=0.1, epsilon=noise) for each in ((chosen, rejected), (rejected, chosen)))
    clean = dpo(chosen, rejected, beta=0.1)
    assert torch.allclose((1 - noise) * right + noise * wrong, clean, atol=1e-5)


def test_ipo_by_sums_is_the_papers_equation():
    wanted = [(w - losing - 1 / (2 * 0.3)) ** 2 for w, losing, *_ in ratios()]
    assert ipo(*pairs(tokens()), tau=0.3, average="sum").tolist() == pytest.approx(wanted, rel=1e-5)


def test_cpo_and_orpo_have_the_nll_of_each_answer():
    chosen, rejected = pairs(tokens())
    each = [sum(row) / sum(there) for row, there in zip(TRL["log_probs"][:6], TRL["mask"][:6], strict=True)]
    assert (cpo(chosen, rejected, beta=0.1, alpha=1.0) - cpo(chosen, rejected, beta=0.1, alpha=0.0)).tolist() == (
        pytest.approx([-mean for mean in each], **CLOSE)
    )
    wanted = []
    for good, bad in zip(each, rejected.means.tolist(), strict=True):
        odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (good, bad)]
        wanted.append(-good - 0.1 * math.log(sigmoid(math.log(odds[0] / odds[1]))))
    assert orpo(chosen, rejected, lambda_=0.1).tolist() == pytest.approx(wanted, **CLOSE)


@pytest.mark.parametrize("log_prob", [-1e-3, -1e-7, -1e-12, 0.0, -80.0])
def test_orpo_stays_finite_where_the_model_is_sure(log_prob):
    leaf = torch.tensor([log_prob]).requires_grad_()
    one = torch.ones(1)
    found = orpo(Answers(leaf, one), Answers(torch.tensor([-1.0]), one), lambda_=0.1)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert found.isfinite().all()
    assert gradient.isfinite().all()
    if log_prob < 0:
        log_odds = log_prob - math.log(-math.expm1(log_prob)) + 1 + math.log(-math.expm1(-1))
        assert found.item() == pytest.approx(-log_prob + 0.1 * math.log1p(math.exp(-log_odds)), rel=2e-2, abs=1e-6)


@pytest.mark.parametrize("gap", [-3e3, -40.0, -1e-3, 0.0, 0.7, 40.0, 3e3])
def test_loss_and_gradient_are_exact_where_a_pair_is_sure_or_the_noise_is_near_a_half(gap):
    """Against the equations as they stand in the papers, in 64 bits."""
    e, beta = 0.4999, 0.5

    def log_s(x: torch.Tensor) -> torch.Tensor:
        return -torch.logaddexp(torch.zeros_like(x), -x)

    equations = {
        dpo: (lambda z: -(1 - e) * log_s(z) - e * log_s(-z), {"label_smoothing": e}),
        robust_dpo: (lambda z: (-(1 - e) * log_s(z) + e * log_s(-z)) / (1 - 2 * e), {"epsilon": e}),
    }
    for loss, (equation, more) in equations.items():
        leaf, wide = torch.tensor([gap]).requires_grad_(), torch.tensor([gap], dtype=torch.float64).requires_grad_()
        zero, one = torch.zeros(1), torch.ones(1)
        found, wanted = (
            loss(Answers(leaf, one, zero), Answers(zero, one, zero), beta=beta, **more),
            equation(beta * wide),
        )
        slopes = [torch.autograd.grad(each.sum(), at)[0].item() for each, at in ((found, leaf), (wanted, wide))]
        assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
        assert slopes[0] == pytest.approx(slopes[1], rel=1e-6, abs=1e-7)
    leaf = torch.tensor([gap / 100]).requires_grad_()
    found = kto(Answers(leaf, torch.ones(1), torch.zeros(1)), torch.tensor([True]), 0.0, beta=1, lambda_D=1, lambda_U=1)
    (slope,) = torch.autograd.grad(found.sum(), leaf)
    x = math.exp(-abs(gap / 100))
    assert slope.item() == pytest.approx(-x / (1 + x) ** 2, rel=1e-5)  # of 1 - s(x), as small as it may be


@pytest.mark.parametrize(("good", "bad"), [(99, 1), (1, 99), (7, 6), (4, 3), (5, 5), (1000, 999)])
def test_kto_weights_balance_the_classes_as_equation_8_says(good, bad):
    lambda_D, lambda_U = kto_weights(good, bad)
    assert 1 - 1e-9 <= lambda_D * good / (lambda_U * bad) <= 4 / 3 + 1e-9
    assert min(lambda_D, lambda_U) == 1.0


def test_kto_weights_of_one_class_are_refused():
    with pytest.raises(ValueError, match="0 undesirable"):
        kto_weights(5, 0)
