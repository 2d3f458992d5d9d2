"""Words are spaCy's, whether the compiled pass splits a stretch or the rules in Python do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoiled import ODD, texts

pytest.importorskip("numba")
pytest.importorskip("spacy")

import spacy

from polyana.corpus import words as words_module
from polyana.corpus.native_measures import METRICS
from polyana.corpus.steps.c4 import C4Rule
from polyana.corpus.steps.step import Block, Surroundings
from polyana.corpus.word_rules import plain_text, rules_of
from polyana.corpus.words import Words, WordTable

PIECES = [
    *"abzABZ019éßйЁжø.,:;!?()[]{}<>/\\|@#$%^&*-+=~_'\"`«»“”‘’–—…°№²×½€£₽™😀日本ا\u0301\u200b\ufeff",
    "..", "...", "--", "---", "://", "www.", ".com", "http", "km", "км/ч", "US$", "'s", "’s", "n't", "I'm", "dont",
    "e.g.", "т.е.", "Mr.", ":)", "):", ":-(", "10", "1.5", "192.168.0.1", "a@b.cd", "x.py:12", "U.S.A.", "'",
]  # fmt: skip
LANGUAGES = ["en", "ru"]


@pytest.fixture(scope="module")
def tables():
    return {language: (spacy.blank(language).tokenizer, WordTable(language, plain=True)) for language in LANGUAGES}


def check(language, table, tokenizer, stretches):
    split = rules_of(language).split
    batch = table.batch([" ".join(stretches)])
    assert len(batch.chunks) == len(stretches)
    plain = table._plain
    for chunk, stretch in zip(batch.chunks.tolist(), stretches, strict=True):
        words = [token.text for token in tokenizer(stretch)]
        assert split(stretch) == words
        assert table.words_of(chunk).tolist() == table._words.numbers(words).tolist(), stretch
        begin, end, count = plain.places.values[chunk].tolist()
        found = bytes(plain.bytes.values[begin:end]).decode().split(" ")
        expected = [token.text for piece in plain_text(stretch).split() for token in tokenizer(piece)]
        assert found == [*expected, ""], stretch
        assert count == len(expected)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join), min_size=1, max_size=30))
@pytest.mark.parametrize("language", LANGUAGES)
def test_words_of_anything_are_spacys(language, tables, stretches):
    tokenizer, table = tables[language]
    stretches = [stretch for stretch in " ".join(stretches).split() if not stretch.isspace()]
    check(language, table, tokenizer, stretches)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_words_of_real_text_are_spacys(language, tables, shared_data):
    tokenizer, table = tables[language]
    stretches = sorted({stretch for text in texts(shared_data, language) + ODD for stretch in text.split()})
    check(language, table, tokenizer, stretches)


def test_a_text_is_split_as_its_stretches_are(tables, shared_data):
    """What the table stands on: spaCy never looks across a space."""
    tokenizer, _ = tables["en"]
    for text in texts(shared_data, "en")[::5]:
        whole = [token.text for token in tokenizer(text) if not token.is_space]
        assert whole == [token.text for stretch in text.split() for token in tokenizer(stretch)]


def test_a_language_with_rules_of_its_own_is_split_by_spacy_itself():
    stretches = [
        "l'homme",
        "qu'il",
        "s'appelle",
        "aujourd'hui,",
        "peut-être",
        "10km/h.",
    ]
    tokenizer, table = spacy.blank("fr").tokenizer, WordTable("fr")
    batch = table.batch([" ".join(stretches)])
    for chunk, stretch in zip(batch.chunks.tolist(), stretches, strict=True):
        words = [token.text for token in tokenizer(stretch)]
        assert table.words_of(chunk).tolist() == table._words.numbers(words).tolist()


def block_of(texts):
    return Block([str(number) for number in range(len(texts))], list(texts), np.zeros(len(texts), np.int16))


@pytest.mark.parametrize("longest", [9, 900])
def test_a_table_does_not_grow_with_the_text(monkeypatch, longest):
    """Of stretches that never come again, short ones and such as count for more than one."""
    monkeypatch.setattr(words_module, "_LARGEST", 3000)
    kept, sizes = Words(["en"], {}, plain=True), []
    for number in range(12):
        texts = [
            " ".join(f"{word:x}".rjust(longest, "k") + "." for word in range(at, at + 100))
            for at in range(number * 1000, number * 1000 + 1000, 100)
        ]
        block = block_of([*texts, "the same again"])
        counts = kept.counts(block, METRICS)
        fresh = Words(["en"], {}, plain=True).counts(block_of(block.texts), METRICS)
        assert all((counts[name] == fresh[name]).all() for name in METRICS)
        ((table, _, _),) = kept.batches(block)
        sizes.append(table.size)
        assert table.known <= 3000 + 1003
        assert len(table._plain.bytes) < 80 * 3000 + 1100 * (longest + 4)
        assert table._words.known <= 2 * (3000 + 1003)
    assert min(sizes[3:]) < max(sizes)  # it began anew


@pytest.mark.parametrize("settings", [{}, {"min_words": 0, "ended_lines": False}])
def test_what_c4_leaves_is_counted_as_any_text(settings, shared_data):
    """Its batch is made of the lines that stay, without another look at them."""
    texts_ = [*texts(shared_data, "en")[::3], *ODD, " [1]\n\na b c [2]\n[3] x y z.\n\n", "[1]\n[2]", "\n\na b c.\n\n"]
    words, block = Words(["en"], {}, counted=["words", "hashes"]), block_of(texts_)
    words.counts(block, ["words"])
    step = C4Rule(min_sentences=0, lorem_ipsum=False, curly_bracket=False, **settings)
    found = step.worker(Surroundings(("en",), {}, words))(block)
    assert found.edited
    for row, edit in found.edited.items():
        block.texts[row] = edit.text
        block.changed.add(row)
    counts = words.counts(block, METRICS)
    fresh = Words(["en"], {}).counts(block_of(block.texts), METRICS)
    assert all((counts[name] == fresh[name]).all() for name in METRICS)
