"""`polyana watch`: a run's curves in the terminal, live. It only reads, so ending it leaves training alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from polyana.errors import UserError
from polyana.terminal.chart import Curve, draw_chart
from polyana.tracking import Curves, Index, RunDirectory, View, show_clock

__all__ = ["Watched", "watch"]

_LOOK = 1.0  # seconds between two looks for new numbers, as the page
_RESIZED = 0.2  # seconds between two looks whether the window has another size; guess
_LEAST_HEIGHT, _MOST_HEIGHT = 8, 20  # lines of a chart; guess
_TWO_BESIDE = 110  # columns from which on two charts stand beside each other; guess
_FIRST = ("loss", "lr", "grad_norm", "tokens_per_second", "bits_per_byte", "mfu")
_UNDRAWN = ("train/tokens", "train/epoch")  # they only rise


class Watched:
    """A run's picture at whatever size it is asked for. `refresh` reads what is new."""

    def __init__(self, run: RunDirectory, home: Path, metrics: Sequence[str], smoothing: float, log: bool) -> None:
        """`metrics`: which, each a chart; none: the most telling, train and eval in one. Raises UserError when the run
        has none of a name."""
        self.run, self._smoothing, self._log = run, smoothing, log
        self._index = Index(home / "index.sqlite")
        self.refresh()
        missing = [metric for metric in metrics if metric not in self._metrics]
        if missing:
            known = ", ".join(self._metrics) or "none yet"
            raise UserError(f"{run.name} has no `{missing[0]}`; it has: {known}")
        self._asked = [[metric] for metric in metrics]

    def refresh(self) -> None:
        """Read what has been written since."""
        self._index.use(lambda: self._index.catch_up(self.run.name, self.run.metrics))
        self._metrics = self._index.metrics(self.run.name)
        self._about, self.status = self.run.about(), self.run.status()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        charts = self._asked or _charts(self._metrics)
        with self._index.snapshot():
            curves = Curves(self._index, self.run.name)
            yield self._heading(curves, width)
            if not charts:
                yield Text("nothing is logged yet")
                return
            beside = 2 if width >= _TWO_BESIDE and len(charts) > 1 else 1
            lines = max(height - 2, _LEAST_HEIGHT)
            rows = max(min(-(-len(charts) // beside), lines // _LEAST_HEIGHT), 1)
            tall = min(lines // rows, _MOST_HEIGHT)
            wide = width // beside - (1 if beside > 1 else 0)
            drawn = [self._chart(curves, chart, wide, tall) for chart in charts[: rows * beside]]
        grid = Table.grid(padding=(0, 1) if beside > 1 else 0)
        for _ in range(beside):
            grid.add_column(width=wide, no_wrap=True)
        for place in range(0, len(drawn), beside):
            grid.add_row(*drawn[place : place + beside])
        yield grid

    def _chart(self, curves: Curves, metrics: Sequence[str], width: int, height: int) -> Text:
        view = View(width=width, smoothing=self._smoothing)
        lines = []
        for metric in metrics:
            drawn = curves.draw(metric, view)
            x, y = drawn.smooth if self._smoothing else drawn.raw
            lines.append(Curve(metric, x, y))
        title = metrics[0] if len(metrics) == 1 else metrics[0].partition("/")[2]
        return draw_chart(title, lines, width, height, log=self._log)

    def _heading(self, curves: Curves, width: int) -> Text:
        steps = [steps for metric in self._metrics for steps in (curves.points(metric)[0][-1:],)]
        last = max((int(step) for step in np.concatenate(steps)), default=0) if steps else 0
        planned = self._about.get("planned_steps") or self._about.get("steps")
        parts = [f"step {last:,}" + (f" of {planned:,}" if planned else "")]
        if self.status == "training" and planned:
            left = self._left(curves, last, int(planned))
            parts += [f"{show_clock(left)} left"] if left is not None else []
        heading = Text(self.run.name, style="bold", no_wrap=True)
        colours = {"finished": "green", "training": "cyan", "failed": "red", "interrupted": "yellow"}
        heading.append(f"  {self.status}", colours.get(self.status, ""))
        heading.append(f"  {'  '.join(parts)}", "not bold")
        heading.truncate(width, overflow="ellipsis")
        return heading

    def _left(self, curves: Curves, last: int, planned: int) -> float | None:
        """Seconds to the end at this attempt's speed."""
        attempt = curves.attempts[-1] if curves.attempts else None
        if attempt is None or last <= attempt.resumes_at:
            return None
        return (time.time() - attempt.started) / (last - attempt.resumes_at) * max(planned - last, 0)


def watch(watched: Watched, console: Console) -> None:
    """Draw until the training ends or Ctrl-C; the last picture stays in the terminal."""
    try:
        with Live(Group(watched), console=console, screen=True, auto_refresh=False) as live:
            looked, size = 0.0, console.size
            while watched.status == "training":
                if time.monotonic() - looked >= _LOOK:
                    watched.refresh()
                    looked = time.monotonic()
                    live.refresh()
                elif console.size != size:
                    live.refresh()
                size = console.size
                time.sleep(_RESIZED)
    except KeyboardInterrupt:
        pass
    console.print(watched, height=min(console.height, 2 + 2 * _MOST_HEIGHT))


def _charts(metrics: Sequence[str]) -> list[list[str]]:
    """What to draw: the most telling first, what is measured in training and in evaluation in one."""
    together: dict[str, list[str]] = {}
    for metric in sorted(metrics, key=lambda name: (not name.startswith("train/"), name)):
        if metric not in _UNDRAWN:
            group, _, name = metric.partition("/")
            together.setdefault(name if group in ("train", "eval") else metric, []).append(metric)
    names = sorted(together, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return [together[name] for name in names]
