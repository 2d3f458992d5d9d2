"""A sink's process: `python -m polyana.tracking.sinks`, which processes.py starts.

The first line on stdin says what to do; when stdin ends, the training has ended, however it did. What is printed on
stdout is said to the user; whatever a library prints goes to stderr, which is the sink's log file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from polyana.errors import Busy
from polyana.storage import locked
from polyana.tracking.run_directory import RunDirectory
from polyana.tracking.sinks.config import SinkConfig
from polyana.tracking.sinks.forward import Forwarder

_LOOK = 1.0  # seconds between two looks for new rows; guess
_MORE = 5.0  # seconds of patience beyond those that training has; guess
_LONGEST_PAUSE = 60.0  # seconds between two tries when a sink fails; they begin with a second and double; guess


def main() -> int:
    speak = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()
        time.sleep(order["patience"] + _MORE)  # whoever started this has been killed, too, else it were over by now
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)  # training goes before whoever is told of it
    run, name = RunDirectory(Path(order["run"])), str(order["name"])
    config: SinkConfig = TypeAdapter(SinkConfig).validate_python(order["config"])
    while True:
        try:
            with locked(run.path / "sinks" / f"{name}.lock", f"{name} is being told of an earlier attempt"):
                return forward(run, name, config, over, lambda text: print(text, file=speak))
        except Busy:  # of a training that was killed; it ends soon
            time.sleep(_LOOK)


def forward(run: RunDirectory, name: str, config: SinkConfig, over: threading.Event, say: Callable[[str], None]) -> int:
    """Send until it is over, and then the rest; 1 when the last try failed."""
    pause, told, forwarder = _LOOK, False, None
    while True:
        last = over.is_set()
        try:
            forwarder = forwarder or Forwarder(run, name, config)
            forwarder.send()
            if last:
                forwarder.close()
                return 0
            if told:
                say(f"{name} works again; nothing is missing there")
            pause, told = _LOOK, False
        except Exception as error:
            traceback.print_exc()
            if not told:
                say(f"{name} fails and is tried again: {_first_line(error)}")
            told, forwarder, pause = True, None, min(2 * pause, _LONGEST_PAUSE)
            if last:
                return 1
        over.wait(pause)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
