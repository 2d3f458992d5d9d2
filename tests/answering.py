"""Real saves of a real model, and real servers of them, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED

from polyana.registry import Repository, find_repository

RECIPE = """\
name: stories
seed: 3
stages:
  chat:
    kind: sft
    base: BASE
    data: [{path: rows.jsonl}]
    template: zephyr
    context: 128
    held_out: 0
    adapter: {rank: 4}
    train: {duration: 6 steps, batch: 4 sequences, lr: 1e-3, precision: fp32}
    save: {every: 2 steps, keep: {last: 2}}
  plain:
    kind: sft
    base: BASE
    data: [{path: texts.jsonl}]
    context: 64
    held_out: 0
    adapter: full
    train: {duration: 2 steps, batch: 4 sequences, lr: 1e-4, precision: fp32}
"""


def apart(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What it gives, in a thread of its own: the browser tests keep an event loop in the main one."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, coroutine).result()


class Place:
    """A directory with a home in it. `call`: the command line, in a process of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.home = path, path / "home"
        self.environment = os.environ | {"POLYANA_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        rows = [{"prompt": f"Tell me of a {what}.", "completion": f"Tom had a {what}."} for what in ("cat", "dog")]
        (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 6))
        (path / "texts.jsonl").write_text("".join(json.dumps({"text": row["completion"]}) + "\n" for row in rows * 6))
        (path / "stories.yaml").write_text(RECIPE.replace("BASE", str(SHARED / "stories260k" / "hf")))

    def call(self, *arguments: str, check: int | None = 0, **settings) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            [sys.executable, "-m", "polyana", *arguments], cwd=self.path, env=self.environment, capture_output=True,
            text=True, timeout=300, check=False, **settings,
        )  # fmt: skip
        assert check is None or process.returncode == check, process.stdout + process.stderr
        return process

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "polyana", *arguments], cwd=self.path, env=self.environment | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def repository(self, run: str = "stories-chat") -> Repository:
        return find_repository(self.home / "hub", run)


class Server:
    """`polyana serve` of a place. `url`: what it printed; `said`: the lines that it told on stderr."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018
        self.said: list[str] = []
        self._reader = threading.Thread(target=lambda: self.said.extend(process.stderr or ()))
        self._reader.start()
        self.url = process.stdout.readline().strip()
        assert self.url, self.ended()

    def ended(self) -> str:
        """What it has said, once it has ended."""
        self.process.wait(60)
        self._reader.join()
        return "".join(self.said)

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://").removesuffix("/v1")

    def client(self, key: str = "none", retries: int = 0):
        import openai

        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=retries, timeout=120)


@contextmanager
def serving(place: Place, *arguments: str, **environment: str) -> Iterator[Server]:
    process = place.begin("serve", *arguments, "--port", "0", **environment)
    server = None
    try:
        server = Server(process)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        if server is not None:
            print(server.ended())  # pytest shows it where a test fails
        for stream in (process.stdout, process.stderr):
            stream.close()


def trained_place(path: Path) -> Place:
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    place = Place(path)
    place.call("run", "stories.yaml")
    return place
