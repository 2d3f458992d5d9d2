"""What a printed page did to a text, undone: page numbers, words broken at line ends, lines cut to a width.

Nothing here has a dictionary: what else stands in the document decides, and short tables. What is not clear stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise
from statistics import median

import numpy as np

__all__ = ["unwrapped", "with_whole_words", "without_page_numbers"]

_NUMBER = re.compile(
    r"\n[^\S\n]*+(?:[-–—\[(][^\S\n]*+)?(?P<word>page |p\. ?|страница |стр\.? ?)?(?P<number>\d{1,4})"
    r"(?P<of> (?:of|из) \d{1,4})?(?:[^\S\n]*+[-–—\])])?[^\S\n]*+(?=\n)",
    re.IGNORECASE,
)
_MIN_PAGES = 3  # numbers in a row before they are taken for pages': guess
_MIN_PAGE = 400  # characters between them, in the median; footnotes' numbers stand closer: guess
_TORN = 0.25  # share of the pages that end amid a sentence; in prose most do, and before chapters' numbers none: guess


def without_page_numbers(text: str) -> str:
    """Without `Page 3 of 10` on a line of its own, and without such numbers as count up and tear sentences apart."""
    framed = f"\n{text}\n"
    lines = list(_NUMBER.finditer(framed))
    pages = [line for line in lines if line["word"] and line["of"]]
    for run in _counting_up([line for line in lines if not line["of"]]):
        gaps = [after.start() - before.end() for before, after in pairwise(run)]
        torn = sum(_tears_sentence(framed, line) for line in run)
        if len(run) >= _MIN_PAGES and median(gaps) >= _MIN_PAGE and torn >= max(2, _TORN * len(run)):
            pages += run
    if not pages:
        return text
    pieces: list[str] = []
    done = 0
    for line in sorted(pages, key=lambda line: line.start()):
        piece = framed[done : line.start()]
        done = line.end()
        if _tears_sentence(framed, line):  # what it tore apart follows on the next line
            piece = piece.rstrip()
            while framed[done : done + 2].isspace():
                done += 1
        pieces.append(piece)
    return "".join([*pieces, framed[done:]])[1:-1]


def _counting_up(lines: list[re.Match[str]]) -> Iterator[list[re.Match[str]]]:
    """Stretches of lines of which each has the number of the one before, and one."""
    for _, run in groupby(enumerate(lines), lambda pair: int(pair[1]["number"]) - pair[0]):
        yield [line for _, line in run]


def _tears_sentence(text: str, line: re.Match[str]) -> bool:
    before = text[max(line.start() - 99, 0) : line.start()].rstrip()[-1:]
    after = text[line.end() : line.end() + 99].lstrip()[:1]
    return (before.islower() or before in (",", "-")) and after.islower()


# First parts after which a hyphen is all but sure, and last parts before which it is behind a whole word.
_FIRST_PARTS = frozenset((
    "self", "well", "half", "mother", "father", "brother", "sister", "twenty", "thirty", "forty", "fifty", "sixty",
    "seventy", "eighty", "ninety",
    "кое", "юго", "северо", "вице", "генерал", "штаб", "обер", "унтер", "лейб", "темно", "светло", "ярко", "бледно",
    "серо", "социально", "научно", "военно", "англо", "франко", "немецко", "интернет", "онлайн", "бизнес", "пресс",
))  # fmt: skip
_LAST_PARTS = frozenset((
    "known", "like", "based", "looking", "minded", "old", "eyed", "haired", "hearted", "handed", "tempered", "sized",
    "то", "либо", "нибудь", "таки", "ка", "де",
))  # fmt: skip
_ADVERB = re.compile(r"\w{3,}ly-\w+(?:ed|ing|own|en)")  # heavily-armed
_BROKEN = re.compile(r"([-\u2010¬])\n(?<=[^\W\d_]{2}[^\n]\n)[^\S\n]*+([^\W\d_]{2,}+)(\S*+)[^\S\n]*+\n?")
_FIRST_PART = re.compile(r"(?<![^\W\d_])[^\W\d_]++\n-")  # whose second is gone: no word, as `пого`
_LETTERS_BEFORE = re.compile(r"(-?)([^\W\d_]+)\Z")
_GOES_ON = re.compile(r"-\w")
_LONGEST_WORD = 40  # characters looked at in front of a hyphen: guess
_COLUMNS = re.compile(r"\S {4,}\S|\t")  # justified lines have up to three spaces between words
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SYLLABLES = 0.01  # share of lines with a hyphen at their end from which on syllables are divided there: guess

_COMPOUNDS = 0.1  # share of broken words that the tables take for compounds up to which all others are syllables: guess


def with_whole_words(text: str) -> str:
    """Words that a line's end broke in two made whole, the line's end behind them.

    Whether the hyphen stays is decided by the word itself elsewhere in the document, by other compounds of one of its
    parts there, by tables; and where none of them knows it, by what most of the document's broken words are. The sign ¬
    of text recognition always goes. Before capitals only a name's hyphen is clear: nothing else is changed there.
    """
    if not any(f"{sign}\n" in text for sign in "-\u2010¬") or _BROKEN.search(text) is None:
        return text
    known = _Vocabulary(_FIRST_PART.sub(" ", _BROKEN.sub("\n-", text)))
    broken = [(_left(text, match)[1], match[2]) for match in _BROKEN.finditer(text)]
    votes = [known.has_hyphen(left, right) for left, right in broken]
    often = len(broken) >= _SYLLABLES * text.count("\n")
    divides = votes.count(False) > votes.count(True) or (often and votes.count(True) <= _COMPOUNDS * len(votes))

    def whole(match: re.Match[str]) -> str:
        (hyphen_before, left), (sign, right, rest) = _left(text, match), match.groups()
        start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.start(2))
        if any(_COLUMNS.search(line.strip()) for line in text[start : len(text) if end < 0 else end].split("\n")):
            return match[0]
        if right.islower():
            has = known.has_hyphen(left, right)
            has = not divides if has is None else has
            stays = sign != "¬" and (has or hyphen_before != "" or _GOES_ON.match(rest) is not None)
        elif right.istitle() and left.istitle() and sign != "¬":
            stays = True
        else:
            return match[0]
        return f"{sign if stays else ''}{right}{rest}" + "\n" * (match.end() < len(text))

    return _BROKEN.sub(whole, text)


def _left(text: str, match: re.Match[str]) -> tuple[str, str]:
    """(a hyphen if there is one before it, the word's part before the line's end)."""
    found = _LETTERS_BEFORE.search(text[max(match.start() - _LONGEST_WORD, 0) : match.start()])
    assert found is not None  # two letters stand there
    return found[1], found[2]


class _Vocabulary:
    """A document's words, and the parts of those with hyphens."""

    def __init__(self, text: str) -> None:
        self.words = Counter(_WORD.findall(text.lower()))
        compounds = [word.split("-") for word in self.words if "-" in word]
        self.first = {parts[0] for parts in compounds}
        self.last = _LAST_PARTS | {parts[-1] for parts in compounds}

    def has_hyphen(self, left: str, right: str) -> bool | None:
        """Whether a word is spelled with a hyphen between its parts; None where nothing tells."""
        acronym = left.isupper() and right.islower()  # GPL-compatible
        left, right = left.lower(), right.lower()
        compound = f"{left}-{right}"
        with_it, without = self.words[compound], self.words[left + right]
        if with_it != without:
            return with_it > without
        both_words = left in self.words and right in self.words and min(len(left), len(right)) > 3
        first = left in _FIRST_PARTS or (left in self.first and right in self.words)
        last = right in self.last and left in self.words
        certain = acronym or both_words or first or last or left == right or _ADVERB.fullmatch(compound)
        return True if certain else None


