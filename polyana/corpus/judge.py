"""Documents before the rules of a recipe."""

from __future__ import annotations

from collections.abc import Iterator

from polyana.corpus.config import CorpusConfig
from polyana.corpus.document import Document, Dropped, Sized
from polyana.corpus.native import METRICS
from polyana.corpus.rules import GopherQualityRule, decide
from polyana.corpus.words import WordTable

__all__ = ["Judge"]

_BATCH = 8 * 10**6  # bytes of text that are measured at once; guess: fits into caches and memory, long enough for numpy


class Judge:
    """Measures documents once, some at a time, and decides by every rule; the first that throws one out counts."""

    def __init__(self, config: CorpusConfig) -> None:
        assert config.language is not None
        self._rules, self._language = config.filters, config.language
        stop_words = {
            word
            for rule in config.filters
            if isinstance(rule, GopherQualityRule)
            for word in rule.threshold("stop_words", config.language)
        }
        self._table = WordTable(config.language, stop_words)

    def judged(self, documents: Iterator[Sized]) -> Iterator[Sized]:
        """The documents in their order; those that were dropped before stay so."""
        waiting: list[Sized] = []
        size = 0
        for item in documents:
            waiting.append(item)
            size += item[1]
            if size > _BATCH:
                yield from self._decided(waiting)
                waiting, size = [], 0
        yield from self._decided(waiting)

    def _decided(self, documents: list[Sized]) -> Iterator[Sized]:
        places = [at for at, (document, _) in enumerate(documents) if isinstance(document, Document)]
        batch = self._table.batch([document.text for document, _ in documents if isinstance(document, Document)])
        columns = self._table.measure(batch).T
        found = dict(zip(METRICS, columns, strict=True))
        reason_of: dict[int, str] = {}
        for rule in self._rules:
            reasons, chosen = decide(rule, found, self._language)
            for place, reason in zip(places, chosen.tolist(), strict=True):
                if reason >= 0:
                    reason_of.setdefault(place, f"{rule.kind}: {reasons[reason]}")
        for at, (document, size) in enumerate(documents):
            yield (Dropped(document.id, reason_of[at], size) if at in reason_of else document), size
