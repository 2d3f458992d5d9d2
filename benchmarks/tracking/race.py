"""Tracking and its page against trackio, TensorBoard, wandb offline and MLflow: `make bench-tracking [ARGS=--quick]`.

    log        CPU time of a step of 20 scalars; bytes a point on the disk
    kill       steps lost at SIGKILL, 100 steps a second
    chart      from opening the address to the first chart of 1 million points (20 x 50,000), and of 10 million
    live       from logging a point to its being painted
    idle       CPU time while a page is open and nothing happens
    runs       500 runs: from opening the address to the table
    training   two trainings, three browsers: what training loses

`--only NAME` does one of them. docs/performance.md says how each is measured. Exit code 1 when a bar is short.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import training
from ours import make_run
from screen import screen
from sides import HERE, MILLION, OURS, SIDES, STEPS, WORK, Side, cpu_seconds, filled, fresh, module, serving, work
from values import METRICS

from polyana.tracking import MetricLog

THREAD, LOST, SECONDS_10M, FIFTH, TABLE, TRAINING = 10.0, 1.0, 2.0, 5.0, 1.0, 0.01  # bars of issue 6
LIVE, IDLE = 1.0, 0.01  # seconds; share of one core that counts as none. Guesses: the issue names no number


class Results:
    """The bars so far."""

    def __init__(self) -> None:
        self.passed = True

    def bar(self, name: str, ratio: float, target: float, more: bool = False) -> None:
        """`more`: whether more is better."""
        good = ratio >= target if more else ratio <= target
        self.passed &= good
        print(f"BAR {name} ratio={ratio:.3g} target={target:g} {'PASS' if good else 'SHORT'}", flush=True)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


# The parts


def measure_log(sides: list[Side], quick: bool, results: Results) -> None:
    times: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    sizes = {}
    for number in range(2 if quick else 5):
        for side in sides:
            if quick and number and side is not OURS:
                continue
            store = fresh("log", side.name)
            times[side.name].append(work(side, {"directory": str(store), "steps": side.steps}))
            sizes[side.name] = _size(store) / (side.steps * len(METRICS))
    for side in sides:
        thread, process = (statistics.median(one[key] for one in times[side.name]) for key in ("thread", "process"))
        print(
            f"{side.name:<12} {thread:8.1f} us of the training thread a step, {process:8.1f} of all its processes; "
            f"{sizes[side.name]:6.1f} bytes a point on the disk"
        )
        if side is OURS:
            store = filled(OURS)
            from polyana.tracking import Index

            index = WORK / "bytes.sqlite"
            for left in WORK.glob("bytes.sqlite*"):
                left.unlink()
            made = Index(index)
            made.catch_up("run", store / "runs" / "run" / "metrics")
            made.close()
            size = sum(path.stat().st_size for path in WORK.glob("bytes.sqlite*")) / MILLION
            print(f"{'':<12} the page's index, which can be deleted: {size:.1f} bytes a point more")
            results.bar("log-thread-us", thread, THREAD)


def _last_step(side: Side, store: Path) -> int:
    """The newest step that a side's own files have."""
    if side.name == "ours":
        (path,) = store.rglob("attempt-*.jsonl")
        whole = path.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2]
        return int(json.loads(whole)["step"])
    if side.name in ("trackio", "mlflow"):
        last = 0
        for path in store.rglob("*.db"):
            with sqlite3.connect(path) as connection, contextlib.suppress(sqlite3.OperationalError):
                last = max(last, connection.execute("SELECT max(step) FROM metrics").fetchone()[0] or 0)
        return last
    done = subprocess.run(module(side.name, HERE / "last_step.py", side.name, store), check=True, capture_output=True,
                          text=True, env=side.variables(store))  # fmt: skip
    return int(done.stdout.split()[-1])


def measure_kill(sides: list[Side], quick: bool, results: Results) -> None:
    for side in sides:
        lost = []
        for _ in range(1 if quick else 3):
            store = fresh("kill", side.name)
            job = {"directory": str(store), "steps": 100_000, "rate": 100}
            process = subprocess.Popen(side.command(job), env=side.variables(store), stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, start_new_session=True, cwd=WORK)  # fmt: skip
            assert process.stdout is not None
            logged = 0
            end = None
            while end is None or time.monotonic() < end:
                line = process.stdout.readline()
                if line.strip().isdigit():
                    logged = int(line)
                    end = end or time.monotonic() + 5
                elif not line:
                    raise RuntimeError(f"{side.name} did not log")
            process.kill()
            rest = process.stdout.read().split()
            logged = int(rest[-1]) if rest and rest[-1].isdigit() else logged
            time.sleep(2)  # a helper process of its own may still write what it has
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            lost.append(logged - _last_step(side, store))
        print(f"{side.name:<12} steps lost at SIGKILL: {max(lost)} (each time: {', '.join(map(str, lost))})")
        if side is OURS:
            results.bar("steps-lost", max(0, *lost, 0), LOST)


