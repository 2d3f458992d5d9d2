"""What is learned from people's preferences: losses of answers whose log-probabilities are known.

Pure functions of sums of log-probabilities, in nats; each gives the loss of every pair (or answer), and who calls adds
them up. Where libraries disagree it stands beside the function. Shapes: A answers, P pairs.

s: the sigmoid; d: an answer's log-probability less its log-probability under the reference; |y|: its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import logsigmoid

__all__ = [
    "Answers",
    "bradley_terry",
    "cpo",
    "dpo",
    "ipo",
    "kto",
    "kto_kl",
    "kto_weights",
    "orpo",
    "robust_dpo",
    "simpo",
]

_KTO_RATIO = 4 / 3  # the upper end of eq. 8's interval, whose lower end is 1


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers as a model finds them.

    log_probs_A: the sum over an answer's tokens of log p, with its graph. tokens_A: how many they are. reference_A:
    the same sum under the reference; None where the loss has none.
    """

    log_probs_A: torch.Tensor
    tokens_A: torch.Tensor
    reference_A: torch.Tensor | None = None

    @property
    def ratios(self) -> torch.Tensor:
        """d: log p - log p of the reference."""
        assert self.reference_A is not None
        return self.log_probs_A - self.reference_A

    @property
    def means(self) -> torch.Tensor:
        """The mean log-probability of a token."""
        return self.log_probs_A / self.tokens_A


def dpo(chosen: Answers, rejected: Answers, *, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """-log s(z) with z = beta (d_w - d_l), [P] (Rafailov et al. 2023, eq. 7).

    `label_smoothing` e: -(1 - e) log s(z) - e log s(-z), which takes a pair to be the wrong way round with probability
    e (Mitchell 2023, "A note on DPO with noisy preferences", eq. 3). trl 1.16 takes the option and ignores it here.
    """
    z_P = beta * (chosen.ratios - rejected.ratios)
    return -logsigmoid(z_P) + label_smoothing * z_P  # log s(-z) = log s(z) - z


def robust_dpo(chosen: Answers, rejected: Answers, *, beta: float, epsilon: float) -> torch.Tensor:
    """(-(1 - e) log s(z) + e log s(-z)) / (1 - 2 e), [P] (Chowdhury et al. 2024, eq. 11): where a share e of the pairs
    is the wrong way round, its expectation is DPO's loss of the right ones."""
    z_P = beta * (chosen.ratios - rejected.ratios)
    return -logsigmoid(z_P) - epsilon / (1 - 2 * epsilon) * z_P  # the same, and nothing cancels where e is near 1/2


def ipo(chosen: Answers, rejected: Answers, *, tau: float, average: Literal["mean", "sum"]) -> torch.Tensor:
    """(d_w - d_l - 1 / (2 tau))^2, [P] (Azar et al. 2024, eq. 17).

    The equation has sums. With `mean` d is divided by |y|: so compute trl, HALOs and LLaMA-Factory, the first after
    asking the authors, whose results are said to be of that form; OpenRLHF takes the sums.
    """
    if average == "mean":
        gap_P = chosen.ratios / chosen.tokens_A - rejected.ratios / rejected.tokens_A
    else:
        gap_P = chosen.ratios - rejected.ratios
    return (gap_P - 1 / (2 * tau)).square()


def simpo(chosen: Answers, rejected: Answers, *, beta: float, gamma: float) -> torch.Tensor:
    """-log s(beta (l_w / |y_w| - l_l / |y_l|) - gamma), [P] (Meng et al. 2024, eq. 6); l: the log-probability itself,
    for there is no reference. trl adds the chosen answer's NLL unless told not to."""
    return -logsigmoid(beta * (chosen.means - rejected.means) - gamma)


def cpo(chosen: Answers, rejected: Answers, *, beta: float, alpha: float) -> torch.Tensor:
    """-log s(beta (l_w - l_l)) - alpha l_w / |y_w|, [P] (Xu et al. 2024, eq. 5 and 6).

    The paper's NLL is a sum, its code takes the mean of all chosen tokens of a batch, so that long answers weigh more
    and a batch in parts is another loss; here it is the mean of each answer.
    """
    return -logsigmoid(beta * (chosen.log_probs_A - rejected.log_probs_A)) - alpha * chosen.means


def orpo(chosen: Answers, rejected: Answers, *, lambda_: float) -> torch.Tensor:
    """-m_w - lambda log s(log odds_w - log odds_l), [P], with m the mean log-probability of a token and
    log odds = m - log(1 - e^m) (Hong et al. 2024, eq. 3, 4, 6 and 7). trl's NLL has the prompt's tokens in it, too."""
    log_odds_P = (chosen.means - rejected.means) - (_log1mexp(chosen.means) - _log1mexp(rejected.means))
    return -chosen.means - lambda_ * logsigmoid(log_odds_P)


def _log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - e^x) for x < 0 without cancellation (Mächler 2012, eq. 7). A probability that is rounded to 1 is taken
    for the largest below it: of exactly 1 there are no odds."""
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    near = x > -0.6931471805599453
    # each form with arguments of its own, or the one that is not taken would put NaN into the gradient
    safe_near, safe_far = torch.where(near, x, -0.5), torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(safe_near)), torch.log1p(-torch.exp(safe_far)))


def kto(
    answers: Answers, desirable_A: torch.Tensor, kl: float, *, beta: float, lambda_D: float, lambda_U: float
) -> torch.Tensor:
    """lambda_D (1 - s(beta (d - KL))) of a desirable answer and lambda_U (1 - s(beta (KL - d))) of an undesirable one,
    [A] (Ethayarajh et al. 2024, eq. 7 and 8). `kl`: as `kto_kl` gives it, a number without gradient."""
    distance_A = beta * (answers.ratios - kl)  # 1 - s(x) = s(-x), which is not rounded to 0 and without gradient
    return torch.where(desirable_A, lambda_D * torch.sigmoid(-distance_A), lambda_U * torch.sigmoid(distance_A))


def kto_kl(ratios: float, count: float) -> float:
    """KL of the model from its reference, as KTO estimates it: max(0, the mean d of answers to other prompts); `ratios`
    is their sum (Ethayarajh et al. 2024, section 4.1)."""
    return max(0.0, ratios / count)


def kto_weights(desirable: float, undesirable: float) -> tuple[float, float]:
    """(lambda_D, lambda_U), one of them 1, the other no larger than eq. 8 of Ethayarajh et al. 2024 asks for:
    lambda_D n_D / (lambda_U n_U) lies in [1, 4/3]. Raises ValueError when there are none of a kind."""
    if not desirable or not undesirable:
        raise ValueError(f"{desirable} desirable answers, {undesirable} undesirable")
    ratio = desirable / undesirable
    return max(1.0, 1 / ratio), max(1.0, ratio / _KTO_RATIO)


def bradley_terry(
    chosen_P: torch.Tensor, rejected_P: torch.Tensor, margin_P: torch.Tensor, *, centering: float
) -> torch.Tensor:
    """-log s(r_w - r_l - m) + c (r_w + r_l)^2 of rewards r, [P] (Bradley and Terry 1952; the margin m: Touvron et al.
    2023, eq. 2; c, which keeps rewards near 0: Eisenstein et al. 2023, eq. 2)."""
    return -logsigmoid(chosen_P - rejected_P - margin_P) + centering * (chosen_P + rejected_P).square()
