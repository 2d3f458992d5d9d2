"""Polyana's side: the recipe of the course through `run_recipe`, which is what `polyana run` calls.

The loss curve is read from the run's directory; the console's progress line, shown after every step, is the clock.
So a step of ours holds everything: fetching the batch, logging, what lies between two steps. Where log-probabilities of
a reference are computed before training, their seconds are told apart: of a step's items, without the first batch, as
the first step is left out, too; and in all.
"""

from __future__ import annotations

import time
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
reference = dict[str, float]()


class Clock(Gauge):
    def show(self, done: int, text: str) -> None:
        meter.step_ends()
        super().show(done, text)


class ReferenceClock(Gauge):
    """Each batch shows once. In all, and what the items of a step cost."""

    seen: list[tuple[float, float]]

    def show(self, done: int, text: str) -> None:
        self.seen.append((time.perf_counter(), time.process_time()))
        names = ("seconds", "cpu_seconds")
        for name, begun, first, now in zip(names, self.seen[0], self.seen[1], self.seen[-1], strict=True):
            reference[f"all_reference_{name}"] = now - begun
            if items := sum(job.get("reference_batches", [])[1:done]):
                reference[f"reference_{name}"] = (now - first) / items * job["batch"]
        super().show(done, text)


class TimingConsole(Console):
    @contextmanager
    def gauge(self, label: str, total: int, start: int = 0) -> Iterator[Gauge]:
        if label == job["stage"]:
            meter.train_begins()
            yield Clock(self, label, total, None, start)
            return
        if label == "reference":
            clock = ReferenceClock(self, label, total, None, start)
            clock.seen = [(time.perf_counter(), time.process_time())]
            yield clock
            return
        with super().gauge(label, total, start) as gauge:
            yield gauge


duration = f"stages.{job['stage']}.train.duration={job['steps']} steps"
recipe = polyana.load_recipe(Path(job["recipe"]), [duration, *job["set"]])
polyana.run_recipe(recipe, fresh=True, console=TimingConsole())
run = find_runs(home_directory() / "runs")[-1]
curves = read_curves(run.metrics)
losses, mfu = ([value for _, value in curves[name]] for name in ("train/loss", "train/mfu"))
held_out = None
if job["held_out"]:
    model = AutoModelForCausalLM.from_pretrained(
        f"polyana/{run.name}", revision="main", cache_dir=home_directory() / "hub", local_files_only=True
    )
    held_out = held_out_loss(model, job)
meter.write(job, losses, job["real_tokens"][: job["steps"]], held_out, reference | {"mfu": mfu})
