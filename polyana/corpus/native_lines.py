"""The compiled passes over the lines of documents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from polyana.corpus.native import ENDER, FLAGS, PUNCTUATION, digit, ends_row, is_space, leaf, mixed
from polyana.corpus.steps.c4 import BRACE, CITATION, FEW_WORDS, LONG_WORD, PHRASE, UNENDED

__all__ = ["byte_lengths", "cut_lines", "hash_lines", "joined_lines"]

_STOPPING = np.zeros(128, np.bool_)
"""What `cut_lines` stops at: what ends a row, and what `_mark` looks at, a rare sign of each of C4's phrases. Other
signs of ASCII it passes over by one look."""
_STOPPING[[10, 11, 12, 13, 28, 29, 30, *map(ord, "[{vVkKfFpP")]] = True
_KELVIN = 0x212A  # whose small letter is k


@leaf
def _mark(text_N: NDArray[np.uint32], at: int, begin: int, end: int) -> Any:
    """What the sign at `at` may be part of, in text_N[begin:end]: a citation, a brace, or one of C4's phrases."""
    sign = text_N[at]
    if sign == 123:
        return BRACE
    if sign == 91:
        after = at + 1
        while after < end and digit(text_N[after]):
            after += 1
        # `]`, `edit]`, `citation needed]`
        return CITATION if after < end and text_N[after] in (93, 99, 101) else 0
    if at < begin + 2 or at + 2 >= end:
        return 0
    # small letters of ASCII, and other signs that stand for none of these
    last, following, second = text_N[at - 1] | 32, text_N[at + 1] | 32, text_N[at + 2] | 32
    if sign in (118, 86):  # jaVAscript, priVAcy policy
        return PHRASE * (following == 97 and last in (97, 105))
    if sign in (102, 70):  # terms oF Use
        return PHRASE * (last == 111 and following == 32 and second == 117)
    if sign in (112, 80):  # lorem iPSum
        return PHRASE * (last == 105 and following == 115 and second == 117)
    return PHRASE * (last == 111 and following == 105)  # coOKIe


@njit(cache=True, nogil=True)
def cut_lines(  # noqa: PLR0912, PLR0915  one pass over the text
    text_N: NDArray[np.uint32], begins: NDArray[np.int64], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64],
    chunk_ends: NDArray[np.int64], runs: NDArray[np.int32], of_chunk: NDArray[np.int32], about_W: NDArray[np.uint64],
    longest: int, fewest: int, ended: bool,
) -> Any:  # fmt: skip
    """The rows of documents as C4 judges them: [rows, 5] of start, end without the space around, verdict, sentences,
    and what may be in them (bits: CITATION, BRACE, PHRASE); and where the rows of each document begin. Starts and ends
    count from the beginning of their document.

    `longest`: characters of a word, `fewest`: words between spaces; `ended`: whether a row has to end as a sentence.
    """
    documents = len(begins) - 1
    rows = documents
    for point in text_N:
        rows += ends_row(point)
    found, of_document = np.zeros((rows, 5), np.int64), np.zeros(documents + 1, np.int64)
    row, chunk = 0, 0
    for document in range(documents):
        origin, last = begins[document], begins[document + 1] - 1
        following = origin
        for at in range(origin, last + 1):
            point = text_N[at]
            if point < 128 and not _STOPPING[point] and at < last:
                continue
            if at < last and not ends_row(point):
                if point < 128 or point == _KELVIN:
                    found[row, 4] |= _mark(text_N, at, origin, last)
                continue
            start, end, following = following, at, at + 1
            if start == end and (at == last or (point == 10 and at > origin and text_N[at - 1] == 13)):
                continue  # no row, or the second half of a row's end
            while start < end and is_space(text_N[start]):
                start += 1
            while end > start and is_space(text_N[end - 1]):
                end -= 1
            words, sentences, too_long = 0, 0, False
            over, behind = False, start  # a sentence has ended; where the last chunk ended
            while chunk < len(chunks) and chunk_begins[chunk] < end:
                begin, stop = chunk_begins[chunk], chunk_ends[chunk]
                gap = begin - behind
                if words > 0 and over and (gap != 1 or text_N[behind] != 32):
                    sentences += 1  # spaCy makes a word of other space than one blank, and it begins the next sentence
                    over = False
                words += 1
                too_long = too_long or stop - begin > longest
                sentences = max(sentences, 1)
                first = runs[chunks[chunk], 0]
                for place in range(first, first + runs[chunks[chunk], 1]):
                    flags = int(about_W[of_chunk[place], 1] >> FLAGS)
                    if over and not flags & (PUNCTUATION | ENDER):
                        sentences += 1
                        over = False
                    elif flags & ENDER:
                        over = True
                behind = stop
                chunk += 1
            point = text_N[end - 1] if end > start else 0
            open_end = point not in (46, 63, 33, 34, 39) or (
                end - start >= 3 and point == 46 and text_N[end - 2] == 46 and text_N[end - 3] == 46
            )
            found[row, 0], found[row, 1], found[row, 3] = start - origin, end - origin, sentences
            if too_long:
                found[row, 2] = LONG_WORD
            elif ended and open_end:
                found[row, 2] = UNENDED
            elif words < fewest:
                found[row, 2] = FEW_WORDS
            row += 1
        of_document[document + 1] = row
    return found[:row], of_document


