"""What a recipe says about a preference loss: its parameters, under their papers' names, with the papers' values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from polyana.config import Config, KeyPath, of_kind
from polyana.losses.preference import Answers, cpo, dpo, ipo, kto, kto_weights, orpo, robust_dpo, simpo

__all__ = ["DpoConfig", "KtoConfig", "PairLossConfig", "PreferenceLossConfig"]


class PairLossConfig(Config):
    """A loss of pairs. `uses_reference`: whether answers are compared with what a reference makes of them."""

    uses_reference: ClassVar[bool] = True
    kind: str

    def losses(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        """The loss of each pair, [P]."""
        raise NotImplementedError  # each kind has its own

    def rewards(self, answers: Answers) -> torch.Tensor:
        """What the loss implicitly gives each answer, [A]; the chosen one should have more."""
        raise NotImplementedError


class DpoConfig(PairLossConfig):
    """Direct preference optimisation (Rafailov et al. 2023)."""

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, description="how dear it is to leave the reference (section 6: 0.1)")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="chance that a pair is the wrong way round (conservative DPO, Mitchell 2023)"
    )

    def losses(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        return dpo(chosen, rejected, beta=self.beta, label_smoothing=self.label_smoothing)

    def rewards(self, answers: Answers) -> torch.Tensor:
        return self.beta * answers.ratios


class RobustConfig(PairLossConfig):
    """DPO that is unbiased where a known share of the pairs is the wrong way round (Chowdhury et al. 2024)."""

    kind: Literal["robust"] = "robust"
    beta: float = Field(0.1, gt=0, description="as in dpo")
    epsilon: float = Field(0.1, ge=0, lt=0.5, description="that share (section 5: 0.1)")

    def losses(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        return robust_dpo(chosen, rejected, beta=self.beta, epsilon=self.epsilon)

    def rewards(self, answers: Answers) -> torch.Tensor:
        return self.beta * answers.ratios


class IpoConfig(PairLossConfig):
    """Identity preference optimisation (Azar et al. 2024), which does not push sure pairs ever further apart."""

    kind: Literal["ipo"] = "ipo"
    tau: float = Field(
        0.1, gt=0, description="how dear it is to leave the reference (trl's beta: 0.1; paper: 0.1 to 1)"
    )
    average: Literal["mean", "sum"] = Field(
        "mean",
        description="of a token's log-ratios: `mean`, as trl, HALOs, LLaMA-Factory and, trl says, the paper's results; "
        "`sum`, as the paper's equation 17 and OpenRLHF",
    )

    def losses(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        return ipo(chosen, rejected, tau=self.tau, average=self.average)

    def rewards(self, answers: Answers) -> torch.Tensor:
        return self.tau * (answers.ratios / answers.tokens_A if self.average == "mean" else answers.ratios)


class OrpoConfig(PairLossConfig):
    """Odds ratio preference optimisation (Hong et al. 2024): fine-tuning on the chosen answer in one; no reference."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["orpo"] = "orpo"
    lambda_OR: float = Field(0.1, gt=0, description="weight of the odds ratio beside the NLL (section 6.1: 0.1)")

    def losses(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        return orpo(chosen, rejected, lambda_=self.lambda_OR)

    def rewards(self, answers: Answers) -> torch.Tensor:
        return self.lambda_OR * answers.means


class SimpoConfig(PairLossConfig):
    """Simple preference optimisation (Meng et al. 2024): mean log-probabilities, a margin, no reference."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["simpo"] = "simpo"
    beta: float = Field(2.0, gt=0, description="scale of the mean log-probabilities (table 8: 2.0 to 2.5; trl: 0.1)")
    gamma: float = Field(1.0, ge=0, description="the margin; the authors advise a gamma / beta of 0.5 to begin with")

    def losses(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        return simpo(chosen, rejected, beta=self.beta, gamma=self.gamma)

    def rewards(self, answers: Answers) -> torch.Tensor:
        return self.beta * answers.means


class CpoConfig(PairLossConfig):
    """Contrastive preference optimisation (Xu et al. 2024), made for translation: fine-tuning on the chosen answer in
    one; no reference."""

    uses_reference: ClassVar[bool] = False
    kind: Literal["cpo"] = "cpo"
    beta: float = Field(0.1, gt=0, description="scale of the log-probabilities (section 4.1: 0.1)")
    alpha: float = Field(1.0, ge=0, description="weight of the chosen answer's NLL (equation 6: 1)")

    def losses(self, chosen: Answers, rejected: Answers) -> torch.Tensor:
        return cpo(chosen, rejected, beta=self.beta, alpha=self.alpha)

    def rewards(self, answers: Answers) -> torch.Tensor:
        return self.beta * answers.log_probs_A


class KtoConfig(Config):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024): single answers, good or bad, in whatever proportion."""

    uses_reference: ClassVar[bool] = True
    kind: Literal["kto"] = "kto"
    beta: float = Field(0.1, gt=0, description="how dear it is to leave the reference (section 5: 0.1)")
    lambda_D: float | None = Field(None, gt=0, description="weight of a good answer; default: as `balance` says")
    lambda_U: float | None = Field(None, gt=0, description="weight of a bad answer; default: as `balance` says")
    balance: Literal["weights", "resample", "none"] = Field(
        "weights",
        description="where good and bad answers are not equally many: `weights` that follow from their counts by the "
        "paper's equation 8; `resample` shows those of the rarer kind several times an epoch; `none` leaves it at 1, 1",
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        given = self.lambda_D is not None and self.lambda_U is not None
        if given and self.balance == "weights" and "balance" in self.model_fields_set:
            yield ("balance",), "both weights are given, so `balance: weights` has nothing to set; leave it out"

    def weights(self, good: int, bad: int) -> tuple[float, float]:
        """(lambda_D, lambda_U) where the training data have so many of each."""
        found = kto_weights(good, bad) if self.balance == "weights" else (1.0, 1.0)
        return self.lambda_D or found[0], self.lambda_U or found[1]

    def losses(
        self, answers: Answers, desirable_A: torch.Tensor, kl: float, weights: tuple[float, float]
    ) -> torch.Tensor:
        """The loss of each answer, [A]."""
        return kto(answers, desirable_A, kl, beta=self.beta, lambda_D=weights[0], lambda_U=weights[1])

    def rewards(self, answers: Answers) -> torch.Tensor:
        """What the loss implicitly gives each answer, [A]."""
        return self.beta * answers.ratios


PreferenceLossConfig = Annotated[
    DpoConfig | RobustConfig | IpoConfig | KtoConfig | OrpoConfig | SimpoConfig | CpoConfig,
    Field(discriminator="kind"),
    of_kind("dpo"),
]
