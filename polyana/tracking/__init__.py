"""What happened: a run's directory, its metrics, and what the terminal shows."""

from polyana.tracking.console import Console, Gauge, show_clock, sparkline
from polyana.tracking.environment import describe_environment
from polyana.tracking.metrics import Attempt, MetricLog, SilentMetricLog, read_attempts, read_curves, read_events
from polyana.tracking.run_directory import RunDirectory, as_text, find_runs, name_run

__all__ = [
    "Attempt",
    "Console",
    "Gauge",
    "MetricLog",
    "RunDirectory",
    "SilentMetricLog",
    "as_text",
    "describe_environment",
    "find_runs",
    "name_run",
    "read_attempts",
    "read_curves",
    "read_events",
    "show_clock",
    "sparkline",
]
