"""What a recipe says about sinks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from polyana.config import Config, KeyPath, of_kind

__all__ = ["CsvConfig", "MlflowConfig", "SinkConfig", "TensorboardConfig", "TrackioConfig", "WandbConfig"]


class _Sink(Config):
    """A sink that stands on a package."""

    kind: str
    package: ClassVar[str] = ""

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.package and find_spec(self.package) is None:
            needs = f"the sink {self.kind} needs the package {self.package}"
            yield (), f"{needs}; run: pip install 'polyana[{self.package}]'"


class CsvConfig(_Sink):
    """metrics.csv in the run's directory: a column for each metric, a row for each time something was logged."""

    kind: Literal["csv"] = "csv"


class TensorboardConfig(_Sink):
    """Event files for TensorBoard, in the run's directory; `tensorboard --logdir .polyana/runs` shows all runs."""

    kind: Literal["tensorboard"] = "tensorboard"
    package: ClassVar[str] = "tensorboard"
    directory: str | None = Field(
        None,
        json_schema_extra={"path": True},
        description="write to DIRECTORY/RUN, as where a TensorBoard already looks; default: in the run",
    )


class WandbConfig(_Sink):
    """Weights & Biases. A resumed run goes on under the same id."""

    kind: Literal["wandb"] = "wandb"
    package: ClassVar[str] = "wandb"
    project: str | None = Field(None, description="default: the recipe's name")
    entity: str | None = Field(None, description="a user or a team; default: what wandb is set to")
    mode: Literal["online", "offline"] = Field(
        "online", description="offline writes to RUN/sinks/wandb, which `wandb sync` sends later"
    )


class MlflowConfig(_Sink):
    """An MLflow server, or whatever store MLflow finds at an address."""

    kind: Literal["mlflow"] = "mlflow"
    package: ClassVar[str] = "mlflow"
    uri: str | None = Field(
        None, description="as `http://host:5000` or `sqlite:////path/mlflow.db`; default: $MLFLOW_TRACKING_URI"
    )
    experiment: str | None = Field(None, description="default: the recipe's name")


class TrackioConfig(_Sink):
    """Trackio, on this machine or in a Space of the Hugging Face hub."""

    kind: Literal["trackio"] = "trackio"
    package: ClassVar[str] = "trackio"
    project: str | None = Field(None, description="default: the recipe's name")
    space: str | None = Field(None, description="as `user/space`; default: on this machine")


SinkConfig = Annotated[
    CsvConfig | TensorboardConfig | WandbConfig | MlflowConfig | TrackioConfig,
    Field(discriminator="kind"),
    of_kind("csv"),
]
