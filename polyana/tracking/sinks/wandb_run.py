"""Weights & Biases, through its own library."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb

from polyana.tracking.metrics import Histogram
from polyana.tracking.sinks.config import WandbConfig
from polyana.tracking.sinks.sink import About, Sink

__all__ = ["WandbSink"]


class WandbSink(Sink):
    """The run has an id of its own, and every attempt goes on under it."""

    def __init__(self, config: WandbConfig) -> None:
        self._config = config

    def begin(self, about: About, kept: dict[str, Any]) -> dict[str, Any]:
        identifier = kept.get("id") or secrets.token_hex(4)
        about.place.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self._config.project or about.recipe,
            entity=self._config.entity,
            id=identifier,
            name=about.run,
            group=about.stage,
            config=about.settings,
            resume="allow",
            mode=self._config.mode,
            dir=about.place,
            settings=wandb.Settings(console="off", x_disable_stats=True, disable_git=True, save_code=False),
        )
        self.where = self._run.url or str(Path(self._run.dir).parent)
        return {"id": identifier}

    def scalars(self, step: int, time: float, values: Mapping[str, float]) -> None:
        self._log(step, time, dict(values))

    def histogram(self, step: int, time: float, name: str, histogram: Histogram) -> None:
        edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
        self._log(step, time, {name: wandb.Histogram(np_histogram=(np.array(histogram.counts), edges))})

    def text(self, step: int, time: float, name: str, value: str) -> None:
        self.table(step, time, name, ["text"], [[value]])

    def table(self, step: int, time: float, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._log(step, time, {name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def image(self, step: int, time: float, name: str, path: Path) -> None:
        self._log(step, time, {name: wandb.Image(str(path))})

    def close(self, outcome: str) -> None:
        self._run.finish(exit_code=0 if outcome == "finished" else 1)

    def _log(self, step: int, time: float, values: dict[str, Any]) -> None:
        self._run.log(values | {"_timestamp": time}, step=step)
