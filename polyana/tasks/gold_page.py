"""gold.html: proxy and gold over the distance from the reference, and answers side by side. One file, no script."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polyana.evaluate import Alarm, Curve, Look

__all__ = ["Kept", "gold_page"]

_WIDTH, _HEIGHT, _LEFT, _BELOW = 420, 240, 56, 34
_COLOURS = {"proxy": "#c2691b", "gold": "#2f6f4f"}
_SHOWN = 24  # prompts on the page

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; } td, th { vertical-align: top; text-align: left; padding: .4rem .6rem;
border-top: 1px solid #ddd; } td.number { text-align: right; white-space: nowrap; } pre { white-space: pre-wrap;
font: inherit; margin: 0; } .alarm { border-left: 4px solid #b3261e; padding: .4rem .8rem; background: #fbeceb; }
svg { background: #fafafa; margin-right: 1rem; max-width: 100%; height: auto; } text { font-size: 11px; fill: #555; }
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
    best: int, shown: Sequence[Kept],
) -> str:  # fmt: skip
    """looks, kl: of each evaluation. curves: by `proxy` and `gold`. shown: the answers of the step `best`."""
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{html.escape(run)}: proxy and gold</title><style>{_STYLE}</style>",
        f"<h1>Proxy and gold</h1><p>{html.escape(run)}. Each point is an evaluation on the same {len(shown)} prompts; "
        "the line is R(d) = R<sub>0</sub> + d (&alpha; &minus; &beta; log d), d = &radic;KL (Gao et al. 2022).</p>",
    ]
    if alarm is not None:
        parts.append(f"<p class=alarm>At step {alarm.steps[-1]:,} {html.escape(str(alarm))}.</p>")
    for name in ("proxy", "gold"):
        values = [float(getattr(look, f"{name}_P").mean()) for look in looks]
        parts.append(_chart(name, [look.step for look in looks], kl, values, curves[name], best))
    parts.append(_words(curves["gold"], kl))
    parts.append(f"<h2>Answers</h2><table><tr><th>prompt<th>reference<th>step {best:,}")
    for row in shown[:_SHOWN]:
        parts.append(
            f"<tr><td><pre>{html.escape(row.prompt)}</pre><td><pre>{html.escape(row.first_answer)}</pre>"
            f"<small>gold {row.first_gold:.3g}, proxy {row.first_proxy:.3g}</small>"
            f"<td><pre>{html.escape(row.answer)}</pre><small>gold {row.gold:.3g}, proxy {row.proxy:.3g}</small>"
        )
    return "\n".join([*parts, "</table>"]) + "\n"


def _words(curve: Curve | None, kl: Sequence[float]) -> str:
    if curve is None:
        return "<p>There are too few evaluations to fit a curve to.</p>"
    fitted = f"&alpha; = {curve.alpha:.3g}, &beta; = {curve.beta:.3g} &plusmn; {curve.beta_error:.2g}"
    peak = curve.peak_kl
    if peak is None:
        return f"<p>Gold: {fitted}. It is not known to bend down, so no peak is forecast.</p>"
    if peak > 10 * max(kl):
        return f"<p>Gold: {fitted}. Its peak lies far beyond what was seen: above a KL of {10 * max(kl):.3g}.</p>"
    when = "has been passed" if peak < max(kl) else "lies ahead"
    return f"<p>Gold: {fitted}. Its peak, {curve.at(peak):.3g} at a KL of {peak:.3g} nats, {when}.</p>"


def _chart(
    name: str, steps: Sequence[int], kl: Sequence[float], values: Sequence[float], curve: Curve | None, best: int
) -> str:
    """An SVG: the reward over the square root of the KL."""
    far = max(math.sqrt(max(*kl, 1e-9)), 1e-6) * 1.1
    line = [(d, curve.at(d * d)) for d in (far * step / 60 for step in range(61))] if curve is not None else []
    heights = [*values, *(value for _, value in line)]
    low, high = min(heights), max(heights)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)

    def at(d: float, value: float) -> tuple[float, float]:
        x = _LEFT + d / far * (_WIDTH - _LEFT - 12)
        return x, 12 + (high - value) / (high - low) * (_HEIGHT - _BELOW - 20)

    colour = _COLOURS[name]
    box = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    drawn = [f'<svg {box} role="img" aria-label="{name} over KL">']
    drawn += [f'<text x="6" y="16">{high:.3g}</text><text x="6" y="{_HEIGHT - _BELOW - 4}">{low:.3g}</text>']
    drawn += [f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{name}: over KL, 0 to {far**2:.3g} nats, as its root</text>']
    if line:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line))
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-opacity=".5" stroke-width="2"/>')
    drawn += list(_points(steps, kl, values, at, colour, best))
    return "\n".join([*drawn, "</svg>"])


def _points(
    steps: Sequence[int], kl: Sequence[float], values: Sequence[float], at: Any, colour: str, best: int
) -> Iterator[str]:
    for step, distance, value in zip(steps, kl, values, strict=True):
        x, y = at(math.sqrt(max(distance, 0.0)), value)
        ring = ' stroke="#222" stroke-width="2"' if step == best else ""
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"{ring}><title>step {step}: {value:.4g} at '
            f"KL {distance:.4g}</title></circle>"
        )
