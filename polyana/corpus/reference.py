"""The stage `ngrams`: a model of letters learnt from clean text, and how surprising such text is to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import Config, KeyPath, Share
from polyana.corpus.config import SourceConfig
from polyana.corpus.document import Document
from polyana.corpus.inputs import place_of, source_inputs, spread
from polyana.corpus.normalise import normalise
from polyana.corpus.readers import read_source
from polyana.errors import PolyanaError
from polyana.storage import ContentDigests, write_json
from polyana.tracking import Console, Gauge

__all__ = ["VERSION", "NgramsConfig", "build_ngrams", "ngrams_inputs", "ngrams_report_lines", "perplexities"]

VERSION = 1

_PAGE = 2_000  # characters; what is longer is cut into such; guess
_FEWEST = 20  # pieces held out from which a percentile is told; guess


class NgramsConfig(Config):
    """Learns how letters follow each other in clean text, for the step `perplexity`."""

    kind: Literal["ngrams"]
    sources: list[SourceConfig] = Field(min_length=1, description="the clean text, as in a corpus")
    order: int = Field(6, ge=2, le=8, description="characters that are looked at together")
    characters: int = Field(
        20_000_000, ge=10_000, description="that are learnt from at most; of more, pages are drawn from all over it"
    )
    held_out: Share = Field(
        0.1, gt=0, le=0.5, description="share of its pages that are not learnt, and tell how surprising clean text is"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "n-grams are counted with numba; run: pip install 'polyana[mill]'"


def ngrams_inputs(
    config: NgramsConfig, base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """What the model is made from; see `source_inputs`."""
    return {"sources": source_inputs(config.sources, base, digests, lambda *path: where("sources", *path))}


def build_ngrams(config: NgramsConfig, base: Path, directory: Path, console: Console) -> dict[str, Any]:
    """Write model.npz, perplexities.npy of the pages held out, smallest first, and report.json; return the report.

    Raises PolyanaError when there is too little text.
    """
    from polyana.corpus.ngrams import bits_of, learn  # compiles, which takes a second

    with console.gauge("ngrams", len(config.sources)) as gauge:
        pages = spread(_pages(config, base, gauge), config.characters, len)
    documents = {identifier: identifier.rpartition("#")[0] for identifier, _ in pages}
    # Pages of one document are alike: they stay together where there are documents enough.
    together = len(set(documents.values())) * config.held_out >= _FEWEST
    learnt, held_out = list[str](), list[str]()
    for identifier, page in pages:
        aside = place_of("held out " + (documents[identifier] if together else identifier)) < config.held_out
        (held_out if aside else learnt).append(page)
    if len(held_out) < _FEWEST:
        raise PolyanaError(
            f"the clean text has {len(pages)} pages, of which {len(held_out)} would be held out, and {_FEWEST} are "
            "needed to tell how surprising it is. Give it more sources, or more `held_out`"
        )
    model = learn(learnt, config.order)
    bits, characters = bits_of(model, held_out)
    found = np.sort(perplexities(bits, characters))
    model.save(directory / "model.npz")
    np.save(directory / "perplexities.npy", found)
    report = {
        "characters": sum(len(page) for _, page in pages),
        "pages": {"learnt": len(learnt), "held_out": len(held_out)},
        "ngrams": int((model.slots["key"] != 0).sum()),
        "bits_per_character": round(float(bits.sum() / characters.sum()), 4),
        "perplexity": {f"{share}%": round(float(np.quantile(found, share / 100)), 3) for share in _TOLD},
    }
    write_json(directory / "report.json", report)
    return report


_TOLD = (1, 10, 33, 50, 66, 90, 95, 99)  # percentiles; CCNet cuts at thirds (Wenzek et al. 2020, section 4.2)


def perplexities(bits: NDArray[np.float64], characters: NDArray[np.int64]) -> NDArray[np.float32]:
    """Between how many equally probable characters the model would have to choose, on average."""
    return np.exp2(bits / np.maximum(characters, 1)).astype(np.float32)


def _pages(config: NgramsConfig, base: Path, gauge: Gauge) -> Iterator[tuple[str, str]]:
    for number, source in enumerate(config.sources):
        for count, document in enumerate(read_source(source, base)):
            if isinstance(document, Document):
                text = normalise(document.text)
                for at in range(0, len(text), _PAGE):
                    yield f"{document.id}#{at}", text[at : at + _PAGE]
            gauge.show(number, f"{count:,} documents of {source.label}")


def ngrams_report_lines(report: dict[str, Any]) -> list[str]:
    """The report for the terminal."""
    told = ", ".join(f"{share} {value:.2f}" for share, value in report["perplexity"].items())
    pages = report["pages"]
    return [
        f"{report['ngrams']:,} n-grams of {report['characters']:,} characters; {report['bits_per_character']:.2f} bits "
        f"a character on {pages['held_out']:,} pages held out",
        f"perplexity of clean text, by percentiles: {told}",
    ]
