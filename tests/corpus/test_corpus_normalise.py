"""One spelling of the same text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyana.corpus.normalise import normalise, normalise_all, not_text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("и\u0306 е\u0308", "й ё"),
        ("и\x00\u0306", "й"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("\ufeffone\x00 two\x1b", "one two"),
        ("\x1b[1;31mred\x1b[0m and \x07bell\x1b[2K", "red and bell"),
        ("one  \t\n\u00a0two\u00a0\n", "one\n\u00a0two"),
        ("one\n\n\n\n\ntwo\n \n\t\nthree", "one\n\ntwo\n\nthree"),
        ("\n\n    def f():\n        pass\n", "    def f():\n        pass"),
        ("tab\tinside", "tab\tinside"),
        ("в\x7fСовет, и т.\x7fд. \x7f–", "в Совет, и т. д. –"),
        ("one page\x0canother.\n\x0cThe third", "one page\nanother.\nThe third"),
    ],
)
def test_spelling_is_made_one(before, after):
    assert normalise(before) == after


HARD = st.text(
    st.one_of(st.characters(), st.sampled_from("\r\n\t \x0c\x7f\u00a0\u0085\u2028\ufeff\ufffd\x00и\u0306a\ud800"))
)


@given(HARD)
def test_normal_text_stays_as_it_is(text):
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


@given(st.lists(HARD))
def test_many_texts_become_what_each_becomes(texts):
    found = [(normalise(text), len(text.encode("utf-8", "replace")), not_text(text)) for text in texts]
    assert list(normalise_all(texts)) == found


def test_a_long_run_of_spaces_takes_no_time():
    """The square of its length would be minutes."""
    spaces = " " * 300_000
    assert normalise(f"a{spaces}b{spaces}\nc") == f"a{spaces}b\nc"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffd")))
def test_text_of_any_script_is_text(text):
    assert not_text(text) is None


def test_noise_above_one_percent_is_not_text():
    assert not_text("a" * 99 + "\ufffd" * 2) == "broken encoding"
    assert not_text("a" * 99 + "\x01" * 2) == not_text("a" * 99 + "\ufffd\x01" * 2) == "binary content"
    assert not_text("a" * 199 + "\ufffd") is None
