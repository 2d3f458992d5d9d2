"""Corpus and tokenizer to token shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyana.corpus import Corpus, Document, Split
from polyana.corpus.document import utf8_length
from polyana.data.shards import ShardWriter, TokenShards
from polyana.storage import read_json, write_json
from polyana.tokenizer import TextTokenizer
from polyana.tracking import Console

__all__ = ["VERSION", "TokenData", "tokenise", "write_examples"]

VERSION = 1

_BATCH = 4 * 10**6  # characters encoded at once; measured: 16 times 10**6 are no faster and take 0.2 GB more


def tokenise(corpus: Corpus, tokenizer: TextTokenizer, directory: Path, console: Console) -> None:
    """Write the shards of both splits and tokens.json into `directory`; in memory are a few batches of documents."""
    about = {}
    total = corpus.report["total"]["train"]["documents"] + corpus.report["total"]["eval"]["documents"]
    done = 0
    with console.gauge("tokens", total) as gauge:
        for split in ("train", "eval"):
            tokens = documents = size = 0
            with closing(ShardWriter(directory, split, tokenizer.vocab_size)) as writer:
                for batch in _ahead(_batches(corpus, split)):
                    texts = [document.text for document in batch]
                    ids, counts = tokenizer.encode_joined(texts)
                    ended = np.insert(ids, np.cumsum(counts), np.uint32(tokenizer.end_of_text))
                    writer.write_all([document.id for document in batch], ended, counts + 1)
                    tokens, documents = tokens + len(ended), documents + len(batch)
                    size += sum(map(utf8_length, texts))
                    done += len(batch)
                    gauge.show(done, f"{tokens:,} tokens by {tokenizer.engine}")
            about[split] = {"tokens": tokens, "documents": documents, "bytes": size}
    write_json(directory / "tokens.json", about)


def write_examples(
    examples: Iterable[tuple[Split, str, NDArray[np.uint32], NDArray[np.float32]]], vocab_size: int, directory: Path
) -> None:
    """Write (split, id, tokens, weight of each token) as shards and tokens.json into `directory`."""
    about = {split: {"tokens": 0, "documents": 0, "bytes": 0} for split in ("train", "eval")}
    with ExitStack() as stack:
        writers = {split: stack.enter_context(closing(ShardWriter(directory, split, vocab_size))) for split in about}
        for split, identifier, tokens, weights in examples:
            writers[split].write(identifier, tokens, weights)
            about[split]["tokens"] += len(tokens)
            about[split]["documents"] += 1
    write_json(directory / "tokens.json", about)


def _ahead(batches: Iterator[list[Document]]) -> Iterator[list[Document]]:
    """`batches`, each read while the one before it is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _batches(corpus: Corpus, split: Split) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in corpus.documents(split):
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class TokenData:
    """Finished token shards: a split's tokens, and how many bytes of text they stand for."""

    directory: Path

    def shards(self, split: Split) -> TokenShards:
        return TokenShards(self.directory, split)

    def count(self, split: Split, what: str) -> int:
        """`tokens`, `documents` or `bytes` of a split."""
        return int(read_json(self.directory / "tokens.json")[split][what])
