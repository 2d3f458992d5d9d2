"""What a sink is: somebody else's tracker, told what a run's own files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyana.tracking.metrics import Histogram

__all__ = ["About", "Sink"]


@dataclass(frozen=True)
class About:
    """What a sink may say of a run. `settings`: flat, under dotted names. `place`: a directory of its own in the run,
    not made yet."""

    run: str
    recipe: str
    stage: str
    settings: dict[str, Any]
    directory: Path
    place: Path


class Sink:
    """One tracker's view of one run. What a tracker has no place for, a sink leaves out; times are seconds since 1970.

    Any method may raise or hang: it runs in a process that training does not wait for.
    """

    takes_back = False
    """Whether steps that a later attempt does again replace what was sent of them. Where not, only steps beyond the
    last one sent are passed on, so that the curve has each step once."""

    where = ""
    """What the user opens to see it; known after `begin`."""

    def begin(self, about: About, kept: dict[str, Any]) -> dict[str, Any]:
        """Open the run; what must be kept to go on with it later, and is `kept` then ({} the first time)."""
        raise NotImplementedError

    def go_on_from(self, step: int) -> None:
        """A later attempt begins: what was sent of steps behind `step` no longer holds. Only if it `takes_back`."""

    def scalars(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Numbers of a step; NaN: not finite."""
        raise NotImplementedError

    def histogram(self, step: int, time: float, name: str, histogram: Histogram) -> None:
        pass

    def text(self, step: int, time: float, name: str, value: str) -> None:
        pass

    def table(self, step: int, time: float, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def image(self, step: int, time: float, name: str, path: Path) -> None:
        pass

    def flush(self) -> None:
        """Return when everything so far has left this process, or the library has it in a file."""

    def close(self, outcome: str) -> None:
        """`outcome`: finished, failed or interrupted."""
