"""Words that belong to N in a row which stand before are cut, and no others; chunks and buckets change nothing."""

import io
import json
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rounds import one_round

from polyana.corpus import Corpus, CorpusConfig, build_corpus
from polyana.corpus.chunks import SIZES, Sizes
from polyana.corpus.steps.substrings import RepeatedSubstrings, without_words
from polyana.tracking import Console


def cut(texts, words, chunks=1, buckets=1):
    step = RepeatedSubstrings(words=words)
    parts = np.array_split(np.arange(len(texts)), chunks)
    taken = [partial(list, [texts[row] for row in part]) for part in parts]
    narrowed = one_round(
        step, [step.emit({}, each, part) for each, part in zip(taken, parts, strict=True)], buckets, len(texts)
    )
    again = [step.emit_again({}, each, part, narrowed) for each, part in zip(taken, parts, strict=True)]
    settled = one_round(step, again, buckets, len(texts))
    edits = step.rework(texts, [""] * len(texts), np.arange(len(texts)), settled)
    return [edits[at].text if at in edits else text for at, text in enumerate(texts)]


def left_by_brute_force(texts, words):
    """The words of each text that are in no row which stood before."""
    seen, left = set(), []
    for text in texts:
        mine = text.split()
        gone = set()
        for at in range(len(mine) - words + 1):
            row = tuple(mine[at : at + words])
            if row in seen:
                gone |= set(range(at, at + words))
            seen.add(row)
        left.append([word for at, word in enumerate(mine) if at not in gone])
    return left


TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "ё", "long-word"]), max_size=40).flatmap(
        lambda words: st.lists(
            st.sampled_from([" ", "\n", "\n\n", " \t"]), min_size=len(words), max_size=len(words)
        ).map(lambda blanks: "".join(map("".join, zip(words, blanks, strict=True))).strip("\n"))
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.integers(2, 9), st.integers(1, 4), st.integers(1, 3))
@example(["a " * 40], 5, 1, 1)
@example(["a b " * 20, "b a " * 20], 4, 2, 2)
def test_what_stood_before_is_cut_and_nothing_else(texts, words, chunks, buckets):
    found = cut(texts, words, chunks, buckets)
    assert [text.split() for text in found] == left_by_brute_force(texts, words)
    for before, after in zip(texts, found, strict=True):
        assert set(re.findall(r"\s+", after)) <= set(re.findall(r"\s+", before))


@pytest.mark.parametrize("words", [50, 51, 120])
def test_planted_passages_are_found_to_the_word(words):
    draws = np.random.default_rng(0)
    vocabulary = [f"w{number}" for number in range(30)]  # few, so that short rows repeat by accident
    texts = [[vocabulary[at] for at in draws.integers(0, 30, size)] for size in draws.integers(10, 900, 60)]
    for _ in range(80):
        source, target = draws.integers(0, len(texts), 2)
        length = int(draws.integers(words - 3, 3 * words))
        start, place = draws.integers(0, len(texts[source])), draws.integers(0, len(texts[target]))
        texts[target][place:place] = texts[source][start : start + length]
    joined = [" ".join(text) for text in texts]
    expected = left_by_brute_force(joined, words)
    assert sum(map(len, expected)) < 0.9 * sum(map(len, texts))
    assert cut(joined, words, chunks=5, buckets=3) == [" ".join(each) for each in expected]


def test_of_the_blanks_around_a_passage_those_that_end_more_lines_stay():
    assert without_words("One two\n\nthree four", [(1, 2)]) == "One\n\nthree four"
    assert without_words("One\n\ntwo three four", [(1, 3)]) == "One\n\nfour"
    assert without_words("  One two three", [(0, 2)]) == "three"
    assert without_words("One two\nthree\n", [(1, 3)]) == "One"
    assert without_words("Раз два, три \ud800", [(0, 1), (2, 3)]) == "два, \ud800"
    assert without_words("One two", [(0, 2)]) == ""


def test_the_same_words_in_another_order_are_another_passage():
    words = [f"w{number}" for number in range(60)]
    swapped = [*words[:10], words[42], *words[11:42], words[10], *words[43:]]
    texts = [" ".join(words), " ".join(swapped)]
    assert cut(texts, 50) == texts


def build(base, name, sizes=SIZES, **rest):
    config = CorpusConfig(kind="corpus", sources=[{"path": "texts.jsonl"}], eval=0, **rest)
    (base / name).mkdir()
    report = build_corpus(config, base, base / name, Console(io.StringIO()), sizes=sizes)
    return {document.id: document.text for document in Corpus(base / name).documents("train")}, report


def test_a_corpus_is_cut_the_same_however_it_lies(tmp_path, monkeypatch):
    draws = np.random.default_rng(1)
    rows = [" ".join(f"w{at}" for at in draws.integers(0, 9999, 200)) for _ in range(40)]
    rows = [f"{row} {rows[(7 * at) % 40][100:500].strip()}\n\nthe end of {at}" for at, row in enumerate(rows)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    steps = [RepeatedSubstrings(words=20)]
    whole, report = build(tmp_path, "whole", steps=steps)
    monkeypatch.setattr("polyana.corpus.steps.substrings._AT_ONCE", 2000)
    assert build(tmp_path, "small", Sizes(block=3000, chunk=9000, records=100), steps=steps) == (whole, report)
    expected = left_by_brute_force(rows, 20)
    assert [whole[f"texts.jsonl/texts.jsonl#{at + 1}"].split() for at in range(40)] == expected
    assert whole["texts.jsonl/texts.jsonl#2"].endswith("\n\nthe end of 1")
    edited = report["total"]["edited"]["repeated_substrings: passages that stood before"]
    changed = sum(row.split() != left for row, left in zip(rows, expected, strict=True))
    assert edited["documents"] == changed > 20
    assert edited["bytes"] == sum(map(len, rows)) - sum(map(len, whole.values()))
