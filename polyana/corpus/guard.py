"""The alarm: a step that takes nearly all of a source or a language stops the run instead of doing so in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import numpy as np

from polyana.corpus.chunks import EDITS
from polyana.corpus.decide import Decided
from polyana.corpus.stage import CorpusConfig
from polyana.errors import PolyanaError

__all__ = ["check_guard"]


def check_guard(config: CorpusConfig, place: int, decided: Decided, domains: Sequence[str]) -> None:
    """Raises PolyanaError when the step just decided takes more than its share, with its reasons and an example."""
    groups: dict[str, Sequence[str]] = {
        "source": [source.label for source in config.sources], "language": config.languages,
    }  # fmt: skip
    if config.telling is not None:
        groups["domain"] = domains
    for what, names in groups.items():
        entered, taken, read, cut = np.zeros((4, len(names)), np.int64)
        for number, chunk in enumerate(decided.chunks):
            of, length, places = chunk.column(what), chunk.column("length"), decided.places(number)
            entered += np.bincount(of[places >= place], minlength=len(names))
            taken += np.bincount(of[places == place], minlength=len(names))
            edits = chunk.column(EDITS)
            mine = [code for code, reason in enumerate(decided.noted[number]) if reason[0] == place]
            edits = edits[np.isin(edits[:, 1], mine) & (places[edits[:, 0]] >= place)]
            bytes_cut = np.bincount(of[edits[:, 0]], edits[:, 2], minlength=len(names)).astype(np.int64)
            cut += bytes_cut
            read += np.bincount(of[places >= place], length[places >= place], minlength=len(names)).astype(np.int64)
            read += bytes_cut
        for at, name in enumerate(names):
            if taken[at] > config.guard * entered[at]:
                raise PolyanaError(_letter(config, place, decided, what, at, int(taken[at]), int(entered[at]), name))
            if cut[at] > config.guard * read[at]:
                raise PolyanaError(
                    f"step `{config.all_steps[place].kind}` cuts {cut[at]:,} of the {read[at]:,} bytes of {what} "
                    f"`{name}`, more than `guard: {config.guard:.0%}`. Change its settings, leave it out, or raise "
                    "`guard`"
                )


def _letter(
    config: CorpusConfig, place: int, decided: Decided, what: str, group: int, taken: int, entered: int, name: str
) -> str:
    reasons: Counter[int] = Counter()
    examples: dict[int, str] = {}
    for number, chunk in enumerate(decided.chunks):
        mine = (decided.places(number) == place) & (chunk.column(what) == group)
        fates = decided.fates[number]
        for reason in np.unique(fates[mine]).tolist():
            rows = np.flatnonzero(mine & (fates == reason))
            reasons[reason] += len(rows)
            if reason not in examples:
                examples[reason] = next(islice(chunk.documents(), int(rows[0]), None)).id
    listed = ", ".join(
        f"{count:,} by {decided.reasons[reason][1]} (as {examples[reason]})" for reason, count in reasons.most_common(3)
    )
    hint = f" Is it `language: {', '.join(config.languages)}`?" if any(config.languages) else ""
    return (
        f"step `{config.all_steps[place].kind}` takes {taken:,} of the {entered:,} documents of {what} `{name}`, more "
        f"than `guard: {config.guard:.0%}`: {listed}.{hint} Else change its settings, leave it out, or raise `guard`"
    )
