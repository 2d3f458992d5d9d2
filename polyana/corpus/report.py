"""Where every document went. For each source the documents and bytes read equal those kept plus those dropped."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from polyana.corpus.document import Dropped, Split
from polyana.storage import show_bytes

__all__ = ["CorpusReport", "SourceReport", "report_lines"]

_EXAMPLES = 5  # ids kept in the report for each reason; all are in drops.jsonl


@dataclass
class Count:
    """How many documents, and their size in bytes of UTF-8 as read (as on disk where they could not be read)."""

    documents: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.documents += 1
        self.bytes += size


@dataclass
class SourceReport:
    """One source's balance. `cleaned_bytes` is what normalising took out of the documents that were kept."""

    read: Count = field(default_factory=Count)
    train: Count = field(default_factory=Count)
    eval: Count = field(default_factory=Count)
    dropped: dict[str, Count] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    repaired: Count = field(default_factory=Count)
    cleaned_bytes: int = 0

    def keep(self, split: Split, size: int, written: int, *, repaired: bool) -> None:
        """`size` as read, `written` after normalising."""
        self.read.add(size)
        (self.train if split == "train" else self.eval).add(size)
        self.cleaned_bytes += size - written
        if repaired:
            self.repaired.add(size)

    def drop(self, dropped: Dropped) -> None:
        self.read.add(dropped.size)
        self.dropped.setdefault(dropped.reason, Count()).add(dropped.size)
        examples = self.examples.setdefault(dropped.reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(dropped.id)

    def check(self) -> None:
        """Every document that was read went somewhere, exactly once."""
        kept = [self.train, self.eval, *self.dropped.values()]
        assert self.read.documents == sum(count.documents for count in kept)
        assert self.read.bytes == sum(count.bytes for count in kept)


@dataclass
class CorpusReport:
    """All sources of a corpus."""

    sources: dict[str, SourceReport] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Plain data for report.json: {"sources": {name: ...}, "total": ...}."""
        total = SourceReport()
        for source in self.sources.values():
            source.check()
            for name in ("read", "train", "eval", "repaired"):
                _sum(getattr(total, name), getattr(source, name))
            for reason, count in source.dropped.items():
                _sum(total.dropped.setdefault(reason, Count()), count)
                total.examples[reason] = (total.examples.get(reason, []) + source.examples[reason])[:_EXAMPLES]
            total.cleaned_bytes += source.cleaned_bytes
        total.check()
        return {
            "sources": {name: asdict(source) for name, source in self.sources.items()},
            "total": asdict(total),
        }


def report_lines(report: dict[str, Any]) -> list[str]:
    """The balance of report.json for the terminal."""
    total = report["total"]
    lines = [_line(what, total[what]) for what in ("read", "train", "eval")]
    for reason, count in sorted(total["dropped"].items(), key=lambda item: -int(item[1]["documents"])):
        lines.append(f"{_line('dropped', count)}  {reason} (as {total['examples'][reason][0]})")
    if total["repaired"]["documents"]:
        lines.append(f"of those kept {total['repaired']['documents']:,} had bytes that are no text; they became U+FFFD")
    return lines


def _line(what: str, count: dict[str, int]) -> str:
    return f"{what:<7} {count['documents']:>9,} documents {show_bytes(count['bytes']):>9}"


def _sum(total: Count, more: Count) -> None:
    total.documents += more.documents
    total.bytes += more.bytes
