"""Perplexity and bits per byte of texts, exact at their borders; a long one by windows.

Every token of a document is predicted once, its first from the token that begins a text; what ends a text is not asked
for. A document of more tokens than the context is read by windows that move on by `stride`: the first window predicts
all of its tokens, each later one its last `stride`, so that what it predicts has at least `context` - `stride` tokens
before it. No window reaches over a document's border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from polyana.config import Config, KeyPath
from polyana.corpus import Document, SourceConfig, read_source
from polyana.data import TokenShards
from polyana.errors import UserError
from polyana.evaluate.items import Item, Scored
from polyana.evaluate.likelihood import Subject, Wanted, beginning_of, log_likelihoods, token_log_likelihoods

__all__ = ["DocumentsTest", "ExamplesTest", "PerplexityConfig", "windows"]

_MOST_CONTEXT = 2048  # where the model reads more: time grows with it, and a text's tokens hardly get likelier; guess
_SHOWN = 400  # characters of a document's beginning


class PerplexityConfig(Config):
    """How well texts are predicted: `loss` in nats per token, `perplexity` = exp of it, `bits_per_byte`, by which
    models of different tokenizers can be compared."""

    kind: Literal["perplexity"]
    data: Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] = Field(
        [],
        description="files, directories or globs of text, JSONL, Parquet, ...; default: what the run held out",
        json_schema_extra={"path": True},
    )
    text: str = Field("text", description="the column or key that holds the text, where there are columns")
    document: str = Field("file", description="what a document of a text file is: file, paragraph, line")
    context: int | None = Field(
        None, ge=2, description=f"tokens seen at once; default: all that the model reads, at most {_MOST_CONTEXT:,}"
    )
    stride: int | None = Field(
        None, ge=1, description="by how many tokens the window moves on in a long document; default: half the context"
    )
    limit: int | None = Field(None, ge=1, description="only the first so many documents; default: all")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.context is not None and self.stride is not None and self.stride > self.context:
            yield ("stride",), f"`stride: {self.stride}` would leave tokens out between windows of {self.context}"
        for index, path in enumerate(self.data):
            for _, what in SourceConfig(path=path, text=self.text, document=self.document).problems():
                yield ("data", index), what

    def documents(self, base: Path) -> Iterator[Document]:
        """Those of `data`. Raises UserError for a path where there is no file."""
        for path in self.data:
            for each in read_source(SourceConfig(path=path, text=self.text, document=self.document), base):
                if isinstance(each, Document):
                    yield each


def windows(ids: Sequence[int], context: int, stride: int) -> Iterator[Wanted]:
    """A document, its beginning mark first, in windows of at most `context` tokens read."""
    end = min(len(ids), context + 1)
    yield Wanted(ids[:end], 1)
    while end < len(ids):
        before, end = end, min(end + stride, len(ids))
        start = end - 1 - context
        yield Wanted(ids[start:end], before - start)


class DocumentsTest:
    """Documents to be predicted."""

    def __init__(self, config: PerplexityConfig, documents: Sequence[Document]) -> None:
        self._config = config
        self._documents = [each for each in documents if each.text][: config.limit]
        if not self._documents:
            raise UserError("there is no text to predict" + (f" in {', '.join(config.data)}" if config.data else ""))

    @property
    def items(self) -> int:
        return len(self._documents)

    def content(self) -> Any:
        return [(each.id, each.text) for each in self._documents]

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        context = min(self._config.context or _MOST_CONTEXT, subject.longest)
        stride = min(self._config.stride or max(context // 2, 1), context)
        begin = beginning_of(subject.tokenizer)
        encoded = subject.tokenizer([each.text for each in self._documents], add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        parts = [list(windows([begin, *ids], context, stride)) for ids in encoded]
        owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])

        def count(done: int) -> None:  # of windows
            show(done * len(parts) // len(owner))

        sums = log_likelihoods(subject, [window for part in parts for window in part], count)
        nats = -np.bincount(owner, weights=sums, minlength=len(parts))
        items = [
            _item(each.id, float(cost), len(ids), each.text, len(each.text.encode("utf-8", "replace")))
            for each, cost, ids in zip(self._documents, nats, encoded, strict=True)
        ]
        return Scored(items, about={"context": context, "stride": stride})


class ExamplesTest:
    """Examples that a fine-tuning held out, in its own tokens: what counts in its loss is predicted."""

    def __init__(self, config: PerplexityConfig, shards: TokenShards, decode: Callable[[list[int]], str]) -> None:
        starts = shards.document_starts()
        spans = list(zip(starts, np.append(starts[1:], len(shards)), strict=True))[: config.limit]
        names = shards.ids(range(len(spans)))
        self._examples = [
            (name, shards.read(first, last)[0].tolist(), shards.weights(first, last))
            for name, (first, last) in zip(names, spans, strict=True)
        ]
        self._texts = [decode(ids) for _, ids, _ in self._examples]
        if not self._examples:
            raise UserError("the run held no examples out; name texts with --data")

    @property
    def items(self) -> int:
        return len(self._examples)

    def content(self) -> Any:
        return [(name, ids, weights.tolist()) for name, ids, weights in self._examples]

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        _, ids, _ = self._examples[0]
        if subject.tokenizer.decode(ids, skip_special_tokens=True) != self._texts[0]:
            raise UserError("the examples that were held out are in other tokens than this model's; name texts instead")
        wanted = [Wanted(ids, 1) for _, ids, _ in self._examples]
        found = list[Item]()
        for (name, _, weights), log_p, text in zip(
            self._examples, token_log_likelihoods(subject, wanted, show), self._texts, strict=True
        ):
            count = float(weights[1:].sum())
            found.append(_item(name, float(-(log_p * weights[1:]).sum()), count, text, None))
        return Scored(found)


def _item(name: str, nats: float, tokens: float, text: str, size: int | None) -> Item:
    """`size`: bytes of UTF-8; None where they cannot be told."""
    scores = {"loss": (nats, float(tokens))}
    if size is not None:
        scores["bits_per_byte"] = (nats / math.log(2), float(size))
    shown: dict[str, Any] = {"text": text[:_SHOWN] + ("..." if len(text) > _SHOWN else ""), "tokens": f"{tokens:,.0f}"}
    return Item(name, name, scores, shown, text)
