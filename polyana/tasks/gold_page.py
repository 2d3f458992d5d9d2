"""gold.html: proxy and gold over the distance from the reference, and answers side by side. One file, no script."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.evaluate import FAR, Alarm, Curve, Look, kl_of_best_of

__all__ = ["Kept", "gold_page"]

_WIDTH, _HEIGHT, _LEFT, _BELOW, _TOP, _RIGHT = 440, 260, 48, 42, 26, 22  # half of a label like 0.0005 at the right
_SHOWN = 24  # prompts on the page
_DRAWN = 2  # times the farthest KL that was seen, within which a forecast peak is drawn; guess

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#222, #e6e6e1); --line: light-dark(#ddd, #44443f);
--quiet: light-dark(#5f5f58, #a5a59c); --back: light-dark(#fafafa, #24241f); --page: light-dark(#fff, #1a1a17);
--alarm: light-dark(#fbeceb, #40201d); --proxy: light-dark(#b65a10, #f0a05a); --gold: light-dark(#2f6f4f, #7cc9a1); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
background: var(--page); } table { border-collapse: collapse; width: 100%; } th { text-align: left; }
td, th { vertical-align: top; padding: .4rem .6rem; border-top: 1px solid var(--line); width: 40%; }
td:first-child, th:first-child { width: 20%; } pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit;
margin: 0; } .alarm { border-left: 4px solid #c0392b; padding: .4rem .8rem; background: var(--alarm); }
figure { display: inline-block; margin: 0 1rem .5rem 0; width: 440px; max-width: 100%; vertical-align: top; }
small, figcaption { color: var(--quiet); }
svg { background: var(--back); max-width: 100%; height: auto; display: block; } text { font-size: 11px;
fill: var(--quiet); } .grid { stroke: var(--line); } .proxy { color: var(--proxy); } .gold { color: var(--gold); }
@media (max-width: 40rem) { thead { display: none; } tr, td, td:first-child { display: block; width: auto; }
td { border: 0; padding: .2rem 0; } tr { border-top: 1px solid var(--line); padding: .5rem 0; }
td::before { content: attr(data-of); color: var(--quiet); font-size: .8rem; } }
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one prompt was answered at an evaluation, and by the reference (`first_...`); kl in nats."""

    prompt: str
    answer: str
    proxy: float
    gold: float
    proxy_parts: dict[str, float]
    gold_parts: dict[str, float]
    kl: float
    tokens: int
    first_answer: str
    first_proxy: float
    first_gold: float

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


def gold_page(
    run: str, looks: Sequence[Look], kl: Sequence[float], curves: Mapping[str, Curve | None], alarm: Alarm | None,
    best: int, shown: Sequence[Kept], best_of: Mapping[int, float],
) -> str:  # fmt: skip
    """looks, kl: of each evaluation. curves: by `proxy` and `gold`. shown: the answers of the step `best`. best_of: the
    proxy of the reference's best of n answers, by n, where the data tell it."""
    parts = [
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(run)}: proxy and gold</title><style>{_STYLE}</style>",
        f"<h1>Proxy and gold</h1><p>{html.escape(run)}. Each point is an evaluation on the same {len(shown)} prompts "
        "with its 95 % interval, the ringed one that of the answers below; the line is R(d) = R<sub>0</sub> + d "
        "(&alpha; &minus; &beta; log d), d = &radic;KL (Gao et al. 2022).</p>",
    ]
    if alarm is not None:
        parts.append(f"<p class=alarm>At step {alarm.steps[-1]:,} {html.escape(str(alarm))}.</p>")
    peak = curves["gold"].peak_kl if curves["gold"] is not None else None
    parts += [
        _chart(name, looks, kl, curves[name], best, peak, best_of if name == "proxy" else {})
        for name in ("proxy", "gold")
    ]
    parts.append(_words(curves["gold"], kl))
    of_best = f"step {best:,}"
    parts.append(f"<h2>Answers</h2><table><thead><tr><th>prompt<th>reference<th>{of_best}</thead>")
    for row in shown[:_SHOWN]:
        parts.append(
            f"<tr><td><pre>{html.escape(row.prompt)}</pre>"
            f"<td data-of=reference><pre>{html.escape(row.first_answer)}</pre>"
            f"<small>gold {row.first_gold:.3g}, proxy {row.first_proxy:.3g}</small>"
            f'<td data-of="{of_best}"><pre>{html.escape(row.answer)}</pre>'
            f"<small>gold {row.gold:.3g}, proxy {row.proxy:.3g}</small>"
        )
    return "\n".join([*parts, "</table>"]) + "\n"


