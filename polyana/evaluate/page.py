"""What a suite found out, to read: an HTML file that needs nothing else, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from polyana.evaluate.items import Item, Metric, Paired, better_of
from polyana.storage import write_file

__all__ = ["Column", "write_evaluation_pages"]

_WORST, _TYPICAL = 15, 5  # examples of each task; guess
_LONGEST = 1500  # characters of a text in an example

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d5d0, #44443f); --quiet: light-dark(#66665f, #a5a59c);
  --bad: light-dark(#b3402d, #ff9d8c); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .2rem 1rem .2rem 0; text-align: right; white-space: nowrap; }
td { font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
.quiet { color: var(--quiet); font-size: .85rem; } .wide { overflow-x: auto; } .touched { color: var(--bad); }
article { border: 1px solid var(--line); border-radius: .5rem; margin: 0 0 1rem; padding: .6rem 1rem; }
article p { margin: .2rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Column:
    """The metrics of one save."""

    metrics: Mapping[str, Metric]
    step: int


Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads and rows."""


def write_evaluation_pages(
    directory: Path,
    name: str,
    title: str,
    saves: Mapping[str, Column],
    history: Mapping[str, Column],
    compared: Mapping[str, Sequence[Paired]],
    contamination: Mapping[str, str],
    items: Sequence[Item],
    result: Mapping[str, Any],
) -> Path:
    """Write NAME.html and NAME.md; the page's path.

    `saves`: of which the first has answered the `items`. `history`: all saves of its run that were asked the same.
    `compared`: by a heading as "A against B", A being the system. `contamination`: a sentence for each task.
    """
    tables = dict(_tables(saves, history, compared))
    how = _how(result)
    examples = dict(_examples(items))
    markdown = "\n".join(_markdown(title, tables, contamination, examples, how)) + "\n"
    html = "\n".join(_html(title, tables, contamination, examples, how)) + "\n"
    for ending, text in ((".md", markdown), (".html", html)):
        write_file(directory / f"{name}{ending}", text.encode("utf-8", "replace"))  # a model can write half a pair
    return directory / f"{name}.html"


def _tables(
    saves: Mapping[str, Column], history: Mapping[str, Column], compared: Mapping[str, Sequence[Paired]]
) -> Iterator[tuple[str, Table]]:
    first, *others = saves.values()
    rows = []
    for name, metric in first.metrics.items():
        row = [name, _number(metric.value), _range(metric.low, metric.high), f"{metric.n:,}", f"{metric.groups:,}"]
        rows.append(row + [_number(each.metrics[name].value) if name in each.metrics else "" for each in others])
    yield "Scores", (["", "score", "95 % interval", "items", "groups", *list(saves)[1:]], rows)
    for pair, tests in compared.items():
        rows = [
            [each.metric, _number(each.baseline), _number(each.system), f"{each.difference:+.4g}",
             _range(each.low, each.high), "" if each.p_value is None else f"{each.p_value:.2g}", each.verdict]
            for each in tests
        ]  # fmt: skip
        yield f"By chance? {pair}", (["", "the other", "this", "difference", "95 % interval", "p", ""], rows)
    if len(history) > 1:
        names = list(dict.fromkeys(name for column in history.values() for name in column.metrics))
        rows = [
            [save, *(_number(column.metrics[name].value) if name in column.metrics else "" for name in names)]
            for save, column in history.items()
        ]
        yield "All saves of the run that were asked the same", (["", *names], rows)


