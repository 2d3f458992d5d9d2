"""The result to read: ablation.md, and ablation.html, one file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from polyana.ablation.result import ALL, verdict_lines
from polyana.storage import show_bytes, write_file
from polyana.tracking import show_clock

__all__ = ["write_pages"]

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d5d0, #44443f); --quiet: light-dark(#66665f, #a5a59c); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .2rem 1rem .2rem 0; text-align: right; }
td { font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
.quiet { color: var(--quiet); font-size: .85rem; } .wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
svg text { fill: currentColor; font-size: 12px; } svg .axis { stroke: var(--line); }
"""

# Told apart by people who see no red or green (Okabe and Ito 2008).
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00")
_WIDTH, _HEIGHT, _EDGE = 760, 360, 56

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads and rows."""


def write_pages(result: Mapping[str, Any], title: str, report: str, directory: Path) -> None:
    """Write ablation.md and ablation.html into `directory`; from there `report` leads to the corpus's own."""
    write_file(directory / "ablation.md", "\n".join(_markdown(result, title)) + "\n")
    write_file(directory / "ablation.html", "\n".join(_html(result, title, report)) + "\n")


def _markdown(result: Mapping[str, Any], title: str) -> Iterator[str]:
    yield f"# What cleaning bought: {title}\n"
    yield from (f"- {line}" for line in verdict_lines(result))
    for name, (heads, rows) in _tables(result).items():
        yield f"\n## {name}\n"
        yield f"| {' | '.join(heads)} |"
        yield f"|---|{'--:|' * (len(heads) - 1)}"
        yield from (f"| {' | '.join(row)} |" for row in rows)
    yield f"\n{_how(result)}"


