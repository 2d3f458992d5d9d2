"""Polyana's side: the recipe through `run_recipe`, which is what `polyana run` calls. Computing the reference's
log-probabilities comes before training; its seconds are told apart."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
from meter import Meter, read_job

import polyana
from polyana.storage import home_directory
from polyana.tasks import reference
from polyana.tracking import Console, Gauge, find_runs, read_curves

job = read_job()
meter, referred = Meter(), [0.0]
score = reference.score_documents


def timed(*arguments: Any) -> None:
    began = time.perf_counter()
    score(*arguments)
    referred[0] += time.perf_counter() - began


reference.score_documents = timed


class Clock(Gauge):
    def show(self, done: int, text: str) -> None:
        meter.step_ends()
        super().show(done, text)


class TimingConsole(Console):
    @contextmanager
    def gauge(self, label: str, total: int, start: int = 0) -> Iterator[Gauge]:
        if label != "align":
            with super().gauge(label, total, start) as gauge:
                yield gauge
            return
        meter.train_begins()
        yield Clock(self, label, total, None, start)


polyana.run_recipe(polyana.load_recipe(Path(job["recipe"])), fresh=True, console=TimingConsole())
run = find_runs(home_directory() / "runs")[-1]
losses = [value for _, value in read_curves(run.metrics)["train/loss"]]
meter.write(job, losses, job["real_tokens"], None)
result = Path(job["result"])
result.write_text(json.dumps(json.loads(result.read_text()) | {"reference_seconds": referred[0]}))
