"""C4's rules (Raffel et al. 2020, section 2.2, and the authors' code), as datatrove 0.10 applies them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from polyana.corpus.steps.step import Block, Columns, Edit, Found, StepConfig, Surroundings, Verdict, Worker

if TYPE_CHECKING:
    from polyana.corpus.words import WordTable

__all__ = ["C4Rule"]

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_ENDS = (".", "?", "!", '"', "'")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_REASONS = {1: "a word without end", 2: "lines that do not end a sentence", 3: "lines of few words"}


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
            for table, rows in words.tables(block, np.arange(len(block))):
                self._cut(table, block, rows.tolist(), found)
            return found

        return cut

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        yield Verdict(f"fewer than {self.min_sentences} sentences", columns["sentences"], self.min_sentences)
        yield Verdict("no line is left", columns["left"], 1)

    def _cut(self, table: WordTable, block: Block, rows: list[int], found: Found) -> None:
        plain = [row for row in rows if not self._suspicious(block.texts[row])]
        if plain:
            lines, ends = self._lines(table, [block.texts[row] for row in plain])
            clean = lines[:, 2] == 0
            sentences = np.concatenate([[0], np.cumsum(np.where(clean, lines[:, 3], 0))])
            found.columns["sentences"][plain] = np.diff(sentences[ends])
            # the text stays where all lines are kept as they are, one newline between them
            kept = np.concatenate([[0], np.cumsum(clean)])[ends]
            length = np.concatenate([[0], np.cumsum(np.where(clean, lines[:, 1] - lines[:, 0] + 1, 0))])[ends]
            for at, row in enumerate(plain):
                text, mine = block.texts[row], slice(ends[at], ends[at + 1])
                if length[at + 1] - length[at] == len(text) + 1 and kept[at + 1] - kept[at] == ends[at + 1] - ends[at]:
                    continue
                self._put(row, block, [(text[a:b], _REASONS.get(why, "")) for a, b, why, _ in lines[mine]], found)
        slow = {row: self._cut_slowly(row, block, found) for row in sorted(set(rows) - set(plain))}
        kept = {row: text for row, text in slow.items() if text}
        lines, ends = table.cut_lines(table.batch(list(kept.values())), self.max_word, 0, ended=False)
        sentences = np.concatenate([[0], np.cumsum(lines[:, 3])])
        found.columns["sentences"][list(kept)] = np.diff(sentences[ends])

    def _lines(self, table: WordTable, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return table.cut_lines(table.batch(texts), self.max_word, self.min_words, ended=self.ended_lines)

    def _suspicious(self, text: str) -> bool:
        """Whether something may be in it that is not judged by lines and words alone."""
        if (self.curly_bracket and "{" in text) or (self.citations and "[" in text and _CITATION.search(text)):
            return True
        small = text.lower()
        return (
            (self.javascript and "javascript" in small)
            or (self.lorem_ipsum and "lorem ipsum" in small)
            or (self.policy and any(phrase in small for phrase in _POLICY))
        )

    def _cut_slowly(self, row: int, block: Block, found: Found) -> str:
        """A document line by line, in the order in which each rule is asked; the lines that are kept."""
        lines = list[tuple[str, str]]()  # and why it goes, if it does
        small = block.texts[row].lower()
        javascript, lorem = self.javascript and "javascript" in small, self.lorem_ipsum and "lorem ipsum" in small
        policy = self.policy and any(phrase in small for phrase in _POLICY)
        for written in block.texts[row].splitlines():
            line = written.strip()
            parts = line.split()
            if parts and max(map(len, parts)) > self.max_word:
                lines.append((line, _REASONS[1]))
                continue
            if self.citations and "[" in line:
                line = _CITATION.sub("", line)
            small = line.lower() if javascript or lorem or policy else ""
            if self.ended_lines and (not line.endswith(_ENDS) or line.endswith("...")):
                lines.append((line, _REASONS[2]))
            elif len(parts) < self.min_words:
                lines.append((line, _REASONS[3]))
            elif lorem and "lorem ipsum" in small:
                found.dropped[row] = "lorem ipsum"
                return ""
            elif javascript and "javascript" in small:
                lines.append((line, "lines about javascript"))
            elif self.curly_bracket and "{" in line:
                found.dropped[row] = "a curly bracket"
                return ""
            elif policy and any(phrase in small for phrase in _POLICY):
                lines.append((line, "lines about policies"))
            else:
                lines.append((line, ""))
        self._put(row, block, lines, found)
        return "\n".join(line for line, why in lines if not why)

    def _put(self, row: int, block: Block, lines: list[tuple[str, str]], found: Found) -> None:
        """Put the lines together that are kept; what each reason takes is counted."""
        text = "\n".join(line for line, why in lines if not why).strip()
        if not text:
            found.columns["left"][row] = 0  # it is dropped as it came
            return
        before, versions = block.texts[row], list[tuple[str, str]]()
        reasons = sorted({why for _, why in lines if why})
        for at, reason in enumerate(reasons[:-1], 1):
            gone = set(reasons[:at])
            versions.append((reason, "\n".join(line for line, why in lines if why not in gone)))
        versions.append((reasons[-1] if reasons else "citations and space", text))
        if edit := Edit.of(before, versions):
            found.edited[row] = edit
