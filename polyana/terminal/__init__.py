"""Runs in a terminal, for those on ssh: live charts, and two runs side by side."""

from polyana.terminal.compare import compare_runs, comparison_picture
from polyana.terminal.watch import Watched, watch

__all__ = ["Watched", "compare_runs", "comparison_picture", "watch"]