def _words(curve: Curve | None, kl: Sequence[float]) -> str:
    if curve is None:
        return "<p>There are too few evaluations to fit a curve to.</p>"
    fitted = f"&alpha; = {curve.alpha:.3g}, &beta; = {curve.beta:.3g} &plusmn; {curve.beta_error:.2g}"
    if curve.peak_kl is None:
        return f"<p>Gold: {fitted}. It is not known to bend down, so no peak is forecast.</p>"
    peak = curve.forecast(max(kl))
    if peak is None:
        return f"<p>Gold: {fitted}. Its peak lies far beyond what was seen: above a KL of {FAR * max(kl):.3g}.</p>"
    when = "has been passed" if peak < max(kl) else "lies ahead"
    return f"<p>Gold: {fitted}. Its peak, {curve.at(peak):.3g} at a KL of {peak:.3g} nats, {when}.</p>"


def _chart(
    name: str, looks: Sequence[Look], kl: Sequence[float], curve: Curve | None, best: int, peak: float | None,
    best_of: Mapping[int, float],
) -> str:  # fmt: skip
    """An SVG: the reward over the square root of the KL, and where gold's peak is forecast if that is not far off."""
    drawers = {kl_of_best_of(n): (n, value) for n, value in best_of.items()}
    farthest = max(*kl, *drawers, 1e-6)
    peak = peak if peak is not None and peak <= _DRAWN * farthest else None
    far = math.sqrt(max(farthest, peak or 0.0)) * 1.08
    line = [(d, curve.at(d * d)) for d in (far * step / 80 for step in range(81))] if curve is not None else []
    points = [(look, distance, *_mean(getattr(look, f"{name}_P"))) for look, distance in zip(looks, kl, strict=True)]
    heights = [mean + side * half for _, _, mean, half in points for side in (-1, 1)]
    heights += [value for _, value in line] + list(best_of.values())
    low, high = min(heights), max(heights)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)

    def x(d: float) -> float:
        return _LEFT + d / far * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _BELOW - _TOP)

    box = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    drawn = [f'<figure class={name}><svg {box} role="img" aria-label="{name} over KL">']
    drawn.append(f'<text x="6" y="15" style="fill:currentColor;font-weight:600">{name}</text>')
    for value in _ticks(low, high):
        drawn.append(f'<path class=grid d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in _roots(far):
        drawn.append(f'<text x="{x(math.sqrt(value)):.1f}" y="{_HEIGHT - _BELOW + 16}" text-anchor="middle">'
                     f"{value:g}</text>")  # fmt: skip
    drawn.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">KL, nats, as its root</text>')
    if peak is not None:
        at = f"{x(math.sqrt(peak)):.1f}"
        drawn.append(
            f'<path d="M{at} {_TOP}V{_HEIGHT - _BELOW}" stroke="var(--gold)" stroke-dasharray="4 4"/>'
            f'<text x="{at}" y="{_TOP - 6}" text-anchor="middle">gold&#39;s peak</text>'
        )
    if line:
        path = " ".join(f"{x(d):.1f},{y(value):.1f}" for d, value in line)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-opacity=".5"/>')
    for distance, (n, value) in drawers.items():
        drawn.append(
            f'<rect x="{x(math.sqrt(distance)) - 4:.1f}" y="{y(value) - 4:.1f}" width="8" height="8" fill="none" '
            f'stroke="currentColor"><title>best of {n}: {value:.4g} at KL {distance:.4g}</title></rect>'
        )
    for look, distance, mean, half in points:
        ring = ' stroke="var(--ink)" stroke-width="2"' if look.step == best else ""
        at = f"{x(math.sqrt(max(distance, 0.0))):.1f}"
        drawn.append(
            f'<path d="M{at} {y(mean - half):.1f}V{y(mean + half):.1f}" stroke="currentColor" stroke-opacity=".6"/>'
            f'<circle cx="{at}" cy="{y(mean):.1f}" r="4.5" fill="currentColor"{ring}><title>step {look.step}: '
            f"{mean:.4g} &plusmn; {half:.2g} at KL {distance:.4g}</title></circle>"
        )
    drawn.append("</svg>")
    if drawers:
        drawn.append(
            f"<figcaption>Squares: the best of {', '.join(map(str, best_of))} answers to the prompts of the training "
            "data, at a KL of ln n &minus; (n &minus; 1)/n.</figcaption>"
        )
    return "\n".join([*drawn, "</figure>"])


def _mean(values_P: NDArray[np.float64]) -> tuple[float, float]:
    """The mean over the prompts, and half of its 95 % interval."""
    return float(values_P.mean()), 1.96 * float(values_P.std(ddof=1)) / math.sqrt(len(values_P))


def _ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers within."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(step * part for part in (1, 0.5, 0.2, 0.1) if (high - low) / (step * part) >= 2)
    return [round(place * step, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _roots(far: float) -> list[float]:
    """KLs whose roots stand about evenly up to `far`."""
    found = [0.0]
    for part in (0.25, 0.5, 0.75, 0.95):
        kl = (far * part) ** 2
        digits = 10.0 ** math.floor(math.log10(kl))
        found.append(round(round(kl / digits) * digits, 12))
    return list(dict.fromkeys(found))
