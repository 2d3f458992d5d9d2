"""Where every pair went: those read equal those kept plus those dropped, and the sentences made of them are counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from polyana.errors import Problem
from polyana.parallel.segment import Rejected

__all__ = ["ParallelReport", "SourceBalance", "report_lines"]

_EXAMPLES = 5  # places kept in the report for each reason; all are in drops.jsonl


@dataclass
class SourceBalance:
    """The pairs of one source. `malformed` are among those dropped."""

    read: int = 0
    kept: int = 0
    malformed: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, rejected: Rejected) -> None:
        self.read += 1
        self.malformed += rejected.malformed
        self.dropped[rejected.reason] = self.dropped.get(rejected.reason, 0) + 1
        examples = self.examples.setdefault(rejected.reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(rejected.where)

    def keep(self) -> None:
        self.read += 1
        self.kept += 1


@dataclass
class ParallelReport:
    """All sources, and what became of the sentences of the pairs that were kept."""

    sources: dict[str, SourceBalance] = field(default_factory=dict)
    train_sentences: int = 0
    eval_sentences: int = 0
    overlap_sentences: int = 0
    first_malformed: list[Problem] = field(default_factory=list)

    def malformed(self, rejected: Rejected) -> None:
        if len(self.first_malformed) < _EXAMPLES:
            self.first_malformed.append(Problem(rejected.where, rejected.reason))

    def as_data(self) -> dict[str, Any]:
        """Plain data for report.json."""
        for balance in self.sources.values():
            assert balance.read == balance.kept + sum(balance.dropped.values())
        return {
            "sources": {name: asdict(balance) for name, balance in self.sources.items()},
            "sentences": {
                "train": self.train_sentences, "eval": self.eval_sentences, "overlap": self.overlap_sentences,
            },
        }  # fmt: skip


def report_lines(report: dict[str, Any]) -> list[str]:
    """report.json for the terminal."""
    lines = []
    for name, balance in report["sources"].items():
        lines.append(f"{name}: {balance['read']:,} pairs read, {balance['kept']:,} kept")
        for reason, count in sorted(balance["dropped"].items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  dropped {count:>9,}  {reason} (as {balance['examples'][reason][0]})")
    sentences = report["sentences"]
    lines.append(f"sentences: {sentences['train']:,} to train on, {sentences['eval']:,} to evaluate on")
    if sentences["overlap"]:
        lines.append(f"  dropped {sentences['overlap']:>9,}  stand in the test set")
    return lines