_WHOLE = """new MutationObserver(() => {
  const chart = document.querySelector('[data-panel="loss"]');
  if (!window.whole && Number(chart?.dataset.points) && !chart.querySelector(".sketched")) window.whole = Date.now();
}).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-points"] });"""


async def _first_and_whole(store: Path) -> tuple[float, float]:
    """Seconds until our first chart is painted, and until it is no sketch any more: until all is read."""
    with serving(OURS, store) as (address, _):
        async with screen() as seen:
            await seen.page.add_init_script(_WHOLE)
            first = await seen.first_paint(address, OURS.chart)
            await seen.page.wait_for_function("() => window.whole", timeout=120_000)
            return first, await seen.page.evaluate("() => window.whole") / 1000 - seen.began


async def _first_chart(side: Side, store: Path) -> float:
    with serving(side, store) as (address, _):
        began = time.monotonic()
        while side.ready is not None and not side.ready(int(address.split(":")[2].split("/")[0])):
            await asyncio.sleep(0.05)
        waited = time.monotonic() - began
        async with screen() as seen:
            return waited + await seen.first_paint(address, side.chart)


def _forget_index(home: Path) -> None:
    for path in home.glob("index.sqlite*"):
        path.unlink()


def measure_chart(sides: list[Side], quick: bool, results: Results) -> None:
    rounds = 2 if quick else 5
    seconds: dict[str, list[float]] = {}
    wholes: dict[str, list[float]] = {}
    for _ in range(rounds):
        _ours(filled(OURS), "1 million", seconds, wholes)
        for side in [side for side in sides if side.serve is not None and side is not OURS]:
            if side.name == "mlflow" and len(seconds.get("mlflow", [])) == (1 if quick else 2):
                continue  # half a minute or more each
            try:
                seconds.setdefault(side.name, []).append(asyncio.run(_first_chart(side, filled(side))))
            except (TimeoutError, RuntimeError) as error:
                print(f"{side.name}: {error}", flush=True)
    theirs = [statistics.median(each) for name, each in seconds.items() if not name.startswith("ours")]
    for _ in range(rounds):
        _ours(filled(OURS, 10 * STEPS), "10 million", seconds, wholes)
    for name, each in seconds.items():
        points = "" if name.startswith("ours") else ", 1 million points"
        print(f"{name}{points}: first chart after {statistics.median(each):5.2f} s ({_each(each)})")
    for name, each in wholes.items():
        print(f"{name}: all is read and drawn after {statistics.median(each):5.2f} s ({_each(each)})")
    if theirs:
        cold = statistics.median(seconds["ours, 1 million, cold"])
        results.bar("first-chart-1m", min(theirs) / cold, FIFTH, more=True)
    results.bar("first-chart-10m-s", statistics.median(seconds["ours, 10 million, cold"]), SECONDS_10M)


def _ours(store: Path, points: str, seconds: dict[str, list[float]], wholes: dict[str, list[float]]) -> None:
    """Open ours once without an index and once with the one that this made."""
    _forget_index(store)
    for kind in ("cold", "warm"):
        first, whole = asyncio.run(_first_and_whole(store))
        seconds.setdefault(f"ours, {points}, {kind}", []).append(first)
        wholes.setdefault(f"ours, {points}, {kind}", []).append(whole)


def _each(numbers: list[float]) -> str:
    return ", ".join(f"{number:.2f}" for number in numbers)


async def _live(side: Side, points: int, patience: float) -> list[float | None]:
    store = fresh("live", side.name)
    job = {"directory": str(store), "steps": 0, "live": True}
    writer = subprocess.Popen(side.command(job), env=side.variables(store), stdin=subprocess.PIPE, cwd=WORK,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              start_new_session=True)  # fmt: skip
    assert writer.stdin is not None and writer.stdout is not None  # noqa: PT018
    try:
        while writer.stdout.readline().strip() != "ready":
            if writer.poll() is not None:
                raise RuntimeError(f"{side.name} did not log")
        await asyncio.sleep(2)
        delays = []
        with serving(side, store) as (address, _):
            async with screen() as seen:
                await seen.first_paint(address, side.chart, "ink")
                for number in range(1, points + 1):
                    await asyncio.sleep(0.37 * number % 1)  # not in step with anybody's clock
                    writer.stdin.write(f"{3**number}\n")
                    writer.stdin.flush()
                    moment = float(await asyncio.to_thread(writer.stdout.readline))
                    delays.append(await seen.change_after(moment, side.chart, patience))
        return delays
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(writer.pid, signal.SIGKILL)
        writer.wait()


def measure_live(sides: list[Side], quick: bool, results: Results) -> None:
    for side in sides:
        if side.name not in ("ours", "trackio"):
            continue  # the pages of TensorBoard and MLflow wait for a click, or for half a minute
        points, patience = (5 if quick else 10, 3.0) if side is OURS else (3 if quick else 5, 12.0)
        delays = asyncio.run(_live(side, points, patience))
        seen = [delay for delay in delays if delay is not None]
        print(f"{side.name:<12} live point painted after {_each(seen)} s; not within {patience:g} s: "
              f"{len(delays) - len(seen)}")  # fmt: skip
        if side is OURS:
            late = [patience if delay is None else delay for delay in delays]
            results.bar("live-delay-s", statistics.median(late), LIVE)


