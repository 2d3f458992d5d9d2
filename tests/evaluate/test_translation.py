import math
import sys
from collections import Counter

import numpy as np
import pytest

from polyana.errors import UserError
from polyana.evaluate import (
    CometConfig,
    Translation,
    comet_scores,
    compare_comet,
    compare_translations,
    score_translations,
)

pytest.importorskip("sacrebleu")
pytest.importorskip("snowballstemmer")


def translations(*rows: tuple[str, str, str, str]) -> list[Translation]:
    return [Translation(*row) for row in rows]


TWO_DOCUMENTS = translations(
    ("a", "s1", "the cat sat on the mat today", "the cat sat on a mat today"),
    ("a", "s2", "it was warm and it slept well", "it was warm and slept well"),
    ("b", "s3", "nobody saw the dog that day", "nobody has seen the dog that day"),
)


def grams(words: list[str], order: int) -> Counter:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def bleu(pairs: list[tuple[str, str]]) -> float:
    """Papineni et al. 2002, eq. 1-3, on text that is tokenized as it stands."""
    right, written = np.zeros(4), np.zeros(4)
    hypothesis_length = reference_length = 0
    for hypothesis, reference in pairs:
        ours, theirs = hypothesis.split(), reference.split()
        hypothesis_length, reference_length = hypothesis_length + len(ours), reference_length + len(theirs)
        for order in range(1, 5):
            right[order - 1] += (grams(ours, order) & grams(theirs, order)).total()
            written[order - 1] += max(0, len(ours) - order + 1)
    brevity = min(1.0, math.exp(1 - reference_length / hypothesis_length))
    return 100 * brevity * math.exp(np.log(right / written).mean())


def chrf(pairs: list[tuple[str, str]], words: int = 2) -> float:
    """Popovic 2017: characters up to six without spaces, words up to two, precision and recall averaged, beta 2."""
    precisions, recalls = [], []
    orders = [(list, n) for n in range(1, 7)] + [(str.split, n) for n in range(1, words + 1)]
    for split, order in orders:
        if split is list:
            sides = [(list(ours.replace(" ", "")), list(theirs.replace(" ", ""))) for ours, theirs in pairs]
        else:
            sides = [(ours.split(), theirs.split()) for ours, theirs in pairs]
        counted = [(grams(ours, order), grams(theirs, order)) for ours, theirs in sides]
        right = sum((ours & theirs).total() for ours, theirs in counted)
        precisions.append(right / sum(ours.total() for ours, _ in counted))
        recalls.append(right / sum(theirs.total() for _, theirs in counted))
    p, r = np.mean(precisions), np.mean(recalls)
    return 100 * 5 * p * r / (4 * p + r)


def pairs_of(rows: list[Translation]) -> list[tuple[str, str]]:
    return [(each.hypothesis, each.reference) for each in rows]


def test_scores_are_the_papers_formulas_by_segment_and_by_document():
    scores = score_translations(TWO_DOCUMENTS, "en", "en")
    pairs = pairs_of(TWO_DOCUMENTS)
    joined = [tuple(" ".join(sides) for sides in zip(*pairs[:2], strict=True)), pairs[2]]
    assert scores.bleu.value == pytest.approx(bleu(pairs))
    assert scores.chrf.value == pytest.approx(chrf(pairs))
    assert scores.document_bleu.value == pytest.approx(bleu(joined))
    assert scores.document_chrf.value == pytest.approx(chrf(joined))
    assert scores.document_bleu.value != pytest.approx(scores.bleu.value)  # n-grams reach over sentence borders
    assert scores.segments == pytest.approx([chrf([pair]) for pair in pairs])
    assert list(scores.documents) == ["a", "b"]
    assert list(scores.documents.values()) == pytest.approx([chrf([pair]) for pair in joined])
    assert set(scores.metrics()) == {"eval/bleu", "eval/chrf", "eval/document_bleu", "eval/document_chrf"}