def _examples(items: Sequence[Item]) -> Iterator[tuple[str, list[tuple[Item, str]]]]:
    """Of each task the worst and the typical with what they scored, by the first metric that has a better way."""
    by_task = dict[str, list[tuple[float, Item, str]]]()
    for item in items:
        for name, (above, below) in item.scores.items():
            way = better_of(name)
            if way is not None and below:
                task = name.rpartition(".")[0]
                value = above / below
                badness = value if way == "lower" else -value
                by_task.setdefault(task, []).append((badness, item, f"{name} {_number(value)}"))
                break
    for task, found in by_task.items():
        found.sort(key=lambda each: each[0], reverse=True)
        heading = f" of {task}" if task else ""
        if len(found) <= _WORST + _TYPICAL:
            yield f"All{heading}, the worst first", [(item, score) for _, item, score in found]
            continue
        yield f"The worst{heading}", [(item, score) for _, item, score in found[:_WORST]]
        middle = max((len(found) - _TYPICAL) // 2, _WORST)
        yield f"From the middle{heading}", [(item, score) for _, item, score in found[middle : middle + _TYPICAL]]


def _how(result: Mapping[str, Any]) -> list[str]:
    said = [
        "Intervals are by the bootstrap: about one in 20 misses what the model would score on very many such items. "
        "Items of one group (of one document, about one text) are drawn together.",
        f"Computed in {result['precision']}, in {result['seconds']:.0f} s. Suite {result['suite_hash'][:12]}, commit "
        f"{result['commit'][:12]}.",
    ]
    for task, about in result["about"].items():
        if "stride" in about:
            said.append(
                f"{task + ': ' if task else ''}each token of a document is predicted once, the first from the mark "
                f"that begins a text. A document of more than {about['context']:,} tokens is read by windows of so "
                f"many that move on by {about['stride']:,}; no window reaches over a document's border."
            )
        if "signature" in about:
            said.append(f"{task + ': ' if task else ''}{about['signature']}, {' to '.join(about['direction'])}.")
    return said


def _markdown(
    title: str, tables: Mapping[str, Table], contamination: Mapping[str, str],
    examples: Mapping[str, list[tuple[Item, str]]], how: Sequence[str],
) -> Iterator[str]:  # fmt: skip
    yield f"# {title}"
    for name, (heads, rows) in tables.items():
        yield f"\n## {name}\n"
        yield f"| {' | '.join(heads)} |"
        yield f"|---|{'--:|' * (len(heads) - 1)}"
        yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    yield ""
    yield from (f"- {task + ': ' if task else ''}{text}" for task, text in contamination.items())
    yield from (f"- {line}" for line in how)
    for name, found in examples.items():
        yield f"\n## {name}"
        for item, score in found:
            yield f"\n### {item.id}: {score}\n"
            yield from (f"- {head}: {_on_a_line(_short(text))}" for head, text in item.shown.items())


def _html(
    title: str, tables: Mapping[str, Table], contamination: Mapping[str, str],
    examples: Mapping[str, list[tuple[Item, str]]], how: Sequence[str],
) -> Iterator[str]:  # fmt: skip
    yield f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"""
    for name, (heads, rows) in tables.items():
        yield f'<h2>{escape(name)}</h2><div class="wide"><table><tr>'
        yield "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"
        yield from (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        yield "</table></div>"
    yield from (f"<p>{escape(task + ': ' if task else '')}{escape(text)}</p>" for task, text in contamination.items())
    yield from (f'<p class="quiet">{escape(line)}</p>' for line in how)
    for name, found in examples.items():
        yield f"<h2>{escape(name)}</h2>"
        for item, score in found:
            yield f'<article><p><b>{escape(score)}</b> <span class="quiet">{escape(item.id)}</span></p>'
            for head, text in item.shown.items():
                mark = ' class="touched"' if head == "in the training text" and text == "yes" else ""
                yield f'<p{mark} dir="auto"><span class="quiet">{escape(head)}</span> {escape(_short(text))}</p>'
            yield "</article>"
    yield "</body></html>"


def _on_a_line(text: str) -> str:
    """In quotes where blanks at its ends or line breaks would not be seen."""
    return text if text == text.strip() and text.isprintable() and text else repr(text)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def _number(value: float) -> str:
    return f"{value:.4g}"


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
