"""A home as somebody watches it: a real small training, a long run that was interrupted and resumed, a failed one."""

from __future__ import annotations

import math
import os
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import TINY

from polyana.registry import Repository
from polyana.storage import write_file, write_json
from polyana.tracking import Histogram, MetricLog, RunDirectory

HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>"
"""What a run may have written; none of it may become part of the page."""

SPIKE = 313, 40.0
"""A step of the river whose loss is far above its neighbours': no zoom may lose it."""
NOT_FINITE = 200
LOST_FROM, LOST_TO, LAST, PLANNED = 100, 150, 400, 600
SAVES = (100, 200, 300, 400)


@dataclass(frozen=True)
class Watched:
    """Names of the runs of a home. `river`: the long one, `tiny`: the real one, `failed`: that died of an error."""

    home: Path
    tiny: str
    river: str
    failed: str

    def run(self, name: str) -> RunDirectory:
        return RunDirectory(self.home / "runs" / name)


def make_watched(directory: Path) -> Watched:
    home = directory / "home"
    tiny = _train(directory, home)
    return Watched(home, tiny, _river(home, tiny), _failed(home))


def _train(directory: Path, home: Path) -> str:
    texts = directory / "texts"
    texts.mkdir(parents=True)
    for number in range(12):
        line = f"The people of the United States, in their letter number {number}, ask for peace and for commerce. "
        write_file(texts / f"letter-{number}.txt", line * 30)
    write_file(directory / "recipe.yaml", TINY)
    environment = os.environ | {"POLYANA_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "polyana", "run", "recipe.yaml"]
    subprocess.run(command, cwd=directory, env=environment, check=True, capture_output=True, timeout=300)
    (run,) = (home / "runs").iterdir()
    return run.name


def _settings(lr: float, width: int) -> dict[str, Any]:
    return {"model": {"layers": 4, "width": width}, "train": {"lr": lr, "optimizer": "muon"}, "seed": 1790}


def _river(home: Path, tiny: str) -> str:
    run = RunDirectory.create(
        home / "runs", "river", "pretrain", {"fingerprint": "1" * 64, "settings": _settings(3e-3, 512)}
    )
    run.note(outcome="interrupted", planned_steps=PLANNED)
    write_file(
        run.path / "recipe.yaml", "name: river\nstages:\n  pretrain:\n    train: {lr: 3e-3}\n    model: {width: 512}\n"
    )
    write_json(run.path / "environment.json", {"python": "3.11", "cores": 2, "packages": {"torch": "2.13"}})
    write_file(run.path / "log.txt", f"2026-11-22 10:00:00  the river rises\n2026-11-22 10:00:01  {HOSTILE}\n")
    write_file(run.path / "report.html", "<title>report</title><p>249 documents</p>")
    schedule = range(0, PLANNED + 1, 10)
    write_json(run.path / "schedule.json", {"steps": list(schedule), "lr": [learning_rate(step) for step in schedule]})
    write_json(run.path / "notes.json", {"tags": ["wide"], "notes": HOSTILE, "group": "water"})
    for step in SAVES:
        run.write_samples(step, [{"prompt": "The river", "text": f" at step {step} {HOSTILE}"}])
    for resumes_at, last in ((0, LOST_TO), (LOST_FROM, LAST)):
        log = MetricLog(run.metrics, resumes_at, "", print)
        if resumes_at:
            log.event(resumes_at, "resume", attempt=log.attempt)
        for step in range(resumes_at + 1, last + 1):
            _log_step(log, step, resumes_at)
        log.close()
    (run.path / "media").mkdir()
    (run.path / "media" / "dot.png").write_bytes(_png())
    log = MetricLog(run.metrics, LAST, "", print)
    log.text(LAST, "thoughts", HOSTILE)
    log.table(LAST, "words", ["word", "count"], [["the", 12], [HOSTILE, 1]])
    log.image(LAST, "dot", "media/dot.png")
    log.close()
    _save(home, tiny, run.name)
    return run.name


def loss(step: int, resumes_at: int = LOST_FROM) -> float:
    """What the river's newest attempt logged; its first one was a little worse."""
    if step == SPIKE[0]:
        return SPIKE[1]
    return 2 + 6 * math.exp(-step / 60) + 0.1 * math.sin(step) + (0.5 if resumes_at == 0 and step > LOST_FROM else 0)


def learning_rate(step: int) -> float:
    return 3e-3 * min(step / 40, 1) * (0.55 + 0.45 * math.cos(math.pi * step / PLANNED))


def _log_step(log: MetricLog, step: int, resumes_at: int) -> None:
    value = math.nan if step == NOT_FINITE else loss(step, resumes_at)
    log.log(
        step,
        {
            "train/loss": value, "train/lr": learning_rate(step), "train/grad_norm": 1 + math.cos(step) / 2,
            "train/tokens_per_second": 14_500.0 + step, "train/mfu": 0.31, "train/tokens": step * 8192,
            "train/epoch": step / 90, "system/memory": 4e9 + step * 1e6, "system/cpu": 90.0,
        },
    )  # fmt: skip
    if step % 50 == 0:
        log.log(step, {"eval/loss": loss(step) + 0.2, "eval/bits_per_byte": loss(step) / 3})
    if step % 20 == 0:
        bell = [round(1000 * math.exp(-(((place - 31.5) / 12) ** 2))) for place in range(64)]
        dead = 0.98 if step > 300 else 0.01
        log.histograms(
            step,
            {
                "gradients/block": Histogram(-0.1, 0.1, bell, dead, 1.0),
                "weights/block": Histogram(-1, 1, bell, 0.0, 9.0),
            },
        )


def _save(home: Path, tiny: str, river: str) -> None:
    """The files of the real run's best save, as saves of the river: they load and write."""
    source, target = Repository(home / "hub", tiny), Repository(home / "hub", river)
    best = source.resolve("best")
    for step in SAVES:
        arriving = target.arriving(step)
        for name in best.files:
            shutil.copyfile(source.snapshot(best) / name, arriving / name)
        # Files that are the same would be the same commit; what a save says of itself is not among them.
        metrics = {"eval/loss": loss(step) + 0.2, "train/loss": loss(step)}
        commit = target.commit(arriving, step, step * 8192, step / 90, f"step {step}", metrics, "river")
        if step == SAVES[1]:
            target.set_ref("best", commit.id)


def _failed(home: Path) -> str:
    run = RunDirectory.create(
        home / "runs", "pond", "pretrain", {"fingerprint": "2" * 64, "settings": _settings(1e-3, 128)}
    )
    run.note(outcome="failed", why="the loss was not finite for 5 steps", planned_steps=100)
    log = MetricLog(run.metrics, 0, "", print)
    for step in range(1, 21):
        log.log(step, {"train/loss": 5 - step / 10, "train/tokens": step * 512, "train/epoch": step / 100})
    log.close()
    return run.name


def make_many(home: Path, count: int) -> None:
    """A home of small finished runs, that differ in name, start and settings."""
    template = RunDirectory(home / "runs" / _failed(home))
    about = template.about() | {"outcome": "finished", "recipe": "puddle"}
    for number in range(count):
        moment = f"2026-{number // 280 + 1:02d}-{number % 28 + 1:02d}_{number // 28 % 10:02d}.00.00"
        path = home / "runs" / f"puddle-pretrain-{moment}"
        shutil.copytree(template.metrics, path / "metrics")
        settings = _settings(1e-4 * (number + 1), 64 * (number % 5 + 1))
        write_json(path / "run.json", about | {"started": 1.7e9 + number, "settings": settings})
    shutil.rmtree(template.path)


def _png() -> bytes:
    """One green dot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\x10\x80\x40"))
        + chunk(b"IEND", b"")
    )
