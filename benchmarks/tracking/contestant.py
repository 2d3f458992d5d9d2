"""What every contestant does in a process of its own, ours and the rivals' alike. Standard library only.

`python SCRIPT JOB.json`; the job says

    directory   where the store goes
    steps       how many steps of 20 scalars are logged
    rate        steps a second; 0: as fast as possible, timed
    live        log a still beginning, then one step for each factor that stands in a line of stdin
    fill        fill the store by the quickest way there is, untimed
    result      the JSON file that the times are written to

Paced contestants write the number of each step to stdout once the call that logs it has returned.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from values import rows

Log = Callable[[int, dict[str, float]], Any]
BLOCK = 100  # steps between two looks at the clocks, so that looking costs nothing
STILL = 300  # steps before the first live one


def compete(
    begin: Callable[[Path], tuple[Log, Callable[[], Any]]], fill: Callable[[Path, int], None] | None = None
) -> None:
    """Do the job named on the command line. `begin` gives what logs a step and what ends the run."""
    job = json.loads(Path(sys.argv[1]).read_text())
    directory = Path(job["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    if job.get("fill") and fill is not None:
        fill(directory, job["steps"])
        return
    log, finish = begin(directory)
    if job.get("live"):
        _live(log)
        finish()
    elif job.get("rate"):
        _paced(log, job["steps"], job["rate"])
        finish()
    else:
        measured = _timed(log, finish, job["steps"])
        Path(job["result"]).write_text(json.dumps(measured))


def _paced(log: Log, steps: int, rate: float) -> None:
    due = time.monotonic()
    for step, row in rows(steps):
        log(step, row)
        os.write(1, b"%d\n" % step)
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))


def _live(log: Log) -> None:
    """Writes to stdout when it began to log each step, in seconds since 1970."""
    (_, row), *_ = rows(1)
    for step in range(1, STILL + 1):
        log(step, row)
    print("ready", flush=True)
    for step, factor in enumerate(sys.stdin, STILL + 1):
        moment = time.time()
        log(step, {name: value * float(factor) for name, value in row.items()})
        print(moment, flush=True)


def _timed(log: Log, finish: Callable[[], Any], steps: int) -> dict[str, float]:
    """CPU microseconds a step: of the calling thread (median of blocks), and of the whole process and those that it has
    started, until the store is closed."""
    numbers, threads = list(rows(steps)), []
    before, children = time.process_time_ns(), _children()
    for place in range(0, steps, BLOCK):
        block = numbers[place : place + BLOCK]
        began = time.thread_time_ns()
        for step, row in block:
            log(step, row)
        threads.append((time.thread_time_ns() - began) / len(block) / 1e3)
    finish()
    whole = time.process_time_ns() - before + _children() - children
    return {"thread": statistics.median(threads), "process": whole / steps / 1e3}


def _children() -> int:
    """CPU nanoseconds of the processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)
