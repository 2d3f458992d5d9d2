"""The corpus report to be read: report.html, one file that needs nothing else, and report.md."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from polyana.corpus.charts import bar, number, percent, threshold_chart
from polyana.corpus.page_markdown import markdown_page
from polyana.corpus.page_rows import (
    Report,
    band,
    curves_by_step,
    kept_of,
    reasons_of,
    share,
    sources_of,
    steps_of,
    unit_of,
    verdict,
)
from polyana.corpus.page_texts import HIDDEN, changed, differences, identifier, in_one_line, shown
from polyana.corpus.shown import CHANGED, SHOWN
from polyana.storage import show_bytes

__all__ = ["html_page", "write_pages"]

_MOST = 2_000_000  # bytes of report.html
_LENGTHS = ((10, SHOWN), (10, 300), (10, 150), (5, 100), (2, 50), (1, 20))
"""Examples of each reason and characters of a text; fewer where the page would become too large."""


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
        "number": number, "percent": percent, "size": show_bytes, "shown": shown, "id": identifier,
        "chart": threshold_chart,
    }  # fmt: skip
    environment.globals |= {"bar": bar, "share": share, "band": band, "edit": _edit_as_html, "pair": _pair_as_html}
    return environment


def _prepared(report: Report) -> dict[str, Any]:
    return {
        "verdict": verdict(report),
        "steps": list(steps_of(report)),
        "reasons": list(reasons_of(report)),
        "curves": curves_by_step(report),
        "sources": list(sources_of(report)),
        "kept": kept_of(report["total"]),
        "unit": unit_of(report),
    }


def _marked(element: str, text: str) -> Markup:
    """The newline at its end stands behind it, or an empty mark would begin the next line."""
    seen = changed(text)
    bare = seen.removesuffix("\n")
    return Markup(f"<{element}>{{}}</{element}>{{}}").format(bare, seen[len(bare) :])


def _edit_as_html(before: str, after: str, most: int) -> Markup:
    """One text, with what went and what came marked in it."""
    parts = []
    for kind, text in in_one_line(before[:most], after[:most], min(most, CHANGED)):
        if kind in ("gone", "before"):
            parts.append(_marked("del", text))
        elif kind == "came":
            parts.append(_marked("ins", text))
        else:
            parts.append(escape(text.translate(HIDDEN)))
    return Markup("").join(parts)


def _pair_as_html(one: str, other: str, most: int) -> tuple[Markup, Markup]:
    """Both texts, with what the other has not marked."""
    left, right = [], []
    for kind, text in differences(one[:most], other[:most], min(most, SHOWN)):
        seen = _marked("mark", text) if kind in ("gone", "came") else escape(text.translate(HIDDEN))
        if kind in ("same", "gone", "before"):
            left.append(seen)
        if kind in ("same", "came", "after"):
            right.append(seen)
    return Markup("").join(left), Markup("").join(right)
