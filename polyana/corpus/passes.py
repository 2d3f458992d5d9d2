"""One reading of all text: the steps that can be done at once, a part or a chunk at a time.

A pass writes the documents as they are afterwards and what was measured of them; which of them stay is decided behind
it (decide.py). So a changed threshold does not lead through the text again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyana.corpus.chunks import Chunk, ChunkWriter, Sizes, blocks_of, drop_line
from polyana.corpus.document import Document, Dropped, utf8_length
from polyana.corpus.executor import shared
from polyana.corpus.normalise import normalise_all
from polyana.corpus.readers import Notes, Part
from polyana.corpus.shown import MARGIN, SHOWN, Veil, around_change
from polyana.corpus.stage import CorpusConfig
from polyana.corpus.steps.near import NearDuplicates
from polyana.corpus.steps.step import Block, CorpusWide, Edit, Found, Records, StepConfig, Surroundings, Worker

if TYPE_CHECKING:
    from polyana.corpus.words import Words

__all__ = ["READING", "SAMPLES", "CountTokens", "Pass", "again", "hash_of", "held_out_at", "passes_of", "read_part"]

NOTHING_LEFT = "nothing is left"  # of a document, behind an edit
CountTokens = Callable[[list[str]], NDArray[np.int64]]
"""The tokens of each text; another process can be given it."""

READING = -1  # the place of reading itself among the steps
SAMPLES = 10  # documents shown for each reason


@dataclass(frozen=True)
class Pass:
    """`steps` are places in `config.all_steps`; `rework` is that of a corpus-wide step behind the pass before, which
    edits by what was settled then."""

    directory: Path
    config: CorpusConfig
    steps: tuple[int, ...]
    languages: tuple[str, ...]
    files: tuple[Mapping[str, Path], ...]  # that each step of `config.all_steps` names, by setting
    sizes: Sizes
    rework: int | None = None
    domains: tuple[str, ...] = ()  # names of all of them
    count_tokens: CountTokens | None = None


def passes_of(config: CorpusConfig) -> list[tuple[int, ...]]:
    """The places of the steps that each pass does.

    A pass ends behind a step that edits by what stands in other documents, and before one that edits where copies were
    looked for, so that it edits no copy that goes, or one that is costly.
    """
    passes: list[tuple[int, ...]] = []
    current: list[int] = []
    compared = False
    for place, step in enumerate(config.all_steps):
        if (step.edits and compared) or (step.costly and current):
            passes.append(tuple(current))
            current, compared = [], False
        current.append(place)
        if isinstance(step, CorpusWide):
            compared = compared or step.compares
            if step.reworks:
                passes.append(tuple(current))
                current, compared = [], False
    return [*passes, tuple(current)]


def hash_of(identifier: str) -> bytes:
    """Where a document belongs: its bytes decide on the split, the order, the examples."""
    return hashlib.sha256(identifier.encode("utf-8", "replace")).digest()


def held_out_at(digest: bytes) -> float:
    """A number in [0, 1): the smallest share of documents held out that does not hold this one out."""
    return int.from_bytes(digest[:6], "big") / 2**48


def read_part(one: Pass, number: int, part: Part, source: int) -> tuple[dict[str, Any], list[Path]]:
    """The first pass over a part of a source."""
    notes = Notes()
    result, files = _work(one, number, _cleaned(part.read(notes), one, source))
    noticed = {field.name: getattr(notes, field.name) for field in fields(notes)}  # asdict cannot copy a Counter
    return result | {"notes": noticed}, files


def again(
    one: Pass, number: int, chunk: Chunk, stays: Path, first: int, settled: Path | None
) -> tuple[dict[str, Any], list[Path]]:
    """A later pass over those of a chunk's documents that `stays` (an array of rows) names; row `first` is its 0.

    `settled` is what the step `one.rework` has to know.
    """
    known: Records = {}
    if settled is not None:
        with np.load(settled) as columns:
            known = dict(columns)
    return _work(one, number, _kept(one, chunk, np.load(stays), first, known))


@dataclass(slots=True)
class _Batch:
    """A block on its way through a pass."""

    block: Block
    columns: dict[str, NDArray[Any]]
    edits: list[tuple[int, int, Edit, str]]  # row, step, edit, text before
    gone: dict[int, tuple[int, str]]  # row: step, reason
    unread: list[_Unread]


class _Unread(NamedTuple):
    """What did not become a document."""

    id: str
    reason: str
    size: int
    begin: str = ""


def _cleaned(items: Iterator[Document | Dropped], one: Pass, source: int) -> Iterator[_Batch]:
    for documents, dropped in blocks_of(items, one.sizes):
        unread = [_Unread(item.id, item.reason, item.size) for item in dropped]
        edits, ids, texts, sizes = list[tuple[int, int, Edit, str]](), list[str](), list[str](), list[int]()
        looked_at = normalise_all([document.text for document in documents])
        for document, (text, size, noise) in zip(documents, looked_at, strict=True):
            if reason := noise or _too_little(text, one.config.min_characters):
                unread.append(_Unread(document.id, reason, size, document.text[: SHOWN + MARGIN]))
                continue
            if text != document.text and (edit := Edit.of(document.text, [("normalised", text)])):
                edits.append((len(ids), READING, edit, document.text))
            ids.append(document.id)
            texts.append(text)
            sizes.append(size)
        # as held_out_at says for each, and the next 64 bits
        hashes = np.frombuffer(b"".join(map(hash_of, ids)), ">u8").reshape(-1, 4).astype(np.uint64)
        columns: dict[str, NDArray[Any]] = {
            "size": np.array(sizes, np.int64),
            "source": np.full(len(texts), source, np.int16),
            "domain": np.full(len(texts), source, np.int16),  # until a step says otherwise
            "held": (hashes[:, 0] >> np.uint64(16)) / 2.0**48,
            "order": hashes[:, 1].copy(),
        }
        if one.count_tokens is not None:
            columns["tokens_before"] = one.count_tokens(texts)
        yield _Batch(Block(ids, texts, np.zeros(len(texts), np.int16)), columns, edits, {}, unread)


def _too_little(text: str, least: int) -> str | None:
    if not text.strip():
        return "empty"
    return f"shorter than {least} characters" if len(text) < least else None


def _kept(one: Pass, chunk: Chunk, stays: NDArray[np.int64], first: int, settled: Records) -> Iterator[_Batch]:
    carried = ["length", "source", "domain", "held", "order", "language"]
    carried += ["tokens"] if one.count_tokens is not None else []
    columns = chunk.columns(carried)
    columns = {name: values[stays] for name, values in columns.items()}
    wanted, at = set(stays.tolist()), 0
    staying = (document for row, document in enumerate(chunk.documents()) if row in wanted)
    for documents, _ in blocks_of(staying, one.sizes):
        part = {name: values[at : at + len(documents)] for name, values in columns.items()}
        rows = stays[at : at + len(documents)] + first
        at += len(documents)
        block = Block([each.id for each in documents], [each.text for each in documents], part.pop("language"))
        part["size"] = part.pop("length")
        if one.count_tokens is not None:
            part["tokens_before"] = part.pop("tokens")
        batch = _Batch(block, part, [], {}, [])
        if one.rework is not None:
            step = one.config.all_steps[one.rework]
            assert isinstance(step, CorpusWide)
            _edit(batch, one.rework, Found(edited=step.rework(block.texts, block.ids, rows, settled)))
        yield batch


def _edit(batch: _Batch, place: int, found: Found) -> None:
    """Put new texts into the block; a document that has become blank is gone."""
    for row, edit in found.edited.items():
        if row in batch.gone:
            continue
        batch.edits.append((row, place, edit, batch.block.texts[row]))
        batch.block.texts[row] = edit.text
        batch.block.changed.add(row)
        if not edit.text.strip():
            batch.gone[row] = (place, NOTHING_LEFT)


def _work(one: Pass, number: int, batches: Iterator[_Batch]) -> tuple[dict[str, Any], list[Path]]:
    workers = shared(one.directory, lambda: _workers(one))
    samples = _Samples(one)
    reasons: dict[tuple[int, str], int] = {}
    unread: dict[str, list[Any]] = {}  # reason: documents, bytes, the first of them
    with ChunkWriter(one.directory, number, one.sizes) as writer:
        for batch in batches:
            for place, worker in workers:
                found = worker(batch.block)
                for name, values in found.columns.items():
                    batch.columns[f"{place}.{name}"] = values
                    if name == "label":
                        batch.block.languages = np.maximum(values, 0).astype(np.int16)
                    if name == "domain":
                        batch.columns[name] = np.where(values < 0, batch.columns[name], values)
                for row, reason in found.dropped.items():
                    batch.gone.setdefault(row, (place, reason))
                _edit(batch, place, found)
            samples.take(batch)
            _count(batch.unread, unread)
            if one.count_tokens is not None:
                _count_tokens(batch, one.count_tokens)
            _write(batch, writer, reasons)
    result = {"chunks": writer.names, "samples": samples.found, "reasons": [list(each) for each in reasons]}
    return result | {"unread": unread}, writer.files


def _count(records: list[_Unread], counted: dict[str, list[Any]]) -> None:
    for each in records:
        count = counted.setdefault(each.reason, [0, 0, []])
        count[0] += 1
        count[1] += each.size
        if len(count[2]) < SAMPLES:
            count[2].append([each.id, each.begin])


def _count_tokens(batch: _Batch, count: CountTokens) -> None:
    tokens, edited = batch.columns["tokens_before"].copy(), sorted({row for row, *_ in batch.edits})
    if edited:
        tokens[edited] = count([batch.block.texts[row] for row in edited])
    batch.columns["tokens"] = tokens


def _write(batch: _Batch, writer: ChunkWriter, reasons: dict[tuple[int, str], int]) -> None:
    block = batch.block
    gone = np.full(len(block), -1, np.int32)
    for row, reason in batch.gone.items():
        gone[row] = reasons.setdefault(reason, len(reasons))
    columns = batch.columns | {
        "length": np.array([utf8_length(text) for text in block.texts], np.int64),
        "language": block.languages,
        "broken": np.array(["\ufffd" in text for text in block.texts], np.bool_),
        "gone": gone,
    }
    edits = [
        (row, reasons.setdefault((place, reason), len(reasons)), size)
        for row, place, edit, _ in batch.edits
        for reason, size in edit.taken.items()
    ]
    writer.write(block, columns, edits, [drop_line(each.id, each.reason, each.size) for each in batch.unread])


def _workers(one: Pass) -> list[tuple[int, Worker]]:
    """What does the steps, with one table of words for all of them."""
    steps = [(place, one.config.all_steps[place]) for place in one.steps]
    words = _words(one.languages, [step for _, step in steps])
    return [
        (place, step.worker(Surroundings(one.languages, one.files[place], words, one.domains))) for place, step in steps
    ]


def _words(languages: tuple[str, ...], steps: list[StepConfig]) -> Words | None:
    if not any(step.counts_words for step in steps):
        return None
    from polyana.corpus.words import Words  # compiles, which takes a second

    return Words(
        languages,
        {language: [word for step in steps for word in step.looked_for(language)] for language in languages},
        plain=any(isinstance(step, NearDuplicates) for step in steps),
        words=any(step.counts_words and not isinstance(step, NearDuplicates) for step in steps),
        counted=_counted_at_first(steps),
    )


def _counted_at_first(steps: list[StepConfig]) -> set[str]:
    """What the steps count before one of them edits."""
    found: set[str] = set()
    for step in takewhile(lambda step: not step.edits or not found, steps):
        found.update(getattr(step, "counted", ()))
    return found


class _Samples:
    """Of the documents edited for each reason those that come first in the corpus's order, before and after."""

    def __init__(self, one: Pass) -> None:
        self._steps = one.config.all_steps
        self._veil = Veil(self._steps)
        self.found: dict[str, list[list[Any]]] = {}

    def take(self, batch: _Batch) -> None:
        for row, place, edit, before in batch.edits:
            order = int(batch.columns["order"][row])
            for reason in edit.taken:
                taken = self.found.setdefault(f"{place} {reason}", [])
                if len(taken) == SAMPLES and order >= taken[-1][0]:
                    continue
                secret = place != READING and self._steps[place].secret
                shown = around_change(before, edit.text, self._veil, secret=secret)
                taken.append([order, batch.block.ids[row], *shown])
                taken.sort(key=lambda each: (each[0], each[1]))
                del taken[SAMPLES:]
