"""Characters that two libraries may take differently, because their Unicode tables are of different years."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

__all__ = ["NUMERALS", "unfamiliar"]

NUMERALS = frozenset({"Nd", "Nl", "No"})  # the general categories of what Unicode counts as a number


@cache
def unfamiliar(also: frozenset[str] = frozenset()) -> Callable[[str], bool]:
    """A test whether a text has a character that this Python's Unicode leaves unassigned, or, beyond ASCII, one of the
    general categories `also`.

    What is once assigned stays the kind of character it is (Unicode's stability policy: for what matters here), so two
    tables differ in what only the newer one knows: 4,657 characters between gigatoken 0.10 (Unicode 17) and tokenizers
    0.23 (Unicode 16), measured over all of them. Python 3.11 to 3.14 know none of these: they have Unicode 14 to 16.
    """
    kinds = also | {"Cn"}
    near = [chr(code) for code in range(0x80, 0x10000) if unicodedata.category(chr(code)) in kinds]
    # one set for characters up to U+FFFF, where `re` is quick, and one stretch for those beyond, looked up if any stand
    pattern = re.compile("[" + "".join(map(re.escape, near)) + "\U00010000-\U0010ffff]")

    def test(text: str) -> bool:
        return not text.isascii() and any(unicodedata.category(found) in kinds for found in set(pattern.findall(text)))

    return test
