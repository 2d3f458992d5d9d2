"""The corpus report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from polyana.corpus.charts import number, percent
from polyana.corpus.page_rows import (
    Report,
    band,
    curves_by_step,
    reasons_of,
    share,
    sources_of,
    steps_of,
    unit_of,
    verdict,
)
from polyana.corpus.page_texts import HIDDEN, changed, identifier, in_one_line
from polyana.corpus.shown import CHANGED

__all__ = ["markdown_page"]

_LINE = 200  # characters of an example


def markdown_page(report: Report) -> str:
    """The same for terminals and for forges: fewer examples, tables in place of drawings."""
    parts = [
        ["# Corpus report", "", verdict(report), "", *_markdown_steps(report)],
        ["## Examples", "", *_markdown_examples(report)],
        ["## Thresholds", "", *_markdown_thresholds(report)],
        ["## Copies", "", *_markdown_clusters(report)],
        ["## Sources", "", *_markdown_sources(report)],
        ["## Reading", "", *_markdown_reading(report)],
        ["## At the border", "", *_markdown_border(report)],
    ]
    return "\n\n".join("\n".join(part).rstrip() for part in parts if len(part) > 2) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """`left` columns are set left, the others right."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in rows]
    if not lines:
        return []
    rule = "".join("---|" if place < left else "---:|" for place in range(len(head)))
    return [f"| {' | '.join(head)} |", f"|{rule}", *lines, ""]


def _code(text: str, most: int = _LINE) -> str:
    """As code in a line of its own or in a table, whatever is in it."""
    line = " ".join(text.translate(HIDDEN).split())
    line = line if len(line) <= most else line[:most] + "\N{HORIZONTAL ELLIPSIS}"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line or ' '}{fence}"


def _markdown_steps(report: Report) -> list[str]:
    read, total = report["total"]["read"], report["total"]
    tokens = "" if report["tokens_read"] is None else number(report["tokens_read"])
    rows = [("read", "", number(read["documents"]), "100 %", number(read["bytes"]), "100 %", tokens)]
    for step in steps_of(report):
        for row in step["rows"]:
            documents = "" if row.documents is None else number(-row.documents)
            part = "" if row.documents is None else percent(share(row.documents, read["documents"]))
            reason = row.reason if row.documents is not None else f"{row.reason} (cut in {row.edited:,})"
            size, units = number(-row.bytes), "" if row.units is None else number(-row.units)
            rows.append((step["name"], reason, documents, part, size, percent(share(row.bytes, read["bytes"])), units))
    rows += [
        (
            name, "", number(total[part]["documents"]), percent(share(total[part]["documents"], read["documents"])),
            number(total[part]["bytes"]), percent(share(total[part]["bytes"], read["bytes"])), "",
        )
        for name, part in (("to train on", "train"), ("held out", "eval"))
    ]  # fmt: skip
    return _table(("step", "reason", "documents", "", "bytes", "", unit_of(report)), rows, left=2)


def _markdown_examples(report: Report) -> Iterator[str]:
    for reason in reasons_of(report):
        count = reason["count"]["documents"]
        documents = f"{count:,} document{'' if count == 1 else 's'}"
        yield from (f"### {reason['step']}: {reason['reason']} ({reason['kind']}, {documents})", "")
        for example in reason["examples"]:
            yield f"- {_code(identifier(example['id']))}: {_example_line(example)}"
        yield ""


def _example_line(example: Mapping[str, Any]) -> str:
    """An edit as wdiff writes it: [-gone-] {+come+}."""
    before, after = example.get("before"), example.get("after")
    if "twin" in example:
        kept = f"a copy of {_code(identifier(example['twin']['id']))}"
        return kept if before is None else f"{kept}: {_code(before)}"
    if after is not None and before is not None:
        marks = {"gone": "[-{}-]", "before": "[-{}-]", "came": "{{+{}+}}"}
        pieces = [
            marks[kind].format(changed(text)) if kind in marks else text
            for kind, text in in_one_line(before, after, CHANGED)
        ]
        return _code("".join(pieces), 2 * _LINE)
    if after is not None:
        return f"{_code(after)} (what was taken is not shown)"
    return "(what was found is not shown)" if before is None else _code(before)


def _markdown_thresholds(report: Report) -> Iterator[str]:
    """Keep rates at the threshold used and at three on either side of it."""
    for step in curves_by_step(report):
        yield from (f"### {step['name']}", "")
        for curve in step["drawn"]:
            sweep = sorted(curve["sweep"])
            used = next(place for place, (value, _) in enumerate(sweep) if value >= curve["threshold"])
            around = sweep[max(0, used - 3) : used + 4]
            language = f", `{curve['language']}`" if curve["language"] else ""
            yield f"{curve['reason']}{language}, at {curve['side']} {number(curve['threshold'])}:"
            yield ""
            yield from _table(
                ("threshold", *(f"**{number(v)}**" if v == curve["threshold"] else number(v) for v, _ in around)),
                [("stay", *(percent(1 - thrown) for _, thrown in around))],
            )


def _markdown_clusters(report: Report) -> Iterator[str]:
    for found in report["clusters"]:
        yield from (f"### {found['step']}", "")
        rows = [(band(low, high), number(count), number(documents)) for low, high, count, documents in found["sizes"]]
        yield from _table(("documents alike", "clusters", "documents"), rows)
        for cluster in found["largest"]:
            kept = _code(identifier(cluster["kept"]["id"]))
            yield f"- {cluster['size']:,}, of which {kept} stays: {_code(cluster['kept']['text'])}"
        yield ""


def _markdown_sources(report: Report) -> Iterator[str]:
    head = ("source", "documents", "stay", "", "bytes", "stay", "")
    yield from _table(head, (_before_after(each["name"], each["before"], each["after"]) for each in sources_of(report)))
    if report["languages"]:
        rows = (_before_after(name, each["before"], each["after"]) for name, each in report["languages"].items())
        yield from _table(("language", *head[1:]), rows)
    if report["mix"]:
        yield from _table(
            ("source in the training text", "asked", "got", "bytes", "times"),
            (
                (
                    _code(name), percent(each["asked"]), percent(each["share"]), number(each["bytes"]),
                    f"{each['epochs']:.2f}",
                )
                for name, each in report["mix"].items()
            ),
        )  # fmt: skip


def _before_after(name: str, before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    figures = (
        (number(before[what]), number(after[what]), percent(share(after[what], before[what])))
        for what in ("documents", "bytes")
    )
    return (_code(name), *(cell for cells in figures for cell in cells))


def _markdown_reading(report: Report) -> Iterator[str]:
    for source, found in report["reading"].items():
        for encoding, lines in found["lines"].items():
            yield f"- {_code(source)}: {lines:,} lines were in {encoding}, unlike their files"
        if found["damaged_files"]:
            yield f"- {_code(source)}: {found['damaged_files']:,} files could not be read to their end"
        for name, reason in found["damaged"].items():
            yield f"  - {_code(identifier(name))}: {reason}"


def _markdown_border(report: Report) -> Iterator[str]:
    for found in report["borderline"]:
        language = f", `{found['language']}`" if found["language"] else ""
        for side, what in (("thrown", "just thrown out"), ("kept", "just kept")):
            if found[side]:
                yield f"### {found['step']}: {found['reason']}{language}, {what} at {number(found['threshold'])}"
                yield ""
                for each in found[side]:
                    yield f"- {each['score']:.4g} {_code(identifier(each['id']))}: {_code(each['text'])}"
                yield ""
