"""Long passages that stand more than once, within a document or across them (Lee et al. 2022, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import KeyPath
from polyana.corpus.steps.step import Columns, CorpusWide, Edit, Found, Records, Surroundings, Worker, joined

__all__ = ["RepeatedSubstrings", "without_words"]

_AT_ONCE = 8 * 10**6  # characters that are hashed at once; guess: as the blocks of a pass
_PLACES = 32  # bits of a word's place in its document; its row stands above them


class RepeatedSubstrings(CorpusWide):
    """Cuts out words that belong to so many in a row which stand before, in the same document or another; words are
    what stands between blanks, letter by letter.

    Exact: in a first round some rows of half as many words are compared, at least one from each passage; only passages
    around those that stand twice are compared whole in the second, by 64-bit hashes (two of 100 million that differ are
    taken for one with a probability of 3e-4). It does not see passages in scripts without blanks.
    """

    kind: Literal["repeated_substrings"] = "repeated_substrings"
    words: int = Field(
        50,
        ge=2,
        le=1000,  # guess; hashes of rows are sound up to there
        description="words in a row that may stand once only; Lee et al. 2022 take 50 tokens",
    )
    deciding = frozenset({"words"})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "passages are compared with numba; run: pip install 'polyana[mill]'"

    @property
    def reworks(self) -> bool:
        return True

    @property
    def by_row(self) -> bool:
        return True

    @property
    def narrows(self) -> bool:
        return True

    def worker(self, surroundings: Surroundings) -> Worker:
        return lambda _block: Found()

    def emit(self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64]) -> Records:
        """Sampled rows of words, each twice at most: more say nothing more."""
        from polyana.corpus.steps import windows  # compiles, which takes a second

        found = [windows.sampled(*hashed, self.words, self._seed) for _, hashed in _hashed(texts())]
        keys = np.sort(np.concatenate([np.zeros(0, np.uint64), *found]))
        third = np.zeros(len(keys), np.bool_)
        third[2:] = keys[2:] == keys[:-2]
        return {"key": keys[~third]}

    def emit_again(
        self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64], settled: Records
    ) -> Records:
        """`place`: of a passage's first word in the corpus, in its order."""
        from polyana.corpus.steps import windows

        keys, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        if len(settled["repeated"]):
            for first, hashed in _hashed(texts()):
                document, place, key = windows.closely(*hashed, self.words, self._seed, settled["repeated"])
                keys.append(key)
                places.append((rows[first + document] << _PLACES) | place)
        return {"key": np.concatenate(keys), "place": np.concatenate(places)}

    def meet(self, records: Records) -> Records:
        if "place" not in records:  # the first round
            keys, counts = np.unique(records["key"], return_counts=True)
            return {"repeated": keys[counts > 1]}
        order = np.lexsort([records["place"], records["key"]])
        key, place = records["key"][order], records["place"][order]
        again = np.sort(place[1:][key[1:] == key[:-1]])
        return {"row": again >> _PLACES, "place": again & ((1 << _PLACES) - 1)}

    def settle(self, met: Sequence[Records], rows: int) -> Records:
        """Rows of words that go: `row` of the document, `begin` and `end` among its words."""
        found = joined(met)
        if "repeated" in found:
            return {"repeated": np.sort(found["repeated"])}
        order = np.lexsort((found["place"], found["row"]))
        document, start = found["row"][order], found["place"][order]
        apart = (document[1:] != document[:-1]) | (start[1:] > start[:-1] + self.words)
        border = np.flatnonzero(np.concatenate([[True], apart, [True]])) if len(start) else np.zeros(1, np.int64)
        first, last = border[:-1], border[1:] - 1
        return {"row": document[first], "begin": start[first], "end": start[last] + self.words}

    def rework(self, texts: list[str], ids: list[str], rows: NDArray[np.int64], settled: Records) -> dict[int, Edit]:
        starts = np.searchsorted(settled["row"], rows)
        ends = np.searchsorted(settled["row"], rows, "right")
        found = {}
        for at in np.flatnonzero(ends > starts).tolist():
            mine = slice(starts[at], ends[at])
            spans = list(zip(settled["begin"][mine].tolist(), settled["end"][mine].tolist(), strict=True))
            if edit := Edit.of(texts[at], [("passages that stood before", without_words(texts[at], spans))]):
                found[at] = edit
        return found

    @property
    def _seed(self) -> int:
        """Words of the rows that are sampled. More would be sampled more often, fewer stand twice by accident: guess"""
        return max(1, self.words // 2)


def without_words(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without some of its words: [begin, end) of each span, in order and apart from each other.

    Of the blanks on both sides of a span those stay that end more lines.

    >>> without_words("One two three\\n\\nfour five", [(1, 3)])
    'One\\n\\nfour five'
    """
    from polyana.corpus.steps.windows import word_borders

    packed = text.encode("utf-8", "surrogatepass") + b" "
    words = word_borders(np.frombuffer(packed, np.uint8))
    begin, end = (np.array(each) for each in zip(*spans, strict=True))
    # what is left ends before the blanks on the one side of a span, and goes on behind those on the other
    stops = np.where(begin > 0, words[begin - 1, 1], 0).tolist()
    starts = np.where(end < len(words), words[np.minimum(end, len(words) - 1), 0], len(packed)).tolist()
    inner = zip(stops, words[begin, 0].tolist(), words[end - 1, 1].tolist(), starts, strict=True)
    kept, at = list[bytes](), 0
    for stop, first, last, start in inner:
        kept.append(packed[at:stop])
        if stop and start < len(packed):
            kept.append(max(packed[stop:first], packed[last:start], key=lambda blanks: blanks.count(b"\n")))
        at = start
    kept.append(packed[at:-1])
    return b"".join(kept).decode("utf-8", "surrogatepass")


def _hashed(texts: Sequence[str]) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Some documents at a time: the place of the first, and what `hash_words` makes of them."""
    from polyana.corpus.steps.windows import hash_words

    first, packed, size = 0, list[bytes](), 0
    for at, text in enumerate(texts):
        packed.append(text.encode("utf-8", "surrogatepass"))
        size += len(text)
        if size > _AT_ONCE or at + 1 == len(texts):
            begin_D = np.cumsum([0, *(len(each) + 1 for each in packed)])
            yield first, hash_words(np.frombuffer(b"\n".join([*packed, b""]), np.uint8), begin_D)
            first, packed, size = at + 1, [], 0
