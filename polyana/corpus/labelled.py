"""Labelled examples for the stages that learn classifiers, and how sure a share counted on them is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyana.corpus.config import SourceConfig
from polyana.corpus.document import Document
from polyana.corpus.inputs import place_of, spread
from polyana.corpus.normalise import normalise
from polyana.corpus.readers import read_source
from polyana.errors import PolyanaError

__all__ = ["Example", "check_enough", "distinct", "held_out", "markdown_table", "read_examples", "wilson"]

Example = tuple[str, str]
"""(id, text)."""

_FEWEST = 20  # examples of a kind to learn from, and to be held out; guess
_95 = 1.959964  # standard deviations within which 95 % of a normal distribution lie


def read_examples(
    sources: Sequence[SourceConfig], base: Path, most: int, show: Callable[[int, str], None]
) -> list[Example]:
    """Documents of some sources, `most` of them at most, drawn from all over; `show(place of the source, how far)`."""

    def documents() -> Iterator[Example]:
        for number, source in enumerate(sources):
            for count, document in enumerate(read_source(source, base)):
                if isinstance(document, Document) and (text := normalise(document.text)).strip():
                    yield document.id, text
                show(number, f"{count:,} documents of {source.label}")

    return spread(documents(), most, lambda _: 1)


def distinct(kinds: Sequence[list[Example]]) -> tuple[list[Example], NDArray[np.int64], int, int]:
    """Examples with the place of their kind, each text once: a copy could stand on both sides of a trial. What is said
    to be of two kinds is of neither.

    (examples, labels, texts of two kinds, copies left out)
    """
    kind_of: dict[str, int] = {}
    torn: set[str] = set()
    for label, examples in enumerate(kinds):
        torn |= {text for _, text in examples if kind_of.setdefault(text, label) != label}
    seen, kept, labels, several = set(torn), list[Example](), list[int](), 0
    for label, examples in enumerate(kinds):
        for identifier, text in examples:
            several += text in torn
            if text not in seen:
                seen.add(text)
                kept.append((identifier, text))
                labels.append(label)
    duplicates = sum(map(len, kinds)) - len(kept) - several
    return kept, np.array(labels, np.int64), len(torn), duplicates


def held_out(examples: Sequence[Example], share: float) -> NDArray[np.bool_]:
    """Which are not learnt, by their ids."""
    return np.array([place_of("held out " + identifier) < share for identifier, _ in examples], np.bool_)


def check_enough(labels: NDArray[np.int64], aside: NDArray[np.bool_], names: Sequence[str]) -> None:
    """Raises PolyanaError where a kind has too few examples to learn from, or to be tried on."""
    for number, name in enumerate(names):
        learnt, tried = int((labels[~aside] == number).sum()), int((labels[aside] == number).sum())
        if min(learnt, tried) < _FEWEST:
            raise PolyanaError(
                f"of the {name} examples {learnt} are to learn from and {tried} to be tried on, and {_FEWEST} of each "
                f"are needed: give more `{name}` sources, cut long files with `document: paragraph`, or change "
                "`held_out`"
            )


def wilson(hits: int, of: int) -> list[float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if of == 0:
        return [0.0, 1.0]
    share, squared = hits / of, _95**2 / of
    middle = share + squared / 2
    width = _95 * ((share * (1 - share) + squared / 4) / of) ** 0.5
    return [round(max(0.0, (middle - width) / (1 + squared)), 4), round(min(1.0, (middle + width) / (1 + squared)), 4)]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers to the right."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["--:"] * len(header), *rows])
