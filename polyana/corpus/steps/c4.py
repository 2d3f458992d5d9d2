"""C4's rules (Raffel et al. 2020, section 2.2, and the authors' code), as datatrove 0.10 applies them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.corpus.steps.step import Block, Columns, Edit, Found, StepConfig, Surroundings, Verdict, Worker

if TYPE_CHECKING:
    from polyana.corpus.words import Batch, WordTable

__all__ = ["CLEAN", "FEW_WORDS", "LONG_WORD", "UNENDED", "C4Rule"]

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_BRACKET = re.compile("{")
_ENDS = (".", "?", "!", '"', "'")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CLEAN, LONG_WORD, UNENDED, FEW_WORDS = 0, 1, 2, 3
"""What native_lines.cut_lines says of a line, in the order in which it is looked at."""
_SCRIPT, _POLICIES = 4, 5  # what is said here
_REASONS = (
    "", "a word without end", "lines that do not end a sentence", "lines of few words", "lines about javascript",
    "lines about policies",
)  # fmt: skip


class C4Rule(StepConfig):
    """C4's rules: lines that are no sentences are taken out, then documents with few sentences. Its list of bad words
    is not used, as in FineWeb. Phrases are English ones."""

    kind: Literal["c4"] = "c4"
    min_sentences: int = Field(5, ge=0, description="sentences that have to be left, at least")
    ended_lines: bool = Field(
        True,
        description="lines have to end in . ? ! \" or '; FineWeb leaves this out (Penedo et al. 2024, section 3.3)",
    )
    min_words: int = Field(3, ge=0, description="words between spaces in a line, at least")
    max_word: int = Field(1000, ge=1, description="characters of a word between spaces, at most")
    citations: bool = Field(True, description="[1], [edit] and [citation needed] are taken out")
    javascript: bool = Field(True, description="lines with `javascript` are taken out")
    policy: bool = Field(True, description="lines about cookies, privacy policy and terms of use are taken out")
    lorem_ipsum: bool = Field(True, description="documents with `lorem ipsum` are dropped")
    curly_bracket: bool = Field(True, description="documents with { are dropped; not for texts about programs")
    edits = True
    counts_words = True
    deciding = frozenset({"min_sentences"})

    def worker(self, surroundings: Surroundings) -> Worker:
        words = surroundings.words
        assert words is not None

        def cut(block: Block) -> Found:
            found = Found({"sentences": np.zeros(len(block), np.int32), "left": np.ones(len(block), np.int8)})
            for table, rows, batch in words.batches(block):
                self._cut(table, batch, block, rows, found)
            return found

        return cut

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        yield Verdict(f"fewer than {self.min_sentences} sentences", columns["sentences"], self.min_sentences)
        yield Verdict("no line is left", columns["left"], 1)

    def _cut(self, table: WordTable, batch: Batch, block: Block, rows: NDArray[np.int64], found: Found) -> None:
        lines, ends = table.cut_lines(batch, self.max_word, self.min_words, ended=self.ended_lines)
        texts = [block.texts[row] for row in rows.tolist()]
        changed: dict[int, str] = {}  # lines that are kept, but not as they were
        for at, text in enumerate(texts):
            mine = lines[ends[at] : ends[at + 1]]
            if (suspicious := self._suspicious(text, mine)) and (why := self._look(text, mine, suspicious)):
                found.dropped[int(rows[at])] = why
            for number, line in suspicious.items():
                if line is not None:
                    changed[int(ends[at]) + number] = line
        sentences = lines[:, 3]
        if changed:
            cut, of = table.cut_lines(table.batch(list(changed.values())), self.max_word, 0, ended=False)
            total = np.concatenate([[0], np.cumsum(cut[:, 3])])
            sentences[list(changed)] = total[of[1:]] - total[of[:-1]]
        kept = lines[:, 2] == CLEAN
        total = np.concatenate([[0], np.cumsum(np.where(kept, sentences, 0))])
        found.columns["sentences"][rows] = np.diff(total[ends])
        found.columns["sentences"][list(found.dropped)] = 0
        self._edit(batch, lines, ends, changed, texts, rows, found)

    def _edit(
        self, batch: Batch, lines: NDArray[np.int64], ends: NDArray[np.int64], changed: dict[int, str],
        texts: list[str], rows: NDArray[np.int64], found: Found,
    ) -> None:  # fmt: skip
        """Put the lines together that are kept, a newline between them; what each reason takes is counted."""
        kept = lines[:, 2] == CLEAN
        length = np.concatenate([[0], np.cumsum(np.where(kept, lines[:, 1] - lines[:, 0] + 1, 0))])
        count = np.concatenate([[0], np.cumsum(kept)])
        same = (np.diff(length[ends]) == np.diff(batch.begins)) & (np.diff(count[ends]) == np.diff(ends))
        of_line = np.repeat(np.arange(len(texts)), np.diff(ends))
        if changed:
            same[of_line[list(changed)]] = False
        other = np.flatnonzero(~same & ~np.isin(rows, list(found.dropped)))
        if not len(other):
            return
        stretches = lines[:, :2] + batch.begins[of_line, None]
        if changed:
            batch, stretches[list(changed)] = batch.behind(list(changed.values()))
        mine = np.isin(of_line, other)
        goes = mine & ~kept
        which = of_line[goes] * len(_REASONS) + lines[goes, 2]
        sizes = np.bincount(which, batch.sizes(stretches[goes]) + 1.0, len(texts) * len(_REASONS)).astype(np.int64)
        borders = np.concatenate([[0], np.cumsum(np.diff(count[ends])[other])])
        for number, joined in zip(other.tolist(), batch.texts(stretches[mine & kept], borders), strict=True):
            if not (after := joined.strip()):
                found.columns["left"][rows[number]] = 0  # it is dropped as it came
                continue
            taken = dict(zip(_REASONS, sizes.reshape(-1, len(_REASONS))[number].tolist(), strict=True))
            if edit := Edit.by_reason(texts[number], after, taken, "citations and space"):
                found.edited[int(rows[number])] = edit

    def _suspicious(self, text: str, lines: NDArray[np.int64]) -> dict[int, str | None]:
        """The lines in which something may be that is not judged by words alone."""
        places = list[int]()
        if self.curly_bracket and "{" in text:
            places += [found.start() for found in _BRACKET.finditer(text)]
        if self.citations and "[" in text:
            places += [found.start() for found in _CITATION.finditer(text)]
        small = text.lower()
        cookies = "cookie" in small
        phrases = [phrase for phrase in self._phrases if (cookies or "cookie" not in phrase) and phrase in small]
        if phrases and len(small) != len(text):  # some small letters are two
            return dict.fromkeys(range(len(lines)))
        for phrase in phrases:
            at = small.find(phrase)
            while at >= 0:
                places.append(at)
                at = small.find(phrase, at + 1)
        numbers = np.unique(np.searchsorted(lines[:, 0], places, "right") - 1) if places else np.zeros(0, np.int64)
        return dict.fromkeys(numbers.tolist())

    @property
    def _phrases(self) -> list[str]:
        return [
            *(["javascript"] if self.javascript else []),
            *(["lorem ipsum"] if self.lorem_ipsum else []),
            *(_POLICY if self.policy else []),
        ]

    def _look(self, text: str, lines: NDArray[np.int64], suspicious: dict[int, str | None]) -> str:
        """Judge suspicious lines, in the order in which each rule is asked; why the document goes, if it does."""
        for number in suspicious:
            start, end, verdict, _ = lines[number].tolist()
            if verdict == LONG_WORD:
                continue
            written = line = text[start:end]
            if self.citations:
                line = _CITATION.sub("", line)
            small = line.lower()
            if self.ended_lines and (not line.endswith(_ENDS) or line.endswith("...")):
                lines[number, 2] = UNENDED
            elif len(written.split()) < self.min_words:
                lines[number, 2] = FEW_WORDS
            elif self.lorem_ipsum and "lorem ipsum" in small:
                return "lorem ipsum"
            elif self.javascript and "javascript" in small:
                lines[number, 2] = _SCRIPT
            elif self.curly_bracket and "{" in line:
                return "a curly bracket"
            elif self.policy and any(phrase in small for phrase in _POLICY):
                lines[number, 2] = _POLICIES
            else:
                lines[number, 2] = CLEAN
                if line != written:
                    suspicious[number] = line
        return ""