def test_a_score_says_how_it_was_computed():
    scores = score_translations(TWO_DOCUMENTS, "en", "en")
    assert str(scores.bleu).startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert str(scores.chrf).startswith("chrF2++|nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:")
    assert "tok:zh" in score_translations(TWO_DOCUMENTS, "en", "zh").bleu.signature


def test_an_empty_translation_scores_nothing():
    scores = score_translations(translations(("a", "x", "the cat sat on the mat", "")), "en", "en")
    assert scores.bleu.value == scores.chrf.value == scores.segments[0] == 0


def document(*rows: tuple[str, str, str]) -> list[Translation]:
    return [Translation("d", *row) for row in rows]


TERMS = (
    ("Open the window.", "Откройте окно."),
    ("Click the button.", "Нажмите кнопку."),
    ("This button saves.", "Эта кнопка сохраняет."),
    ("Nothing else happens.", "Больше ничего не происходит."),
    ("Two buttons remain.", "Остались две кнопки."),
    ("Close it.", "Закройте его."),
)


def with_hypotheses(*hypotheses: str) -> list[Translation]:
    return document(*((*pair, hypothesis) for pair, hypothesis in zip(TERMS, hypotheses, strict=True)))


def test_a_term_rendered_by_one_word_in_any_form_is_consistent():
    ours = with_hypotheses("Открыть окно.", "Жать кнопку.", "Кнопка хранит.", "Пусто.", "Ещё кнопки.", "Закрыть.")
    terms = score_translations(ours, "en", "ru").terms
    assert (terms.terms, terms.occurrences, terms.consistency, terms.accuracy) == (1, 3, 1.0, 1.0)


def test_a_term_rendered_by_two_words_is_consistent_in_one_pair_of_three():
    ours = with_hypotheses("Открыть окно.", "Жать клавишу.", "Кнопка хранит.", "Пусто.", "Ещё клавиши.", "Закрыть.")
    terms = score_translations(ours, "en", "ru").terms
    assert terms.consistency == pytest.approx(1 / 3)
    assert terms.accuracy == pytest.approx(1 / 3)


def test_a_word_that_stands_everywhere_renders_no_term():
    terms = score_translations(with_hypotheses(*["Ничего ничего."] * 6), "en", "ru").terms
    assert (terms.consistency, terms.accuracy) == (0, 0)


def test_a_language_without_a_stemmer_compares_words_as_they_are():
    ours = with_hypotheses(*(reference for _, reference in TERMS))
    assert score_translations(ours, "xx", "xx").terms.terms == 0  # кнопку, кнопка, кнопки


def corpus(seed: int) -> list[Translation]:
    """Thirty segments in six documents, some words of which are wrong."""
    generator = np.random.default_rng(seed)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    rows = []
    for number in range(30):
        reference = [words[(number * 7 + i * i) % 8] for i in range(8)]
        hypothesis = [words[generator.integers(8)] if generator.random() < 0.3 else word for word in reference]
        rows.append(Translation(f"d{number // 5}", "", " ".join(reference), " ".join(hypothesis)))
    return rows


def test_significance_is_koehns_paired_bootstrap():
    """The same draws, each scored as a test set of its own."""
    old, new = corpus(1), corpus(2)
    found = {each.name: each for each in compare_translations(old, new, "en", samples=50)}
    assert list(found) == ["BLEU", "chrF2++", "document BLEU", "document chrF2++"]
    draws = np.random.default_rng(12345).choice(30, size=(50, 30))
    for name, metric in (("BLEU", bleu), ("chrF2++", chrf)):

        def score(rows, draw, metric=metric):
            return metric([pairs_of(rows)[i] for i in draw])

        before, after = ([score(rows, draw) for draw in draws] for rows in (old, new))
        real = abs(score(old, range(30)) - score(new, range(30)))
        differences = np.abs(np.subtract(after, before))
        p = ((differences - differences.mean() > real).sum() + 1) / 51
        assert found[name].p_value == pytest.approx(p, abs=1.1 / 51)  # sacrebleu adds up in fp32
        assert (found[name].baseline, found[name].system) == pytest.approx(
            (metric(pairs_of(old)), metric(pairs_of(new)))
        )
        assert found[name].interval == pytest.approx((sorted(after)[48] - sorted(after)[1]) / 2, rel=1e-3)
        assert "bs:50|seed:12345" in found[name].signature