async def _idle(side: Side, seconds: float) -> tuple[float, float]:
    """Shares of one core that the server and the browser take while a page is open and nothing happens."""
    with serving(side, filled(side)) as (address, server):
        before = {child.pid for child in psutil.Process().children()}
        async with screen() as seen:
            await seen.first_paint(address, side.chart)
            await asyncio.sleep(5)
            (driver,) = [one for one in psutil.Process().children() if one.pid not in before and one.pid != server.pid]
            began, served, drawn = time.monotonic(), cpu_seconds(server), cpu_seconds(driver)
            await asyncio.sleep(seconds)
            passed = time.monotonic() - began
            return (cpu_seconds(server) - served) / passed, (cpu_seconds(driver) - drawn) / passed


def measure_idle(sides: list[Side], quick: bool, results: Results) -> None:
    for side in sides:
        if side.serve is None or (quick and side.name == "mlflow"):
            continue
        try:
            server, browser = asyncio.run(_idle(side, 10 if quick else 60))
        except (TimeoutError, RuntimeError) as error:
            print(f"{side.name}: {error}")
            continue
        print(f"{side.name:<12} idle page: server {server:.2%} of a core, browser {browser:.2%}")
        if side is OURS:
            results.bar("idle-server", server, IDLE)


def measure_runs(_: list[Side], quick: bool, results: Results) -> None:
    home = WORK / "stores" / "runs-500"
    if not home.exists():
        half = fresh("stores", "runs-half")
        for number in range(500):
            run = make_run(half, f"sweep-{number:03d}", number, outcome="finished", planned_steps=100)
            log = MetricLog(run.metrics, 0, "", print)
            for step in range(1, 101):
                log.log(step, dict.fromkeys(METRICS, 1 / (step + number)))
            log.close()
        half.rename(home)
    side = Side("ours", 0, "main.runs-view", OURS.serve, lambda _, port: f"http://127.0.0.1:{port}/#/runs")

    async def once() -> float:
        with serving(side, home) as (address, _):
            async with screen() as seen:
                return await seen.first_paint(address, side.chart, "ink")

    seconds = []
    for _round in range(2 if quick else 5):
        _forget_index(home)
        seconds.append(asyncio.run(once()))
    print(f"ours         500 runs: the table after {statistics.median(seconds):.2f} s ({_each(seconds)})")
    results.bar("table-500-s", statistics.median(seconds), TABLE)


def measure_training(_: list[Side], quick: bool, results: Results) -> None:
    home = fresh("training")
    home.mkdir(parents=True)
    trainings: list[training.Training] = []
    try:
        for number in (1, 2):
            trainings.append(training.start(WORK, home, number))
        with serving(OURS, home) as (address, server):
            base = address.partition("#")[0]
            windows, seconds = 4 if quick else 16, 24.0  # between two changes that three pages are told of
            here = asyncio.run(training.watch_from_here(trainings, base, server, windows, seconds, WORK))
            lost = {"on the trainings' two cores": here}
            if not quick:  # a part of the same cost
                from_elsewhere = training.watch_from_elsewhere(trainings, base, server, windows, seconds)
                lost["on other machines"] = asyncio.run(from_elsewhere)
    finally:
        for one in trainings:
            one.process.kill()
            one.process.wait()
    for where, each in lost.items():
        print(
            f"ours         two trainings, three who look, {where}: {each.taken:.2%} of processor time is not theirs; "
            f"{each.share:+.2%} time a step (standard error {each.error:.2%}); the server took {each.server:.2%} of a "
            f"core, browsers {each.browsers:.2%}"
        )
    results.bar("training-loss", here.taken, TRAINING)


PARTS: dict[str, Callable[[list[Side], bool, Results], None]] = {
    "log": measure_log,
    "kill": measure_kill,
    "chart": measure_chart,
    "live": measure_live,
    "idle": measure_idle,
    "runs": measure_runs,
    "training": measure_training,
}


def main() -> int:
    """0 when every bar is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds; within 10 minutes")
    parser.add_argument("--only", action="append", choices=list(PARTS))
    parser.add_argument("--sides", help="only these, with commas between; ours is always there")
    options = parser.parse_args()
    wanted = None if options.sides is None else {"ours", *options.sides.split(",")}
    sides = [side for side in SIDES if wanted is None or side.name in wanted]
    missing = [side.name for side in sides if not Path(side.python).exists()]
    if missing:
        print(f"make {' '.join(f'.venv-rivals/{name}/made' for name in missing)} first", file=sys.stderr)
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    results = Results()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in options.only or PARTS:
        PARTS[name](sides, options.quick, results)
    return 0 if results.passed else 1


if __name__ == "__main__":
    sys.exit(main())
