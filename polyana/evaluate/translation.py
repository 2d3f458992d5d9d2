"""How good a translation is: BLEU and chrF++ by sacrebleu, term consistency, COMET where it is; and was it chance?"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from polyana.config import Config
from polyana.errors import UserError
from polyana.evaluate.items import Metric
from polyana.evaluate.terminology import TermConsistency, term_consistency

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreMetric

__all__ = [
    "CometConfig",
    "Comparison",
    "Score",
    "Translation",
    "TranslationScores",
    "comet_scores",
    "compare_comet",
    "compare_translations",
    "score_translations",
    "translation_metrics",
]


@dataclass(frozen=True, slots=True)
class Translation:
    """A segment of a test set, and what a model made of it."""

    document: str
    source: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus score, 0 to 100, and sacrebleu's signature, which says exactly how it was computed."""

    name: str
    value: float
    signature: str

    def __str__(self) -> str:
        return f"{self.name}|{self.signature} = {self.value:.1f}"


@dataclass(frozen=True, slots=True)
class TranslationScores:
    """Scores of a whole test set, by segments and by documents, and what each part scores alone."""

    bleu: Score
    chrf: Score
    document_bleu: Score
    document_chrf: Score
    terms: TermConsistency
    segments: tuple[float, ...]
    """chrF++ of each segment alone, in the order they came."""
    documents: Mapping[str, float]
    """chrF++ of each document alone."""

    def metrics(self) -> dict[str, float]:
        """By the names they have on the curves; shares of terms only where there are terms."""
        found = {
            "eval/bleu": self.bleu.value,
            "eval/chrf": self.chrf.value,
            "eval/document_bleu": self.document_bleu.value,
            "eval/document_chrf": self.document_chrf.value,
        }
        if self.terms.occurrences:
            found["eval/term_consistency"] = self.terms.consistency
            found["eval/term_accuracy"] = self.terms.accuracy
        return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of two systems on one test set."""

    name: str
    baseline: float
    system: float
    p_value: float
    """How often chance alone would make a difference as large."""
    interval: float
    """Half the width of the system's 95 % interval."""
    signature: str

    @property
    def is_significant(self) -> bool:
        return self.p_value < 0.05  # the field's custom, as in sacrebleu's tables


def score_translations(
    translations: Sequence[Translation], source_language: str, target_language: str
) -> TranslationScores:
    """BLEU (Papineni et al. 2002), chrF++ (Popovic 2017) and term consistency; languages as ISO 639-1 codes.

    By segments, and by documents: a document's segments joined by spaces count as one segment (d-BLEU, Liu et al.
    2020), so that n-grams reach over sentence borders. BLEU's tokenizer is the one sacrebleu has for the language.
    """
    bleu, chrf = _metrics(target_language)
    joined = documents_of(translations)
    by_segment, by_document = list(translations), list(joined.values())
    return TranslationScores(
        bleu=_corpus_score(bleu, by_segment),
        chrf=_corpus_score(chrf, by_segment),
        document_bleu=_corpus_score(bleu, by_document),
        document_chrf=_corpus_score(chrf, by_document),
        terms=term_consistency(_by_document(translations).values(), source_language, target_language),
        segments=tuple(chrf.sentence_score(each.hypothesis, [each.reference]).score for each in translations),
        documents={name: chrf.sentence_score(each.hypothesis, [each.reference]).score for name, each in joined.items()},
    )


def translation_metrics(
    translations: Sequence[Translation], scores: TranslationScores, target_language: str, samples: int = 1000
) -> dict[str, Metric]:
    """The corpus scores with 95 % intervals by sacrebleu's own bootstrap, over segments and over documents; no interval
    where there are fewer than two."""
    found = dict[str, Metric]()
    documents = len(scores.documents)
    for name, score, parts in (
        ("bleu", scores.bleu, list(translations)),
        ("chrf", scores.chrf, list(translations)),
        ("document_bleu", scores.document_bleu, list(documents_of(translations).values())),
        ("document_chrf", scores.document_chrf, list(documents_of(translations).values())),
    ):
        low = high = None
        if len(parts) > 1:
            metric = _metrics(target_language)[name.endswith("chrf")]
            drawn = metric.corpus_score(
                [each.hypothesis for each in parts], [[each.reference for each in parts]], n_bootstrap=samples
            )
            # its interval has the mean in the middle, so one of a score near an end may go past it
            low, high = max(0.0, float(drawn._mean - drawn._ci)), min(100.0, float(drawn._mean + drawn._ci))
        found[name] = Metric(score.value, low, high, len(translations), len(parts) if low is not None else documents)
    return found


def documents_of(translations: Iterable[Translation]) -> dict[str, Translation]:
    """Each document as one long segment, in the order they begin."""
    return {
        name: Translation(
            name,
            " ".join(each.source for each in parts),
            " ".join(each.reference for each in parts),
            " ".join(each.hypothesis for each in parts if each.hypothesis),
        )
        for name, parts in _by_document(translations).items()
    }


def _by_document(translations: Iterable[Translation]) -> dict[str, list[Translation]]:
    found: dict[str, list[Translation]] = {}
    for each in translations:
        found.setdefault(each.document, []).append(each)
    return found


