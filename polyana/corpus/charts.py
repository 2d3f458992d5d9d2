"""Drawings of the corpus report, as SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log10
from typing import Any

from markupsafe import Markup, escape

__all__ = ["bar", "number", "percent", "threshold_chart"]

_WIDTH, _LEFT, _RIGHT = 320, 40, 10  # of a chart, and of its margins, in its own units
_TOP, _BARS, _GAP, _CURVE, _BOTTOM = 16, 72, 14, 44, 16  # heights from above
_SPIKE = 3  # a bar so many times as high as the next is cut off, or the others could not be seen; guess
_FLOORS = (0.99, 0.95, 0.9, 0.8, 0.5, 0.0)  # where the axis of shares may begin


def percent(share: float) -> str:
    """One digit behind the point; what is not nothing does not look like it, nor what is not all."""
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{share * 100:.1f} %".replace("-", "\N{MINUS SIGN}")


def number(value: float) -> str:
    """A number of any size, as short as it can be read."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "\N{MINUS SIGN}")
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def bar(*parts: tuple[str, float, float]) -> Markup:
    """Strips of a line as wide as its place: (class, begin, end), both shares of the width."""
    strips = "".join(
        f'<rect class="{name}" x="{begin * 100:.2f}%" width="{max(0.0, end - begin) * 100:.2f}%" height="100%"/>'
        for name, begin, end in parts
        if end > begin
    )
    return Markup(f'<svg class="bar" aria-hidden="true">{strips}</svg>')


def threshold_chart(curve: Mapping[str, Any]) -> Markup:
    """How many documents have which number, and under it how many would stay at which threshold."""
    axis = _Axis(curve)
    parts = [*_histogram(curve, axis), *_keep_rate(curve, axis), *_threshold(curve, axis)]
    baseline = _TOP + _BARS
    height = baseline + _GAP + _CURVE + _BOTTOM
    label = escape(f"{curve['reason']}: {percent(1 - curve['thrown'])} stay at {number(curve['threshold'])}")
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


