"""Write trl_preference.json: losses and gradients of trl's own code on fixed tensors.

Run once, in an environment of its own that has trl 1.16 (benchmarks/train/requirements-trl.txt):

    python tests/losses/make_trl_preference.py

The trainers' loss functions are called with a stand-in for the model, whose log-probabilities are given: 6 pairs of
answers of 3 to 9 tokens, one of them much better than the reference finds it, one much worse.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import torch
import trl
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

PAIRS, LONGEST = 6, 9


def tensors():
    """(log-probabilities of tokens [2 P, T], which of them there are, the reference's sums [2 P])."""
    random = torch.Generator().manual_seed(8)
    lengths = torch.tensor([9, 3, 5, 7, 4, 8, 6, 9, 3, 5, 8, 4])
    mask = (torch.arange(LONGEST) < lengths[:, None]).float()
    log_probs = -torch.rand(2 * PAIRS, LONGEST, generator=random) * 4 * mask
    reference = log_probs.sum(1) + torch.randn(2 * PAIRS, generator=random) * 3
    reference[0] -= 40
    reference[1] += 40
    return log_probs, mask, reference


class Accelerator:
    device = torch.device("cpu")

    def gather(self, tensor):
        return tensor

    gather_for_metrics = gather


def stand_in(**more):
    trainer = MagicMock()
    trainer.model.training = True
    trainer.accelerator = Accelerator()
    trainer.aux_loss_enabled = False
    for name, value in more.items():
        setattr(trainer, name, value)
    return trainer


def gradient(loss, leaf):
    return {"loss": loss.item(), "gradient": torch.autograd.grad(loss, leaf)[0].tolist()}


def outputs_of(leaf):
    zeros = torch.zeros_like(leaf)
    return SimpleNamespace(
        log_probs=leaf, entropy=zeros.detach(), mean_logits=zeros.detach(), is_top1=zeros.bool(), aux_loss=None
    )


def inputs_of(mask):
    whole = torch.cat([torch.zeros(len(mask), 1), mask], 1).long()  # the first token has nothing before it
    return {"input_ids": torch.ones_like(whole), "attention_mask": torch.ones_like(whole), "completion_mask": whole}


def dpo(kind, **settings):
    log_probs, mask, reference = tensors()
    leaf = log_probs.requires_grad_()
    trainer = stand_in(
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0],
        use_weighting=False, label_smoothing=0.0, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    for name, value in settings.items():
        setattr(trainer, name, value)
    chosen, rejected = reference.chunk(2)
    inputs = inputs_of(mask) | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    loss = trl.DPOTrainer._compute_loss(trainer, lambda **_: outputs_of(leaf), inputs, False)
    return gradient(loss, leaf)


KTO_LABELS = [True, True, False, True, False, False, True, False, True, True, False, True]


def kto(kl, labels, **settings):
    log_probs, mask, reference = tensors()
    leaf = log_probs.requires_grad_()
    trainer = stand_in(
        precompute_ref_logps=True, calculate_KL=True, loss_type="kto", _total_train_tokens=0, _tp_size=1, **settings
    )
    mismatched = torch.linspace(kl - 1, kl + 1, len(labels))
    trainer._compute_kl_logps = lambda *_: mismatched
    inputs = inputs_of(mask) | {
        "label": torch.tensor(labels), "ref_logps": reference, "ref_KL_logps": torch.zeros(len(labels)),
    }  # fmt: skip
    loss = trl.KTOTrainer._compute_loss(trainer, lambda **_: outputs_of(leaf), inputs, False)
    return gradient(loss, leaf) | {"labels": labels, "kl_ratios": mismatched.tolist()}


def cpo(kind, average, **settings):
    """Without the NLL, which is no part of the function."""
    log_probs, mask, _ = tensors()
    leaf = log_probs.requires_grad_()
    logps = leaf.sum(1) / (mask.sum(1) if average else 1)
    trainer = stand_in(alpha=0.0, loss_type=kind, label_smoothing=0.0, **settings)
    losses, *_ = CPOTrainer.cpo_loss(trainer, *logps.chunk(2))
    return gradient(losses.mean(), leaf)


def orpo(beta):
    """The odds ratio's part alone."""
    log_probs, mask, _ = tensors()
    leaf = log_probs.requires_grad_()
    logps = leaf.sum(1) / mask.sum(1)
    losses, *_ = ORPOTrainer.odds_ratio_loss(stand_in(beta=beta), *logps.chunk(2))
    return gradient(-losses.mean(), leaf)


def reward(margin, centering):
    rewards = torch.randn(2 * PAIRS, 1, generator=torch.Generator().manual_seed(9)) * 3
    leaf = rewards.requires_grad_()
    trainer = stand_in(_total_train_tokens=0, _tp_size=1)
    trainer.args.center_rewards_coefficient = centering
    inputs = {"attention_mask": torch.ones(1)} | ({"margin": torch.tensor(margin)} if margin else {})
    loss = trl.RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=leaf), inputs)
    return gradient(loss, leaf) | {"rewards": rewards[:, 0].tolist(), "margin": margin, "centering": centering}


def main():
    log_probs, mask, reference = tensors()
    margin = [0.0, 1.0, 0.5, 3.0, 0.0, 2.0]
    made = {
        "trl": trl.__version__,
        "log_probs": log_probs.tolist(), "mask": mask.tolist(), "reference": reference.tolist(),
        "dpo": dpo("sigmoid", beta=0.1),
        "dpo, label_smoothing ignored": dpo("sigmoid", beta=0.1, label_smoothing=0.3),
        "robust": dpo("robust", beta=0.1, label_smoothing=0.2),
        "ipo": dpo("ipo", beta=0.3),
        "simpo": cpo("simpo", True, beta=2.0, simpo_gamma=1.0),
        "cpo": cpo("sigmoid", False, beta=0.1),
        "orpo": orpo(0.1),
        "kto": kto(2.0, KTO_LABELS, beta=0.1, desirable_weight=1.0, undesirable_weight=1.25),
        "kto, KL below 0": kto(-2.0, KTO_LABELS, beta=0.1, desirable_weight=1.5, undesirable_weight=1.0),
        "kto, one class": kto(2.0, [True] * 12, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0),
        "reward": reward(None, None),
        "reward, margin": reward(margin, None),
        "reward, centred": reward(margin, 0.01),
    }  # fmt: skip
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in made.items())
    Path(__file__).with_name("trl_preference.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


main()