@njit(cache=True, nogil=True)
def byte_lengths(text_N: NDArray[np.uint32], stretches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes of UTF-8 of each stretch, text_N[stretches[i, 0]:stretches[i, 1]]; half a character counts as one."""
    found = np.zeros(len(stretches), np.int64)
    for number in range(len(stretches)):
        size = 0
        for at in range(stretches[number, 0], stretches[number, 1]):
            point = text_N[at]
            size += 1 + (point >= 0x80) + (point >= 0x800) + (point >= 0x10000) - 2 * (0xD800 <= point <= 0xDFFF)
        found[number] = size
    return found


@njit(cache=True, nogil=True)
def joined_lines(
    text_N: NDArray[np.uint32], chunks: NDArray[np.int32], chunk_begins: NDArray[np.int64],
    chunk_ends: NDArray[np.int64], stretches: NDArray[np.int64], of_document: NDArray[np.int64],
) -> Any:  # fmt: skip
    """The batch of the documents that the lines stretches[of_document[i]:of_document[i + 1]] make, a newline between
    two of them. No line has space around it that chunks would reach into."""
    size = len(of_document)
    for number in range(len(stretches)):
        size += stretches[number, 1] - stretches[number, 0] + 1
    points, begins = np.empty(size, np.uint32), np.zeros(len(of_document), np.int64)
    new_chunks = np.empty(len(chunks), np.int32)
    new_begins, new_ends = np.empty(len(chunks), np.int64), np.empty(len(chunks), np.int64)
    used, kept, chunk, behind = 0, 0, 0, 0
    for document in range(len(begins) - 1):
        for number in range(of_document[document], of_document[document + 1]):
            start, end = stretches[number, 0], stretches[number, 1]  # a row of an array would be counted references of
            if start < behind or start > behind + 10_000:
                chunk = np.searchsorted(chunk_begins, start)
            while chunk < len(chunks) and chunk_begins[chunk] < start:
                chunk += 1
            while chunk < len(chunks) and chunk_begins[chunk] < end:
                new_chunks[kept] = chunks[chunk]
                new_begins[kept] = chunk_begins[chunk] - start + used
                new_ends[kept] = chunk_ends[chunk] - start + used
                kept += 1
                chunk += 1
            for at in range(start, end):
                points[used] = text_N[at]
                used += 1
            points[used] = 10
            used += 1
            behind = end
        if of_document[document] == of_document[document + 1]:
            used += 1
        points[used - 1] = 32
        begins[document + 1] = used
    return points[:used], begins, new_chunks[:kept], new_begins[:kept], new_ends[:kept]


@njit(cache=True, nogil=True)
def hash_lines(bytes_B: Any, begin_D: Any, site_D: Any) -> Any:
    """(document, hash, start, end) of each line that is not blank; FNV-1a of its bytes, begun from its site, mixed."""
    most = np.count_nonzero(bytes_B == 10)
    document_L, hash_L = np.empty(most, np.int64), np.empty(most, np.uint64)
    start_L, end_L = np.empty(most, np.int64), np.empty(most, np.int64)
    count = 0
    for document in range(len(begin_D) - 1):
        start = begin_D[document]
        for at in range(start, begin_D[document + 1]):
            if bytes_B[at] != 10:
                continue
            left, right = start, at
            while left < right and bytes_B[left] <= 32:
                left += 1
            while right > left and bytes_B[right - 1] <= 32:
                right -= 1
            if left < right:
                value = site_D[document] ^ uint64(0xCBF29CE484222325)
                for place in range(left, right):
                    value = (value ^ uint64(bytes_B[place])) * uint64(0x100000001B3)
                document_L[count], hash_L[count], start_L[count], end_L[count] = document, mixed(value), start, at + 1
                count += 1
            start = at + 1
    return document_L[:count], hash_L[:count], start_L[:count], end_L[:count]
