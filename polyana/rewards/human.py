"""The part of a reward that people give: judgements in a file, and what they have not judged yet laid out for them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from polyana.config import KeyPath
from polyana.errors import PolyanaError, Problem, UserError
from polyana.rewards.part import Answered, Part, PartConfig, Surroundings
from polyana.storage import write_file

__all__ = ["HumanPartConfig"]

_ENDING = ".jsonl"


class HumanPartConfig(PartConfig):
    """What people have said that an answer is worth."""

    kind: Literal["human"]
    path: str = Field(
        description="a JSONL file with `prompt`, `answer` and `score`; several scores of an answer are averaged. "
        "Answers that nobody has judged are written beside it, to `NAME.open.jsonl`, and the run stops: fill in the "
        "scores there, and the same command goes on",
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if not self.path.endswith(_ENDING):
            yield ("path",), f"`{self.path}` should be the name of a JSONL file, as `judged{_ENDING}`"

    def resolved(self, base: Path) -> dict[str, Any]:
        return super().resolved(base) | {"path": str(base / Path(self.path).expanduser())}

    def files(self, base: Path) -> list[Path]:
        """The file, and that of the answers to be judged, where they are there."""
        path = base / Path(self.path).expanduser()
        return [each for each in (path, _open(path)) if each.is_file()]

    def open(self, surroundings: Surroundings) -> Part:
        return _HumanPart(surroundings.base / Path(self.path).expanduser())


class _HumanPart:
    batch = sys.maxsize  # people are asked for all at once
    watched = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def score(self, answers: Sequence[Answered]) -> list[float]:
        """Raises PolyanaError where an answer is not judged yet."""
        judged, known = _means([self._path, _open(self._path)])
        asked = {(each.prompt, each.answer): None for each in answers if (each.prompt, each.answer) not in judged}
        if asked:
            open_rows = [line for line in _lines(_open(self._path)) if line.strip()]
            more = [{"prompt": prompt, "answer": answer, "score": None} for prompt, answer in asked
                    if (prompt, answer) not in known]  # fmt: skip
            lines = [*open_rows, *(json.dumps(row, ensure_ascii=False) for row in more)]
            write_file(_open(self._path), ("\n".join(lines) + "\n").encode("utf-8", "replace"))
            raise PolyanaError(
                f"{len(asked):,} of {len(answers):,} answers are judged by nobody yet. They stand in "
                f"{_open(self._path)}: write a number for each `null`, and run the same command again"
            )
        return [judged[each.prompt, each.answer] for each in answers]


def _open(path: Path) -> Path:
    return path.with_suffix(f".open{_ENDING}")


def _lines(path: Path) -> list[str]:
    """None of a file that is not there. Raises UserError where it is no UTF-8."""
    if not path.is_file():
        return []
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8 (byte {error.start:,}); save it in that encoding") from None


def _means(paths: Iterable[Path]) -> tuple[Mapping[tuple[str, str], float], set[tuple[str, str]]]:
    """(the mean score of each answer that is judged, all answers that are named). Raises UserError with every line that
    is none."""
    scores: dict[tuple[str, str], list[float]] = {}
    named, problems = set[tuple[str, str]](), list[Problem]()
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                key, score = (str(row["prompt"]), str(row["answer"])), row["score"]
                named.add(key)
                if score is None:
                    continue
                if not math.isfinite(value := float(score)):
                    raise ValueError
                scores.setdefault(key, []).append(value)
            except (ValueError, TypeError, KeyError):
                what = f"no `prompt`, `answer` and a number (or null) as `score`: {line[:80]}"
                problems.append(Problem(f"{path}:{number}", what))
    if problems:
        raise UserError(problems[:10])
    return {key: sum(each) / len(each) for key, each in scores.items()}, named
