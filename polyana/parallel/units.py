"""Sentences to what is translated at once: sentence, chunk, paragraph, document, or a mix of them."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter

from polyana.parallel.config import (
    ChunkUnit,
    DocumentUnit,
    ParagraphUnit,
    ParallelConfig,
    SentenceUnit,
)
from polyana.parallel.segment import Segment
from polyana.parallel.sentences import separator

__all__ = ["Unit", "UnitReport", "joined", "units"]

_STRETCH = (
    60  # sentences, about, that one kind of a mix cuts before the next is drawn: four of the longest chunks; guess
)

_Kind = SentenceUnit | ChunkUnit | ParagraphUnit | DocumentUnit


@dataclass(frozen=True, slots=True)
class Unit:
    """What is translated at once. `id` is DOCUMENT:FIRST-LAST, the numbers of its sentences, and the direction.

    `sentences` are its pairs as they were aligned; `source` and `target` are these put together. `context` are the
    pairs before it in its document, oldest first: shown, not learned. All in the order of `direction`.
    """

    id: str
    document: str
    kind: str
    direction: tuple[str, str]
    source: str
    target: str
    sentences: tuple[tuple[str, str], ...]
    context: tuple[tuple[str, str], ...] = ()


@dataclass
class UnitReport:
    """How many units and sentences each kind has given, both directions counted; how many duplicates were left out."""

    units: dict[str, int] = field(default_factory=dict)
    sentences: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0

    def add(self, unit: Unit) -> None:
        self.units[unit.kind] = self.units.get(unit.kind, 0) + 1
        self.sentences[unit.kind] = self.sentences.get(unit.kind, 0) + len(unit.sentences)

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [f"{kind}: {count:,} units of {self.sentences[kind]:,} sentences" for kind, count in self.units.items()]
        return lines + ([f"  dropped {self.duplicates:>9,}  duplicates"] if self.duplicates else [])


def units(
    segments: Iterable[Segment],
    config: ParallelConfig,
    seed: int,
    count_tokens: Callable[[str], int],
    report: UnitReport,
    *,
    training: bool = True,
) -> Iterator[Unit]:
    """The units of `segments`, whose documents stand together. Every sentence is in exactly one unit of a direction.

    In a mix each stretch of a document, or each whole document where `document` is in the mix, is cut by a kind that is
    drawn by weight. What is drawn follows from the seed and the document's name, so it does not change when others come
    and go. `count_tokens` measures for `document`. When training, duplicates are left out, and with `both_directions`
    each unit is followed by its reverse; evaluation keeps all as they are.
    """
    seen: set[bytes] = set()
    for document, its_segments in groupby(segments, attrgetter("document")):
        for unit in _of_document(document, its_segments, config, seed, count_tokens):
            if training and config.hygiene.duplicates:
                digest = hashlib.blake2b(
                    repr((unit.context, unit.source, unit.target)).encode(), digest_size=16
                ).digest()
                if digest in seen:
                    report.duplicates += 1
                    continue
                seen.add(digest)
            report.add(unit)
            yield unit
            if training and config.both_directions:
                report.add(unit)
                yield _reversed(unit)


def _of_document(
    document: str, segments: Iterable[Segment], config: ParallelConfig, seed: int, count_tokens: Callable[[str], int]
) -> Iterator[Unit]:
    draws = random.Random(f"{seed}/{document}")
    whole = len(config.unit) == 1 or any(isinstance(kind, DocumentUnit) for kind in config.unit)
    weights = [kind.weight for kind in config.unit]
    longest = max((kind.context for kind in config.unit if isinstance(kind, SentenceUnit)), default=0)
    before: deque[tuple[str, str]] = deque(maxlen=longest)
    languages = (config.languages.source, config.languages.target)
    for stretch in [segments] if whole else _stretches(segments):
        kind = draws.choices(config.unit, weights)[0]
        for group in _cut(stretch, kind, draws, count_tokens):
            pairs = tuple((segment.source, segment.target) for segment in group)
            wanted = kind.context if isinstance(kind, SentenceUnit) else 0
            yield Unit(
                f"{document}:{group[0].number}-{group[-1].number}:{languages[0]}-{languages[1]}",
                document,
                kind.kind,
                languages,
                joined(group, "source", languages[0]),
                joined(group, "target", languages[1]),
                pairs,
                tuple(before)[len(before) - min(wanted, len(before)) :],
            )
            before.extend(pairs)


def _reversed(unit: Unit) -> Unit:
    one, other = unit.direction
    return Unit(
        f"{unit.id.rpartition(':')[0]}:{other}-{one}",
        unit.document,
        unit.kind,
        (other, one),
        unit.target,
        unit.source,
        tuple((target, source) for source, target in unit.sentences),
        tuple((target, source) for source, target in unit.context),
    )


def joined(segments: list[Segment], side: str, code: str) -> str:
    """Sentences as running text, one paragraph a line where paragraphs are known."""
    paragraphs = [
        separator(code).join(getattr(segment, side) for segment in paragraph)
        for _, paragraph in groupby(segments, attrgetter("paragraph"))
    ]
    return "\n".join(paragraphs)


def _stretches(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """About 60 sentences each, never parting a paragraph."""
    stretch: list[Segment] = []
    for _, paragraph in _paragraphs(segments):
        stretch += paragraph
        if len(stretch) >= _STRETCH:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _paragraphs(segments: Iterable[Segment]) -> Iterator[tuple[int | None, list[Segment]]]:
    """Each paragraph's sentences; each sentence alone where paragraphs are unknown."""
    for number, group in groupby(segments, attrgetter("paragraph")):
        if number is None:
            yield from ((None, [segment]) for segment in group)
        else:
            yield number, list(group)