_WIDTHS = (40, 130)  # characters of a line in columns, books and terminals: guess
_MIN_WRAPPED = 5  # line ends amid a sentence before a document is taken for wrapped: guess
_FULL = 0.85  # of the width, with the next word: lines of proportional letters differ by as much: guess
_SURE = 0.9  # share of the line ends amid a sentence that are where a line is full: guess
_JUSTIFIED = 0.2  # share of full lines with several spaces between two words: guess
_CENTRED = 8  # more spaces before a line than before others, and it is a heading: guess
_ITEM = re.compile(r"[•·*▪◦‣#>|+]|\$ |\(?\d{1,3}[.)](?:\s|$)|\w\)\s|\d+(?:\.\d+)+\s|[A-ZА-ЯЁ][\w-]*:(?:\s|$)")
_DASH = re.compile(r"[-–—]\s")
_SPACES = re.compile(r"(?<=\S) {2,}(?=\S)")


def unwrapped(text: str) -> str:
    """Paragraphs on one line each, where `text` is cut to lines of a width; else `text`.

    It is, where lines of at most 130 characters end amid a sentence, and nearly always because the next word would not
    have fitted. Only such lines' ends go: short lines (verse, headings, paragraphs' last), lines before an item of a
    list or a deeper indentation, tables and capitals keep theirs.
    """
    if text.count("\n") < _MIN_WRAPPED:
        return text
    lines = text.split("\n")
    length_L = np.fromiter(map(len, lines), np.int64, len(lines))
    ends = np.flatnonzero((length_L[:-1] > 0) & (length_L[1:] > 0))  # of lines with a line below
    if len(ends) < _MIN_WRAPPED:
        return text
    width = float(np.percentile(length_L[ends], 95))  # above it: the one long address
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        return text
    bodies = [line.lstrip() for line in lines]
    full = {
        int(end) for end in ends
        if length_L[end] + 1 + len(bodies[end + 1].split(None, 1)[0]) > _FULL * width
    }  # fmt: skip
    amid = [int(end) for end in ends if bodies[end + 1][:1].islower() and not _ITEM.match(bodies[end + 1])]
    certain = [end for end in amid if end in full]
    if len(certain) < max(_MIN_WRAPPED, _SURE * len(amid), len(full) / 2):
        return text
    return _joined(lines, bodies, full, certain)


