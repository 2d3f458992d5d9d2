"""The contestants, their stores and their servers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from values import METRICS

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
WORK = PROJECT / ".polyana" / "bench-tracking"
RIVALS = PROJECT / ".venv-rivals"
MILLION, STEPS = 1_000_000, 50_000  # points and steps of the chart's race
TRACKIO = "'race', open_browser=False, block_thread=True"


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


def module(side: str, *arguments: object) -> list[str]:
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
    lambda store, port: module("ours", "-m", "polyana", "ui", "--home", store, "--port", port, "--no-browser"),
    lambda _, port: f"http://127.0.0.1:{port}/#/charts",
)  # fmt: skip
SIDES = [
    OURS,
    Side(
        "trackio", 5_000, ".js-plotly-plot, .vega-embed, canvas",
        lambda _, port: module("trackio", "-c", f"import trackio; trackio.show({TRACKIO}, server_port={port})"),
        lambda _, port: f"http://127.0.0.1:{port}/?project=race",
        environment={"TRACKIO_DIR": "{store}"},
    ),
    Side(
        "tensorboard", 2_000, "line-chart",
        lambda store, port: module("tensorboard", "-m", "tensorboard.main", "--logdir", store, "--port", port),
        lambda _, port: f"http://127.0.0.1:{port}/#timeseries",
        _tensorboard_has_all,
    ),
    Side("wandb", 5_000, environment={"WANDB_SILENT": "true"}),
    Side(
        "mlflow", 100, ".js-plotly-plot",
        lambda store, port: module(
            "mlflow", "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{store / 'mlflow.db'}", "--port",
            port, "--workers", 1,
        ),
        _mlflow_page,
    ),
]  # fmt: skip


def fresh(*parts: str) -> Path:
    path = WORK.joinpath(*parts)
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def work(side: Side, job: dict[str, Any]) -> dict[str, float]:
    """One job of a contestant, to its end."""
    result = WORK / "result.json"
    subprocess.run(side.command(job | {"result": str(result)}), env=side.variables(Path(job["directory"])), check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=WORK)  # fmt: skip
    return dict(json.loads(result.read_text())) if "fill" not in job else {}


def filled(side: Side, steps: int = STEPS) -> Path:
    """A store with so many steps of 20 scalars, made once."""
    store = WORK / "stores" / f"{side.name}-{steps}"
    if not store.exists():
        half = fresh("stores", f"{side.name}-half")
        work(side, {"directory": str(half), "steps": steps, "fill": True, "result": ""})
        half.rename(store)
    return store


@contextlib.contextmanager
def serving(side: Side, store: Path) -> Iterator[tuple[str, psutil.Process]]:
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


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of a process and all that it has started."""
    used = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            used += sum(one.cpu_times()[:2])
    return used