def _cut(
    segments: Iterable[Segment], kind: _Kind, draws: random.Random, count_tokens: Callable[[str], int]
) -> Iterator[list[Segment]]:
    if isinstance(kind, SentenceUnit):
        yield from ([segment] for segment in segments)
    elif isinstance(kind, ParagraphUnit):
        yield from (paragraph for _, paragraph in _paragraphs(segments))
    elif isinstance(kind, ChunkUnit):
        yield from _chunks(iter(segments), kind, draws)
    else:
        yield from _documents(segments, int(kind.tokens.amount), count_tokens)


def _chunks(segments: Iterator[Segment], kind: ChunkUnit, draws: random.Random) -> Iterator[list[Segment]]:
    """As many sentences as are drawn; the last two chunks share what is left evenly where one would be too short."""
    least, most = kind.min_sentences, kind.max_sentences
    waiting: deque[Segment] = deque()
    while True:
        waiting.extend(islice(segments, least + most - len(waiting)))
        if not waiting:
            return
        size = draws.randint(least, most)
        if len(waiting) <= most:
            size = len(waiting)
        elif len(waiting) < size + least:
            size = max(len(waiting) - least, least) if len(waiting) >= 2 * least else (len(waiting) + 1) // 2
        yield [waiting.popleft() for _ in range(size)]


def _documents(segments: Iterable[Segment], budget: int, count_tokens: Callable[[str], int]) -> Iterator[list[Segment]]:
    """Whole paragraphs up to the budget; of one that is longer, whole sentences."""
    part: list[Segment] = []
    spent = 0

    def cost(pieces: Iterable[Segment]) -> int:
        return sum(count_tokens(text) for segment in pieces for text in (segment.source, segment.target))

    for _, paragraph in _paragraphs(segments):
        whole = cost(paragraph)
        for piece in [paragraph] if whole <= budget else [[segment] for segment in paragraph]:
            more = cost(piece) if whole > budget else whole
            if part and spent + more > budget:
                yield part
                part, spent = [], 0
            part = part + piece
            spent += more
    if part:
        yield part
