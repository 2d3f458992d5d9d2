"""A sink's process: `python -m polyana.tracking.sinks`, which processes.py starts.

What a library prints goes to the sink's log file; what is said goes to the user.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from polyana.errors import Busy
from polyana.storage import locked
from polyana.tracking.companion import take_order
from polyana.tracking.run_directory import RunDirectory
from polyana.tracking.sinks.config import SinkConfig
from polyana.tracking.sinks.forward import Forwarder

_LOOK = 1.0  # seconds between two looks for new rows; guess
_LONGEST_PAUSE = 60.0  # seconds between two tries when a sink fails; they begin with a second and double; guess


def main() -> int:
    order = take_order()
    about = order.content
    run, name = RunDirectory(Path(about["run"])), str(about["name"])
    config: SinkConfig = TypeAdapter(SinkConfig).validate_python(about["config"])
    while True:
        try:
            with locked(run.path / "sinks" / f"{name}.lock", f"{name} is being told of an earlier attempt"):
                return forward(run, name, config, order.over, order.say)
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
