"""A real server of the dashboard on loopback, a small client, and runs as trainings leave them."""

from __future__ import annotations

import http.client
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyana.dashboard import live, open_server
from polyana.tracking import MetricLog, RunDirectory


class Browser:
    """Asks one server; `host`: what stands in the Host header."""

    def __init__(self, port: int, token: str | None) -> None:
        self.port, self.token = port, token
        self.host = f"127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body); `headers` with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            sent = {"Host": self.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def series(self, *wanted: tuple[str, str], **view: Any) -> list[dict[str, Any]]:
        """What /api/series draws once all is read, its arrays beside the header's fields as "raw", "smooth", "ghost"
        (x, y)."""
        end = time.monotonic() + 60
        while True:
            drawn = self.glimpse(*wanted, **view)
            if all(one["read"] == 1 for one in drawn):
                return drawn
            assert time.monotonic() < end
            time.sleep(0.05)

    def glimpse(self, *wanted: tuple[str, str], **view: Any) -> list[dict[str, Any]]:
        """The same, as far as it is read."""
        body = {"series": [{"run": run, "metric": metric} for run, metric in wanted], **view}
        status, headers, answer = self.ask("POST", "/api/series", body)
        assert (status, headers["content-type"]) == (200, "application/octet-stream"), answer
        length = int.from_bytes(answer[:4], "little")
        header, begin = json.loads(answer[4 : 4 + length]), 4 + length
        begin += -begin % 8
        numbers, found = np.frombuffer(answer[begin:], "<f8"), []
        for one in header:
            drawn = dict(one)
            for name in ("raw", "smooth", "ghost"):
                drawn[name] = numbers[: one[name]], numbers[one[name] : 2 * one[name]]
                numbers = numbers[2 * one[name] :]
            found.append(drawn)
        assert len(numbers) == 0
        return found

    def events(
        self, path: str, seconds: float, method: str = "GET", body: Any = None
    ) -> Iterator[tuple[str, Any, float]]:
        """(event, data, when) as they come, for so long."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        content, end, kind = None if body is None else json.dumps(body).encode(), time.monotonic() + seconds, ""
        try:
            connection.request(method, path, content, {"Host": self.host})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            while time.monotonic() < end and (line := answer.readline()):
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    yield kind, json.loads(line[6:]), time.time()
        except TimeoutError:
            return
        finally:
            connection.close()


@contextmanager
def servers(home: Path) -> Iterator[Callable[..., Browser]]:
    """Starts servers of a home as `polyana ui` does, and stops them in the end. They spare no core, though tests may
    take all."""
    started = []

    def start(host: str = "127.0.0.1") -> Browser:
        home.mkdir(exist_ok=True)
        address, server = open_server(home, host, 0)
        thread = threading.Thread(target=server.serve_until_stopped)
        thread.start()
        started.append((server, thread))
        return Browser(address.port, address.token)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(live, "FULL", math.inf)
            yield start
    finally:
        for server, thread in started:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def write_run(home: Path, steps: int = 10, recipe: str = "demo", **about: Any) -> RunDirectory:
    """A run with a curve, as a finished training leaves it; `about`: for run.json."""
    settings = {"train": {"lr": 0.01, "optimizer": {"kind": "adamw"}}, "seed": 7}
    run = RunDirectory.create(
        home / "runs", recipe, "pretrain", {"settings": settings, "fingerprint": "0" * 64} | about
    )
    run.note(outcome="finished", planned_steps=steps)
    log = MetricLog(run.metrics, 0, "", print)
    for step in range(1, steps + 1):
        log.log(step, {"train/loss": 1 / step, "train/tokens": step * 100})
    log.log(steps, {"eval/loss": 0.5})
    log.close()
    return run
