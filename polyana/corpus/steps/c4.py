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
    from polyana.corpus.words import Batch, Words, WordTable

__all__ = ["BRACE", "CITATION", "CLEAN", "FEW_WORDS", "LONG_WORD", "PHRASE", "UNENDED", "C4Rule"]

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_ENDS = (".", "?", "!", '"', "'")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CLEAN, LONG_WORD, UNENDED, FEW_WORDS = 0, 1, 2, 3
"""What native_lines.cut_lines says of a line, in the order in which it is looked at."""
_SCRIPT, _POLICIES = 4, 5  # what is said here
CITATION, BRACE, PHRASE = 1, 2, 4
"""Bits of what it says may be in a line, which is then looked at here."""
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
                self._cut(words, table, batch, [block.texts[row] for row in rows.tolist()], rows, found)
            return found

        return cut

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        yield Verdict(f"fewer than {self.min_sentences} sentences", columns["sentences"], self.min_sentences)
        yield Verdict("no line is left", columns["left"], 1)

    def _cut(
        self, words: Words, table: WordTable, batch: Batch, texts: list[str], rows: NDArray[np.int64], found: Found
    ) -> None:
        lines, ends = table.cut_lines(batch, self.max_word, self.min_words, ended=self.ended_lines)
        of_line = np.repeat(np.arange(len(texts)), np.diff(ends))
        stretches, verdicts, sentences = lines[:, :2] + batch.begins[of_line, None], lines[:, 2].copy(), lines[:, 3]
        changed, gone = self._look(lines, of_line, texts, verdicts)
        if changed:  # lines that are kept, but not as they were
            other = table.batch(list(changed.values()))
            cut, of = table.cut_lines(other, self.max_word, 0, ended=False)
            total = np.concatenate([[0], np.cumsum(cut[:, 3])])
            sentences[list(changed)] = total[of[1:]] - total[of[:-1]]
            batch, stretches[list(changed)] = batch.behind(other)
        kept = verdicts == CLEAN
        total = np.concatenate([[0], np.cumsum(np.where(kept, sentences, 0))])
        found.columns["sentences"][rows] = np.diff(total[ends])
        for at, why in gone.items():
            found.dropped[int(rows[at])] = why
        found.columns["sentences"][list(found.dropped)] = 0
        # a document stays as it is where its lines and what parts them are all of it
        length = np.concatenate([[0], np.cumsum(np.where(kept, lines[:, 1] - lines[:, 0] + 1, 0))])
        goes = np.diff(length[ends]) != [len(text) + 1 for text in texts]
        goes[of_line[~kept]] = True
        goes[of_line[list(changed)]] = True
        goes[list(gone)] = False
        if goes.any():
            self._edit(words, table, batch, stretches, verdicts, of_line, np.flatnonzero(goes), texts, rows, found)

    def _edit(
        self, words: Words, table: WordTable, batch: Batch, stretches: NDArray[np.int64], verdicts: NDArray[np.int64],
        of_line: NDArray[np.int64], documents: NDArray[np.int64], texts: list[str], rows: NDArray[np.int64],
        found: Found,
    ) -> None:  # fmt: skip
        """Put the lines of these documents together that are kept, a newline between them; what each reason takes is
        counted."""
        kept = verdicts == CLEAN
        left = np.bincount(of_line[kept], minlength=len(texts))
        found.columns["left"][rows[documents[left[documents] == 0]]] = 0  # they are dropped as they came
        documents = documents[left[documents] > 0]
        mine = np.zeros(len(texts), np.bool_)
        mine[documents] = True
        mine = mine[of_line]
        goes, stays = np.flatnonzero(mine & ~kept), np.flatnonzero(mine & kept)
        which = of_line[goes] * len(_REASONS) + verdicts[goes]
        sizes = np.bincount(which, batch.sizes(stretches[goes]) + 1.0, len(texts) * len(_REASONS)).astype(np.int64)
        taken_by = sizes.reshape(-1, len(_REASONS)).tolist()
        joined = batch.joined(stretches[stays], np.cumsum([0, *left[documents]]))
        places, known = list[int](), list[str]()  # of those that come to be just these lines
        for place, (number, text) in enumerate(zip(documents.tolist(), joined.texts(), strict=True)):
            if not (after := text.strip()):
                found.columns["left"][rows[number]] = 0
                continue
            taken = dict(zip(_REASONS, taken_by[number], strict=True))
            if edit := Edit.by_reason(texts[number], after, taken, "citations and space"):
                found.edited[int(rows[number])] = edit
                if after is text:
                    places.append(place)
                    known.append(after)
        if len(places) < len(documents):
            joined = joined.of(np.array(places, np.int64))
        words.expect(table, rows[documents[places]], known, joined)

    def _look(
        self, lines: NDArray[np.int64], of_line: NDArray[np.int64], texts: list[str], verdicts: NDArray[np.int64]
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Judge the lines in which something may be that is not judged by words alone: (those that are kept without
        their citations, the documents that go, and why)."""
        changed, gone = dict[int, str](), dict[int, str]()
        signs = CITATION * self.citations | BRACE * self.curly_bracket
        signs |= PHRASE * (self.javascript or self.lorem_ipsum or self.policy)
        for number in np.flatnonzero((lines[:, 4] & signs != 0) & (verdicts != LONG_WORD)).tolist():
            document = int(of_line[number])
            if document in gone:
                continue
            written = line = texts[document][lines[number, 0] : lines[number, 1]]
            if self.citations:
                line = _CITATION.sub("", line)
            verdict = self._judge(written, line)
            if isinstance(verdict, str):
                gone[document] = verdict
                continue
            verdicts[number] = verdict
            if verdict == CLEAN and line != written:
                changed[number] = line
        return changed, gone

    def _judge(self, written: str, line: str) -> int | str:
        """What is said of a line, which is `line` without citations, or why its document goes; in the order in which
        each rule is asked."""
        small = line.lower()
        if self.ended_lines and (not line.endswith(_ENDS) or line.endswith("...")):
            return UNENDED
        if len(written.split()) < self.min_words:
            return FEW_WORDS
        if self.lorem_ipsum and "lorem ipsum" in small:
            return "lorem ipsum"
        if self.javascript and "javascript" in small:
            return _SCRIPT
        if self.curly_bracket and "{" in line:
            return "a curly bracket"
        if self.policy and any(phrase in small for phrase in _POLICY):
            return _POLICIES
        return CLEAN
