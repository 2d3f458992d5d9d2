"""What can go wrong, and the exit code each kind of trouble ends with.

0 done, 1 failed while running, 2 the user's input is wrong, 128 + n stopped by signal n after saving.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Busy", "Damaged", "Interrupted", "PolyanaError", "Problem", "TrainingFailed", "UserError", "blaming"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One line of a letter to the user: where it is, what is wrong and what to write instead."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}  {self.what}" if self.where else self.what


class PolyanaError(Exception):
    """Anything Polyana raises on purpose. Its text is meant to be read by the user as it is."""

    exit_code = 1


class UserError(PolyanaError):
    """The input is wrong; nothing was run. Carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem("", problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Busy(PolyanaError):
    """Another process holds what this one wants to write."""


class Damaged(PolyanaError):
    """A file's content is not what was written: its checksum differs or it cannot be read."""


class TrainingFailed(PolyanaError):
    """Training cannot go on (a loss that is not finite, for example); what was saved is still there."""


class Interrupted(PolyanaError):
    """A signal asked training to stop; everything was saved before this was raised."""

    def __init__(self, signal_number: int, message: str) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(message)


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Give a place in the recipe to problems that have none."""
    try:
        yield
    except UserError as error:
        raise UserError([Problem(problem.where or where, problem.what) for problem in error.problems]) from None
