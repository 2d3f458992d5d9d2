"""The corpus report to be read: report.html, one file that needs nothing else, and report.md."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from polyana.corpus.charts import bar, number, percent, threshold_chart
from polyana.corpus.shown import CHANGED, SHOWN, tokens
from polyana.storage import show_bytes

__all__ = ["differences", "html_page", "markdown_page", "write_pages"]

Report = Mapping[str, Any]

_MOST = 2_000_000  # bytes of report.html
_LENGTHS = ((10, SHOWN), (10, 300), (10, 150), (5, 100), (2, 50), (1, 20))
"""Examples of each reason and characters of a text; fewer where the page would become too large."""

_SOURCES = 60  # in a table; the others are put together
_ID = 160  # characters of an id
_LINE = 200  # characters of an example in Markdown


def write_pages(report: Report, directory: Path) -> None:
    """Write report.html and report.md into `directory`."""
    # half a surrogate pair (possible in JSON) has no UTF-8
    (directory / "report.html").write_bytes(html_page(report).encode("utf-8", "replace"))
    (directory / "report.md").write_bytes(markdown_page(report).encode("utf-8", "replace"))


def html_page(report: Report) -> str:
    """One page without scripts that asks for nothing from outside."""
    template = _environment().get_template("report.html.jinja")
    page = ""
    for examples, length in _LENGTHS:
        page = template.render(report=report, examples=examples, length=length, **_prepared(report))
        if len(page.encode("utf-8", "replace")) < _MOST:
            break
    return page


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("polyana", "corpus"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters |= {
        "number": number, "percent": percent, "size": show_bytes, "shown": _shown, "id": _identifier,
        "chart": threshold_chart,
    }  # fmt: skip
    environment.globals |= {"bar": bar, "share": _share, "band": _band, "edit": _edit_as_html, "pair": _pair_as_html}
    return environment


# ---- what both pages say


class Row(NamedTuple):
    """What a reason took. `documents` is None where they were edited, `edited` of them, and not dropped."""

    reason: str
    documents: int | None
    edited: int
    bytes: int
    units: int | None  # tokens or words


def _prepared(report: Report) -> dict[str, Any]:
    return {
        "verdict": _verdict(report),
        "steps": list(_steps(report)),
        "reasons": list(_reasons(report)),
        "curves": _curves_by_step(report),
        "sources": list(_sources(report)),
        "kept": _kept(report["total"]),
        "unit": _unit(report),
    }


def _unit(report: Report) -> str:
    """What is counted beside documents and bytes: tokens, words, or nothing."""
    return next((unit for unit in ("tokens", "words") for step in report["steps"] if unit in step["left"]), "")


def _kept(balance: Mapping[str, Any]) -> dict[str, int]:
    return {name: balance["train"][name] + balance["eval"][name] for name in ("documents", "bytes")}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _verdict(report: Report) -> str:
    read, kept = report["total"]["read"], _kept(report["total"])
    lines = f"{kept['documents']:,} of {read['documents']:,} documents stay "
    lines += f"({percent(_share(kept['documents'], read['documents']))}), and {show_bytes(kept['bytes'])} of "
    lines += f"{show_bytes(read['bytes'])} of text ({percent(_share(kept['bytes'], read['bytes']))})."
    taken = [
        (count["bytes"], label)
        for kind in ("dropped", "edited")
        for label, count in report["total"][kind].items()
        if count["bytes"] > 0
    ]
    if taken:
        size, label = max(taken)
        lines += f" What took most is \N{LEFT DOUBLE QUOTATION MARK}{label}\N{RIGHT DOUBLE QUOTATION MARK}: "
        lines += f"{percent(_share(size, read['bytes']))} of the text."
    return re.sub(r"(?<=\d) (?=%|[kMGT]?B\b)", "\N{NO-BREAK SPACE}", lines)


def _steps(report: Report) -> Iterator[dict[str, Any]]:
    """Each step with what was there before it and what its reasons took."""
    before, unit = report["total"]["read"], _unit(report)
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


def _reasons(report: Report) -> Iterator[dict[str, Any]]:
    """Every reason with its examples, in the order of the steps."""
    for step in report["steps"]:
        for kind in ("dropped", "edited"):
            for label, count in step[kind].items():
                yield {
                    "step": _name(step), "reason": _without_step(label), "kind": kind, "count": count,
                    "examples": report["examples"].get(label, []),
                }  # fmt: skip


def _curves_by_step(report: Report) -> list[dict[str, Any]]:
    """By step what has a curve to be drawn, and what is nearly always the same number."""
    found: dict[int, dict[str, Any]] = {}
    for curve in report["thresholds"]:
        step = found.setdefault(curve["place"], {"name": curve["step"], "drawn": [], "plain": []})
        step["drawn" if curve["distinct"] > 2 else "plain"].append(curve)
    return list(found.values())


def _sources(report: Report) -> Iterator[dict[str, Any]]:
    """The largest first, what is beyond _SOURCES in one row."""
    ranked = sorted(report["sources"].items(), key=lambda item: -item[1]["read"]["bytes"])
    rest = ranked[_SOURCES:]
    for name, balance in ranked[:_SOURCES]:
        yield {"name": name, "before": balance["read"], "after": _kept(balance)}
    if rest:
        sums = [
            {name: sum(each[name] for each in counts) for name in ("documents", "bytes")}
            for counts in ([balance["read"] for _, balance in rest], [_kept(balance) for _, balance in rest])
        ]
        yield {"name": f"{len(rest):,} others", "before": sums[0], "after": sums[1]}


# ---- texts

Kind = Literal["same", "gone", "came", "before", "after"]


def differences(before: str, after: str, most: int) -> list[tuple[Kind, str]]:
    """What both texts have, what only the one has (`gone`), what only the other has (`came`), in reading order.

    Texts of `most` characters were cut there. What differs at the end of such is only said to be of the one (`before`)
    or of the other (`after`): it may stand in both behind the border.
    """
    old, new = tokens(before), tokens(after)
    runs: list[tuple[bool, str, str]] = []  # whether it is the same
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        runs.append((kind == "equal", "".join(old[i:j]), "".join(new[k:m])))
    runs = _without_chance(runs)
    cut = max(len(before), len(after)) >= most
    found: list[tuple[Kind, str]] = []
    for place, (same, one, other) in enumerate(runs):
        if same:
            found.append(("same", one))
        elif cut and place == len(runs) - 1:
            found += [("before", one), ("after", other)]
        else:
            found += [("gone", one), ("came", other)]
    return [(kind, text) for kind, text in found if text]


def _in_one_line(before: str, after: str, most: int) -> list[tuple[Kind, str]]:
    """The differences of an edit; a word that the border cut in one of the texts alone is no change."""
    found = differences(before, after, most)
    if [kind for kind, _ in found[-2:]] == ["before", "after"]:
        old, new = found[-2][1], found[-1][1]
        if old.startswith(new) or new.startswith(old):
            found[-2:] = [("same", max(old, new, key=len))]
    return found


def _without_chance(runs: list[tuple[bool, str, str]]) -> list[tuple[bool, str, str]]:
    """What is alike between two changes longer than itself is so by chance, and reads better as a part of them."""
    found: list[tuple[bool, str, str]] = []
    for place, (same, one, other) in enumerate(runs):
        inside = same and found and place + 1 < len(runs)
        chance = inside and all(
            max(len(text) for text in (left, right)) > len(one) for _, left, right in (found[-1], runs[place + 1])
        )
        if found and not found[-1][0] and (not same or chance):
            found[-1] = (False, found[-1][1] + one, found[-1][2] + other)
        else:
            found.append((same, one, other))
    return found


# what would be seen as nothing, or turn around what stands behind it
_HIDDEN = {
    code: f"\u2039U+{code:04X}\u203a"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F))
    if chr(code) not in "\n\t"
}


def _shown(text: str, most: int = SHOWN) -> str:
    """Of a text at most so many characters, none of which does anything but be seen."""
    more = "\N{HORIZONTAL ELLIPSIS}" if len(text) >= min(most, SHOWN) else ""
    return text[:most].translate(_HIDDEN) + more


def _identifier(text: str) -> str:
    """An id, short in the middle where it is long."""
    text = text.translate(_HIDDEN).replace("\n", "\u2424")
    return text if len(text) <= _ID else f"{text[: _ID // 2]}\N{HORIZONTAL ELLIPSIS}{text[-_ID // 2 :]}"


def _changed(text: str) -> str:
    """What came or went, with what is not seen of it by its number."""
    if text.isspace():
        text = text.replace(" ", "\N{OPEN BOX}").replace("\t", "\N{RIGHTWARDS ARROW TO BAR}")
    seen = (
        f"\u2039U+{ord(sign):04X}\u203a" if unicodedata.category(sign) in ("Cf", "Zs") and sign != " " else sign
        for sign in text.translate(_HIDDEN).replace("\n", "\u21b5\n")
    )
    return "".join(seen)


def _marked(element: str, text: str) -> Markup:
    """The newline at its end stands behind it, or an empty mark would begin the next line."""
    seen = _changed(text)
    bare = seen.removesuffix("\n")
    return Markup(f"<{element}>{{}}</{element}>{{}}").format(bare, seen[len(bare) :])


def _edit_as_html(before: str, after: str, most: int) -> Markup:
    """One text, with what went and what came marked in it."""
    parts = []
    for kind, text in _in_one_line(before[:most], after[:most], min(most, CHANGED)):
        if kind in ("gone", "before"):
            parts.append(_marked("del", text))
        elif kind == "came":
            parts.append(_marked("ins", text))
        else:
            parts.append(escape(text.translate(_HIDDEN)))
    return Markup("").join(parts)


def _pair_as_html(one: str, other: str, most: int) -> tuple[Markup, Markup]:
    """Both texts, with what the other has not marked."""
    left, right = [], []
    for kind, text in differences(one[:most], other[:most], min(most, SHOWN)):
        shown = _marked("mark", text) if kind in ("gone", "came") else escape(text.translate(_HIDDEN))
        if kind in ("same", "gone", "before"):
            left.append(shown)
        if kind in ("same", "came", "after"):
            right.append(shown)
    return Markup("").join(left), Markup("").join(right)


# ---- Markdown


def markdown_page(report: Report) -> str:
    """The same for terminals and for forges: fewer examples, tables in place of drawings."""
    parts = [
        ["# Corpus report", "", _verdict(report), "", *_markdown_steps(report)],
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
    line = " ".join(text.translate(_HIDDEN).split())
    line = line if len(line) <= most else line[:most] + "\N{HORIZONTAL ELLIPSIS}"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line or ' '}{fence}"


def _markdown_steps(report: Report) -> list[str]:
    read, total = report["total"]["read"], report["total"]
    tokens = "" if report["tokens_read"] is None else number(report["tokens_read"])
    rows = [("read", "", number(read["documents"]), "100 %", number(read["bytes"]), "100 %", tokens)]
    for step in _steps(report):
        for row in step["rows"]:
            documents = "" if row.documents is None else number(-row.documents)
            share = "" if row.documents is None else percent(_share(row.documents, read["documents"]))
            reason = row.reason if row.documents is not None else f"{row.reason} (cut in {row.edited:,})"
            size, units = number(-row.bytes), "" if row.units is None else number(-row.units)
            rows.append(
                (step["name"], reason, documents, share, size, percent(_share(row.bytes, read["bytes"])), units)
            )
    rows += [
        (
            name, "", number(total[part]["documents"]), percent(_share(total[part]["documents"], read["documents"])),
            number(total[part]["bytes"]), percent(_share(total[part]["bytes"], read["bytes"])), "",
        )
        for name, part in (("to train on", "train"), ("held out", "eval"))
    ]  # fmt: skip
    return _table(("step", "reason", "documents", "", "bytes", "", _unit(report)), rows, left=2)


def _markdown_examples(report: Report) -> Iterator[str]:
    for reason in _reasons(report):
        count = reason["count"]["documents"]
        documents = f"{count:,} document{'' if count == 1 else 's'}"
        yield from (f"### {reason['step']}: {reason['reason']} ({reason['kind']}, {documents})", "")
        for example in reason["examples"]:
            yield f"- {_code(_identifier(example['id']))}: {_example_line(example)}"
        yield ""


def _example_line(example: Mapping[str, Any]) -> str:
    """An edit as wdiff writes it: [-gone-] {+come+}."""
    before, after = example.get("before"), example.get("after")
    if "twin" in example:
        kept = f"a copy of {_code(_identifier(example['twin']['id']))}"
        return kept if before is None else f"{kept}: {_code(before)}"
    if after is not None and before is not None:
        marks = {"gone": "[-{}-]", "before": "[-{}-]", "came": "{{+{}+}}"}
        pieces = [
            marks[kind].format(_changed(text)) if kind in marks else text
            for kind, text in _in_one_line(before, after, CHANGED)
        ]
        return _code("".join(pieces), 2 * _LINE)
    if after is not None:
        return f"{_code(after)} (what was taken is not shown)"
    return "(what was found is not shown)" if before is None else _code(before)


def _markdown_thresholds(report: Report) -> Iterator[str]:
    """Keep rates at the threshold used and at three on either side of it."""
    for step in _curves_by_step(report):
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
        rows = [(_band(low, high), number(count), number(documents)) for low, high, count, documents in found["sizes"]]
        yield from _table(("documents alike", "clusters", "documents"), rows)
        for cluster in found["largest"]:
            kept = _code(_identifier(cluster["kept"]["id"]))
            yield f"- {cluster['size']:,}, of which {kept} stays: {_code(cluster['kept']['text'])}"
        yield ""


def _band(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _markdown_sources(report: Report) -> Iterator[str]:
    head = ("source", "documents", "stay", "", "bytes", "stay", "")
    yield from _table(head, (_before_after(each["name"], each["before"], each["after"]) for each in _sources(report)))
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
        (number(before[what]), number(after[what]), percent(_share(after[what], before[what])))
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
            yield f"  - {_code(_identifier(name))}: {reason}"


def _markdown_border(report: Report) -> Iterator[str]:
    for found in report["borderline"]:
        language = f", `{found['language']}`" if found["language"] else ""
        for side, what in (("thrown", "just thrown out"), ("kept", "just kept")):
            if found[side]:
                yield f"### {found['step']}: {found['reason']}{language}, {what} at {number(found['threshold'])}"
                yield ""
                for each in found[side]:
                    yield f"- {each['score']:.4g} {_code(_identifier(each['id']))}: {_code(each['text'])}"
                yield ""
