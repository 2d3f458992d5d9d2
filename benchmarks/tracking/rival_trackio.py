"""trackio with its defaults: a queue, a thread that sends, SQLite."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from contestant import Log, compete


def begin(directory: Path) -> tuple[Log, Callable[[], None]]:
    os.environ["TRACKIO_DIR"] = str(directory)
    import trackio

    run = trackio.init(project="race", name="run")
    return lambda step, row: run.log(row, step=step), run.finish


if __name__ == "__main__":
    compete(begin)
