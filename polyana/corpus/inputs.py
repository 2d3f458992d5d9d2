"""Text for stages that learn from it: what they are made from, and an even share of too much."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from polyana.corpus.config import SourceConfig
from polyana.corpus.packages import package_version
from polyana.corpus.readers import files_of
from polyana.errors import Problem, UserError
from polyana.storage import ContentDigests

__all__ = ["place_of", "source_inputs", "spread"]


def source_inputs(
    sources: Sequence[SourceConfig], base: Path, digests: ContentDigests, where: Callable[..., str]
) -> list[Any]:
    """Of each source its files' names and content hashes, or its package's version.

    Raises UserError for everything that is not there; `where(index, setting)` gives a setting's place in the recipe.
    """
    inputs: list[Any] = []
    problems: list[Problem] = []
    for index, source in enumerate(sources):
        try:
            if source.package is not None:
                inputs.append(package_version(source.package))
            else:
                inputs.append({name: digests.of(path) for name, path in files_of(source, base)})
        except UserError as error:
            setting = "path" if source.package is None else "package"
            problems += [Problem(where(index, setting), problem.what) for problem in error.problems]
    if problems:
        raise UserError(problems)
    return inputs


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
