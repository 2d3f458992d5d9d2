"""The processes that pass a run's metrics on to other trackers (tracking/companion.py).

Nothing is queued: what is to be sent stands in the run's metrics, which training writes anyway. So training spends
nothing on it, nothing is dropped while it goes on, and what a sink was not told at the end it is told by the next
attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from polyana.tracking.companion import Companion, wait_for_all
from polyana.tracking.run_directory import RunDirectory
from polyana.tracking.sinks.config import SinkConfig
from polyana.tracking.sinks.forward import unsent

__all__ = ["Sinks"]

_PATIENCE = 30.0  # seconds that all sinks together have for the rest when training is over; guess


class Sinks:
    """The sinks of a run while the block goes on; each in a process of its own, at low priority.

    Neither a sink that fails nor one that hangs is felt in the block. At its end all have 30 seconds for the rest; who
    is not done then is killed, and how many rows it was not told is said.
    """

    def __init__(self, run: RunDirectory, configs: Sequence[SinkConfig], say: Callable[[str], None],
                 patience: float = _PATIENCE) -> None:  # fmt: skip
        self._run, self._say, self._patience = run, say, patience
        self._configs = _named(configs)
        self._companions: dict[str, Companion] = {}

    def __enter__(self) -> Sinks:
        for name, config in self._configs.items():
            order = {"run": str(self._run.path.absolute()), "name": name, "config": config.model_dump()}
            log = self._run.path / "sinks" / f"{name}.log"
            self._companions[name] = Companion("polyana.tracking.sinks", order, log, self._say, self._patience)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late = wait_for_all(self._companions, self._patience, self._mention)
        for name, companion in self._companions.items():
            if name in late or companion.failed:
                self._account(name, "was not done in time" if name in late else "failed")

    def _mention(self, late: Sequence[str]) -> None:
        self._say(f"  the rest is being sent to {', '.join(late)}: at most {self._patience:.0f} s")

    def _account(self, name: str, what: str) -> None:
        rows = unsent(self._run, name)
        log = self._run.path / "sinks" / f"{name}.log"
        self._say(f"  {name} {what}: {rows:,} rows were not sent; the run has them all. See {log}")


def _named(configs: Sequence[SinkConfig]) -> dict[str, SinkConfig]:
    """Each sink by its kind; a second one of a kind has a number."""
    named: dict[str, SinkConfig] = {}
    for config in configs:
        number = sum(other.kind == config.kind for other in named.values()) + 1
        named[config.kind if number == 1 else f"{config.kind}-{number}"] = config
    return named
