"""What every contestant measures in its own process, ours and the rivals' alike. Needs torch and nothing else.

A contestant is started as `python SCRIPT JOB.json`; it trains `steps` steps and writes RESULT.json beside the job.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F


def read_job() -> dict[str, Any]:
    """The job named on the command line; sets torch's threads."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    return job


class Meter:
    """Wall and CPU seconds of each step, and the peak resident memory from the start of training to the last step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.peak_mb = self.first_mb = 0.0
        self._began: tuple[float, float] | None = None

    def train_begins(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again at what is resident now: man proc(5)
        self.first_mb = _resident("VmRSS")
        self.step_begins()

    def step_begins(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def step_ends(self) -> None:
        assert self._began is not None
        self.seconds.append(time.perf_counter() - self._began[0])
        self.cpu_seconds.append(time.process_time() - self._began[1])
        self.peak_mb = _resident("VmHWM")
        self.step_begins()

    def write(
        self, job: dict[str, Any], losses: list[float], tokens: list[int], held_out: float | None,
        more: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`tokens`: real ones of each step. `more`: what else is told. Raises ValueError unless every list has one
        entry a step."""
        lists = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "loss": losses, "tokens": tokens}
        if any(len(values) != job["steps"] for values in lists.values()):
            raise ValueError({name: len(values) for name, values in lists.items()} | {"steps": job["steps"]})
        memory = {"peak_mb": self.peak_mb, "more_mb": self.peak_mb - self.first_mb}
        result = lists | memory | {"held_out": held_out, "load": os.getloadavg()[0]} | (more or {})
        Path(job["result"]).write_text(json.dumps(result))


def _resident(what: str) -> float:
    """MB, as /proc/self/status says."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def trainer_callback(meter: Meter, losses: list[float]) -> Any:
    """For everything built on transformers' Trainer. Fetching the batch is not counted, in the rival's favour."""
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            meter.train_begins()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            meter.step_begins()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step_ends()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    return Callback()


def per_target(losses: list[float], context: int) -> list[float]:
    """transformers' Trainer (5.23) divides a block's loss by its labels, of which the shift leaves one out: undone."""
    return [loss * context / (context - 1) for loss in losses]


def sequences(path: str) -> list[list[int]]:
    """The token sequences in an .npz of `tokens` and `lengths`."""
    with np.load(path) as file:
        return [part.tolist() for part in np.split(file["tokens"], np.cumsum(file["lengths"])[:-1])]


def held_out_loss(model: Any, job: dict[str, Any]) -> float:
    """Nats per token on sequences that were not trained on: plain transformers in fp32, one sequence at a time."""
    model.float().eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for ids in sequences(job["held_out"]):
            tokens = torch.tensor([ids])
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]
            total += float(F.cross_entropy(logits, tokens[0, 1:], reduction="sum"))
            count += len(ids) - 1
    return total / count