def _joined(lines: list[str], bodies: list[str], full: set[int], certain: list[int]) -> str:
    indents = [len(line) - len(body) for line, body in zip(lines, bodies, strict=True)]
    margin = Counter(indents[end + 1] for end in certain).most_common(1)[0][0]
    indented = sum(indent > margin for indent in indents) > len(lines) / 50  # so paragraphs begin with a space: guess
    justified = sum(_SPACES.search(bodies[end]) is not None for end in full) > _JUSTIFIED * len(full)

    def goes_on(end: int) -> bool:
        here, below = bodies[end], bodies[end + 1]
        if end not in full or indents[end + 1] > margin or _ITEM.match(below) or here[-1] in "{}\\":
            return False
        if indents[end] > margin + _CENTRED or any(
            "\t" in line or " | " in line or line.isupper() for line in (here, below)
        ):
            return False
        if not _DASH.match(below):
            return True
        return indented and indents[end + 1] == margin and (indents[end] > margin or not _DASH.match(here))

    pieces: list[str] = []
    for end, line in enumerate(lines):
        goes = end + 1 < len(lines) and goes_on(end)
        before = pieces[-1] if pieces else "\n"
        body = line if before == "\n" else bodies[end]
        if justified and "\t" not in line:
            body = _SPACES.sub(" ", body)
        hyphen = goes and body[-1] in "-\u2010" and body[-2:-1].isalnum()
        pieces += body, "" if hyphen else " " if goes else "\n"
    return "".join(pieces[:-1])
