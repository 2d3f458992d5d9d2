"""Domains: what is asked of the mix comes out, copies have ids of their own, the guard and the report know domains."""

import csv
import gzip
import io
import json
from collections import Counter

import numpy as np
import pytest

from polyana.config import Source, read_config
from polyana.corpus import (
    ClassifierConfig,
    Corpus,
    CorpusConfig,
    build_classifier,
    build_corpus,
    classifier_report_lines,
    report_lines,
)
from polyana.errors import PolyanaError, UserError
from polyana.pipeline import Pipeline
from polyana.recipe import load_recipe
from polyana.tracking import Console

RULES = {"kind": "domains", "rules": [{"domain": "maths", "id": "*/maths-*"}, {"domain": "tea", "text": "[Tt]ea"}]}


def write(base, maths=200, tea=600, rest=0):
    """Documents of equal length: of a domain by its id, by its text, and of none."""
    (base / "texts").mkdir()
    for name, count, text in (("maths", maths, "x = 1"), ("other", tea, "tea!!"), ("none", rest, "words")):
        for number in range(count):
            (base / "texts" / f"{name}-{number:04d}.txt").write_text(f"{text} {number:04d}")


def build(base, steps=(RULES,), eval_share=0.0, **rest):
    config = CorpusConfig(
        kind="corpus", sources=[{"path": "texts"}], eval=eval_share, steps=list(steps), work={"workers": 1}, **rest
    )
    directory = base / f"corpus-{len(list(base.glob('corpus-*')))}"
    directory.mkdir()
    report = build_corpus(config, base, directory, Console(io.StringIO()))
    return Corpus(directory), report


def told(corpus, split="train"):
    """How many documents of a split are of each domain, by looking at them; bytes of all are the same."""
    names = {"x": "maths", "t": "tea", "w": "texts"}
    return Counter(names[document.text[0]] for document in corpus.documents(split))


def test_domains_before_and_after(tmp_path):
    write(tmp_path, 40, 100, 7)
    corpus, report = build(tmp_path, [RULES], eval_share=0.3)
    assert list(report["domains"]) == ["texts", "maths", "tea"]
    for split in ("train", "eval"):
        counts = {name: each[split]["documents"] for name, each in report["domains"].items()}
        assert counts == {name: told(corpus, split)[name] for name in counts}
    assert [each["before"] for each in report["domains"].values()] == [
        {"documents": count, "bytes": 10 * count} for count in (7, 40, 100)
    ]
    assert report["sources"]["texts"]["train"]["documents"] == sum(told(corpus).values())


def test_a_corpus_of_one_to_three_is_mixed_one_to_one(tmp_path):
    write(tmp_path)
    corpus, report = build(tmp_path, mix={"weights": {"maths": 1, "tea": 1}})
    counts = told(corpus)
    assert counts["maths"] == 400  # twice, exactly
    assert counts["tea"] == pytest.approx(400, abs=4 * (600 * 2 / 3 / 3) ** 0.5)  # two thirds of them, by lot
    for name in ("maths", "tea"):
        mixed = report["mix"][name]
        assert mixed["asked"] == 0.5
        assert mixed["given"]["documents"] == counts[name]
        assert mixed["given"]["bytes"] == 10 * counts[name]
        assert mixed["given"]["share"] == pytest.approx(counts[name] / counts.total())
    assert report["mix"]["texts"]["given"] == {"documents": 0, "bytes": 0, "share": 0.0}
    assert [line for line in report_lines(report) if "maths" in line] == [
        f"mixed   maths: 50.0% asked, {400 / counts.total():.1%} given; each document 2.00 times"
    ]


def test_copies_have_ids_of_their_own_and_lie_apart(tmp_path):
    write(tmp_path, 50, 150)
    corpus, _ = build(tmp_path, mix={"weights": {"maths": 3, "tea": 1}})
    documents = list(corpus.documents("train"))
    ids = [document.id for document in documents]
    assert len(set(ids)) == len(ids)
    first = {document.id: document.text for document in documents if "~" not in document.id}
    times = Counter(each.partition("~")[0] for each in ids if "maths" in each)
    assert list(times.values()) == [3] * 50
    assert all(document.text == first[document.id.partition("~")[0]] for document in documents)
    places = np.array([ids.index(each) for each in first if "maths" in each])
    again = np.array([ids.index(f"{each}~2") for each in first if "maths" in each])
    assert np.abs(places - again).mean() > len(ids) / 6  # of places drawn at random a third


def test_a_domain_is_repeated_so_often_at_most(tmp_path):
    write(tmp_path, 20, 600)
    corpus, report = build(tmp_path, mix={"weights": {"maths": 1, "tea": 1}, "max_epochs": 3})
    counts = told(corpus)
    assert counts["maths"] == 60
    assert report["mix"]["maths"]["epochs"] == 3
    assert report["mix"]["maths"]["asked"] == 0.5
    assert report["mix"]["maths"]["given"]["share"] == pytest.approx(60 / counts.total())
    assert counts["tea"] > 240


