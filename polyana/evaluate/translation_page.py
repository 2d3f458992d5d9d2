"""A web page to read translations on, the worst first: one file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from pathlib import Path

from polyana.evaluate.translation import Comparison, Score, Translation, TranslationScores

__all__ = ["write_translation_page"]

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d5d0, #44443f); --quiet: light-dark(#66665f, #a5a59c);
  --more: light-dark(#ffd9d2, #6b2b22); --less: light-dark(#b3402d, #ff9d8c); --box: light-dark(#f6f6f2, #23231f); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem 1rem .2rem 0; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code, .quiet { color: var(--quiet); font-size: .85rem; } code { white-space: nowrap; }
.controls { display: flex; gap: 1rem; flex-wrap: wrap; margin: 1rem 0; }
.controls { align-items: center; } .controls input { width: 20rem; }
.controls input, .controls select { box-sizing: border-box; font: inherit; max-width: 100%; padding: .3rem .5rem; }
details { margin-top: 1rem; } .wide { overflow-x: auto; }
article { border: 1px solid var(--line); border-radius: .5rem; margin: 0 0 1rem; padding: .6rem 1rem; }
article header { display: flex; gap: 1rem; justify-content: space-between; overflow-wrap: anywhere; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .5rem 1.5rem; }
.sides p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: var(--more); color: inherit; border-radius: .15rem; }
del { color: var(--less); text-decoration: underline dotted; }
"""

_SCRIPT = """
const list = document.getElementById("examples"), all = [...list.children];
const wanted = document.getElementById("wanted"), order = document.getElementById("order");
const shown = document.getElementById("shown");
function show() {
  const text = wanted.value.toLowerCase(), key = order.value, way = key.endsWith("-") ? -1 : 1;
  const name = key.replace("-", "");
  const found = all.filter(each => each.textContent.toLowerCase().includes(text));
  found.sort((a, b) => way * (a.dataset[name] - b.dataset[name]));
  list.replaceChildren(...found);
  shown.textContent = found.length + " shown";
}
wanted.addEventListener("input", show);
order.addEventListener("change", show);
"""


def write_translation_page(
    path: Path,
    title: str,
    languages: tuple[str, str],
    systems: Mapping[str, tuple[Sequence[Translation], TranslationScores]],
    comparisons: Sequence[Comparison] = (),
    most: int = 500,
) -> None:
    """The segments that the first of the systems translated worst, `most` of them, with what the others made of them.

    All systems translated the same test set; `comparisons` are those of the first against the second.
    """
    page = "\n".join(_page(title, languages, systems, comparisons, most))
    path.write_bytes(page.encode("utf-8", "replace"))  # a model can write half a surrogate pair


def _page(
    title: str,
    languages: tuple[str, str],
    systems: Mapping[str, tuple[Sequence[Translation], TranslationScores]],
    comparisons: Sequence[Comparison],
    most: int,
) -> Iterator[str]:
    (translations, scores), *_ = systems.values()
    worst = sorted(range(len(translations)), key=lambda number: scores.segments[number])[:most]
    yield f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>{len(translations):,} segments in {len(scores.documents):,} documents, {escape(languages[0])} to
{escape(languages[1])}.</p>"""
    yield from _scores_table({name: each for name, (_, each) in systems.items()})
    yield from _comparison_table(list(systems), comparisons)
    yield from _document_table(scores)
    yield f"""<h2>{f"The {most:,} worst segments" if most < len(translations) else "All segments, the worst first"}</h2>
<p class="quiet">Sorted by the segment's chrF++. <mark>Marked</mark>: not in the reference.
<del>Underlined</del>: in the reference, and not in the first translation.</p>
<div class="controls"><input id="wanted" type="search" placeholder="only those with this text"
aria-label="only those with this text">
<select id="order" aria-label="order"><option value="score">the worst first</option>
<option value="score-">the best first</option><option value="place">in the test set's order</option>{
        '<option value="gain">the greatest loss first</option><option value="gain-">the greatest gain first</option>'
        if len(systems) > 1
        else ""
    }</select><span id="shown" class="quiet">{len(worst):,} shown</span></div>
