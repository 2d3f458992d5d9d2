"""Polyana's side: the recipe of the course through `run_recipe`, which is what `polyana run` calls.

The loss curve is read from the run's directory; the console's progress line, shown after every step, is the clock.
So a step of ours holds everything: fetching the batch, logging, what lies between two steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meter import Meter, held_out_loss, read_job
from transformers import AutoModelForCausalLM

import polyana
from polyana.storage import home_directory
from polyana.tracking import Console, Gauge, find_runs, read_curves

job = read_job()
meter = Meter()


class Clock(Gauge):
    def show(self, done: int, text: str) -> None:
        meter.step_ends()
        super().show(done, text)


class TimingConsole(Console):
    @contextmanager
    def gauge(self, label: str, total: int, start: int = 0) -> Iterator[Gauge]:
        if label != "pretrain":
            with super().gauge(label, total, start) as gauge:
                yield gauge
            return
        meter.train_begins()
        yield Clock(self, label, total, None, start)


recipe = polyana.load_recipe(Path(job["recipe"]), [f"stages.pretrain.train.duration={job['steps']} steps", *job["set"]])
polyana.run_recipe(recipe, fresh=True, console=TimingConsole())
run = find_runs(home_directory() / "runs")[-1]
losses = [value for _, value in read_curves(run.metrics)["train/loss"]]
model = AutoModelForCausalLM.from_pretrained(
    f"polyana/{run.name}", revision="main", cache_dir=home_directory() / "hub", local_files_only=True
)
meter.write(job, losses, job["real_tokens"][: job["steps"]], held_out_loss(model, job))
