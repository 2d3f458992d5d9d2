"""MLflow, through its client."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from polyana.tracking.sinks.config import MlflowConfig
from polyana.tracking.sinks.sink import About, Sink

__all__ = ["MlflowSink"]

_METRICS, _PARAMS = 1000, 100  # at once: what a server takes (MLflow's REST API, runs/log-batch)
_LONGEST = 500  # characters of a parameter's value that servers of all versions take
_OUTCOMES = {"finished": "FINISHED", "failed": "FAILED"}


class MlflowSink(Sink):
    """The run's id at MLflow is kept, and later attempts go on with it. Histograms have no place there."""

    def __init__(self, config: MlflowConfig) -> None:
        self._config = config
        self._waiting: list[Metric] = []

    def begin(self, about: About, kept: dict[str, Any]) -> dict[str, Any]:
        # Ten tries of a minute each are the library's default: longer than we would wait for it at the end.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        self._client = MlflowClient(tracking_uri=self._config.uri)
        name = self._config.experiment or about.recipe
        if kept:
            self._id = str(kept["id"])
            self._client.update_run(self._id, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            tags = {"polyana.stage": about.stage}
            self._id = self._client.create_run(experiment, run_name=about.run, tags=tags).info.run_id
            params = [Param(key, str(value)[:_LONGEST]) for key, value in about.settings.items()]
            for begin in range(0, len(params), _PARAMS):
                self._client.log_batch(self._id, params=params[begin : begin + _PARAMS])
        self.where = f"{self._client.tracking_uri} {name}/{about.run}"
        return {"id": self._id}

    def scalars(self, step: int, time: float, values: Mapping[str, float]) -> None:
        self._waiting += [Metric(name, value, int(time * 1000), step) for name, value in values.items()]

    def text(self, step: int, time: float, name: str, value: str) -> None:  # noqa: ARG002
        self._client.log_text(self._id, value, f"{name}/step-{step}.txt")

    def table(self, step: int, time: float, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:  # noqa: ARG002
        content = {"columns": list(columns), "data": [list(row) for row in rows]}
        self._client.log_dict(self._id, content, f"{name}/step-{step}.json")

    def image(self, step: int, time: float, name: str, path: Path) -> None:  # noqa: ARG002
        self._client.log_artifact(self._id, str(path), f"{name}/step-{step}")

    def flush(self) -> None:
        while self._waiting:
            self._client.log_batch(self._id, metrics=self._waiting[:_METRICS])
            del self._waiting[:_METRICS]

    def close(self, outcome: str) -> None:
        self._client.set_terminated(self._id, _OUTCOMES.get(outcome, "KILLED"))
