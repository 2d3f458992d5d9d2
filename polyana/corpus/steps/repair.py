"""Characters as they were meant: mojibake undone, and what nobody can see taken out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import ClassVar, Literal

from pydantic import Field

from polyana.config import KeyPath
from polyana.corpus.normalise import normalise
from polyana.corpus.steps.step import Block, Edit, Found, StepConfig, Surroundings, Worker

__all__ = ["RepairConfig", "mojibake_signs", "without_mojibake"]

Change = tuple[str, Callable[[str], str]]
"""A reason, and what is done for it."""

# Zero-width characters mean something behind a letter of these blocks of Unicode 16: they part words (Thai, Lao, Khmer,
# Burmese, Tibetan) or choose the form of a letter (Arabic, Mongolian, the scripts of India). A joiner also binds emoji.
_SCRIPTS = (
    "\u0600-\u109f\u1700-\u18af\u1980-\u19df\u1a00-\u1aaf\u1b00-\u1c4f\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefe"
    "\U00010a00-\U00010fff\U00011000-\U00011fff\U0001e900-\U0001e95f"
)
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_ZERO_WIDTH = re.compile(
    rf"[\u2060\ufeff]|[\u200b\u200c](?<![{_SCRIPTS}].)|\u200d(?<![{_SCRIPTS}{_EMOJI}].)", re.DOTALL
)
_SOFT_HYPHEN_AT_LINE_END = re.compile(r"(?<=\w)\u00ad\n[^\S\n]*(\w\S*)[^\S\n]*\n?")
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
# controls that `normalise` leaves, deprecated ones, and U+FFFC where an image stood
_CONTROL = re.compile("[\x80-\x9f\u206a-\u206f\ufff9-\ufffc]")

_INVISIBLE = re.compile("[\x80-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u206f\ufeff\ufff9-\ufffc]")
"""What the patterns above begin with: where none of it stands, there is nothing to take out."""


class RepairConfig(StepConfig):
    """Repairs characters. What changes good text too is off: `quotes`, `ligatures`, `widths`, `entities`."""

    edits: ClassVar[bool] = True
    kind: Literal["repair"] = "repair"
    mojibake: bool = Field(True, description="text decoded by the wrong encoding becomes what it was, by ftfy")
    zero_width: bool = Field(True, description="zero-width spaces and joiners go where no script or emoji needs them")
    soft_hyphens: bool = Field(True, description="soft hyphens go; a word broken by one at a line's end is joined")
    direction: bool = Field(True, description="marks of direction go from text with no letter written right to left")
    controls: bool = Field(True, description="control characters go, and what stands for an image")
    quotes: bool = Field(False, description="typographic quotation marks become \" and '")
    ligatures: bool = Field(False, description="ligatures as U+FB01 become the letters they stand for")
    widths: bool = Field(False, description="full-width and half-width forms become ordinary ones")
    entities: bool = Field(False, description="HTML's entities as `&amp;` become the characters they stand for")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        for name in ("mojibake", "quotes", "ligatures", "widths", "entities"):
            if getattr(self, name) and find_spec("ftfy") is None:
                yield (name,), f"`{name}` needs ftfy; run: pip install 'polyana[mill]', or write `{name}: false`"

    def worker(self, surroundings: Surroundings) -> Worker:
        visible, invisible = list(self._visible()), list(self._invisible())

        def versions(text: str) -> Iterator[tuple[str, str]]:
            for reason, change in visible:
                text = _changed(text, change)
                yield reason, text
            if not text.isascii() and _INVISIBLE.search(text) is not None:
                for reason, change in invisible:
                    text = _changed(text, change)
                    yield reason, text

        def work(block: Block) -> Found:
            edits = ((index, Edit.of(text, versions(text))) for index, text in enumerate(block.texts))
            return Found(edited={index: edit for index, edit in edits if edit is not None})

        return work

    def _visible(self) -> Iterator[Change]:
        if self.mojibake:
            signs = mojibake_signs()
            yield "mojibake", _beyond_ascii(lambda text: without_mojibake(text, signs))
        if self.entities or self.ligatures or self.widths or self.quotes:
            from ftfy import chardata, fixes

            if self.entities:
                yield "HTML entities", fixes.unescape_html
            if self.ligatures:
                yield "ligatures", _where(chardata.LIGATURES, fixes.fix_latin_ligatures)
            if self.widths:
                yield "character widths", _where(chardata.WIDTH_MAP, fixes.fix_character_width)
            if self.quotes:
                yield "typographic quotes", _beyond_ascii(fixes.uncurl_quotes)

    def _invisible(self) -> Iterator[Change]:
        if self.soft_hyphens:
            yield "soft hyphens", lambda text: _SOFT_HYPHEN_AT_LINE_END.sub(r"\1\n", text).replace("\u00ad", "")
        if self.zero_width:
            yield "zero-width characters", partial(_ZERO_WIDTH.sub, "")
        if self.direction:
            yield "direction marks", lambda text: text if _RIGHT_TO_LEFT.search(text) else _DIRECTION.sub("", text)
        if self.controls:
            yield "control characters", partial(_CONTROL.sub, "")


def _beyond_ascii(change: Callable[[str], str]) -> Callable[[str], str]:
    """The same of a change that leaves ASCII as it is, which most English texts are."""
    return lambda text: text if text.isascii() else change(text)


def _where(points: Iterable[int], change: Callable[[str], str]) -> Callable[[str], str]:
    """The same of a change of these characters: `str.translate` takes fifteen times as long as to see that there is
    none."""
    signs = re.compile(f"[{''.join(map(re.escape, map(chr, points)))}]")
    return lambda text: text if text.isascii() or signs.search(text) is None else change(text)


def _changed(text: str, change: Callable[[str], str]) -> str:
    """With its letters composed and its lines' ends trimmed again, if anything has changed."""
    after = change(text)
    return text if after == text else normalise(after)


