"""The corpus report in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyana.storage import show_bytes

__all__ = ["report_lines", "waterfall_lines"]

_COLUMNS = 40  # of a terminal, for what was read


def waterfall_lines(report: Mapping[str, Any]) -> list[str]:
    """What each step of report.json has left, drawn for the terminal."""
    read = report["total"]["read"]
    steps = [("read", read), *((step["step"], step["left"]) for step in report["steps"][1:])]
    width = max(len(name) for name, _ in steps)
    return [
        f"{name:<{width}} {left['documents']:>12,} documents {show_bytes(left['bytes']):>9}  "
        + "\N{FULL BLOCK}" * round(_COLUMNS * left["bytes"] / max(1, read["bytes"]))
        for name, left in steps
    ]


def report_lines(report: Mapping[str, Any], directory: str | Path = "") -> list[str]:
    """The balance of report.json, which lies in `directory`, for the terminal."""
    total = report["total"]
    lines = [_line(what, total[what]) for what in ("read", "train", "eval")]
    for reason, count in sorted(total["dropped"].items(), key=lambda item: -int(item[1]["documents"])):
        lines.append(f"{_line('dropped', count)}  {reason} (as {total['examples'][reason][0]})")
    for reason, count in total["edited"].items():
        if reason != "normalised":
            lines.append(f"{_line('edited', count)}  {reason} (as {total['examples'][reason][0]})")
    for name, each in report["mix"].items():
        lines.append(
            f"mixed   {name}: {each['asked']:.1%} asked, {each['given']['share']:.1%} given; each document "
            f"{each['epochs']:.2f} times"
        )
    if total["repaired"]["documents"]:
        lines.append(f"of those kept {total['repaired']['documents']:,} had bytes that are no text; they became U+FFFD")
    lines.append(f"examples of each reason, thresholds, copies: {Path(directory) / 'report.html'}")
    return lines


def _line(what: str, count: Mapping[str, int]) -> str:
    return f"{what:<7} {count['documents']:>9,} documents {show_bytes(count['bytes']):>9}"
