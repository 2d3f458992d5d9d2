"""Other people's trackers, told what a run's own metrics say; each in a process of its own (processes.py)."""

from polyana.tracking.sinks.config import (
    CsvConfig,
    MlflowConfig,
    SinkConfig,
    TensorboardConfig,
    TrackioConfig,
    WandbConfig,
)
from polyana.tracking.sinks.processes import Sinks
from polyana.tracking.sinks.sink import About, Sink

__all__ = [
    "About",
    "CsvConfig",
    "MlflowConfig",
    "Sink",
    "SinkConfig",
    "Sinks",
    "TensorboardConfig",
    "TrackioConfig",
    "WandbConfig",
]