def test_temperature_brings_domains_nearer_to_each_other(tmp_path):
    write(tmp_path, 100, 900)
    corpus, report = build(tmp_path, mix={"temperature": 2})
    asked = 100**0.5 / (100**0.5 + 900**0.5)  # the root of sizes: one to three
    assert report["mix"]["maths"]["asked"] == pytest.approx(asked)
    assert report["mix"]["maths"]["given"]["share"] == pytest.approx(asked, abs=0.03)
    assert told(corpus)["maths"] == pytest.approx(250, abs=4 * 5)


def test_the_share_of_an_empty_domain_goes_to_the_others(tmp_path):
    write(tmp_path, 100, 300)
    corpus, report = build(tmp_path, mix={"weights": {"maths": 1, "tea": 1, "texts": 2}})
    assert {name: each["asked"] for name, each in report["mix"].items()} == {"texts": 0.5, "maths": 0.25, "tea": 0.25}
    assert report["mix"]["maths"]["share"] == pytest.approx(0.5)
    assert told(corpus).total() == pytest.approx(400, abs=20)


def test_what_the_mix_leaves_out_is_left_out(tmp_path):
    write(tmp_path, 10, 30)
    corpus, _ = build(tmp_path, mix={"weights": {"maths": 0, "tea": 1}})
    assert set(told(corpus)) == {"tea"}
    with pytest.raises(PolyanaError, match=r"^the mix leaves nothing to train on: what was kept is of maths, tea$"):
        build(tmp_path, mix={"weights": {"maths": 0, "tea": 0, "texts": 1}})


def test_later_passes_know_the_domain(tmp_path):
    """The document is read again behind the comparison, and its domain is not told anew."""
    write(tmp_path, 10, 30, 5)
    lines = {"kind": "exact_duplicates", "unit": "line"}
    one, _ = build(tmp_path, [RULES], mix={"weights": {"maths": 1, "tea": 1}})
    two, report = build(tmp_path, [RULES, lines, {"kind": "repair"}], mix={"weights": {"maths": 1, "tea": 1}})
    assert [each.id for each in one.documents("train")] == [each.id for each in two.documents("train")]
    assert report["domains"]["texts"]["train"]["documents"] == 5
    three, report = build(tmp_path, [lines, {"kind": "repair"}, RULES], mix={"weights": {"maths": 1, "tea": 1}})
    assert [each.id for each in one.documents("train")] == [each.id for each in three.documents("train")]
    assert report["domains"]["tea"]["before"] == {"documents": 30, "bytes": 300}


def test_the_guard_rings_for_a_domain(tmp_path):
    write(tmp_path, 5, 600)
    taking = {"kind": "exact_duplicates"}
    for number in range(5):
        (tmp_path / "texts" / f"maths-{number:04d}.txt").write_text("x = 1 but more than the others have")
    (tmp_path / "texts" / "a.txt").write_text("x = 1 but more than the others have")
    build(tmp_path, [taking], drop_duplicates=False)
    with pytest.raises(PolyanaError, match="takes 5 of the 5 documents of domain `maths`, more than `guard: 90%`"):
        build(tmp_path, [RULES, taking], drop_duplicates=False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": [RULES], "mix": {"weights": {"math": 1}}}, "called `math`; did you mean `maths`?"),
        ({"mix": {"weights": {"poems": 1}}}, "no source or domain is called `poems`; there are texts"),
        ({"steps": ["domains"]}, "needs either `rules: [{domain: ..., id: ...}]` or `model: STAGE`"),
        ({"steps": [RULES | {"model": "told"}]}, "needs either"),
        ({"steps": [RULES | {"min_score": 0.7}]}, "`min_score` is for `model`"),
        ({"steps": [RULES, RULES]}, "`domains` stands here twice"),
    ],
)
def test_letters(settings, says):
    data = {"kind": "corpus", "sources": [{"path": "texts"}], "language": None, **settings}
    data = json.loads(json.dumps(data))
    _, problems = read_config(CorpusConfig, data, Source("recipe.yaml", {}), ())
    assert [problem.what for problem in problems if says in problem.what], problems


# ---- by a classifier


