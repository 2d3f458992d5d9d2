"""Trackio, through its own library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trackio

from polyana.tracking.sinks.config import TrackioConfig
from polyana.tracking.sinks.sink import About, Sink

__all__ = ["TrackioSink"]


class TrackioSink(Sink):
    """Trackio knows a run by its project and name, and later attempts go on with that."""

    def __init__(self, config: TrackioConfig) -> None:
        self._config = config

    def begin(self, about: About, kept: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        project = self._config.project or about.recipe
        space = {"space_id": self._config.space} if self._config.space else {}
        self._run = trackio.init(
            project=project, name=about.run, group=about.stage, config=about.settings, resume="allow", **space
        )
        self.where = f"trackio show --project {project}"
        return {"project": project}

    def scalars(self, step: int, time: float, values: Mapping[str, float]) -> None:  # noqa: ARG002
        self._run.log(dict(values), step=step)

    def image(self, step: int, time: float, name: str, path: Path) -> None:  # noqa: ARG002
        self._run.log({name: trackio.Image(str(path))}, step=step)

    def close(self, outcome: str) -> None:  # noqa: ARG002
        trackio.finish()
