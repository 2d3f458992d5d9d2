"""What happened: a run's directory, its metrics, and what the terminal shows."""

from polyana.tracking.console import Console, Gauge, show_clock, show_metrics, sparkline
from polyana.tracking.environment import describe_environment
from polyana.tracking.index import Index
from polyana.tracking.metrics import (
    Attempt,
    Histogram,
    MetricLog,
    SilentMetricLog,
    read_attempts,
    read_curves,
    read_events,
)
from polyana.tracking.run_directory import RunDirectory, as_text, find_run, find_runs, flat, name_run
from polyana.tracking.series import AXES, Axis, Curves, Drawn, View
from polyana.tracking.sketch import Sketch, draw_sketch
from polyana.tracking.system import SystemSampler

__all__ = [
    "AXES",
    "Attempt",
    "Axis",
    "Console",
    "Curves",
    "Drawn",
    "Gauge",
    "Histogram",
    "Index",
    "MetricLog",
    "RunDirectory",
    "SilentMetricLog",
    "Sketch",
    "SystemSampler",
    "View",
    "as_text",
    "describe_environment",
    "draw_sketch",
    "find_run",
    "find_runs",
    "flat",
    "name_run",
    "read_attempts",
    "read_curves",
    "read_events",
    "show_clock",
    "show_metrics",
    "sparkline",
]