def test_a_clear_difference_is_significant_and_none_is_not():
    old = corpus(1)
    better = [Translation(each.document, "", each.reference, each.reference) for each in old]
    assert all(each.is_significant for each in compare_translations(old, better, "en", samples=100))
    assert not any(each.is_significant for each in compare_translations(old, old, "en", samples=100))


def test_two_test_sets_are_not_compared():
    with pytest.raises(UserError, match="not of the same test set"):
        compare_translations(corpus(1), corpus(1)[:-1], "en")


COMET = """
class Model:
    def predict(self, samples, batch_size, gpus, progress_bar):
        assert batch_size == 3
        class Result:
            scores = [len(each["mt"]) / len(each["ref"]) + len(each["src"]) for each in samples]
        return Result()

def load_from_checkpoint(path):
    if open(path).read() != "weights":
        raise ValueError("no weights in it")
    return Model()
"""


def test_comet_is_asked_in_its_own_environment(tmp_path, monkeypatch):
    (tmp_path / "comet.py").write_text(COMET)
    (tmp_path / "model.ckpt").write_text("weights")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = CometConfig(model="model.ckpt", python=sys.executable, batch=3)
    (tmp_path / "other.ckpt").write_text("")
    with pytest.raises(UserError, match=r"COMET did not run in `.*`: ValueError: no weights in it$"):
        comet_scores(TWO_DOCUMENTS, CometConfig(model="other.ckpt", python=sys.executable), tmp_path)
    expected = [len(each.hypothesis) / len(each.reference) + 2 for each in TWO_DOCUMENTS]
    assert comet_scores(TWO_DOCUMENTS, config, tmp_path) == pytest.approx(expected)


def test_comet_is_compared_as_sacrebleu_compares(tmp_path, monkeypatch):
    """On a score that sacrebleu knows as well: the mean of numbers that segments bring along."""
    from sacrebleu.significance import _compute_p_value, estimate_ci

    draws = np.random.default_rng(0)
    old, new = draws.normal(0.5, 0.2, 60), draws.normal(0.58, 0.2, 60)
    scores = iter([old.tolist(), new.tolist()])
    monkeypatch.setattr("polyana.evaluate.translation.comet_scores", lambda *_: next(scores))
    config = CometConfig(model=str(tmp_path / "wmt22" / "checkpoints" / "model.ckpt"), python="python")
    found = compare_comet([], [], config, tmp_path)
    picked = np.random.default_rng(12345).choice(60, size=(1000, 60), replace=True)
    one, other = old[picked].mean(1), new[picked].mean(1)
    differences = np.abs(other - one)
    p_value = _compute_p_value(differences - differences.mean(), abs(old.mean() - new.mean()))
    assert (found.baseline, found.system) == pytest.approx((old.mean(), new.mean()))
    assert (found.p_value, found.interval) == pytest.approx((p_value, estimate_ci(other)[1]))
    assert found.signature == "wmt22"


@pytest.mark.parametrize(
    ("model", "python", "letter"),
    [
        ("absent.ckpt", sys.executable, "there is no COMET model at"),
        ("model.ckpt", "/absent/python", "cannot be started"),
        ("model.ckpt", sys.executable, "No module named 'comet'. It needs an environment of its own"),
    ],
)
def test_what_comet_lacks_is_said(tmp_path, model, python, letter):
    (tmp_path / "model.ckpt").write_text("weights")
    with pytest.raises(UserError, match=letter):
        comet_scores(TWO_DOCUMENTS, CometConfig(model=model, python=python), tmp_path)
