"""What a step of the mill is: a config that a recipe names, and a worker that each process makes from it once.

A step sees documents a block at a time and says of each what it measured, what it makes of the text, and whether it
throws the document out at once. What depends on a threshold is decided later, from the measured columns alone, so that
another threshold does not read text again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polyana.config import Config
from polyana.corpus.document import utf8_length

if TYPE_CHECKING:
    from polyana.corpus.words import Words

__all__ = [
    "BLACK",
    "Block",
    "Columns",
    "CorpusWide",
    "Edit",
    "Found",
    "Records",
    "StepConfig",
    "Surroundings",
    "Verdict",
    "Worker",
    "joined",
]

BLACK = "\N{FULL BLOCK}"
"""Stands for each character that may not be seen."""

Columns = Mapping[str, NDArray[Any]]
"""Measured numbers by name, [documents]."""

Records = dict[str, NDArray[Any]]
"""Columns of equal length."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason to throw documents out: that one of their numbers, `values`, is below `least` or above `most`."""

    reason: str
    values: NDArray[Any]
    least: float | None = None
    most: float | None = None

    @property
    def thrown(self) -> NDArray[np.bool_]:
        """Which documents it throws out."""
        out = np.zeros(len(self.values), np.bool_)
        if self.least is not None:
            out |= self.values < self.least
        if self.most is not None:
            out |= self.values > self.most
        return out


@dataclass(slots=True)
class Block:
    """Some documents, in the corpus's order. `languages`: of each the place in `Surroundings.languages`."""

    ids: list[str]
    texts: list[str]
    languages: NDArray[np.int16]
    changed: set[int] = field(default_factory=set)  # places whose text is another than when words were last counted

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Edit:
    """A document's new text. `taken`: by reason the bytes of UTF-8 that went; below 0 where some came."""

    text: str
    taken: dict[str, int]

    @classmethod
    def of(cls, before: str, versions: Iterable[tuple[str, str]]) -> Edit | None:
        """From (reason, the text after it) in their order; None where nothing has changed."""
        taken: dict[str, int] = {}
        text, size = before, None
        for reason, after in versions:
            if after == text:
                continue
            size = utf8_length(text) if size is None else size
            rest = utf8_length(after)
            taken[reason] = taken.get(reason, 0) + size - rest
            text, size = after, rest
        return cls(text, taken) if taken else None

    @classmethod
    def by_reason(cls, before: str, after: str, taken: Mapping[str, int], rest: str) -> Edit | None:
        """Of which `taken` says what each reason took; what is more is `rest`. None where nothing has changed."""
        if after == before:
            return None
        more = utf8_length(before) - utf8_length(after) - sum(taken.values())
        return cls(after, {reason: size for reason, size in (*taken.items(), (rest, more)) if size} or {rest: 0})


@dataclass(slots=True)
class Found:
    """What a step makes of a block; `dropped` and `edited` by the document's place in it."""

    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    edited: dict[int, Edit] = field(default_factory=dict)


Worker = Callable[[Block], Found]


@dataclass(frozen=True)
class Surroundings:
    """What a step may know beside its own settings.

    `languages` are ISO 639-1 codes; `files` are directories of stages and files that its settings name, by setting (a
    stage under `model`); `words` counts words for all steps together; `domains` are the names of all domains.
    """

    languages: tuple[str, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    words: Words | None = None
    domains: tuple[str, ...] = ()


def joined(parts: Sequence[Records]) -> Records:
    """Records of the same columns, one behind another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


class StepConfig(Config):
    """What all steps share."""

    kind: str  # its registered name

    deciding: ClassVar[frozenset[str]] = frozenset()
    """Settings that `verdicts` alone reads: when they change, nothing is measured again."""

    edits: ClassVar[bool] = False
    """Whether its worker may change texts."""

    counts_words: ClassVar[bool] = False
    """Whether it needs `Surroundings.words`, and so a language."""

    costly: ClassVar[bool] = False
    """Whether it measures so slowly that it pays to read once more what the steps before have left."""

    secret: ClassVar[bool] = False
    """Whether what it takes out may not be shown to anybody."""

    def files(self, base: Path) -> dict[str, list[tuple[str, Path]]]:
        """(name, path) of every file that a setting names, by the setting. Raises UserError where there is none."""
        return {}

    def places(self, base: Path) -> dict[str, Path]:
        """Where a worker finds what settings name, for `Surroundings.files`."""
        return {}

    def worker(self, surroundings: Surroundings) -> Worker:
        """What does the work in one process; made once there, so what it loads is loaded once."""
        raise NotImplementedError  # each kind has its own

    def veil(self) -> Callable[[str], str]:
        """What blackens, in a text of any step that is to be shown, what a secret one takes out; the length stays."""
        raise NotImplementedError  # of those that are secret

    def looked_for(self, language: str) -> Sequence[str]:
        """Words of a language whose number in a document is counted."""
        return ()

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        """Reasons to throw documents of one language out, by what was measured; the first that holds counts."""
        yield from ()


class CorpusWide(StepConfig):
    """A step that cannot decide by one document: it compares all that stand before it.

    Each chunk emits records with a 64-bit `key`; records of one key meet in one place, wherever their documents lie;
    what comes of that is settled once. Rows are counted through the whole corpus.
    """

    def emit(self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64]) -> Records:
        """Records of documents by their columns, or by their `texts`, which are read when they are asked for."""
        raise NotImplementedError  # each kind has its own

    def meet(self, records: Records) -> Records:
        """What follows from records, among which are all or none of each key."""
        raise NotImplementedError  # each kind has its own

    def settle(self, met: Sequence[Records], rows: int) -> Records:
        """`dropped` and `kept`: rows that go and the row that each is a copy of. Or what `rework` needs.

        `met` is what `meet` gave, time by time; it lies on the disk, and need not be in memory at once.
        """
        raise NotImplementedError  # each kind has its own

    @property
    def narrows(self) -> bool:
        """Whether what is settled first only says where to look; then `emit_again`, `meet` and `settle` follow."""
        return False

    def emit_again(
        self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64], settled: Records
    ) -> Records:
        """Records of the second round, by what was settled in the first."""
        raise NotImplementedError  # of those that narrow

    @property
    def compares(self) -> bool:
        """Whether so many documents may go that it pays to edit the others only afterwards."""
        return True

    @property
    def reworks(self) -> bool:
        """Whether documents are edited by what was settled, and not only dropped."""
        return False

    @property
    def by_row(self) -> bool:
        """Whether `meet` gives numbers of documents, `row`, sorted, and `rework` needs those of its documents alone.

        Then `settle` is asked for the documents of one chunk at a time.
        """
        return False

    def rework(self, texts: list[str], ids: list[str], rows: NDArray[np.int64], settled: Records) -> dict[int, Edit]:
        """New texts, by their place in `texts`."""
        raise NotImplementedError  # of those that rework