def _html(result: Mapping[str, Any], title: str, report: str) -> Iterator[str]:
    yield f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What cleaning bought: {escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>{_STYLE}</style></head><body><h1>What cleaning bought: {escape(title)}</h1>"""
    yield from (f"<p>{escape(line)}</p>" for line in verdict_lines(result))
    for domain in result["held_out"]:
        if domain == ALL or len(result["held_out"]) > 2:  # one domain alone is all there is
            yield f"<h2>Bits per byte of held-out clean text: {escape(domain)}</h2>{_chart(result, domain)}"
    for name, (heads, rows) in _tables(result).items():
        yield f'<h2>{name}</h2><div class="wide"><table><tr>'
        yield "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"
        yield from (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        yield "</table></div>"
    yield f'<p class="quiet">{escape(_how(result))}</p>'
    yield f'<p><a href="{escape(report)}">What each step took, and why: the corpus\'s report</a></p></body></html>'


def _tables(result: Mapping[str, Any]) -> dict[str, Table]:
    compared = [
        (name, domain, found["cleaned"], found["other"], found["difference"], found)
        for name, domains in result["against"].items()
        for domain, found in domains.items()
        if domain == ALL or len(domains) > 2
    ]
    scores = [
        [name, domain, f"{other:.3f}", f"{cleaned:.3f}", f"{difference:+.3f}", _range(found),
         _verdict(found)]
        for name, domain, cleaned, other, difference, found in compared
    ]  # fmt: skip
    texts = [
        [name, f"{each['whole']['documents']:,}", show_bytes(each["whole"]["bytes"]), _shares(each["domains"]),
         f"{each['epochs']:.2f}", f"{each['excluded_documents']:,}", show_bytes(each["excluded_bytes"]),
         show_bytes(each["bytes"]), f"{each['tokens']:,}"]
        for name, each in result["variants"].items()
    ]  # fmt: skip
    tables: dict[str, Table] = {
        "Cleaned text against the others": (
            ["against", "domain", "its bits per byte", "cleaned", "difference", "95 % interval", ""], scores,
        ),
        "What the models were trained on": (
            ["", "documents", "text", "domains", "epochs", "left out as copies", "their text", "text kept ready",
             "its tokens"], texts,
        ),
    }  # fmt: skip
    reach = result["reach"]
    rows = [
        [str(model["seed"]), "never", "", ""]
        if tokens is None
        else [str(model["seed"]), f"{tokens:,.0f}", f"{100 * tokens / reach['of_tokens']:.0f} %", show_clock(seconds)]
        for model, tokens, seconds in zip(
            result["variants"]["cleaned"]["models"], reach["tokens"], reach["seconds"], strict=True
        )
    ]  # fmt: skip
    heads = ["seed", "tokens", f"of {reach['of_tokens']:,}", f"training, of {show_clock(reach['of_seconds'])}"]
    return tables | {"When a model on cleaned text was where the raw one ended": (heads, rows)}


def _shares(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {100 * size / sum(sizes.values()):.0f} %" for name, size in sizes.items())


def _range(found: Mapping[str, Any]) -> str:
    return "none: too few documents" if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"


def _verdict(found: Mapping[str, Any]) -> str:
    if not found["seen"]:
        return "no difference can be seen"
    return "cleaned is better" if found["difference"] < 0 else "cleaned is worse"


def _how(result: Mapping[str, Any]) -> str:
    settings, held_out = result["settings"], result["held_out"][ALL]
    seeds = len(result["variants"]["raw"]["models"])
    return (
        f"A GPT-2 of {settings['layers']} layers of {settings['width']} for each line and each of {seeds} seeds, "
        f"trained on {settings['tokens']} while the learning rate falls to 0; a tokenizer of "
        f"{settings['vocab_size']:,} tokens learned from the cleaned text. Measured on {held_out['documents']:,} "
        f"held-out documents of the cleaned corpus, {show_bytes(held_out['bytes'])}. Documents that are copies of "
        "those in any of the texts were left out of all. A difference is cleaned minus the other, so below 0 the "
        "cleaned text is the better one; its interval is for other seeds and other documents; of 20 such intervals "
        "about one misses the truth. Bands in the charts are 95 % intervals of the mean over seeds. Where a curve "
        "passes another's end its rate is still high; a training planned for so few tokens would have ended lower, so "
        "what is said to be saved is the least. A small model trained for minutes says which text is better to learn "
        "from early on, not how a large one would end."
    )


def _chart(result: Mapping[str, Any], domain: str) -> str:
    """Mean and interval over seeds of each variant, from the second evaluation on: the first is of untrained models."""
    curves = []
    for each in result["variants"].values():
        points = each["bits_per_byte"][domain]
        curves.append((each["after_tokens"][1:], points["mean"][1:], points["reach"][1:]))
    means = [value for _, mean, _ in curves for value in mean]
    # bands may reach out of the picture: that of three seeds is wide
    low, high = min(means), max(means)
    low, high = low - (high - low) * 0.05, high + (high - low) * 0.05
    last = max(tokens[-1] for tokens, _, _ in curves)

    def x(tokens: float) -> str:
        return f"{_EDGE + tokens / last * (_WIDTH - 2 * _EDGE):.1f}"

    def y(value: float) -> str:
        inside = min(max(value, low), high)
        return f"{_HEIGHT - _EDGE - (inside - low) / (high - low or 1) * (_HEIGHT - 2 * _EDGE):.1f}"

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="bits per byte by tokens">'
    ]
    for number in range(5):
        value, tokens = low + (high - low) * number / 4, last * number / 4
        parts.append(f'<line class="axis" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(f'<text x="{_EDGE - 6}" y="{y(value)}" text-anchor="end">{value:.2f}</text>')
        parts.append(f'<text x="{x(tokens)}" y="{_HEIGHT - _EDGE + 18}" text-anchor="middle">{tokens:,.0f}</text>')
    for number, (tokens, mean, reach) in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        upper = [f"{x(at)},{y(value + each)}" for at, value, each in zip(tokens, mean, reach, strict=True)]
        lower = [f"{x(at)},{y(value - each)}" for at, value, each in zip(tokens, mean, reach, strict=True)]
        line = " ".join(f"{x(at)},{y(value)}" for at, value in zip(tokens, mean, strict=True))
        parts.append(f'<polygon points="{" ".join([*upper, *lower[::-1]])}" fill="{colour}" opacity=".15"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for number, name in enumerate(result["variants"]):
        colour, top = _COLOURS[number % len(_COLOURS)], _EDGE // 2 + 16 * number
        left = _WIDTH - 3.6 * _EDGE
        parts.append(f'<rect x="{left - 16:.0f}" y="{top - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{left:.0f}" y="{top}">{escape(re.sub("_", " ", name))}</text>')
    parts.append(f'<text x="{_WIDTH / 2:.0f}" y="{_HEIGHT - 12}" text-anchor="middle">tokens learned from</text></svg>')
    return "".join(parts)
