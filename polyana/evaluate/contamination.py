"""Whether a test's items stand in the text that a model was trained on.

The rule is GPT-3's (Brown et al. 2020, appendix C): 13 words in a row, without case and punctuation; an item of fewer
words counts where all of it stands in a row, if it has 8 words: below that the paper found mostly chance. The corpus
step `contamination` takes such text out before training by the same rule, and this looks it up in the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["MIN_WORDS", "WORDS", "Contamination", "find_contamination"]

WORDS, MIN_WORDS = 13, 8


@dataclass(frozen=True)
class Contamination:
    """`items`: how many were looked for; `touched`: those with a run of words in common with the training text;
    `short`: how many were too short to look for.

    `runs`: share of all the items' runs that stand there, which says more where items are long. `unsaid`: why there is
    nothing to say, or "". `note`: what the answer leaves out, or "".
    """

    items: int = 0
    touched: int = 0
    runs: float = 0.0
    unsaid: str = ""
    note: str = ""
    short: int = 0

    @property
    def share(self) -> float:
        return self.touched / self.items if self.items else 0.0

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        if self.unsaid:
            return f"contamination: {self.unsaid}{note}"
        if not self.items:
            return f"contamination: no item has the {MIN_WORDS} words that it takes to tell{note}"
        short = f"; {self.short:,} more {'is' if self.short == 1 else 'are'} too short to tell" if self.short else ""
        return (
            f"contamination: {self.touched:,} of {self.items:,} items ({self.share:.1%}) have {WORDS} words in a row "
            f"in common with the training text, {self.runs:.2%} of all their runs{short}{note}"
        )

    def as_data(self) -> dict[str, Any]:
        return {"words": WORDS, "min_words": MIN_WORDS, "share": self.share, **asdict(self)}


def find_contamination(items: Sequence[str], training: Iterable[str]) -> tuple[Contamination, list[bool | None]]:
    """What the items have in common with the training text, and of each whether it has: None for one too short."""
    if find_spec("numba") is None:
        return Contamination(unsaid="unknown, words are compared by numba: pip install 'polyana[mill]'"), [None] * len(
            items
        )
    from polyana.corpus.steps.grams import RunIndex, runs_of
    from polyana.errors import UserError

    try:
        index = RunIndex([items], WORDS, MIN_WORDS)
    except UserError:  # none of the items is long enough
        return Contamination(), [None] * len(items)
    seen = set[int]()
    for text in training:
        for start, end, _ in index.matches(text).tolist():
            # by its number again: the index names one item of those that share a run
            seen.update(runs_of(text[start:end], WORDS).tolist())
    known = np.array(sorted(seen), np.uint64)
    runs = found = looked_for = 0
    flags = list[bool | None]()
    for item in items:
        of_item = runs_of(item, WORDS)
        if not len(of_item) or (len(of_item) == 1 and len(runs_of(item, 1)) < MIN_WORDS):
            flags.append(None)
            continue
        common = int(np.isin(of_item, known).sum())
        runs, found, looked_for = runs + len(of_item), found + common, looked_for + 1
        flags.append(common > 0)
    return Contamination(looked_for, sum(map(bool, flags)), found / runs, short=flags.count(None)), flags
