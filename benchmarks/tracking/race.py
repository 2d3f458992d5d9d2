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
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import training
from ours import make_run
from screen import screen
from values import METRICS

from polyana.tracking import MetricLog

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
WORK = PROJECT / ".polyana" / "bench-tracking"
RIVALS = PROJECT / ".venv-rivals"
MILLION, STEPS = 1_000_000, 50_000  # points and steps of the chart's race
THREAD, LOST, SECONDS_10M, FIFTH, TABLE, TRAINING = 10.0, 1.0, 2.0, 5.0, 1.0, 0.01  # bars of issue 6
TRACKIO = "'race', open_browser=False, block_thread=True"
LIVE, IDLE = 1.0, 0.01  # seconds; share of one core that counts as none. Guesses: the issue names no number


@dataclass(frozen=True)
class Side:
    """A contestant. serve: its server's command for a store and a port; page: what is opened; chart: the element of its
    first chart; ready: whether the server has all points, for one that reads before it is asked."""

    name: str
    steps: int  # timed ones
    chart: str = ""
    serve: Callable[[Path, int], list[str]] | None = None
    page: Callable[[Path, int], str] | None = None
    ready: Callable[[int], bool] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        return sys.executable if self.name == "ours" else str(RIVALS / self.name / "bin" / "python")

    @property
    def script(self) -> str:
        return str(HERE / ("ours.py" if self.name == "ours" else f"rival_{self.name}.py"))

    def command(self, job: dict[str, Any]) -> list[str]:
        path = WORK / f"job-{self.name}.json"
        path.write_text(json.dumps(job))
        return [self.python, self.script, str(path)]

    def variables(self, store: Path) -> dict[str, str]:
        more = {key: value.format(store=store) for key, value in self.environment.items()}
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT) if self.name == "ours" else "", **more}


def _module(side: str, *arguments: object) -> list[str]:
    return [sys.executable if side == "ours" else str(RIVALS / side / "bin" / "python"), *map(str, arguments)]


def _tensorboard_has_all(port: int) -> bool:
    query = f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?run=run&tag={METRICS[0].replace('/', '%2F')}"
    with contextlib.suppress(OSError, ValueError, IndexError), urllib.request.urlopen(query, timeout=60) as answer:
        return bool(json.load(answer)[-1][1] == STEPS)
    return False


def _mlflow_page(store: Path, port: int) -> str:
    run = (store / "run_id").read_text()
    return f"http://127.0.0.1:{port}/#/experiments/1/runs/{run}/model-metrics"


OURS = Side(
    "ours", 20_000, '[data-panel="loss"]',
    lambda store, port: _module("ours", "-m", "polyana", "ui", "--home", store, "--port", port, "--no-browser"),
    lambda _, port: f"http://127.0.0.1:{port}/#/charts",
)  # fmt: skip
SIDES = [
    OURS,
    Side(
        "trackio", 5_000, ".js-plotly-plot, .vega-embed, canvas",
        lambda _, port: _module("trackio", "-c", f"import trackio; trackio.show({TRACKIO}, server_port={port})"),
        lambda _, port: f"http://127.0.0.1:{port}/?project=race",
        environment={"TRACKIO_DIR": "{store}"},
    ),
    Side(
        "tensorboard", 2_000, "line-chart",
        lambda store, port: _module("tensorboard", "-m", "tensorboard.main", "--logdir", store, "--port", port),
        lambda _, port: f"http://127.0.0.1:{port}/#timeseries",
        _tensorboard_has_all,
    ),
    Side("wandb", 5_000, environment={"WANDB_SILENT": "true"}),
    Side(
        "mlflow", 100, ".js-plotly-plot",
        lambda store, port: _module(
            "mlflow", "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{store / 'mlflow.db'}", "--port",
            port, "--workers", 1,
        ),
        _mlflow_page,
    ),
]  # fmt: skip


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


