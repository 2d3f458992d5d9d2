"""The texts that models are trained on and measured on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from polyana.corpus import Corpus, Document, DocumentWriter
from polyana.corpus.document import utf8_length
from polyana.storage import read_json, write_json

__all__ = ["HeldOut", "Sample", "Written", "held_out_of", "take_sample", "write_text"]

_MOST = 0.05
"""Of a domain's held-out text that is one document's at most: the beginning of a longer one, so that the figures do not
hang on one text; guess."""


@dataclass(frozen=True)
class HeldOut:
    """A document, or its beginning, that is predicted."""

    document: Document
    domain: str
    bytes: int


@dataclass(frozen=True)
class Sample:
    """The first documents of a variant's training text, in the order that follows from their ids and is random."""

    directory: Path

    def documents(self) -> Iterator[Document]:
        return Corpus(self.directory).documents("train")

    @property
    def copies(self) -> set[str]:
        """Ids of those that are copies of held-out text."""
        return set(read_json(self.directory / "sample.json")["copies"])

    @property
    def whole(self) -> dict[str, int]:
        """Documents and bytes of the training text that this is the beginning of."""
        return dict(read_json(self.directory / "sample.json")["whole"])


def _domain(identifier: str) -> str:
    """The first part of an id, which is its source's name."""
    return identifier.partition("/")[0]


def held_out_of(corpus: Corpus, size: int, sources: list[str]) -> list[HeldOut]:
    """About `size` bytes of a corpus's held-out documents, in equal shares of the domains as far as they have them."""
    taken = dict.fromkeys(map(_domain, sources), 0)
    share, found = size // len(taken), list[HeldOut]()
    for document in corpus.documents("eval"):
        domain = _domain(document.id)
        if taken[domain] >= share:
            continue
        text = _beginning(document.text, max(1, round(share * _MOST)))
        found.append(HeldOut(Document(document.id, text), domain, utf8_length(text)))
        taken[domain] += found[-1].bytes
    return found


def _beginning(text: str, size: int) -> str:
    """As many of the first characters as fit into `size` bytes, up to a space."""
    if utf8_length(text) <= size:
        return text
    cut = text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
    return cut[: match.start()] if (match := re.search(r"\s\S*$", cut)) and match.start() else cut


def take_sample(corpus: Corpus, size: int, is_copy: Callable[[str], bool], directory: Path) -> None:
    """Write the first `size` bytes of a corpus's training text into `directory`, and which of it are copies of held-out
    text."""
    copies, taken = list[str](), 0
    with DocumentWriter(directory, "train") as writer:
        for document in corpus.documents("train"):
            if taken >= size:
                break
            length = utf8_length(document.text)
            writer.write(document, length)
            taken += length
            if is_copy(document.text):
                copies.append(original(document.id))
    train = corpus.report["total"]["train"]
    write_json(directory / "sample.json", {"copies": copies, "whole": train})


@dataclass(frozen=True)
class Written:
    """Documents and bytes that a variant's models are trained on, what was left out of it as copies, the bytes of each
    domain, and documents and bytes of `whole`, the training text that all this is the beginning of."""

    documents: int
    bytes: int
    excluded_documents: int
    excluded_bytes: int
    domains: dict[str, int]
    whole: dict[str, int]

    @property
    def share(self) -> float:
        """Of the whole that this is."""
        return (self.bytes + self.excluded_bytes) / self.whole["bytes"]


def write_text(sample: Sample, copies: set[str], held_out: list[HeldOut], directory: Path) -> Written:
    """Write a variant's training text without the copies, and the held-out text, as a corpus into `directory`."""
    kept, copied = [0, 0], [0, 0]
    domains: Counter[str] = Counter()
    with DocumentWriter(directory, "train") as writer:
        for document in sample.documents():
            length, is_copy = utf8_length(document.text), original(document.id) in copies
            count = copied if is_copy else kept
            count[0] += 1
            count[1] += length
            if not is_copy:
                writer.write(document, length)
                domains[_domain(document.id)] += length
    with DocumentWriter(directory, "eval") as writer:
        for each in held_out:
            writer.write(each.document, each.bytes)
    total = {"train": {"documents": kept[0]}, "eval": {"documents": len(held_out)}}
    written = Written(kept[0], kept[1], copied[0], copied[1], dict(sorted(domains.items())), sample.whole)
    write_json(directory / "report.json", {"total": total, "written": asdict(written)})
    return written


def original(identifier: str) -> str:
    """A document's id without what tells the copies apart that a mix gives of it."""
    return re.sub(r"~\d+$", "", identifier)