class _Axis:
    """Where a number lies on the chart; numbers outside lie at its borders."""

    def __init__(self, curve: Mapping[str, Any]) -> None:
        self._log, edges = curve["log"], curve["edges"]
        self.low, self.high = edges[0], edges[-1]
        self._edges = edges
        # of things counted the bar of a number reaches to the next one, and `at most` keeps all of it
        self.shift = 1 if curve["whole"] and curve["side"] == "most" else 0

    def __call__(self, value: float) -> float:
        share: float
        if self._log:
            begin = max(self.low, 0.5)  # a place for 0
            share = log10(max(value, begin) / begin) / log10(self.high / begin)
        else:
            share = (value - self.low) / (self.high - self.low)
        return _LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT)

    def holds(self, value: float) -> bool:
        return bool(self.low <= value <= self.high)

    def ticks(self) -> list[tuple[float, str]]:
        """Round numbers along it, with what is written there."""
        if self._log:
            powers = [10.0**power for power in range(9) if self.low <= 10.0**power <= self.high]
            return [(each, number(each)) for each in powers or [self._edges[-1]]]
        span = self.high - self.low
        step = next(
            each * 10.0**power
            for power in range(-15, 16)
            for each in (1, 2, 5)
            if span / (each * 10.0**power) <= 5 and (each * 10.0**power >= 1 or not self.shift)
        )
        first = -int(-self.low // step)
        digits = max(0, -floor(log10(step) + 1e-9))
        places = (each * step for each in range(first, int(self.high / step + 1e-9) + 1))
        return [(each, number(each) if digits > 6 else f"{each:,.{digits}f}") for each in places]


def _histogram(curve: Mapping[str, Any], axis: _Axis) -> list[str]:
    counts, edges = curve["counts"], curve["edges"]
    ranked = sorted(counts)
    spiked = len(ranked) > 1 and ranked[-1] > _SPIKE * ranked[-2] > 0
    most = ranked[-2] * 1.6 if spiked else max(ranked[-1], 1)
    base = _TOP + _BARS
    stays, goes, torn = list[str](), list[str](), list[str]()
    for count, gone, low, high in zip(counts, curve["gone"], edges[:-1], edges[1:], strict=True):
        if not count:
            continue
        begin, end = axis(low), axis(high)
        height = max(1.0, min(1.0, count / most) * _BARS)
        width, red = max(0.4, end - begin - 0.6), height * gone / count
        if gone < count:
            stays.append(f"M{begin + 0.3:.1f} {base}v{red - height:.1f}h{width:.1f}v{height - red:.1f}z")
        if gone:
            goes.append(f"M{begin + 0.3:.1f} {base - height + red:.1f}v{-red:.1f}h{width:.1f}v{red:.1f}z")
        if spiked and count == ranked[-1]:
            anchor, at = ("start", end + 4) if end < _WIDTH * 0.7 else ("end", begin - 4)
            share = percent(count / curve["documents"])
            torn = [
                f'<path class="torn" d="M{begin - 1:.1f} {_TOP + 7}L{end + 1:.1f} {_TOP + 3}"/>',
                f'<text class="quiet" x="{at:.1f}" y="{_TOP + 9}" text-anchor="{anchor}">{share}</text>',
            ]
    bars = [f'<path class="{name}" d="{"".join(d)}"/>' for name, d in (("stays", stays), ("goes", goes)) if d]
    return [*bars, *torn, f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>']


def _keep_rate(curve: Mapping[str, Any], axis: _Axis) -> list[str]:
    top, base = _TOP + _BARS + _GAP, _TOP + _BARS + _GAP + _CURVE
    points = [(axis(value + axis.shift), 1 - thrown) for value, thrown in curve["sweep"] if axis.holds(value)]
    least = min(share for _, share in points)
    floor = next(each for each in _FLOORS if least >= each)

    def height(share: float) -> float:
        return base - (share - floor) / (1 - floor) * _CURVE

    line = "L".join(f"{x:.1f} {height(share):.1f}" for x, share in points)
    parts = [
        f'<path class="axis" d="M{_LEFT} {top}H{_WIDTH - _RIGHT}M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>',
        f'<path class="curve" d="M{line}"/>',
        f'<text class="quiet" x="{_LEFT - 5}" y="{top + 3.5}" text-anchor="end">100 %</text>',
        f'<text class="quiet" x="{_LEFT - 5}" y="{base + 2}" text-anchor="end">{floor * 100:.0f} %</text>',
    ]
    if axis.holds(curve["threshold"]):
        x, y = axis(curve["threshold"] + axis.shift), height(1 - curve["thrown"])
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>')
    last: float = 0
    for tick, text in axis.ticks():
        x = axis(tick)
        if x - last < 24:  # of its own units, which a number of six digits takes
            continue
        anchor = "end" if x > _WIDTH - _RIGHT - 12 else "middle"
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{base + _BOTTOM - 3}" text-anchor="{anchor}">{text}</text>')
        last = x
    return parts


def _threshold(curve: Mapping[str, Any], axis: _Axis) -> list[str]:
    if not axis.holds(curve["threshold"]):
        right = curve["threshold"] > axis.high
        at, anchor = (_WIDTH - _RIGHT, "end") if right else (_LEFT, "start")
        text = number(curve["threshold"])
        text = f"{text} \N{RIGHTWARDS ARROW}" if right else f"\N{LEFTWARDS ARROW} {text}"
        return [f'<text class="mark" x="{at}" y="{_TOP - 4}" text-anchor="{anchor}">{text}</text>']
    x = axis(curve["threshold"] + axis.shift)
    anchor = "end" if x > _WIDTH * 0.8 else "start" if x < _WIDTH * 0.2 else "middle"
    return [
        f'<path class="threshold" d="M{x:.1f} {_TOP}V{_TOP + _BARS + _GAP + _CURVE}"/>',
        f'<text class="mark" x="{x:.1f}" y="{_TOP - 4}" text-anchor="{anchor}">{number(curve["threshold"])}</text>',
    ]
