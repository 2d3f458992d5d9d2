"""Text for stages that learn from it: what they are made from, and an even share of too much."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from polyana.corpus.config import PAGES, TABLES, TEXTS, SourceConfig
from polyana.corpus.packages import package_version
from polyana.corpus.readers import format_of, identity_of, list_files
from polyana.errors import Problem, UserError
from polyana.storage import ContentDigests

__all__ = ["place_of", "source_inputs", "spread"]


def source_inputs(
    sources: Sequence[SourceConfig], base: Path, digests: ContentDigests, where: Callable[..., str]
) -> list[Any]:
    """Of each source its files' names and content hashes, or what a store says of them, or its package's version.

    Raises UserError for everything that is not there and for settings that no file has a use for; `where(index,
    setting)` gives a setting's place in the recipe.
    """
    inputs: list[Any] = []
    problems: list[Problem] = []
    for index, source in enumerate(sources):
        setting = "path" if source.package is None else "package"
        try:
            if source.package is not None:
                inputs.append(package_version(source.package))
                continue
            files = list_files(source, base).files
            setting = _unused(source, {format_of(found.file, source) for found in files}) or setting
            if setting != "path":
                raise UserError(f"`{setting}` is of no use: no file of `{source.path}` has {_NEEDS[setting]}")
            inputs.append({found.name: identity_of(found.file, digests) for found in files})
        except UserError as error:
            problems += [Problem(where(index, setting), problem.what) for problem in error.problems]
    if problems:
        raise UserError(problems)
    return inputs


_NEEDS = {
    "encoding": "text of its own encoding",
    "document": "running text to be cut into documents (or chapters, which only EPUB has)",
    "extract": "pages of the web",
    "text": "columns",
    "id": "columns",
}


def _unused(source: SourceConfig, formats: set[str]) -> str | None:
    """A setting that was given and that none of the source's formats obeys."""
    cut = {"epub"} if source.document == "chapter" else set(TEXTS)
    useless = ["document"] if not formats & cut else []
    useless += ["encoding"] if formats <= {"parquet", "pdf"} else []
    useless += ["text", "id"] if not formats & set(TABLES) else []
    useless += ["extract"] if not formats & set(PAGES) else []
    given = [name for name in useless if getattr(source, name) != SourceConfig.model_fields[name].default]
    return given[0] if given else None


def place_of(identifier: str) -> float:
    """A number in [0, 1) that belongs to an id and says nothing else."""
    return int.from_bytes(hashlib.blake2b(identifier.encode("utf-8", "replace"), digest_size=6).digest(), "big") / 2**48


def spread(texts: Iterable[tuple[str, str]], most: int, size: Callable[[str], int]) -> list[tuple[str, str]]:
    """Of (id, text) as many as fit into `most`, drawn by their ids from all of them and in their order.

    No more than that is in memory at any time.
    """
    drawn: list[tuple[float, int, tuple[str, str]]] = []  # a heap: the highest place is the next to go
    total = 0
    for number, (identifier, text) in enumerate(texts):
        heappush(drawn, (-place_of(identifier), number, (identifier, text)))
        total += size(text)
        while total > most:
            total -= size(heappop(drawn)[2][1])
    return [each for _, _, each in sorted(drawn, key=lambda item: item[1])]
