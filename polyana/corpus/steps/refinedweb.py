"""RefinedWeb's corrections of lines, and its rule for documents that need many (Penedo et al. 2023, appendix G.2).

The paper says what lines are corrected and gives two numbers: 10 words and 5 %. What it does not say follows DCLM's
reconstruction (Li et al. 2024), compared with its code (dclm_baseline_refinedweb.yaml, modifiers.py): that "mainly"
capitals are more than half of a line's characters, that a line of digits has nothing else, and the words behind
counters. Lines go here that stay there: more counters, also in Russian, and more phrases, of which the paper prints
three, marked here; the others are guesses, chosen so that they do not stand in prose. The 5 % are of the words in lines
that were corrected, as the paper has it; DCLM counts the words that went, which is less where a phrase was cut out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import KeyPath, Share
from polyana.corpus.steps.step import Block, Columns, Edit, Found, StepConfig, Surroundings, Verdict, Worker

__all__ = ["RefinedWebRule"]

CAPITALS, DIGITS, COUNTER, FEW_WORDS, PHRASE = (
    "lines mainly of capitals", "lines of digits", "counters", "lines of few words", "phrases of web pages",
)  # fmt: skip
_DROPPED = (CAPITALS, DIGITS, COUNTER, FEW_WORDS)  # in the order in which they are looked at

_BEGIN = (
    "sign-in",  # printed in the paper
    "sign in |", "sign in /", "log in |", "log in /", "login |", "login /", "skip to content", "skip to main content",
    "вход |", "вход /", "войти |", "войти /", "перейти к содержанию", "перейти к содержимому",
    "перейти к основному содержанию",
)  # fmt: skip
_END = (
    "read more...",  # printed in the paper
    *(
        f"{phrase}{sign}"
        for phrase in (
            "read more", "continue reading", "show more", "see more", "learn more", "читать далее", "читать дальше",
            "читать полностью", "показать ещё", "показать еще", "подробнее",
        )
        for sign in ("...", "\u2026", " \u2026", " »", " →", " >", " >>")
    ),
)  # fmt: skip
_ANYWHERE = (
    "items in cart",  # printed in the paper
    "item in cart", "item(s) in cart", "items in your cart", "your cart is empty",
    "товаров в корзине", "товара в корзине", "товар в корзине", "в корзине нет товаров", "корзина пуста",
)  # fmt: skip
_WHOLE = (
    "sign in", "log in", "read more", "continue reading", "show more", "see more", "learn more", "add to cart",
    "читать далее", "читать дальше", "читать полностью", "показать ещё", "показать еще", "добавить в корзину",
    "войти на сайт",
)  # fmt: skip
_ALL = {*_BEGIN, *_END, *_ANYWHERE, *_WHOLE}
_LOOKED_FOR = [phrase for phrase in sorted(_ALL) if not any(other in phrase for other in _ALL - {phrase})]

_COUNTED = (
    "likes?|shares?|comments?|retweets?|reposts?|quotes|bookmarks?|upvotes?|downvotes?|downloads?|views?|followers?|"
    "replies|reviews?|votes?|"
    "(?:лайк|репост|просмотр|подписчик|отзыв|ответ|скачивани|комментари|голос|закладк)[а-яё]{0,3}"
)
_NUMBER = r"\d(?:[\d.,\u00a0\u202f]|\ \d{3}(?!\d))*\ ?(?:[kmb]|тыс\.?|млн\.?)?"
_COUNTER = re.compile(rf"\W*(?:{_NUMBER}\s+(?:{_COUNTED})|(?:{_COUNTED})(?:\s*:)?\s*{_NUMBER})\W*", re.IGNORECASE)


class _Lines(NamedTuple):
    """The lines of a block that are not blank, L rows."""

    document_L: NDArray[np.int64]
    start_L: NDArray[np.int64]
    end_L: NDArray[np.int64]
    words_L: NDArray[np.int64]
    capitals_L: NDArray[np.int64]
    digits_L: NDArray[np.int64]


class RefinedWebRule(StepConfig):
    """Lines that are no text are taken out, phrases of web pages out of short ones; then documents that had many such
    lines are dropped. Words are what stands between blanks. Phrases are English and Russian ones."""

    kind: Literal["refinedweb"] = "refinedweb"
    max_capitals: Share = Field(
        0.5, ge=0, le=1, description="of a line's characters, at most; RefinedWeb says `mainly`, the number is DCLM's"
    )
    min_words: int = Field(2, ge=0, description="words in a line, at least; RefinedWeb takes out those of one word")
    counters: bool = Field(True, description="lines that count, as `3 likes`, are taken out")
    phrases: bool = Field(True, description="`sign-in`, `Read more...`, `items in cart` are cut out of short lines")
    short: int = Field(10, ge=1, description="words in a short line, at most; RefinedWeb's")
    max_flagged: Share = Field(
        0.05, ge=0, le=1, description="of a document's words those in such lines, at most; RefinedWeb's"
    )
    edits = True
    deciding = frozenset({"max_flagged"})

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "lines are counted with numba; run: pip install 'polyana[mill]'"

    def worker(self, surroundings: Surroundings) -> Worker:
        return self._correct

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        yield Verdict("words in lines that are no text", columns["flagged"], most=self.max_flagged)

    def _correct(self, block: Block) -> Found:
        lines = _lines_of(block.texts)
        reasons = self._drop(block.texts, lines)
        cut = self._cut(block.texts, lines, reasons) if self.phrases else {}
        flagged = np.array(sorted([*reasons, *cut]), np.int64)
        words = np.bincount(lines.document_L, lines.words_L, minlength=len(block))
        bad = np.bincount(lines.document_L[flagged], lines.words_L[flagged], minlength=len(block))
        found = Found({"flagged": (bad / np.maximum(words, 1)).astype(np.float32)})
        firsts = np.searchsorted(lines.document_L, np.arange(len(block) + 1))
        for row in np.unique(lines.document_L[flagged]).tolist():
            mine = flagged[slice(*np.searchsorted(flagged, firsts[row : row + 2]))].tolist()
            if edit := _corrected(block.texts[row], lines, mine, reasons, cut):
                found.edited[row] = edit
        return found

    def _drop(self, texts: list[str], lines: _Lines) -> dict[int, str]:
        """The lines that go, and why."""
        size_L = lines.end_L - lines.start_L
        tests = {
            CAPITALS: lines.capitals_L > self.max_capitals * size_L,
            DIGITS: lines.digits_L == size_L,
            COUNTER: self._counters(texts, lines),
            FEW_WORDS: lines.words_L < self.min_words,
        }
        reasons: dict[int, str] = {}
        for reason in reversed(_DROPPED):
            reasons.update(dict.fromkeys(np.flatnonzero(tests[reason]).tolist(), reason))
        return reasons

    def _counters(self, texts: list[str], lines: _Lines) -> NDArray[np.bool_]:
        found_L = np.zeros(len(lines.document_L), np.bool_)
        if self.counters:
            few = (lines.digits_L > 0) & (lines.words_L <= self.short) & (lines.digits_L < lines.end_L - lines.start_L)
            for at in np.flatnonzero(few).tolist():
                found_L[at] = _COUNTER.fullmatch(_line(texts, lines, at)) is not None
        return found_L

    def _cut(self, texts: list[str], lines: _Lines, gone: dict[int, str]) -> dict[int, str]:
        """What is left of short lines that have phrases; nothing of some."""
        short = [at for at in np.flatnonzero(lines.words_L <= self.short).tolist() if at not in gone]
        written = [_line(texts, lines, at) for at in short]
        together = _small("\n".join(written))
        offsets = np.cumsum([0, *(len(line) + 1 for line in written)])
        candidates = set[int]()
        for phrase in _LOOKED_FOR:
            place = together.find(phrase)
            while place >= 0:
                candidates.add(int(np.searchsorted(offsets, place, "right")) - 1)
                place = together.find(phrase, place + 1)
        found = {}
        for number in candidates:
            rest = _without_phrases(written[number])
            if rest != written[number]:
                found[short[number]] = rest
        return found


def _small(text: str) -> str:
    """In small letters, as many as there were."""
    return text.replace("\u0130", "i").lower()  # the only letter that becomes two


def _without_phrases(line: str) -> str:
    """
    >>> _without_phrases("Teas from Ceylon Read more...")
    'Teas from Ceylon'
    """
    if _small(line) in _WHOLE:
        return ""
    for phrase in _ANYWHERE:
        while (place := _small(line).find(phrase)) >= 0:
            line = f"{line[:place].rstrip()} {line[place + len(phrase) :].lstrip()}".strip()
    for phrase in _END:
        if _small(line).endswith(phrase):
            line = line[: -len(phrase)].rstrip()
    for phrase in _BEGIN:
        if _small(line).startswith(phrase):
            line = line[len(phrase) :].lstrip()
    return line


def _corrected(
    text: str, lines: _Lines, flagged: list[int], reasons: dict[int, str], cut: dict[int, str]
) -> Edit | None:
    """The text without the flagged lines, or with what is left of them; by reason what went."""
    after: dict[int, str] = {}
    versions = []
    of = {at: reasons.get(at, PHRASE) for at in flagged}
    for reason in sorted(set(of.values()), key=[*_DROPPED, PHRASE].index):
        after |= {at: cut.get(at, "") for at in flagged if of[at] == reason}
        versions.append((reason, _put_together(text, lines, after)))
    return Edit.of(text, versions)


def _put_together(text: str, lines: _Lines, after: dict[int, str]) -> str:
    """The text with other lines in the place of some; a line that has become blank is gone."""
    parts, at = list[str](), 0
    for line in sorted(after):
        start, end = int(lines.start_L[line]), int(lines.end_L[line])
        if after[line]:
            parts += [text[at:start], after[line]]
            at = end
        else:
            begin = text.rfind("\n", 0, start) + 1
            parts.append(text[at:begin])
            at = len(text) if (following := text.find("\n", end)) < 0 else following + 1
    parts.append(text[at:])
    text = "".join(parts)
    return (re.sub(r"\n{3,}", "\n\n", text) if "\n\n\n" in text else text).strip("\n")


def _lines_of(texts: list[str]) -> _Lines:
    from polyana.corpus.steps.lines import classes_of_characters, count_lines  # compiles, which takes a second

    packed = list(chain.from_iterable((text, "\n") for text in texts))
    text_N = np.frombuffer("".join(packed).encode("utf-32-le", "surrogatepass"), np.uint32)
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)])
    document_L, found = count_lines(text_N, begins, classes_of_characters())
    return _Lines(document_L, *found.T)


def _line(texts: list[str], lines: _Lines, at: int) -> str:
    return texts[int(lines.document_L[at])][int(lines.start_L[at]) : int(lines.end_L[at])]
