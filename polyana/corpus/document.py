"""A document on its way through the corpus stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Document", "Dropped", "Sized", "Split", "utf8_length"]

Split = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class Document:
    """One text. `id` is unique in the corpus and does not depend on where the corpus lies: SOURCE/PATH#PART."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """Something that did not become a document. `size`: bytes of UTF-8 as read, or on disk if unreadable."""

    id: str
    reason: str
    size: int


Sized = tuple[Document | Dropped, int]
"""A document, or what became of it, and its size in bytes of UTF-8 as it was read."""


def utf8_length(text: str) -> int:
    """Length in bytes of UTF-8; half a surrogate pair (possible in JSON) counts as one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
