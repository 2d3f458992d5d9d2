"""What the person at the terminal sees: one live line while something runs, and milestones that stay.

Everything here goes to stderr, so that results on stdout can be piped. When stderr is no terminal there are no live
lines, only plain ones, at most one every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from polyana.sparkline import sparkline

__all__ = ["Console", "Gauge", "show_clock", "show_metrics", "sparkline"]

_PLAIN_INTERVAL = 10.0  # seconds between two plain progress lines; guess


class Gauge:
    """The progress of one thing; `advance` to `done` with a short text beside the bar."""

    def __init__(self, console: Console, label: str, total: int, progress: Progress | None, start: int) -> None:
        self._console, self._label, self._total, self._progress = console, label, total, progress
        self._task = progress.add_task(label, total=total, completed=start, text="", eta="") if progress else None
        self._last_plain = time.monotonic()
        self._first: tuple[int, float] | None = None  # done, and when: what comes before it is not like what follows

    def show(self, done: int, text: str) -> None:
        """`done` of the total are done; `text` says how it stands."""
        eta = self._eta(done)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, text=text, eta=eta)
        elif time.monotonic() - self._last_plain >= _PLAIN_INTERVAL:
            self._last_plain = time.monotonic()
            self._console.say(f"{self._label}  {done:,}/{self._total:,}  {text}  {eta}".rstrip())

    def _eta(self, done: int) -> str:
        if self._first is None:
            self._first = done, time.monotonic()
        start, began = self._first
        if done <= start or done >= self._total:
            return ""
        seconds = (time.monotonic() - began) * (self._total - done) / (done - start)
        hours, rest = divmod(round(seconds), 3600)
        return f"ETA {hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"ETA {rest // 60}:{rest % 60:02d}"


class Console:
    """The terminal, and a copy of the milestones in a log file when one is open."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._rich = RichConsole(file=stream, stderr=stream is None, highlight=False, soft_wrap=True)
        self._log: Path | None = None

    def say(self, text: str, style: str = "") -> None:
        """A line that stays."""
        self._rich.print(escape(text), style=style or None)
        if self._log is not None:
            # The copy is worth no run: on a full disk, where this may be the word of it, it stays out.
            with suppress(OSError), self._log.open("a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def stage(self, name: str, text: str) -> None:
        """A stage's line: its name stands out."""
        self.say(f"{name:<12} {text}", style="bold")

    @contextmanager
    def copied_to(self, log: Path) -> Iterator[None]:
        """Append everything said in the block to the file `log`."""
        before, self._log = self._log, log
        try:
            yield
        finally:
            self._log = before

    @contextmanager
    def gauge(self, label: str, total: int, start: int = 0) -> Iterator[Gauge]:
        """A live line with a bar; `total` in whatever is counted."""
        if not self._rich.is_terminal:
            yield Gauge(self, label, total, None, start)
            return
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}"), BarColumn(bar_width=24), _Count(), TextColumn("{task.fields[text]}"),
            TextColumn("{task.fields[eta]}"),
        ]  # fmt: skip
        with Progress(*columns, console=self._rich, transient=True, refresh_per_second=4) as progress:
            yield Gauge(self, label, total, progress, start)


class _Count(ProgressColumn):
    """done/total with thousands separated."""

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed):,}/{int(task.total or 0):,}")


def show_metrics(metrics: Mapping[str, float]) -> list[str]:
    """Lines of `name value`: on the first what stands alone, or as `eval/...`; then a line for each other group, as
    `gold  reward 0.5  kl 1.2`."""
    groups: dict[str, list[str]] = {"": []}
    for name, value in metrics.items():
        group, _, rest = name.removeprefix("eval/").rpartition("/")
        groups.setdefault(group, []).append(f"{rest} {value:.4g}")
    alone = groups.pop("")
    wide = max(map(len, groups), default=0)
    return ["  ".join(alone), *(f"{group:<{wide}}  {'  '.join(found)}" for group, found in groups.items())]


def show_clock(seconds: float) -> str:
    """A duration as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
