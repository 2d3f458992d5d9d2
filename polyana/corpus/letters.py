"""Text as models of letters see it: small letters, one digit, one blank.

Several texts are one array of code points, `points_N`, each with a separator in front and behind; text i is
points_N[begins[i]:begins[i + 1]].
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["DIGIT", "LINE", "SPACE", "folded"]

SPACE, LINE, DIGIT = 32, 10, 48
_SEPARATOR = 0x110000  # between texts while they are folded: no character
_FOLDED = 0x20000  # code points above have no small letters; 0 of them in Unicode 16


def folded(texts: Sequence[str], *, lines: bool = False) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """(points_N, begins) of texts in small letters, every digit a 0 and each run of blanks a space.

    `lines`: a run with a newline in it is a newline.
    """
    parts: list[Any] = [np.array([_SEPARATOR], np.uint32)]
    for text in texts:
        parts += [np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32), parts[0]]
    points_N, begins = _fold(np.concatenate(parts), _small_letters(), len(texts), LINE if lines else SPACE)
    return points_N, begins


@cache
def _small_letters() -> NDArray[np.uint32]:
    """Of each code point what it is folded to."""
    table = np.arange(_SEPARATOR + 1, dtype=np.uint32)
    for point in range(_FOLDED):
        sign = chr(point)
        small = sign.lower()
        if sign == "\n" or sign.isspace():
            table[point] = LINE if sign == "\n" else SPACE
        elif sign.isdigit():
            table[point] = DIGIT
        elif len(small) == 1:  # but for one letter, which is a letter and an accent when it is small
            table[point] = ord(small)
    return table


@njit(cache=True, nogil=True)
def _fold(text_N: NDArray[np.uint32], small: NDArray[np.uint32], count: int, line: int) -> Any:
    found = np.empty(len(text_N) + count + 1, np.uint32)
    begins = np.zeros(count + 1, np.int64)
    size, text = 0, 0
    blank = 0  # what a run of blanks will be; 0 outside of one
    for at in range(len(text_N)):
        if text_N[at] == _SEPARATOR:
            if at > 0:  # a text ends in one space, and so begins
                found[size] = SPACE
                size += 1
                text += 1
                begins[text] = size
            if text < count:
                found[size] = SPACE
                size += 1
            blank = 0
            continue
        point = small[text_N[at]]
        if point in (SPACE, LINE):
            blank = line if point == LINE or blank == line else SPACE
            continue
        if blank != 0 and size > begins[text] + 1:
            found[size] = blank
            size += 1
        blank = 0
        found[size] = point
        size += 1
    return found[:size], begins