def mojibake_signs() -> re.Pattern[str]:
    """Matches somewhere in every line that `ftfy.badness.is_bad` holds of; nowhere in most Russian or English ones.

    ftfy's own pattern is 30 to 100 times slower. Each of its alternatives holds a character of its rarer categories, or
    U+0402, or punctuation right between two of the letters that UTF-8's first bytes become in Windows-1251 and -1253.
    """
    from ftfy.badness import MOJIBAKE_CATEGORIES

    usual = ("common", "start_punctuation", "end_punctuation", "lower_common", "upper_common")
    rare = "\u0402" + "".join(signs for name, signs in MOJIBAKE_CATEGORIES.items() if name not in usual)
    punctuation = MOJIBAKE_CATEGORIES["start_punctuation"] + MOJIBAKE_CATEGORIES["end_punctuation"]
    first = "ВГРСΒΓΞΟ"  # Cyrillic, then Greek
    return re.compile(f"[{rare}{punctuation}](?:(?<=[{rare}])|(?<=[{first}].)(?=[{first}]))")


def without_mojibake(text: str, signs: re.Pattern[str]) -> str:
    """`text` as `ftfy.fix_text` gives it with nothing but `fix_encoding`; it is given only lines with a sign."""
    from ftfy import TextFixerConfig, fix_text

    config = TextFixerConfig(
        unescape_html=False, remove_terminal_escapes=False, fix_latin_ligatures=False, fix_character_width=False,
        uncurl_quotes=False, fix_line_breaks=False, fix_surrogates=False, remove_control_chars=False,
        normalization=None, explain=False,
    )  # fmt: skip
    pieces: list[str] = []
    done = 0
    while (sign := signs.search(text, done)) is not None:
        start = text.rfind("\n", done, sign.start()) + 1 or done
        end = text.find("\n", sign.end()) + 1 or len(text)
        pieces += text[done:start], fix_text(text[start:end], config)
        done = end
    return "".join(pieces) + text[done:] if pieces else text
