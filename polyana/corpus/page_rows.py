"""What both pages of the corpus report say: the rows of report.json as they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from polyana.corpus.charts import percent
from polyana.storage import show_bytes

__all__ = [
    "Report", "Row", "band", "curves_by_step", "kept_of", "reasons_of", "share", "sources_of", "steps_of", "unit_of",
    "verdict",
]  # fmt: skip

Report = Mapping[str, Any]

_SOURCES = 60  # in a table; the others are put together


class Row(NamedTuple):
    """What a reason took. `documents` is None where they were edited, `edited` of them, and not dropped."""

    reason: str
    documents: int | None
    edited: int
    bytes: int
    units: int | None  # tokens or words


def unit_of(report: Report) -> str:
    """What is counted beside documents and bytes: tokens, words, or nothing."""
    return next((unit for unit in ("tokens", "words") for step in report["steps"] if unit in step["left"]), "")


def kept_of(balance: Mapping[str, Any]) -> dict[str, int]:
    return {name: balance["train"][name] + balance["eval"][name] for name in ("documents", "bytes")}


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def verdict(report: Report) -> str:
    read, kept = report["total"]["read"], kept_of(report["total"])
    lines = f"{kept['documents']:,} of {read['documents']:,} documents stay "
    lines += f"({percent(share(kept['documents'], read['documents']))}), and {show_bytes(kept['bytes'])} of "
    lines += f"{show_bytes(read['bytes'])} of text ({percent(share(kept['bytes'], read['bytes']))})."
    taken = [
        (count["bytes"], label)
        for kind in ("dropped", "edited")
        for label, count in report["total"][kind].items()
        if count["bytes"] > 0
    ]
    if taken:
        size, label = max(taken)
        lines += f" What took most is \N{LEFT DOUBLE QUOTATION MARK}{label}\N{RIGHT DOUBLE QUOTATION MARK}: "
        lines += f"{percent(share(size, read['bytes']))} of the text."
    return re.sub(r"(?<=\d) (?=%|[kMGT]?B\b)", "\N{NO-BREAK SPACE}", lines)


def steps_of(report: Report) -> Iterator[dict[str, Any]]:
    """Each step with what was there before it and what its reasons took."""
    before, unit = report["total"]["read"], unit_of(report)
    for step in report["steps"]:
        rows = [
            Row(_without_step(label), count["documents"], 0, count["bytes"], count.get(unit))
            for label, count in step["dropped"].items()
        ]
        rows += [
            Row(_without_step(label), None, count["documents"], count["bytes"], count.get(unit))
            for label, count in step["edited"].items()
        ]
        rows.sort(key=lambda row: -row.bytes)
        edited = sum(row.bytes for row in rows if row.documents is None)
        yield {
            "name": _name(step), "before": before, "left": step["left"], "rows": rows, "edited": edited,
            "dropped": sum(row.bytes for row in rows) - edited,
        }  # fmt: skip
        before = step["left"]


def _name(step: Mapping[str, Any]) -> str:
    return "while reading" if step["step"] == "read" else str(step["step"])


def _without_step(label: str) -> str:
    """`gopher_quality: too many #` is `too many #`, under its step."""
    return label.partition(": ")[2] or label


def reasons_of(report: Report) -> Iterator[dict[str, Any]]:
    """Every reason with its examples, in the order of the steps."""
    for step in report["steps"]:
        for kind in ("dropped", "edited"):
            for label, count in step[kind].items():
                yield {
                    "step": _name(step), "reason": _without_step(label), "kind": kind, "count": count,
                    "examples": report["examples"].get(label, []),
                }  # fmt: skip


def curves_by_step(report: Report) -> list[dict[str, Any]]:
    """By step what has a curve to be drawn, and what is nearly always the same number."""
    found: dict[int, dict[str, Any]] = {}
    for curve in report["thresholds"]:
        step = found.setdefault(curve["place"], {"name": curve["step"], "drawn": [], "plain": []})
        step["drawn" if curve["distinct"] > 2 else "plain"].append(curve)
    return list(found.values())


def sources_of(report: Report) -> Iterator[dict[str, Any]]:
    """The largest first, what is beyond _SOURCES in one row."""
    ranked = sorted(report["sources"].items(), key=lambda item: -item[1]["read"]["bytes"])
    rest = ranked[_SOURCES:]
    for name, balance in ranked[:_SOURCES]:
        yield {"name": name, "before": balance["read"], "after": kept_of(balance)}
    if rest:
        sums = [
            {name: sum(each[name] for each in counts) for name in ("documents", "bytes")}
            for counts in ([balance["read"] for _, balance in rest], [kept_of(balance) for _, balance in rest])
        ]
        yield {"name": f"{len(rest):,} others", "before": sums[0], "after": sums[1]}


def band(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