<main id="examples">"""
    for number in worst:
        yield _example(number, languages, systems)
    yield f"</main><script>{_SCRIPT}</script></body></html>"


def _scores_table(systems: Mapping[str, TranslationScores]) -> Iterator[str]:
    yield '<h2>Scores</h2><div class="wide"><table><tr><th></th>'
    yield "".join(f'<th class="number">{escape(name)}</th>' for name in systems)
    yield "<th>signature</th></tr>"
    (first, *_) = systems.values()
    rows: list[tuple[str, list[Score]]] = [
        ("BLEU", [each.bleu for each in systems.values()]),
        ("chrF++", [each.chrf for each in systems.values()]),
        ("BLEU of documents", [each.document_bleu for each in systems.values()]),
        ("chrF++ of documents", [each.document_chrf for each in systems.values()]),
    ]
    for name, found in rows:
        yield _row(name, (f"{each.value:.1f}" for each in found), str(found[0]).rsplit(" = ", 1)[0])
    if first.terms.occurrences:
        counted = f"{first.terms.terms:,} terms in {first.terms.occurrences:,} places"
        yield _row("terms rendered alike", (f"{each.terms.consistency:.1%}" for each in systems.values()), counted)
        yield _row("... as in the reference", (f"{each.terms.accuracy:.1%}" for each in systems.values()), "")
    yield "</table></div>"


def _row(name: str, values: Iterable[str], note: str) -> str:
    cells = "".join(f'<td class="number">{value}</td>' for value in values)
    return f"<tr><td>{escape(name)}</td>{cells}<td><code>{escape(note)}</code></td></tr>"


def _comparison_table(names: Sequence[str], comparisons: Sequence[Comparison]) -> Iterator[str]:
    if not comparisons:
        return
    yield f"""<h2>By chance?</h2><div class="wide"><table><tr><th></th><th class="number">{escape(names[1])}</th>
<th class="number">{escape(names[0])}</th><th class="number">p</th><th></th><th>paired bootstrap</th></tr>"""
    for each in comparisons:
        verdict = "significant" if each.is_significant else "may be chance"
        yield f"""<tr><td>{escape(each.name)}</td><td class="number">{each.baseline:.1f}</td>
<td class="number">{each.system:.1f} ± {each.interval:.1f}</td><td class="number">{each.p_value:.3f}</td>
<td>{verdict}</td><td><code>{escape(each.signature)}</code></td></tr>"""
    yield "</table></div>"


def _document_table(scores: TranslationScores) -> Iterator[str]:
    yield """<details><summary>Documents, the worst first</summary>
<table><tr><th>document</th><th class="number">chrF++</th></tr>"""
    for name, value in sorted(scores.documents.items(), key=lambda each: each[1]):
        yield f'<tr><td>{escape(name)}</td><td class="number">{value:.1f}</td></tr>'
    yield "</table></details>"


def _example(
    number: int,
    languages: tuple[str, str],
    systems: Mapping[str, tuple[Sequence[Translation], TranslationScores]],
) -> str:
    values = [scores.segments[number] for _, scores in systems.values()]
    first = next(iter(systems.values()))[0][number]
    gain = values[0] - values[1] if len(values) > 1 else 0
    reference, _ = _marked(first.reference, first.hypothesis)
    sides = [_side("source", languages[0], escape(first.source)), _side("reference", languages[1], reference)]
    for (name, (translations, _)), value in zip(systems.items(), values, strict=True):
        _, hypothesis = _marked(first.reference, translations[number].hypothesis)
        sides.append(_side(f"{name}, {value:.1f}", languages[1], hypothesis))
    return f"""<article data-score="{values[0]:.4f}" data-place="{number}" data-gain="{gain:.4f}">
<header class="quiet"><span>{escape(first.document)}, segment {number + 1}</span><b>{values[0]:.1f}</b></header>
<div class="sides">{"".join(sides)}</div></article>"""


def _side(name: str, language: str, text: str) -> str:
    shown = text or '<span class="quiet">(nothing)</span>'
    return f'<div><span class="quiet">{escape(name)}</span><p lang="{escape(language)}" dir="auto">{shown}</p></div>'


def _marked(reference: str, hypothesis: str) -> tuple[str, str]:
    """Both as HTML: what only the reference has in <del>, what only the hypothesis has in <mark>."""
    theirs, ours = _words(reference), _words(hypothesis)
    left, right = [], []
    matcher = SequenceMatcher(None, [word.lower() for word in theirs], [word.lower() for word in ours], autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        missing, extra = escape("".join(theirs[i:j])), escape("".join(ours[k:m]))
        is_same = kind == "equal"
        left.append(missing if is_same or not missing.strip() else f"<del>{missing}</del>")
        right.append(extra if is_same or not extra.strip() else f"<mark>{extra}</mark>")
    return "".join(left), "".join(right)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)
