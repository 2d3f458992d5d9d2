"""Lines that stand on many pages of one site: headers, footers, menus.

In two phases, so that documents can be read in any number of blocks and lines counted in any number of parts: each
block gives the hashes of its lines, those of equal hash are counted wherever they come from, and each block is read
again without the frequent ones. A site is part of its lines' hashes: what is furniture of one is text of another.

Lines are told apart by 64-bit hashes alone: among a hundred million distinct ones, two that differ are taken for one
with a probability of 3e-4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from importlib.util import find_spec
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import KeyPath, Share
from polyana.corpus.normalise import normalise
from polyana.corpus.steps.step import Columns, CorpusWide, Edit, Found, Records, Surroundings, Worker, joined

__all__ = [
    "EDGE",
    "MIN_DOCUMENTS",
    "MIN_SHARE",
    "BoilerplateConfig",
    "LineHashes",
    "line_hashes",
    "site_hashes",
    "site_of",
    "without",
]

MIN_DOCUMENTS = 10  # pages a line stands on before it is furniture; fewer are quotations and refrains: guess
MIN_SHARE = 0.3  # of the site's pages; on 240 help pages furniture has 0.37 and more, the text's own headings 0.15
EDGE = 20  # lines from a document's begin or end that are its edge: guess


class LineHashes(NamedTuple):
    """The distinct lines of a block's documents, R rows: one for each document and line."""

    document_R: NDArray[np.int64]
    """The document's place in its block."""

    site_R: NDArray[np.uint64]
    hash_R: NDArray[np.uint64]
    edge_R: NDArray[np.bool_]
    """Whether it stands among the first or the last EDGE lines of the document; counting those rows alone finds headers
    and footers only."""


class _Lines(NamedTuple):
    """All lines of some documents but blank ones, in order, L rows. Places are those of bytes."""

    bytes_B: NDArray[np.uint8]
    """The documents in UTF-8, each with a newline behind it."""

    begin_D: NDArray[np.int64]
    """Where each document begins, and after them the end."""

    document_L: NDArray[np.int64]
    hash_L: NDArray[np.uint64]
    start_L: NDArray[np.int64]
    end_L: NDArray[np.int64]
    """Behind its newline."""


def site_of(identifier: str) -> str:
    """The site of a document: its URL's host where the id holds one, else the source and the first directory in it.

    >>> site_of("crawl/1.warc.gz#https://www.example.org/tea"), site_of("help/en/text/tea.html"), site_of("a/b.txt")
    ('example.org', 'help/en', 'a')
    """
    scheme = identifier.find("://")
    if scheme >= 0:
        host = urlsplit(identifier[scheme + 1 :]).hostname
        if host:
            return host.removeprefix("www.")
    directories = identifier.partition("#")[0].split("/")[:-1]
    return "/".join(directories[:2])


def site_hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    """A number for the site of each document, the same in every process."""
    known: dict[str, int] = {}
    for site in map(site_of, ids):
        if site not in known:
            known[site] = int.from_bytes(blake2b(site.encode("utf-8", "replace"), digest_size=8).digest(), "little")
    return np.array([known[site_of(identifier)] for identifier in ids], np.uint64)


