"""What a run's curves suggest, in plain words, each with the evidence it was read from.

Pure functions over curves. A threshold is a guess unless it says where it comes from; "recorded" is the runs in
tests/tracking/recorded, small models that were trained so that each fault really happened, and some that are well.
Nothing is said of what the numbers do not show clearly: silence is no praise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyana.tracking.gradient_advice import dead_gradients, exploding_gradients, vanishing_gradients
from polyana.tracking.rows import Floats
from polyana.tracking.seen import (
    ENOUGH,
    EPOCH,
    EVAL,
    GOLD,
    HACKED,
    LOSS,
    NORM,
    PROXY,
    RATE,
    WAIT,
    Advice,
    Seen,
)

__all__ = ["advise"]

_WINDOWS = 40  # that a loss is averaged in, so that one is a fortieth of the run; guess
_RISES = 3  # evaluations in a row without a new best, of which something is said; guess
_RISEN = 0.01  # share of eval/loss that it has to have risen by; recorded: healthy ones rise by less than 0.002
_SURE = 4.0  # times the spread of the windows around their line that a change has to be; guess
_LOST = 0.25  # share of what was once gained that is lost again when a run diverges; recorded: 0.4 and more, else 0.02
_BEHIND = 0.1  # share of the gain that is lost again at a high rate; recorded: 0.2 and more, healthy ones 0.03
_LASTING = 0.1  # share of the run for which it is lost; guess
_STALL = 0.25  # share of the run for which a loss stands still; recorded: 0.4 in lr_too_high
_STALLED = 0.06  # share of the gain that it still gains there; recorded: 0.03 there
_LATER = 0.15  # share of the gain that then comes when the rate falls; recorded: 0.3 there, healthy ones 0.06 (wsd)
_SPIKE = 0.1  # of the loss before it by which a spike is higher; guess
_BEFORE = 9  # steps whose median that is; guess
_SPIKES = 3  # in a run; guess
_CLIPPED = 0.95  # share of steps after warm-up whose gradient is clipped; guess
_FAR_ABOVE = 10.0  # times the clip that the median norm then is; guess
_BENT = 0.12  # of the gain by which the loss strays from a line over the sum of all rates; recorded: 0.09, others 0.17
_STILL = 0.12  # share of the gain in the last fifth; a line has 0.2
_HALFWAY = 0.5  # of the planned steps, before that a young run always falls steeply
_FLAT = 0.01  # share of the whole gain in the last third below which a curve is flat
_WAITING = 0.1  # share of the time; guess: below it nobody would look for another disk


def advise(seen: Seen) -> list[Advice]:
    """Everything that can be said, the warnings first; where two say the same, the one that says why."""
    found: dict[str, Advice] = {}
    for look in _LOOKS:
        if advice := look(seen):
            found[advice.kind] = advice
    for reason, consequences in _EXPLAINS.items():
        if reason in found:
            for kind in consequences:
                found.pop(kind, None)
    return sorted(found.values(), key=lambda advice: advice.severity != "warning")


def _reward_hacking(seen: Seen) -> Advice | None:
    """What the run itself has found, which knows each prompt's rewards and so what is chance."""
    rung, _ = seen.curve(HACKED)
    steps, gold = seen.curve(GOLD)
    proxy = seen.at(PROXY, steps)
    if not len(rung) or not len(gold) or proxy is None:
        return None
    best = int(gold.argmax())
    evidence = {
        "metric": GOLD, "from": int(steps[best]), "to": int(rung[0]), "best": float(gold[best]),
        "last": float(gold[-1]), "proxy_from": float(proxy[best]), "proxy_to": float(proxy[-1]),
    }  # fmt: skip
    text = (
        f"Since step {steps[best]:,.0f} the proxy reward has gone from {proxy[best]:.3g} to {proxy[-1]:.3g}, and gold, "
        f"which training does not see, from {gold[best]:.3g} to {gold[-1]:.3g}; at step {rung[0]:,.0f} that was beyond "
        "chance. `best` is the save with the highest gold. A reward that cannot be had so cheaply, a larger `beta` or "
        "an earlier end would help."
    )
    return Advice("reward_hacking", "The proxy reward is being gamed", text, "warning", evidence)


# The loss


@dataclass(frozen=True)
class _Windows:
    """A loss in W stretches of equally many points: where each ends, its mean, and how far such means stray."""

    ends_W: Floats
    means_W: Floats
    stray: float

    @property
    def gain(self) -> float:
        """From the first window to the best."""
        return float(self.means_W[0] - self.means_W.min())


