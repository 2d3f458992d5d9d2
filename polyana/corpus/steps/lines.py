"""The compiled pass of `refinedweb`: the lines of documents, and what their characters are."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["classes_of_characters", "count_lines"]

_BLANK, _UPPER, _DIGIT = 1, 2, 4


@cache
def classes_of_characters() -> NDArray[np.uint8]:
    """Of each code point whether it is blank, a capital letter, a digit, as str.isspace, isupper, isdigit say."""
    found = np.zeros(0x110000, np.uint8)
    for point in range(0x20000):  # behind are no such letters but ideographs
        sign = chr(point)
        found[point] = _BLANK * sign.isspace() | _UPPER * sign.isupper() | _DIGIT * sign.isdigit()
    return found


@njit(cache=True, nogil=True)
def count_lines(text_N: NDArray[np.uint32], begins: NDArray[np.int64], classes: NDArray[np.uint8]) -> Any:
    """Of each line that is not blank its document, and [start, end, words, capitals, digits], without the blanks
    around; starts and ends count from the document's beginning. Document i is text_N[begins[i]:begins[i + 1]] and ends
    in a newline."""
    most = np.count_nonzero(text_N == 10)
    document_L, found = np.empty(most, np.int64), np.empty((most, 5), np.int64)
    count = 0
    for document in range(len(begins) - 1):
        origin = begins[document]
        start, end, words, capitals, digits = -1, 0, 0, 0, 0
        inside = False
        for at in range(origin, begins[document + 1]):
            kind = classes[text_N[at]]
            if not kind & _BLANK:
                if start < 0:
                    start = at
                words += not inside
                capitals += (kind & _UPPER) != 0
                digits += (kind & _DIGIT) != 0
                inside, end = True, at + 1
                continue
            inside = False
            if text_N[at] == 10:
                if start >= 0:
                    document_L[count] = document
                    found[count, 0], found[count, 1] = start - origin, end - origin
                    found[count, 2], found[count, 3], found[count, 4] = words, capitals, digits
                    count += 1
                start, words, capitals, digits = -1, 0, 0, 0
    return document_L[:count], found[:count]