def _fresh(*parts: str) -> Path:
    path = WORK.joinpath(*parts)
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _work(side: Side, job: dict[str, Any]) -> dict[str, float]:
    """One job of a contestant, to its end."""
    result = WORK / "result.json"
    subprocess.run(side.command(job | {"result": str(result)}), env=side.variables(Path(job["directory"])), check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=WORK)  # fmt: skip
    return dict(json.loads(result.read_text())) if "fill" not in job else {}


def _filled(side: Side, steps: int = STEPS) -> Path:
    """A store with so many steps of 20 scalars, made once."""
    store = WORK / "stores" / f"{side.name}-{steps}"
    if not store.exists():
        half = _fresh("stores", f"{side.name}-half")
        _work(side, {"directory": str(half), "steps": steps, "fill": True, "result": ""})
        half.rename(store)
    return store


@contextlib.contextmanager
def _serving(side: Side, store: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A side's server over a store; yields the page's address when the server answers."""
    assert side.serve is not None and side.page is not None  # noqa: PT018
    port = _free_port()
    with (WORK / f"server-{side.name}.log").open("wb") as said:
        process = subprocess.Popen(side.serve(store, port), env=side.variables(store), stdout=said, stderr=said,
                                   cwd=WORK, start_new_session=True)  # fmt: skip
    try:
        end = time.monotonic() + 120
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((WORK / f"server-{side.name}.log").read_text()[-2000:])
            time.sleep(0.02)
        yield side.page(store, port), psutil.Process(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10):
            return True
    except OSError:
        return False


# The parts


def measure_log(sides: list[Side], quick: bool, results: Results) -> None:
    times: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
    sizes = {}
    for _ in range(2 if quick else 5):
        for side in sides:
            store = _fresh("log", side.name)
            times[side.name].append(_work(side, {"directory": str(store), "steps": side.steps}))
            sizes[side.name] = _size(store) / (side.steps * len(METRICS))
    for side in sides:
        thread, process = (statistics.median(one[key] for one in times[side.name]) for key in ("thread", "process"))
        print(
            f"{side.name:<12} {thread:8.1f} us of the training thread a step, {process:8.1f} of all its processes; "
            f"{sizes[side.name]:6.1f} bytes a point on the disk"
        )
        if side is OURS:
            store = _filled(OURS)
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
    done = subprocess.run(_module(side.name, HERE / "last_step.py", side.name, store), check=True, capture_output=True,
                          text=True, env=side.variables(store))  # fmt: skip
    return int(done.stdout.split()[-1])


def measure_kill(sides: list[Side], quick: bool, results: Results) -> None:
    for side in sides:
        lost = []
        for _ in range(1 if quick else 3):
            store = _fresh("kill", side.name)
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


async def _first_chart(side: Side, store: Path) -> float:
    with _serving(side, store) as (address, _):
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
    for _ in range(rounds):
        for side in [side for side in sides if side.serve is not None]:
            if side.name == "mlflow" and len(seconds.get("mlflow", [])) == (1 if quick else 2):
                continue  # half a minute or more each
            store = _filled(side)
            kinds = ("cold", "warm") if side is OURS else ("",)
            for kind in kinds:
                if kind == "cold":
                    _forget_index(store)
                name = f"{side.name} {kind}".strip()
                try:
                    seconds.setdefault(name, []).append(asyncio.run(_first_chart(side, store)))
                except (TimeoutError, RuntimeError) as error:
                    print(f"{name}: {error}", flush=True)
    for name, each in seconds.items():
        print(f"{name:<12} first chart of 1 million points: {statistics.median(each):6.2f} s ({_each(each)})")
    theirs = [statistics.median(each) for name, each in seconds.items() if not name.startswith("ours")]
    if theirs:
        results.bar("first-chart-1m", min(theirs) / statistics.median(seconds["ours cold"]), FIFTH, more=True)
    store, large = _filled(OURS, 10 * STEPS), dict[str, list[float]]()
    for _ in range(rounds):
        for kind in ("cold", "warm"):
            if kind == "cold":
                _forget_index(store)
            large.setdefault(kind, []).append(asyncio.run(_first_chart(OURS, store)))
    for kind, each in large.items():
        print(f"ours {kind:<7} first chart of 10 million points: {statistics.median(each):5.2f} s ({_each(each)})")
    results.bar("first-chart-10m-s", statistics.median(large["cold"]), SECONDS_10M)


def _each(numbers: list[float]) -> str:
    return ", ".join(f"{number:.2f}" for number in numbers)


async def _live(side: Side, points: int, patience: float) -> list[float | None]:
    store = _fresh("live", side.name)
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
        with _serving(side, store) as (address, _):
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


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and all that it has started."""
    used = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            used += sum(one.cpu_times()[:2])
    return used


async def _idle(side: Side, seconds: float) -> tuple[float, float]:
    """Shares of one core that the server and the browser take while a page is open and nothing happens."""
    with _serving(side, _filled(side)) as (address, server):
        before = {child.pid for child in psutil.Process().children()}
        async with screen() as seen:
            await seen.first_paint(address, side.chart)
            await asyncio.sleep(5)
            (driver,) = [one for one in psutil.Process().children() if one.pid not in before and one.pid != server.pid]
            began, served, drawn = time.monotonic(), _cpu(server), _cpu(driver)
            await asyncio.sleep(seconds)
            passed = time.monotonic() - began
            return (_cpu(server) - served) / passed, (_cpu(driver) - drawn) / passed


def measure_idle(sides: list[Side], quick: bool, results: Results) -> None:
    for side in sides:
        if side.serve is None or (quick and side.name == "mlflow"):
            continue
        try:
            server, browser = asyncio.run(_idle(side, 15 if quick else 60))
        except (TimeoutError, RuntimeError) as error:
            print(f"{side.name}: {error}")
            continue
        print(f"{side.name:<12} idle page: server {server:.2%} of a core, browser {browser:.2%}")
        if side is OURS:
            results.bar("idle-server", server, IDLE)


def measure_runs(_: list[Side], quick: bool, results: Results) -> None:
    home = WORK / "stores" / "runs-500"
    if not home.exists():
        half = _fresh("stores", "runs-half")
        for number in range(500):
            run = make_run(half, f"sweep-{number:03d}", number, outcome="finished", planned_steps=100)
            log = MetricLog(run.metrics, 0, "", print)
            for step in range(1, 101):
                log.log(step, dict.fromkeys(METRICS, 1 / (step + number)))
            log.close()
        half.rename(home)
    side = Side("ours", 0, "main.runs-view", OURS.serve, lambda _, port: f"http://127.0.0.1:{port}/#/runs")

    async def once() -> float:
        with _serving(side, home) as (address, _):
            async with screen() as seen:
                return await seen.first_paint(address, side.chart, "ink")

    seconds = []
    for _round in range(2 if quick else 5):
        _forget_index(home)
        seconds.append(asyncio.run(once()))
    print(f"ours         500 runs: the table after {statistics.median(seconds):.2f} s ({_each(seconds)})")
    results.bar("table-500-s", statistics.median(seconds), TABLE)


def measure_training(_: list[Side], quick: bool, results: Results) -> None:
    home = _fresh("training")
    home.mkdir(parents=True)
    trainings: list[training.Training] = []
    try:
        for number in (1, 2):
            trainings.append(training.start(WORK, home, number))
        with _serving(OURS, home) as (address, server):
            base = address.partition("#")[0]
            windows, seconds = (12, 5.0) if quick else (32, 8.0)
            found = asyncio.run(training.watch(trainings, base, server, windows, seconds, WORK))
    finally:
        for one in trainings:
            one.process.kill()
            one.process.wait()
    print(
        f"ours         two trainings, three browsers: {found['cpu']:+.2%} CPU time a step of {found['step'] * 1e3:.1f} "
        f"ms (middle half of the quiet windows: {found['noise']:.2%} wide), {found['wall']:+.2%} wall time with the "
        f"browsers on the same cores; the server took {found['server']:.2%} of a core"
    )
    results.bar("training-loss", found["cpu"], TRAINING)


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
