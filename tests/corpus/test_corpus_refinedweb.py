"""Lines that are no text go, as the paper's list has it; prose stays; documents with many such lines are dropped."""

import random
import re
import time

import numpy as np
import pytest

from polyana.corpus.steps.refinedweb import RefinedWebRule
from polyana.corpus.steps.step import Block, Surroundings

PROSE = [
    "All happy families resemble one another, and I say so in more than ten words of a line.",
    "Он вышел из дома и медленно пошёл к реке, не думая ни о чём.",
    "He read more.",
    "I wanted to read more",
    "Sign in the window, he said, and sign in blood.",
    "Войти в комнату он не решился.",
    "It got 3 likes and 12 comments.",
    "In 1812 there were 600 000 of them",
]
"""None of them is a line that goes."""


def correct(*texts, **given):
    """The texts afterwards, the share of flagged words, and what went by reason."""
    found = RefinedWebRule(**given).worker(Surroundings(("en",)))(
        block := Block([""] * len(texts), list(texts), np.zeros(len(texts), np.int16))
    )
    edits = [found.edited.get(row) for row in range(len(texts))]
    after = [edit.text if edit else text for edit, text in zip(edits, block.texts, strict=True)]
    return after, found.columns["flagged"], [edit.taken if edit else {} for edit in edits]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("OUR BEST TEAS", "lines mainly of capitals"),
        ("  НАШ ЛУЧШИЙ ЧАЙ №1", "lines mainly of capitals"),
        ("1234567", "lines of digits"),
        ("٣٤٥", "lines of digits"),
        ("3 likes", "counters"),
        ("1,234 Views!", "counters"),
        ("5.1M followers", "counters"),
        ("1 234 просмотра", "counters"),
        ("Комментарии: 12", "counters"),
        ("12 тыс. подписчиков", "counters"),
        ("Share", "lines of few words"),
        ("Поделиться", "lines of few words"),
        ("Read more...", "phrases of web pages"),
        ("Sign in", "phrases of web pages"),
        ("Читать далее", "phrases of web pages"),
    ],
)
def test_a_line_goes_for_its_reason(line, reason):
    after, flagged, taken = correct(f"{PROSE[0]}\n\n{line}\n\n{PROSE[1]}", f"{line}\n{PROSE[0]}", f"{PROSE[1]}\n{line}")
    assert after == [f"{PROSE[0]}\n\n{PROSE[1]}", PROSE[0], PROSE[1]]
    assert [list(each) for each in taken] == [[reason]] * 3
    words = [len(PROSE[0].split()) + len(PROSE[1].split()), len(PROSE[0].split()), len(PROSE[1].split())]
    assert flagged == pytest.approx([len(line.split()) / (each + len(line.split())) for each in words])


COUNTED = (
    "likes", "shares", "comments", "retweets", "reposts", "quotes", "bookmarks", "upvotes", "downvotes", "downloads",
    "views", "followers",
)  # fmt: skip
"""What DCLM's reconstruction takes for counters behind a number (baselines/mappers/modifiers.py)."""


@pytest.mark.parametrize("number", ["3", "1,234", "1.234", "12k", "5.1M", "2B", "- 7"])
def test_counters_that_others_take_out_go(number):
    lines = [f"{number} {word}" for word in COUNTED] + [f"({number.upper()} {word.upper()})" for word in COUNTED]
    after, _, taken = correct("\n".join([PROSE[0], *lines]))
    assert after == [PROSE[0]]
    assert set(taken[0]) <= {"counters", "lines mainly of capitals"}


def test_a_phrase_is_cut_out_of_a_short_line_only():
    assert correct("sign-in Our teas of spring\nTeas from Ceylon Read More...\nВаша корзина: 3 товара в корзине")[
        0
    ] == ["Our teas of spring\nTeas from Ceylon\nВаша корзина: 3"]
    long = "These teas were picked by hand in the hills of Ceylon. Read more..."
    assert correct(long)[0] == [long]
    assert correct(long, short=20)[0] == ["These teas were picked by hand in the hills of Ceylon."]


def test_prose_stays_as_it_is():
    after, flagged, _ = correct("\n".join(PROSE), *PROSE)
    assert after == ["\n".join(PROSE), *PROSE]
    assert not flagged.any()


def test_each_rule_can_be_changed():
    assert correct("OUR Best Teas\nOUR BEST", max_capitals=1)[0] == ["OUR Best Teas\nOUR BEST"]
    assert correct("Tea\nGreen tea", min_words=0)[0] == ["Tea\nGreen tea"]
    assert correct("Green tea\nVery green tea", min_words=3)[0] == ["Very green tea"]
    assert correct("some text\n3 likes", counters=False)[0] == ["some text\n3 likes"]
    assert correct("some text\nRead more...", phrases=False)[0] == ["some text\nRead more..."]


@pytest.mark.parametrize(("kept", "thrown"), [(0.05, 0.06), (0.5, 0.51)])
def test_a_document_goes_when_more_of_its_words_are_flagged(kept, thrown):
    texts = ["\n".join(["a word"] * round(50 * (1 - share)) + ["Tea"] * round(100 * share)) for share in (kept, thrown)]
    _, flagged, _ = correct(*texts)
    (verdict,) = RefinedWebRule(max_flagged=kept).verdicts({"flagged": flagged.astype(np.float64).round(6)}, "en")
    assert verdict.thrown.tolist() == [False, True]


def test_lines_are_counted_as_python_counts_them():
    """Every line by itself, as the paper puts it, in plain Python."""
    draws = random.Random(0)
    pieces = ["Tea", "TEA", "12", "3 likes", "of green", "ЧАЙ", "\u00a0", " ", "\t", "\u2003", "ß", "İ", "²", "𝐀", "x."]
    texts = ["\n".join("".join(draws.choices(pieces, k=draws.randint(0, 5))) for _ in range(draws.randint(0, 12)))
             for _ in range(400)]  # fmt: skip
    after, flagged, _ = correct(*texts, phrases=False, counters=False)
    for text, left, share in zip(texts, after, flagged.tolist(), strict=True):
        kept, bad = [], 0
        for line in text.split("\n"):
            bare = line.strip()
            gone = bare and (
                sum(map(str.isupper, bare)) > 0.5 * len(bare) or all(map(str.isdigit, bare)) or len(bare.split()) < 2
            )
            bad += len(bare.split()) if gone else 0
            kept += [] if gone else [line]
        assert share == pytest.approx(bad / max(len(text.split()), 1), abs=1e-6)
        expected = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")
        assert left == (expected if bad else text)


def test_a_line_of_blanks_or_numbers_takes_no_time():
    lines = ("likes" + " " * 300_000 + "x", "1 " * 9 + "," * 300_000, "7" * 300_000 + " x", "." * 300_000 + "1 x")
    start = time.process_time()
    assert correct(*lines)[0] == list(lines)
    assert time.process_time() - start < 10


def test_no_phrase_is_cut_out_of_a_book(shared_data):
    books = [path.read_text("utf-8") for path in sorted((shared_data / "rus_prose").rglob("*.txt"))]
    _, _, taken = correct(*books)
    assert not [each for each in taken if "phrases of web pages" in each or "counters" in each]
