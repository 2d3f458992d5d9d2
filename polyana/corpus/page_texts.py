"""Texts of examples as they are seen: what an edit changed, signs that are none to see, ids in one line."""

from __future__ import annotations

import unicodedata
from difflib import SequenceMatcher
from typing import Literal

from polyana.corpus.shown import SHOWN, tokens

__all__ = ["HIDDEN", "Kind", "changed", "differences", "identifier", "in_one_line", "shown"]

_ID = 160  # characters of an id

Kind = Literal["same", "gone", "came", "before", "after"]


def differences(before: str, after: str, most: int) -> list[tuple[Kind, str]]:
    """What both texts have, what only the one has (`gone`), what only the other has (`came`), in reading order.

    Texts of `most` characters were cut there. What differs at the end of such is only said to be of the one (`before`)
    or of the other (`after`): it may stand in both behind the border.
    """
    old, new = tokens(before), tokens(after)
    runs: list[tuple[bool, str, str]] = []  # whether it is the same
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        runs.append((kind == "equal", "".join(old[i:j]), "".join(new[k:m])))
    runs = _without_chance(runs)
    cut = max(len(before), len(after)) >= most
    found: list[tuple[Kind, str]] = []
    for place, (same, one, other) in enumerate(runs):
        if same:
            found.append(("same", one))
        elif cut and place == len(runs) - 1:
            found += [("before", one), ("after", other)]
        else:
            found += [("gone", one), ("came", other)]
    return [(kind, text) for kind, text in found if text]


def in_one_line(before: str, after: str, most: int) -> list[tuple[Kind, str]]:
    """The differences of an edit; a word that the border cut in one of the texts alone is no change."""
    found = differences(before, after, most)
    if [kind for kind, _ in found[-2:]] == ["before", "after"]:
        old, new = found[-2][1], found[-1][1]
        if old.startswith(new) or new.startswith(old):
            found[-2:] = [("same", max(old, new, key=len))]
    return found


def _without_chance(runs: list[tuple[bool, str, str]]) -> list[tuple[bool, str, str]]:
    """What is alike between two changes longer than itself is so by chance, and reads better as a part of them."""
    found: list[tuple[bool, str, str]] = []
    for place, (same, one, other) in enumerate(runs):
        inside = same and found and place + 1 < len(runs)
        chance = inside and all(
            max(len(text) for text in (left, right)) > len(one) for _, left, right in (found[-1], runs[place + 1])
        )
        if found and not found[-1][0] and (not same or chance):
            found[-1] = (False, found[-1][1] + one, found[-1][2] + other)
        else:
            found.append((same, one, other))
    return found


# what would be seen as nothing, or turn around what stands behind it
HIDDEN = {
    code: f"\u2039U+{code:04X}\u203a"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F))
    if chr(code) not in "\n\t"
}


def shown(text: str, most: int = SHOWN) -> str:
    """Of a text at most so many characters, none of which does anything but be seen."""
    more = "\N{HORIZONTAL ELLIPSIS}" if len(text) >= min(most, SHOWN) else ""
    return text[:most].translate(HIDDEN) + more


def identifier(text: str) -> str:
    """An id, short in the middle where it is long."""
    text = text.translate(HIDDEN).replace("\n", "\u2424")
    return text if len(text) <= _ID else f"{text[: _ID // 2]}\N{HORIZONTAL ELLIPSIS}{text[-_ID // 2 :]}"


def changed(text: str) -> str:
    """What came or went, with what is not seen of it by its number."""
    if text.isspace():
        text = text.replace(" ", "\N{OPEN BOX}").replace("\t", "\N{RIGHTWARDS ARROW TO BAR}")
    seen = (
        f"\u2039U+{ord(sign):04X}\u203a" if unicodedata.category(sign) in ("Cf", "Zs") and sign != " " else sign
        for sign in text.translate(HIDDEN).replace("\n", "\u21b5\n")
    )
    return "".join(seen)