def line_hashes(texts: Sequence[str], site_D: NDArray[np.uint64]) -> LineHashes:
    """Each document's distinct lines, without the blanks around them; lines of other sites have other hashes."""
    lines = _lines(texts, site_D)
    edge_L = _at_edge(lines)
    order = np.lexsort((lines.hash_L, lines.document_L))
    document, value = lines.document_L[order], lines.hash_L[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (document[1:] != document[:-1]) | (value[1:] != value[:-1])
    starts = np.flatnonzero(first)
    edge_R = np.logical_or.reduceat(edge_L[order], starts) if len(starts) else edge_L
    return LineHashes(document[starts], site_D[document[starts]], value[starts], edge_R)


def without(
    texts: Sequence[str], site_D: NDArray[np.uint64], hashes: NDArray[np.uint64], *, edges_only: bool = False
) -> dict[int, str]:
    """By place, those texts that have such lines, without them; `hashes` are sorted."""
    lines = _lines(texts, site_D)
    if len(hashes) == 0 or len(lines.hash_L) == 0:
        return {}
    place_L = np.minimum(np.searchsorted(hashes, lines.hash_L), len(hashes) - 1)
    gone_L = hashes[place_L] == lines.hash_L
    if edges_only:
        gone_L &= _at_edge(lines)
    step_B = np.zeros(len(lines.bytes_B) + 1, np.int8)
    step_B[lines.start_L[gone_L]] += 1
    step_B[lines.end_L[gone_L]] -= 1
    kept_B = np.cumsum(step_B[:-1], dtype=np.int8) == 0
    found = {}
    for document in np.unique(lines.document_L[gone_L]):
        part = slice(lines.begin_D[document], lines.begin_D[document + 1])
        rest = lines.bytes_B[part][kept_B[part]].tobytes().decode("utf-8", "surrogatepass")
        found[int(document)] = rest.strip("\n")
    return found


def _lines(texts: Sequence[str], site_D: NDArray[np.uint64]) -> _Lines:
    packed = [text.encode("utf-8", "surrogatepass") for text in texts]
    begin_D = np.cumsum([0, *(len(text) + 1 for text in packed)])
    bytes_B = np.frombuffer(b"\n".join([*packed, b""]), np.uint8)
    from polyana.corpus.native_lines import hash_lines  # compiles, which takes a second

    return _Lines(bytes_B, begin_D, *hash_lines(bytes_B, begin_D, site_D))


def _at_edge(lines: _Lines) -> NDArray[np.bool_]:
    """Of each line whether it is one of its document's first or last."""
    count = len(lines.begin_D) - 1
    first_D, end_D = (np.searchsorted(lines.document_L, np.arange(count), side) for side in ("left", "right"))
    rank_L = np.arange(len(lines.document_L))
    return (rank_L - first_D[lines.document_L] < EDGE) | (end_D[lines.document_L] - rank_L <= EDGE)


class BoilerplateConfig(CorpusWide):
    """Takes out lines that stand on many pages of their site: menus, headers, footers. A site is a host, or where ids
    hold no URLs a source and the first directory in it."""

    kind: Literal["boilerplate"] = "boilerplate"
    min_documents: int = Field(MIN_DOCUMENTS, ge=2, description="pages of the site that the line stands on, at least")
    min_share: Share = Field(MIN_SHARE, gt=0, le=1, description="and which share of the site's pages")
    edges_only: bool = Field(False, description=f"only among the first and last {EDGE} lines of a page")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "lines are counted with numba; run: pip install 'polyana[mill]'"

    @property
    def reworks(self) -> bool:
        return True

    def worker(self, surroundings: Surroundings) -> Worker:
        return lambda block: Found({"site": site_hashes(block.ids)})

    def emit(self, columns: Columns, texts: Callable[[], list[str]], rows: NDArray[np.int64]) -> Records:
        site = np.asarray(columns["site"])
        lines = line_hashes(texts(), site)
        wanted = lines.edge_R if self.edges_only else np.ones(len(lines.hash_R), np.bool_)
        # and each document once by its site alone, to count them
        return {
            "key": np.concatenate([lines.hash_R[wanted], site]),
            "site": np.concatenate([lines.site_R[wanted], site]),
            "line": np.concatenate([np.ones(wanted.sum(), np.bool_), np.zeros(len(site), np.bool_)]),
        }

    def meet(self, records: Records) -> Records:
        found = {}
        for line in (True, False):
            mine = records["line"] == line
            key, first, count = np.unique(records["key"][mine], return_index=True, return_counts=True)
            enough = count >= (self.min_documents if line else 1)
            found[line] = (
                key[enough],
                records["site"][mine][first][enough],
                count[enough],
                np.full(enough.sum(), line),
            )
        return {
            name: np.concatenate([found[line][at] for line in (True, False)])
            for at, name in enumerate(("key", "site", "count", "line"))
        }

    def settle(self, met: Sequence[Records], rows: int) -> Records:
        found = joined(met)
        line = found["line"]
        order = np.argsort(found["key"][~line])
        sites, documents = found["key"][~line][order], found["count"][~line][order]
        of_site = documents[np.searchsorted(sites, found["site"][line])]
        return {"hashes": np.sort(found["key"][line][found["count"][line] >= self.min_share * of_site])}

    def rework(self, texts: list[str], ids: list[str], rows: NDArray[np.int64], settled: Records) -> dict[int, Edit]:
        changed = without(texts, site_hashes(ids), settled["hashes"], edges_only=self.edges_only)
        edits = {at: Edit.of(texts[at], [("lines of the whole site", normalise(text))]) for at, text in changed.items()}
        return {at: edit for at, edit in edits.items() if edit is not None}