def _windows(seen: Seen) -> _Windows | None:
    steps, loss = seen.curve(LOSS)
    if len(loss) < ENOUGH:
        return None
    cuts = np.linspace(0, len(loss), min(_WINDOWS, len(loss) // 4) + 1).astype(int)
    means = np.add.reduceat(loss, cuts[:-1]) / np.diff(cuts)
    # Second differences know nothing of a slope: of independent windows they have 6 times the variance.
    bends = np.abs(np.diff(means[len(means) // 4 :], n=2))
    return _Windows(steps[cuts[1:] - 1], means, float(np.median(bends)) * 1.4826 / 6**0.5)


def _overfitting(seen: Seen) -> Advice | None:
    steps, losses = seen.curve(EVAL)
    if len(losses) <= _RISES:
        return None
    best = int(losses.argmin())
    since, risen = len(losses) - 1 - best, float(np.median(losses[-_RISES:]) / losses[best] - 1)
    windows = _windows(seen)
    if since < _RISES or risen < _RISEN or windows is None:
        return None
    here = np.interp(steps[best], windows.ends_W, windows.means_W)
    learned = float(here - windows.means_W[-1])
    if learned <= _SURE * windows.stray:
        return None  # both rise: that is another trouble
    evidence = {
        "metric": EVAL, "from": int(steps[best]), "to": int(steps[-1]), "best": float(losses[best]),
        "last": float(losses[-1]), "evaluations_since": since,
        "train_loss_from": float(here), "train_loss_to": float(windows.means_W[-1]),
    }  # fmt: skip
    epochs = seen.at(EPOCH, steps)
    when = further = ""
    if epochs is not None:
        evidence |= {"best_epoch": float(epochs[best]), "last_epoch": float(epochs[-1])}
        when, further = (
            f", {epochs[best]:.1f} epochs in",
            f"; {epochs[-1] - epochs[best]:.1f} more epochs bought nothing",
        )
    text = (
        f"{EVAL} was best at step {steps[best]:,.0f}{when}: {losses[best]:.3f}. Since then it has risen to "
        f"{losses[-1]:.3f} over {since} evaluations{further}, while {LOSS} fell from {here:.3f} to "
        f"{windows.means_W[-1]:.3f}: the model learns its training text by heart. Use `best`; more text, fewer epochs, "
        "dropout or `patience` would help."
    )
    return Advice("overfitting", f"Overfitting since step {steps[best]:,.0f}", text, "warning", evidence)


def _divergence(seen: Seen) -> Advice | None:
    windows = _windows(seen)
    if windows is None:
        return None
    means = windows.means_W
    best, last = int(means.argmin()), float(np.median(means[-3:]))
    lost = last - float(means[best])
    if best >= len(means) - 3 or lost <= _SURE * windows.stray or lost <= _LOST * max(windows.gain, 0.02 * means[best]):
        return None
    begin, end = int(windows.ends_W[best]), int(windows.ends_W[-1])
    text = (
        f"{LOSS} was {means[best]:.3f} around step {begin:,} and has risen to {last:.3f} since, which is no "
        "chance. Go on from a save before that with a lower `lr`, or a smaller `clip`."
    )
    evidence = {"metric": LOSS, "from": begin, "to": end, "lowest": float(means[best]), "last": last}
    return Advice("divergence", "The loss is rising", text, "warning", evidence)


def _plateau(seen: Seen) -> Advice | None:
    windows = _windows(seen)
    if windows is None:
        return None
    means, count = windows.means_W, len(windows.means_W)
    begin = count - count // 3
    before, after = means[begin : begin + count // 6].mean(), means[-(count // 6) :].mean()
    gained = float(before - after)
    rates = seen.at(RATE, windows.ends_W)
    if (
        rates is not None and rates[begin] < 0.5 * rates.max()
    ):  # flat because its learning rate has fallen, as it should
        return None
    if not windows.gain or after - means.min() > max(_SURE * windows.stray, 0.1 * windows.gain):
        return None  # it never moved, or has risen
    if abs(gained) > max(_FLAT * windows.gain, windows.stray) or gained < -_SURE * windows.stray:
        return None
    first, last = int(windows.ends_W[begin]), int(windows.ends_W[-1])
    text = (
        f"From step {first:,} to {last:,} {LOSS} has stayed at {after:.3f}: the last third of training bought "
        f"{max(gained, 0):.3f} of {windows.gain:.3f}. Let the learning rate fall (`schedule: cosine` or `wsd`); if "
        "that does not help, the model is too small, or the text has no more to give."
    )
    evidence = {"metric": LOSS, "from": first, "to": last, "gained": gained, "gained_in_all": windows.gain}
    return Advice("plateau", "The loss has stopped falling", text, "info", evidence)


# The learning rate


def _lr_too_high(seen: Seen) -> Advice | None:
    return _lost_ground(seen) or _stood_still(seen) or _spikes(seen) or _always_clipped(seen)


def _too_high(text: str, **evidence: Any) -> Advice:
    return Advice(
        "lr_too_high", "The learning rate looks too high", f"{text} Try a third of the `lr`.", "warning", evidence
    )


def _warmed_up(seen: Seen) -> float:
    """The step from which on the learning rate is at its full height."""
    steps, rates = seen.curve(RATE)
    return float(steps[np.argmax(rates >= 0.95 * rates.max())]) if len(rates) else 0.0


def _lost_ground(seen: Seen) -> Advice | None:
    """The loss rose where the rate was high, and came down again when that fell."""
    windows = _windows(seen)
    rates = None if windows is None else seen.at(RATE, windows.ends_W)
    if windows is None or rates is None:
        return None
    means, lowest = windows.means_W, np.minimum.accumulate(windows.means_W)
    lost = np.where(rates >= 0.5 * rates.max(), means - lowest, 0.0)
    high = lost > max(_BEHIND * windows.gain, _SURE * windows.stray)
    worst = int(lost.argmax())
    recovered = float(means[worst] - means[-1])
    if high.sum() < _LASTING * len(means) or recovered < 0.5 * lost[worst] or rates[-1] > 0.5 * rates[worst]:
        return None
    best = int(means[:worst].argmin())
    begin, end = int(windows.ends_W[best]), int(windows.ends_W[worst])
    return _too_high(
        f"{LOSS} rose from {means[best]:.3f} around step {begin:,} to {means[worst]:.3f} around step {end:,}, where "
        f"the rate was {rates[worst]:.1e}, and fell again with it.",
        **{"metric": LOSS, "from": begin, "to": end, "rose": float(lost[worst]), "lr": float(rates[worst])},
    )


def _stood_still(seen: Seen) -> Advice | None:
    """The loss stood still for long while the rate was high, and a good part of the gain came when it fell."""
    windows = _windows(seen)
    rates = None if windows is None else seen.at(RATE, windows.ends_W)
    if windows is None or rates is None:
        return None
    means, count = windows.means_W, len(windows.means_W)
    length = round(_STALL * count)
    for begin in range(1, count - length):
        end = begin + length
        gained, later = float(means[begin - 1] - means[begin : end + 1].min()), float(means[end] - means[-3:].mean())
        at_its_height = rates[begin : end + 1].min() >= 0.5 * rates.max()
        if (
            at_its_height
            and gained < _STALLED * windows.gain
            and later > _LATER * windows.gain
            and rates[-1] < 0.5 * rates[end]
        ):
            first, last = int(windows.ends_W[begin - 1]), int(windows.ends_W[end])
            return _too_high(
                f"From step {first:,} to {last:,}, where the rate was up to {rates[begin:end].max():.1e}, {LOSS} fell "
                f"by no more than {max(gained, 0):.3f}; when the rate fell it fell by {later:.3f}.",
                **{"metric": LOSS, "from": first, "to": last, "gained": gained, "gained_later": later,
                   "lr": float(rates.max())},
            )  # fmt: skip
    return None


def _spikes(seen: Seen) -> Advice | None:
    """The loss of single steps far above those before."""
    steps, loss = seen.curve(LOSS)
    begin = int(np.searchsorted(steps, _warmed_up(seen)))
    if len(loss) - max(begin, _BEFORE) < ENOUGH:
        return None
    before = np.median(np.lib.stride_tricks.sliding_window_view(loss, _BEFORE), axis=1)[:-1]
    above = loss[_BEFORE:] - before
    usual = 1.4826 * float(np.median(np.abs(above - np.median(above))))
    spikes = np.flatnonzero((above > _SPIKE * before) & (above > 8 * usual)) + _BEFORE
    spikes = spikes[spikes >= begin]
    if len(spikes) < _SPIKES:
        return None
    highest = spikes[above[spikes - _BEFORE].argmax()]
    return _too_high(
        f"{len(spikes)} times after warm-up {LOSS} jumped far above the steps before, to {loss[highest]:.3f} at step "
        f"{steps[highest]:,.0f}. A longer `warmup` or a smaller `clip` may do as well.",
        **{"metric": LOSS, "from": int(steps[spikes[0]]), "to": int(steps[spikes[-1]]), "spikes": len(spikes),
           "highest": float(loss[highest])},
    )  # fmt: skip


def _always_clipped(seen: Seen) -> Advice | None:
    steps, norms = seen.curve(NORM)
    begin = np.searchsorted(steps, _warmed_up(seen))
    if seen.clip is None or len(norms) - begin < ENOUGH:
        return None
    clipped, median = float(np.mean(norms[begin:] > seen.clip)), float(np.median(norms[begin:]))
    if clipped < _CLIPPED or median < _FAR_ABOVE * seen.clip:
        return None
    text = (
        f"{clipped:.0%} of the gradients after warm-up were clipped, and half of them are more than "
        f"{median / seen.clip:.0f} times as long as `clip: {seen.clip:g}` allows."
    )
    return _too_high(
        text,
        **{"metric": NORM, "from": int(steps[begin]), "to": int(steps[-1]), "clipped": clipped, "median": median,
           "clip": seen.clip},
    )  # fmt: skip


def _lr_too_low(seen: Seen) -> Advice | None:
    """A loss that falls in proportion to the sum of the rates is far from where steps would need to be small."""
    windows = _windows(seen)
    steps, rates = seen.curve(RATE)
    if windows is None or not len(rates):
        return None
    if seen.planned_steps is not None and windows.ends_W[-1] < _HALFWAY * seen.planned_steps:
        return None
    every = np.arange(1, windows.ends_W[-1] + 1)
    moved = np.interp(windows.ends_W, every, np.cumsum(np.interp(every, steps, rates)))
    progress, means = moved / moved[-1], windows.means_W
    gain = float(means[0] - means[-1])
    if gain <= _SURE * windows.stray:
        return None
    halfway, near_the_end = np.interp([0.5, 0.8], progress, means)
    first_half, last_fifth = (means[0] - halfway) / gain, (near_the_end - means[-1]) / gain
    bent = float(np.abs((means[0] - means) / gain - progress).max())
    if bent > _BENT or last_fifth < _STILL:
        return None
    begin, end = int(windows.ends_W[0]), int(windows.ends_W[-1])
    text = (
        f"{LOSS} has fallen from {means[0]:.3f} to {means[-1]:.3f} in a nearly straight line: {first_half:.0%} of it "
        f"in the first half of the learning and still {last_fifth:.0%} in the last fifth. Three to ten times the `lr` "
        "would come much further in the same time; `find_lr: true` shows how far one can go."
    )
    evidence = {
        "metric": LOSS, "from": begin, "to": end, "first_half": float(first_half), "last_fifth": float(last_fifth),
        "lr": float(rates.max()),
    }  # fmt: skip
    return Advice("lr_too_low", "The learning rate looks too low", text, "warning", evidence)


# Data


def _data_waits(seen: Seen) -> Advice | None:
    steps, waits = seen.curve(WAIT)
    steps, waits = steps[1:][-1000:], waits[1:][-1000:]  # the first step waits for everything to begin
    if len(waits) < ENOUGH or (share := float(waits.mean())) < _WAITING:
        return None
    text = (
        f"Over the last {len(waits):,} steps the training waited for its data {share:.0%} of the time: it could be "
        f"{1 / (1 - share):.1f} times as fast. Are the shards on a slow disk, or do others use the processors?"
    )
    evidence = {"metric": WAIT, "from": int(steps[0]), "to": int(steps[-1]), "share": share}
    return Advice("data_waits", f"{share:.0%} of the time goes into waiting for data", text, "warning", evidence)


_LOOKS: tuple[Callable[[Seen], Advice | None], ...] = (
    _reward_hacking, _divergence, _overfitting, exploding_gradients, dead_gradients, vanishing_gradients,
    _lr_too_high, _lr_too_low,
    _plateau, _data_waits,
)  # fmt: skip
_EXPLAINS = {
    "divergence": ("lr_too_high", "plateau"),
    "dead_gradients": ("vanishing_gradients",),
    "lr_too_high": ("plateau",),
    "overfitting": ("lr_too_low", "plateau"),
}
"""Kind -> the kinds that it is the reason of."""