def compare_translations(
    baseline: Sequence[Translation], system: Sequence[Translation], target_language: str, samples: int = 1000
) -> list[Comparison]:
    """Is `system` better than `baseline`, or was it chance? BLEU and chrF++ by segments, then by documents.

    Paired bootstrap resampling (Koehn 2004), sacrebleu's own. By documents whole documents are drawn: sentences of one
    document are not independent, so this is the stricter question where documents are few.
    """
    from sacrebleu.significance import PairedTest

    if [(each.document, each.reference) for each in baseline] != [(each.document, each.reference) for each in system]:
        raise UserError("the two translations are not of the same test set: their documents or references differ")
    found = []
    for unit, old, new in (
        ("", list(baseline), list(system)),
        ("document ", list(documents_of(baseline).values()), list(documents_of(system).values())),
    ):
        bleu, chrf = _metrics(target_language)
        test = PairedTest(
            [("baseline", [each.hypothesis for each in old]), ("system", [each.hypothesis for each in new])],
            {"BLEU": bleu, "chrF2++": chrf},
            [[each.reference for each in old]],
            test_type="bs",
            n_samples=samples,
        )
        signatures, results = test()
        for name, signature in signatures.items():
            before, after = results[name]
            # of equal scores sacrebleu 2.6 says p = 1 / (samples + 1): no draw's difference is above a mean of zero
            p_value = 1.0 if before.score == after.score else float(after.p_value)
            found.append(
                Comparison(
                    unit + name, float(before.score), float(after.score), p_value, float(after.ci), signature.format()
                )
            )
    return found


def _metrics(target_language: str) -> tuple[SacreMetric, SacreMetric]:
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise UserError("scoring translations needs sacrebleu: `pip install 'polyana[translate]'`") from None
    try:
        # `force` silences a guess that the input is tokenized
        return BLEU(trg_lang=target_language, force=True), CHRF(word_order=2)
    except RuntimeError as error:  # Japanese and Korean need a word splitter that is an extra of sacrebleu's
        raise UserError(f"BLEU for `{target_language}`: {error}") from None


def _corpus_score(metric: SacreMetric, parts: Sequence[Translation]) -> Score:
    score = metric.corpus_score([each.hypothesis for each in parts], [[each.reference for each in parts]])
    return Score(score.name, score.score, metric.get_signature().format())


class CometConfig(Config):
    """COMET (Rei et al. 2022), a trained metric. It needs an environment of its own: it pins old libraries."""

    model: str = Field(
        description="the downloaded checkpoint, checkpoints/model.ckpt below a folder with its hparams.yaml",
        json_schema_extra={"path": True},
    )
    python: str = Field(description="the Python of an environment where unbabel-comet is installed")
    batch: int = Field(16, ge=1, description="segments scored at once")


def compare_comet(
    baseline: Sequence[Translation], system: Sequence[Translation], config: CometConfig, base: Path, samples: int = 1000
) -> Comparison:
    """As `compare_translations`, by the mean COMET score of segments; the same test, computed as sacrebleu does."""
    old_N, new_N = (np.array(comet_scores(each, config, base)) for each in (baseline, system))
    draws = np.random.default_rng(12345).choice(len(old_N), (samples, len(old_N)))  # sacrebleu's seed
    new_S = new_N[draws].mean(1)
    differences_S = np.abs(new_S - old_N[draws].mean(1))
    observed = abs(new_N.mean() - old_N.mean())
    beyond = int((differences_S - differences_S.mean() > observed).sum())
    p_value = (beyond + 1) / (samples + 1) if observed else 1.0
    new_S = np.sort(new_S)
    interval = (new_S[-1 - samples // 40] - new_S[samples // 40]) / 2
    name = Path(config.model).resolve().parent.parent.name
    return Comparison("COMET", float(old_N.mean()), float(new_N.mean()), p_value, float(interval), name)


_COMET = """
import json, sys
from comet import load_from_checkpoint
import torch
asked = json.load(open(sys.argv[1], encoding="utf-8"))
model = load_from_checkpoint(asked["model"])
gpus = min(1, torch.cuda.device_count())
result = model.predict(asked["samples"], batch_size=asked["batch"], gpus=gpus, progress_bar=False)
json.dump([float(score) for score in result.scores], open(sys.argv[2], "w"))
"""
"""What runs there. unbabel-comet 2.2.7 wants transformers below 5 and numpy below 2, so it cannot stand beside ours."""


def comet_scores(translations: Sequence[Translation], config: CometConfig, base: Path) -> list[float]:
    """Each segment's score; the test set's is their mean. A relative path to the model starts at `base`.

    Tried with unbabel-comet 2.2.7 and a tiny checkpoint of random weights: no trained one can be had without a network,
    so no real COMET score has been seen. Not run on a GPU yet.
    """
    model = base / Path(config.model).expanduser()
    if not model.is_file():
        raise UserError(f"there is no COMET model at {model}; write a downloaded checkpoint's path, ending in .ckpt")
    samples = [{"src": each.source, "mt": each.hypothesis, "ref": each.reference} for each in translations]
    with tempfile.TemporaryDirectory() as place:
        asked, answer = Path(place) / "asked.json", Path(place) / "scores.json"
        asked.write_text(json.dumps({"model": str(model), "samples": samples, "batch": config.batch}), encoding="utf-8")
        try:
            process = subprocess.run(
                [config.python, "-c", _COMET, asked, answer], capture_output=True, text=True, check=False
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"COMET: `python: {config.python}` cannot be started: {error.strerror}") from None
        if process.returncode:
            last = (process.stderr.strip().splitlines() or ["it said nothing"])[-1]
            mend = (
                ". It needs an environment of its own: `python3 -m venv comet && comet/bin/pip install unbabel-comet`, "
                "then `python: comet/bin/python`"
                if "No module named 'comet'" in last
                else ""
            )
            raise UserError(f"COMET did not run in `{config.python}`: {last}{mend}")
        scores: list[float] = json.loads(answer.read_text())
    return scores