@pytest.fixture(scope="module")
def kinds(shared_data, tmp_path_factory):
    """A directory with the questions of a bank's customers and paragraphs of office help, 300 each: bank.jsonl and
    office.jsonl to learn from, texts/ with both."""
    with (shared_data / "banking77" / "test.csv").open() as file:
        bank = [row["text"] for row in csv.DictReader(file)][:2400:4]
    with gzip.open(shared_data / "libreoffice_help_en_ru" / "pairs.jsonl.gz", "rt") as lines:
        office = list(dict.fromkeys(pair["en"] for pair in map(json.loads, lines) if len(pair["en"]) > 60))[:6000:10]
    base = tmp_path_factory.mktemp("kinds")
    for name, texts in (("bank", bank), ("office", office)):
        (base / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[::2]))
    (base / "texts").mkdir()
    for name, texts in (("b", bank[1::2]), ("o", office[1::2])):
        (base / "texts" / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return base


RECIPE = """\
stages:
  told:
    kind: classifier
    sources:
      - {path: bank.jsonl, name: bank}
      - {path: office.jsonl, name: office}
      - {path: more.jsonl, name: office}
  corpus:
    kind: corpus
    sources: [{path: texts}]
    eval: 0
    work: {workers: 1}
    steps: [{kind: domains, model: told}]
    mix: {weights: {bank: 1, OFFICE: 1}}
"""


def test_a_classifier_learns_the_domains_and_the_mix_goes_by_them(kinds, home):
    (kinds / "more.jsonl").write_text(json.dumps({"text": "A window has a title bar and a menu."}) + "\n")
    recipe = kinds / "recipe.yaml"
    recipe.write_text(RECIPE.replace("OFFICE", "ofice"))
    with pytest.raises(UserError, match=r"recipe.yaml:14 .*called `ofice`; did you mean `office`\?"):
        load_recipe(recipe)
    recipe.write_text(RECIPE.replace("OFFICE", "office"))
    pipeline = Pipeline(load_recipe(recipe), home, Console(io.StringIO()))
    stored = pipeline.store.get(pipeline.step("corpus")).directory
    report = json.loads((stored / "report.json").read_text())
    known = json.loads((pipeline.store.get(pipeline.step("told")).directory / "report.json").read_text())
    assert known["accuracy"] > 0.95
    assert known["accuracy_interval"][0] < known["accuracy"] <= known["accuracy_interval"][1]
    assert known["examples"]["learnt"]["office"] + known["examples"]["held_out"]["office"] == 301
    assert {name: sum(row.values()) for name, row in known["confused"].items()} == known["examples"]["held_out"]
    assert {"card", "card "} & set(known["telling"]["bank"])
    before = {name: each["before"]["documents"] for name, each in report["domains"].items()}
    assert before["bank"] == pytest.approx(300, abs=15)
    assert before["office"] == pytest.approx(300, abs=15)
    assert sum(before.values()) == report["total"]["train"]["documents"] + report["total"]["dropped"].get(
        "exact_duplicates: copy of another document", {"documents": 0}
    )["documents"]  # fmt: skip
    documents = list(Corpus(stored).documents("train"))
    size = sum(len(each.text.encode()) for each in documents)
    of_bank = sum(len(each.text.encode()) for each in documents if each.id.startswith("texts/b.jsonl"))
    assert of_bank / size == pytest.approx(0.5, abs=0.05)
    assert report["mix"]["bank"]["given"]["share"] == pytest.approx(of_bank / size, abs=0.03)
    assert report["mix"]["bank"]["epochs"] > 1 > report["mix"]["office"]["epochs"]


def test_a_classifier_tells_what_it_confuses(kinds, tmp_path):
    config, problems = read_config(
        ClassifierConfig,
        {"kind": "classifier", "sources": [{"path": "bank.jsonl", "name": name} for name in ("bank", "other")]},
        Source("recipe.yaml", {}),
        (),
    )
    assert not problems
    with pytest.raises(PolyanaError, match="of the bank examples 0 are to learn from"):  # each text is of both
        build_classifier(config, kinds, tmp_path, Console(io.StringIO()))
    half = (kinds / "bank.jsonl").read_text().splitlines(keepends=True)
    for name, lines in (("odd", half[1::2]), ("even", half[::2])):
        (kinds / f"{name}.jsonl").write_text("".join(lines))
    sources = [{"path": f"{name}.jsonl", "name": name} for name in ("odd", "even", "office")]
    config = ClassifierConfig(kind="classifier", sources=sources, held_out=0.4)
    report = build_classifier(config, kinds, tmp_path, Console(io.StringIO()))
    assert report["classes"]["office"]["recall"] > 0.9
    assert report["classes"]["odd"]["precision"] < 0.8  # nothing tells it from the even ones
    assert report["confused"]["odd"]["even"] + report["confused"]["even"]["odd"] > 10
    rows = report["thresholds"]
    assert [row["told"] for row in rows] == sorted((row["told"] for row in rows), reverse=True)
    assert rows[-1]["right"] > rows[0]["right"] == report["accuracy"]
    assert classifier_report_lines(report)[1].startswith("most often confused: ")
    page = (tmp_path / "report.md").read_text()
    assert "| odd |" in page
    assert "## What tells them apart" in page


def test_classes_have_names_of_their_own():
    data = {"kind": "classifier", "sources": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]}
    _, problems = read_config(ClassifierConfig, data, Source("recipe.yaml", {}), ())
    assert "all sources are called `x`" in problems[0].what
