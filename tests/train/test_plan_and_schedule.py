"""Oracles: torch's own schedulers; counting by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyana.config import Quantity
from polyana.errors import UserError
from polyana.train import Cadence, TrainConfig, TrainingPlan, learning_rate, sequences_in


def config(**settings) -> TrainConfig:
    return TrainConfig.model_validate({"batch": "8 sequences"} | settings)


def test_durations_in_steps_epochs_and_tokens_are_the_same_thing():
    plans = [
        TrainingPlan.of(config(duration=duration), per_epoch=100, tokens_per_epoch=3200, context=32)
        for duration in ("25 steps", "2 epochs", "6400 tokens")
    ]
    assert {plan.steps for plan in plans} == {25}
    assert {plan.sequences for plan in plans} == {200}


def test_the_last_batch_is_the_rest():
    plan = TrainingPlan.of(config(duration="1 epoch"), per_epoch=21, tokens_per_epoch=21 * 32, context=32)
    seen, sizes = 0, []
    for _ in range(plan.steps):
        sizes.append(plan.batch_at(seen))
        seen += sizes[-1]
    assert sizes == [8, 8, 5]


def test_a_batch_in_tokens_must_be_whole_sequences():
    assert sequences_in(Quantity(16_384, "tokens"), 256) == 64
    with pytest.raises(ValueError, match="try 768 tokens or 1024 tokens"):
        sequences_in(Quantity(1000, "tokens"), 256)


def test_warmup_longer_than_the_run_is_explained():
    with pytest.raises(UserError, match=r"`warmup: 30 steps` \(30 steps\).*`duration: 10 steps`"):
        TrainingPlan.of(config(duration="10 steps", warmup="30 steps"), 100, 3200, 32)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_decay_is_torchs(schedule):
    settings = config(duration="40 steps", warmup="0%", schedule=schedule, final_lr=0.2, lr=0.5)
    plan = TrainingPlan.of(settings, 100, 3200, 32)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    if schedule == "cosine":
        theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.1)
    else:
        theirs = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.2, 40)
    for step in range(40):
        optimizer.step()
        theirs.step()  # torch counts from 0 finished steps, we give the rate of the step that comes
        assert learning_rate(step, settings, plan) == pytest.approx(theirs.get_last_lr()[0])


@pytest.mark.parametrize(("growth", "cycle"), [(1, "7 steps"), (2, "5 steps"), (2, "0.05 epochs"), (2, "1280 tokens")])
def test_warm_restarts_are_torchs(growth, cycle):
    """But for the last step of a cycle: there eq. 5 of the paper has the lowest rate, and torch is already back."""
    settings = config(duration="35 steps", warmup="0%", schedule="warm_restarts", cycle=cycle, cycle_growth=growth,
                      final_lr=0.2, lr=0.5)  # fmt: skip
    plan = TrainingPlan.of(settings, 800, 800 * 32, 32)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    first = 5 if growth == 2 else 7
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, growth, eta_min=0.1)
    ends = []
    for step in range(35):
        optimizer.step()
        theirs.step()
        if theirs.T_cur == 0:
            ends.append(step + 1)
            assert learning_rate(step, settings, plan) == pytest.approx(0.1)
        else:
            assert learning_rate(step, settings, plan) == pytest.approx(theirs.get_last_lr()[0])
    assert ends == list(plan.restarts) == ([5, 15, 35] if growth == 2 else [7, 14, 21, 28, 35])
    assert not plan.remarks()


def test_three_cycles_end_with_the_run_unless_the_recipe_says_otherwise():
    for steps, growth in ((97, 2), (10, 3), (1, 2), (1000, 1.5)):
        settings = config(duration=f"{steps} steps", warmup="5%", schedule="warm_restarts", cycle_growth=growth)
        plan = TrainingPlan.of(settings, 100, 100 * 32, 32)
        assert plan.restarts[-1] == steps
        assert not plan.remarks()
        if steps > 10:
            assert len(plan.restarts) == 3
            assert learning_rate(plan.restarts[0], settings, plan) > 0.9 * settings.lr
        assert learning_rate(steps - 1, settings, plan) == pytest.approx(0.1 * settings.lr)


def test_a_cycle_that_is_cut_off_is_told():
    settings = config(duration="40 steps", warmup="0%", schedule="warm_restarts", cycle="10 steps")
    (remark,) = TrainingPlan.of(settings, 100, 100 * 32, 32).remarks()
    assert "10 of its 40 steps on; with a duration of 30 or 70 steps" in remark


def test_inverse_sqrt_is_the_formula_of_attention_is_all_you_need():
    settings = config(duration="100 steps", warmup="10 steps", schedule="inverse_sqrt", lr=0.5)
    plan = TrainingPlan.of(settings, 100, 100 * 32, 32)
    for step in range(1, 101):
        theirs = min(step**-0.5, step * 10**-1.5)  # eq. 3 but for its factor of the model size
        assert learning_rate(step - 1, settings, plan) == pytest.approx(0.5 * theirs / 10**-0.5)


def test_warmup_reaches_the_peak_and_wsd_stays_there():
    settings = config(duration="100 steps", warmup="10%", schedule="wsd", decay="20 steps", final_lr="0%", lr=1.0)
    plan = TrainingPlan.of(settings, 1000, 32000, 32)
    rates = [learning_rate(step, settings, plan) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == pytest.approx([1 - (step + 1) / 20 for step in range(20)])


@given(
    st.sampled_from(["cosine", "linear", "wsd", "warm_restarts", "inverse_sqrt", "constant"]),
    st.integers(1, 500),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_the_rate_never_leaves_its_bounds(schedule, steps, warmup, decay):
    more = {"wsd": {"decay": f"{decay}%"}, "warm_restarts": {"cycle": f"{decay + 1} steps"}}.get(schedule, {})
    settings = config(duration=f"{steps} steps", warmup=f"{warmup}%", schedule=schedule, lr=0.1, **more)
    plan = TrainingPlan.of(settings, 100, 3200, 32)
    rates = [learning_rate(step, settings, plan) for step in range(steps)]
    assert all(0 < rate <= 0.1 + 1e-12 for rate in rates)
    after = rates[plan.warmup_steps : plan.restarts[0] if plan.restarts else None]
    assert after == sorted(after, reverse=True)


def test_cadences_count_steps_or_seconds():
    plan = TrainingPlan.of(config(duration="1 epoch"), per_epoch=80, tokens_per_epoch=80 * 32, context=32)
    by_epoch = plan.cadence(Quantity(0.5, "epochs"))
    assert [step for step in range(1, 11) if by_epoch.due(step, 0)] == [5, 10]
    by_time = plan.cadence(Quantity(1, "minutes"))
    assert [by_time.due(1, now) for now in (0, 30, 61, 100, 130)] == [False, False, True, False, True]
    assert not Cadence(None, None).due(1, 0)
