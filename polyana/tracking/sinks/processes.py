"""The processes that pass a run's metrics on to other trackers.

A process and not a thread: a library that hangs in C holds Python's lock, and one that crashes takes its process along.
Nothing is queued: what is to be sent stands in the run's metrics, which training writes anyway. So training spends
nothing on it, nothing is dropped while it goes on, and what a sink was not told at the end it is told by the next
attempt.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

from polyana.tracking.run_directory import RunDirectory
from polyana.tracking.sinks.config import SinkConfig
from polyana.tracking.sinks.forward import unsent

__all__ = ["Sinks"]

_PATIENCE = 30.0  # seconds that all sinks together have for the rest when training is over; guess
_UNMENTIONED = 2.0  # seconds of it that need no word; guess


class Sinks:
    """The sinks of a run while the block goes on; each in a process of its own, at low priority.

    Neither a sink that fails nor one that hangs is felt in the block. At its end all have 30 seconds for the rest; who
    is not done then is killed, and how many rows it was not told is said.
    """

    def __init__(self, run: RunDirectory, configs: Sequence[SinkConfig], say: Callable[[str], None],
                 patience: float = _PATIENCE) -> None:  # fmt: skip
        self._run, self._say, self._patience = run, say, patience
        self._configs = _named(configs)
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._listeners: list[threading.Thread] = []

    def __enter__(self) -> Sinks:
        for name, config in self._configs.items():
            (self._run.path / "sinks").mkdir(exist_ok=True)
            with (self._run.path / "sinks" / f"{name}.log").open("a") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "polyana.tracking.sinks"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                    start_new_session=True,  # Ctrl-C is for training, which then lets the sinks finish
                )  # fmt: skip
            self._processes[name] = process
            assert process.stdin is not None
            order = {"run": str(self._run.path.absolute()), "name": name, "config": config.model_dump(),
                     "patience": self._patience}  # fmt: skip
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
            listener.start()
            self._listeners.append(listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for process in self._processes.values():
                assert process.stdin is not None
                process.stdin.close()
            began = time.monotonic()
            self._wait(began + min(_UNMENTIONED, self._patience))
            if late := self._late():
                self._say(f"  the rest is being sent to {', '.join(late)}: at most {self._patience:.0f} s")
                self._wait(began + self._patience)
        finally:
            late = self._late()
            for name in late:
                _kill(self._processes[name])
            for listener in self._listeners:
                listener.join()
        for name, process in self._processes.items():
            if name in late or process.returncode:
                self._account(name, "was not done in time" if name in late else "failed")

    def _account(self, name: str, what: str) -> None:
        rows = unsent(self._run, name)
        log = self._run.path / "sinks" / f"{name}.log"
        self._say(f"  {name} {what}: {rows:,} rows were not sent; the run has them all. See {log}")

    def _late(self) -> list[str]:
        return [name for name, process in self._processes.items() if process.poll() is None]

    def _wait(self, until: float) -> None:
        for process in self._processes.values():
            try:
                process.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                return

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as said:
            for line in said:
                self._say(f"  {line.rstrip()}")


def _named(configs: Sequence[SinkConfig]) -> dict[str, SinkConfig]:
    """Each sink by its kind; a second one of a kind has a number."""
    named: dict[str, SinkConfig] = {}
    for config in configs:
        number = sum(other.kind == config.kind for other in named.values()) + 1
        named[config.kind if number == 1 else f"{config.kind}-{number}"] = config
    return named


def _kill(process: subprocess.Popen[str]) -> None:
    """The process and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
