"""Words are spaCy's, whether the compiled pass splits a stretch or the rules in Python do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoiled import ODD, texts

pytest.importorskip("numba")
pytest.importorskip("spacy")

import spacy

from polyana.corpus.word_rules import plain_text, rules_of
from polyana.corpus.words import WordTable

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
