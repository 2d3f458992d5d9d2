"""Polyana's side: `MetricLog`, as the trainer calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from contestant import Log, compete
from values import rows

from polyana.storage import write_json
from polyana.tracking import MetricLog, RunDirectory

CYCLE = 50_000  # steps after which a long run has the same numbers again, so that making them takes no time


def make_run(home: Path, name: str, number: int = 0, **about: object) -> RunDirectory:
    """An empty run as the trainer begins it; those with a higher number are older."""
    run = RunDirectory(home / "runs" / name)
    for part in ("metrics", "samples", "state"):
        (run.path / part).mkdir(parents=True)
    settings = {"train": {"lr": 1e-3 * (1 + number % 7), "batch": 8 << number % 3}, "seed": number}
    started = {"recipe": "race", "stage": "pretrain", "started": 1.79e9 - 60 * number, "settings": settings}
    write_json(run.path / "run.json", started | about)
    return run


def begin(directory: Path) -> tuple[Log, Callable[[], None]]:
    run = make_run(directory, "run", planned_steps=1_000_000)
    held = run.lock()
    held.__enter__()  # as a training holds it, which makes the run a live one
    log = MetricLog(run.metrics, 0, "", print)

    def finish() -> None:
        log.close()
        held.__exit__(None, None, None)

    return log.log, finish


def fill(directory: Path, steps: int) -> None:
    run = make_run(directory, "run")
    log = MetricLog(run.metrics, 0, "", print)
    for step, row in islice(_cycled(steps), steps):
        log.log(step, row)
    log.close()
    run.note(outcome="finished", planned_steps=steps)


def _cycled(steps: int) -> Iterator[tuple[int, dict[str, float]]]:
    numbers = [row for _, row in rows(min(steps, CYCLE))]
    for step in range(1, steps + 1):
        yield step, numbers[(step - 1) % CYCLE]


if __name__ == "__main__":
    compete(begin, fill)
