"""How many documents and bytes went where: a balance for each source."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Count", "SourceReport"]


@dataclass
class Count:
    """How many documents, and bytes of UTF-8 (as on disk where they could not be read)."""

    documents: int = 0
    bytes: int = 0

    def add(self, documents: int, size: int) -> None:
        self.documents += documents
        self.bytes += size


@dataclass
class SourceReport:
    """One source's balance. `dropped`: bytes that were left when it was dropped; `edited`: those taken out before, or
    out of what was kept; `repaired` had bytes that are no text."""

    read: Count = field(default_factory=Count)
    train: Count = field(default_factory=Count)
    eval: Count = field(default_factory=Count)
    dropped: dict[str, Count] = field(default_factory=dict)
    edited: dict[str, Count] = field(default_factory=dict)
    repaired: Count = field(default_factory=Count)

    def add(self, other: SourceReport) -> None:
        for name in ("read", "train", "eval", "repaired"):
            mine, more = getattr(self, name), getattr(other, name)
            mine.add(more.documents, more.bytes)
        for name in ("dropped", "edited"):
            for reason, more in getattr(other, name).items():
                getattr(self, name).setdefault(reason, Count()).add(more.documents, more.bytes)

    def check(self) -> None:
        """Every document and every byte that was read went somewhere, exactly once."""
        kept = [self.train, self.eval, *self.dropped.values()]
        assert self.read.documents == sum(count.documents for count in kept)
        edited = sum(count.bytes for count in self.edited.values())
        assert self.read.bytes == sum(count.bytes for count in kept) + edited
