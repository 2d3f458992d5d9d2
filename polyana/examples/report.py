"""Where every row went. Rows read equal those kept plus those that are malformed plus those left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from polyana.errors import Problem, UserError

__all__ = ["ExamplesReport", "SourceReport", "report_lines"]

_SHOWN = 5  # malformed rows that a letter names; guess
_HOPELESS = 100  # rows of a source, none of which can be used, before the rest is not read; guess


@dataclass
class SourceReport:
    """One source's balance. `bad` and `left_out` count rows by reason; `learnt` counts tokens with a weight.

    `shortened` conversations lost `cut_tokens`, of which `cut_learnt` would have been learnt; `cut_texts` became
    several examples and lost nothing; in `special_rows` a message says what the tokenizer reads as a special token; in
    `incomplete_rows` the chat template leaves out words of the assistant.
    """

    rows: int = 0
    examples: int = 0
    tokens: int = 0
    learnt: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    shortened: int = 0
    cut_tokens: int = 0
    cut_learnt: int = 0
    cut_texts: int = 0
    special_rows: int = 0
    incomplete_rows: int = 0
    shown: list[Problem] = field(default_factory=list)

    @property
    def bad_rows(self) -> int:
        return sum(self.bad.values())

    def keep(self, weights: NDArray[np.float32]) -> None:
        self.examples += 1
        self.tokens += len(weights)
        self.learnt += int((weights > 0).sum())

    def refuse(self, reason: str, problem: Problem) -> None:
        """A malformed row. The first few of different reasons are kept to be shown."""
        if len(self.shown) < _SHOWN and (reason not in self.bad or self.bad[reason] < 2):
            self.shown.append(problem)
        self.bad[reason] = self.bad.get(reason, 0) + 1

    def leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def shorten(self, tokens: int, learnt: int) -> None:
        self.shortened += 1
        self.cut_tokens += tokens
        self.cut_learnt += learnt


@dataclass
class ExamplesReport:
    """All sources."""

    sources: dict[str, SourceReport] = field(default_factory=dict)

    def total(self) -> SourceReport:
        total = SourceReport()
        for source in self.sources.values():
            for name in (one.name for one in fields(SourceReport)):
                mine, theirs = getattr(total, name), getattr(source, name)
                if isinstance(mine, dict):
                    for reason, count in theirs.items():
                        mine[reason] = mine.get(reason, 0) + count
                else:
                    setattr(total, name, mine + theirs)
        return total

    def stop(self, what: str) -> NoReturn:
        """Raise a letter that shows some malformed rows, too."""
        raise UserError([Problem("", what), *self.total().shown])

    def check_hope(self, label: str) -> None:
        """Raises UserError where of so many rows of a source none can be used."""
        if self.sources[label].rows == self.sources[label].bad_rows == _HOPELESS:
            self.stop(f"none of the first {_HOPELESS} rows of `{label}` can be used")

    def check_rows(self, max_bad: float) -> None:
        """Raises UserError where a larger share of the rows than `max_bad` is malformed."""
        total = self.total()
        if total.bad_rows > max_bad * total.rows:
            self.stop(
                f"{total.bad_rows:,} of {total.rows:,} rows cannot be used, more than `max_bad: {max_bad:.1%}`; "
                "mend them, or allow more"
            )

    def as_data(self) -> dict[str, Any]:
        """Plain data for report.json."""
        return {
            "sources": {name: asdict(source) for name, source in self.sources.items()},
            "total": asdict(self.total()),
        }


def report_lines(report: dict[str, Any]) -> list[str]:
    """The balance of report.json for the terminal."""
    total = report["total"]
    share = total["learnt"] / max(total["tokens"], 1)
    lines = [
        f"{total['rows']:,} rows, {total['examples']:,} examples, {total['tokens']:,} tokens, of which "
        f"{total['learnt']:,} ({share:.0%}) are learnt"
    ]
    if total["shortened"]:
        lines.append(
            f"{total['shortened']:,} were longer than the context: {total['cut_tokens']:,} tokens were cut, of which "
            f"{total['cut_learnt']:,} would have been learnt"
        )
    if total["cut_texts"]:
        lines.append(f"{total['cut_texts']:,} texts longer than the context became several examples each")
    for what, counts in (("malformed", total["bad"]), ("left out", total["left_out"])):
        lines += [f"{what} {count:,}: {reason}" for reason, count in sorted(counts.items(), key=lambda one: -one[1])]
    lines += [f"  as {one['where']}  {one['what']}" for one in total["shown"]]
    if total["special_rows"]:
        lines.append(f"in {total['special_rows']:,} rows a message says what the tokenizer reads as a special token")
    if total["incomplete_rows"]:
        lines.append(f"in {total['incomplete_rows']:,} rows the chat template leaves out words of the assistant")
    return lines
