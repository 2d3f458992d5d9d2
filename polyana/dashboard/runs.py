"""What the table and a run's own page say of it, from its files.

The table needs no index: run.json, the end of the newest attempt's file and `best` are enough, and are read again only
when one of them has changed. So 500 runs are there at once, and an idle one costs a few `stat`s a look.
"""

from __future__ import annotations

import math
import os
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from polyana.dashboard.advice import Adviser
from polyana.dashboard.errors import Refused
from polyana.dashboard.last_rows import attempt_files, last_rows
from polyana.dashboard.reading import Reader
from polyana.dashboard.reports import pages_of
from polyana.dashboard.saves import list_saves, move_best
from polyana.errors import Damaged
from polyana.registry import NAMESPACE, Repository
from polyana.registry.describe import describe_best
from polyana.storage import is_held, read_json, write_json
from polyana.tracking import Index, RunDirectory, Sketch, flat

__all__ = ["Catalogue"]

_TELLING = 0.95  # seconds between two changes of a run in training: just below those between two looks
_SHARED = 1.0  # seconds; longer than browsers that heard of one change take to ask, and than until the next is told
_OVER = ("finished", "failed")
_SELDOM = 5  # looks of which one is for a run that has come to an end: 500 of them take 2 ms then; guess
_NOTED: dict[str, type] = {"tags": list, "notes": str, "group": str}
_BLANK: dict[str, Any] = {"tags": [], "notes": "", "group": ""}
_FIRST_SHOWN = 4  # runs that the page shows when nobody has said which: frontend/src/state/runs.ts
_MOST_HISTOGRAMS = 200  # steps: as many columns as a heat map shows


_Stamp = tuple[int, int, int] | None  # of a file: when it was changed, how long it is, which one it is


class _Signature(NamedTuple):
    """What changes when anything in a run's summary may have."""

    about: _Stamp
    metrics: _Stamp
    newest: _Stamp
    notes: _Stamp
    refs: _Stamp
    is_training: bool


@dataclass
class _Known:
    """A run as it was last seen to have changed. looked: when; attempts: its files; versions: the catalogue's when each
    field got its value."""

    signature: _Signature
    looked: float
    attempts: list[Path]
    summary: dict[str, Any]
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def is_training(self) -> bool:
        return bool(self.summary["status"] == "training")

    def tells_more(self, signature: _Signature) -> bool:
        """Whether more has happened than another row in the newest attempt's file."""
        return not self.is_training or signature._replace(newest=self.signature.newest) != self.signature


class Catalogue:
    """The runs below HOME/runs; every change of what is said of one gets a number, so that a page can ask for news."""

    def __init__(self, home: Path, index: Index) -> None:
        self.home, self.index = home, index
        self.version = 0
        self.watched = 0  # browsers that are told what changes
        self.reader = Reader(index)
        self._known: dict[str, _Known] = {}
        self._read_on: dict[str, float] = {}  # run -> when the index last began to read on
        self._gone: dict[str, int] = {}
        self._damaged: dict[str, str] = {}
        self._lock = threading.Lock()
        self._adviser = Adviser(index)
        self._opened = time.time()
        self._turn = 0

    # The table

    def look(self, only_training: bool = False, patience: float = 0.0) -> None:
        """See what has changed; `only_training`: of the runs that were being trained at the last look. `patience`:
        how many times longer than usual the last change of one in training is to be ago, so that one which takes a
        hundred steps a second is told once; of those that have come to an end only each fifth is looked at then,
        another one each time."""
        with self._lock:
            due = names = self._due(patience)
            if not only_training:
                names = self._listed()
                for name in self._known.keys() - set(names):
                    del self._known[name]
                    self._adviser.forget(name)
                    self.version += 1
                    self._gone[name] = self.version
            self._turn += 1
            for name in names:
                if not patience or not self._is_over(name) or (self._turn + zlib.crc32(name.encode())) % _SELDOM == 0:
                    self._look_at(name, not patience or name in due)

    def is_due(self, patience: float) -> bool:
        """Whether `look` at those in training would look at any."""
        return bool(self._due(patience))

    def _due(self, patience: float) -> list[str]:
        """Runs in training that have not been told for long enough; with them those that nearly are, so that soon all
        are told in one go."""
        now, telling = time.monotonic(), _TELLING * patience
        rested = {name: now - one.looked for name, one in list(self._known.items()) if one.is_training}
        if max(rested.values(), default=0.0) < telling:
            return []
        return [name for name in rested if rested[name] >= telling / 2]

    def is_moving(self) -> bool:
        """Whether any run is being trained or read."""
        return bool(self.reader.shares()) or any(known.is_training for known in list(self._known.values()))

    def look_at(self, name: str) -> None:
        """See what has changed of one run."""
        with self._lock:
            self._look_at(name)

    def _is_over(self, name: str) -> bool:
        known = self._known.get(name)
        return known is not None and known.summary["status"] in _OVER

    def summaries(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        with self._lock:
            rows = [known.summary for known in self._known.values()]
        return sorted(rows, key=lambda row: (-row["started"], row["name"]))

    def troubles(self) -> list[str]:
        """Runs that cannot be shown, and why."""
        with self._lock:
            return [f"{name}: {what}" for name, what in sorted(self._damaged.items())]

    def news(self, since: int) -> tuple[list[dict[str, Any]], list[str]]:
        """(runs with the fields that changed after version `since`, runs that are gone)."""
        changed = []
        with self._lock:
            for known in self._known.values():
                fields = {key for key, version in known.versions.items() if version > since}
                if fields:
                    always = {"name", "step", "last", "status"}
                    changed.append({key: known.summary[key] for key in known.summary if key in fields | always})
            return changed, [name for name, version in self._gone.items() if version > since]

    def run(self, name: str) -> RunDirectory:
        """A run by its name. Raises Refused when there is none."""
        path = self.home / "runs" / name
        if name in ("", ".", "..") or Path(name).name != name or not (path / "run.json").is_file():
            raise Refused(404, f"there is no run `{name}` in {self.home / 'runs'}; it may have been deleted")
        return RunDirectory(path)

    def runs(self) -> list[RunDirectory]:
        """The runs that can be shown, as of the last look."""
        with self._lock:
            return [RunDirectory(self.home / "runs" / name) for name in self._known]

    def _listed(self) -> list[str]:
        try:
            with os.scandir(self.home / "runs") as entries:
                names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        except FileNotFoundError:
            return []
        for name in self._damaged.keys() - set(names):
            del self._damaged[name]
        return names

    def _look_at(self, name: str, goes_on: bool = True) -> None:
        """See what has changed of one run; `goes_on`: also when it has just taken another step."""
        run, known = RunDirectory(self.home / "runs" / name), self._known.get(name)
        try:
            signature, attempts = self._signature(run.path, known)
            if known is not None and (known.signature == signature or not (goes_on or known.tells_more(signature))):
                return
            summary = self._summary(run, attempts, signature)
        except FileNotFoundError:
            return  # half-made or deleted this very moment
        except Damaged as error:
            self._damaged[name] = str(error)
            return
        except OSError as error:
            self._damaged[name] = f"{error.filename}: {error.strerror}"
            return
        except (KeyError, TypeError, ValueError) as error:
            self._damaged[name] = f"{run.path / 'run.json'} is damaged: {error!r}"
            return
        self._damaged.pop(name, None)
        self._gone.pop(name, None)
        versions = dict(known.versions) if known else {}
        changed = [key for key in summary if known is None or known.summary.get(key) != summary[key]]
        if changed:
            self.version += 1
            versions |= dict.fromkeys(changed, self.version)
        self._known[name] = _Known(signature, time.monotonic(), attempts, summary, versions)

    def _signature(self, path: Path, known: _Known | None) -> tuple[_Signature, list[Path]]:
        """(signature, files of attempts) as they are now, from six `stat`s. Raises FileNotFoundError."""
        here = str(path)
        about = _stamp(f"{here}/run.json")
        if about is None:
            raise FileNotFoundError(here)
        metrics = _stamp(f"{here}/metrics")
        same = known is not None and known.signature.metrics == metrics
        attempts = known.attempts if known is not None and same else attempt_files(path / "metrics")
        newest = _stamp(str(attempts[-1])) if attempts else None
        notes = _stamp(f"{here}/notes.json")
        refs = _stamp(f"{self.home}/hub/models--{NAMESPACE}--{path.name}/refs")
        # Whoever goes on with a run that has come to an end writes that into run.json first.
        over = known is not None and known.signature.about == about and known.summary["status"] in _OVER
        is_training = not over and is_held(RunDirectory(path).lock_path)
        return _Signature(about, metrics, newest, notes, refs, is_training), attempts

    def _summary(self, run: RunDirectory, attempts: list[Path], signature: _Signature) -> dict[str, Any]:
        about = run.about()
        last = last_rows(attempts)
        moved = [path.stat().st_mtime for path in attempts[-1:]]
        settings = about.get("settings")
        return {
            "name": run.name,
            "recipe": str(about["recipe"]),
            "stage": str(about["stage"]),
            "status": "training" if signature.is_training else str(about.get("outcome", "interrupted")),
            "started": float(about["started"]),
            "updated": max([float(about.get("finished") or about["started"]), *moved]),
            "step": int(last.pop("step", 0)),
            "steps": about.get("planned_steps") or about.get("steps"),
            "tokens": last.get("train/tokens"),
            "attempts": len(attempts),
            "last": last,
            "best": describe_best(Repository(self.home / "hub", run.name)),
            "saved": signature.refs[0] / 1e9 if signature.refs else None,
            "config": flat(settings if isinstance(settings, dict) else {}),
            "why": str(about.get("why", "")),
            "advice": self._adviser.mark(run.name),
            **read_notes(run),
        }

    # One run

    def catch_up(self, name: str) -> None:
        """Let the index read all that a run has written since, however long it takes."""
        began = time.monotonic()
        if not self._has_just_been_read(name):
            self.index.catch_up(name, self.run(name).metrics)
            self._read_on[name] = began

    def read_on(self, name: str) -> tuple[Sketch, float] | None:
        """The same without waiting for what is long: (slices of what is left, the share of it that is read)."""
        began = time.monotonic()
        if self._has_just_been_read(name):
            return None
        long = self.reader.read_on(name, self.run(name).metrics)
        if long is None:
            self._read_on[name] = began
        return long

    def read_ahead(self, name: str) -> None:
        """Begin with what a page that has just been opened asks for next: one run, or where `name` is "" the newest."""
        names = [name] if name else [row["name"] for row in self.summaries()[:_FIRST_SHOWN]]
        for each in names:
            with suppress(Refused):
                self.read_on(each)

    def _has_just_been_read(self, name: str) -> bool:
        """Browsers that hear of a change at once ask at once: while any is listening, the index is read on once for
        all."""
        seen, read = self._known.get(name), self._read_on.get(name, -math.inf)
        return bool(self.watched and seen and read >= seen.looked and time.monotonic() - read < _SHARED)

    def detail(self, name: str) -> dict[str, Any]:
        """All of a run's page but its curves. While a long run is being read for the first time ("read": the share of
        it), only what is known so far, and no advice."""
        run = self.run(name)
        with self._lock:
            self._look_at(name)
            known = self._known.get(name)
        if known is None:
            raise Refused(404, self._damaged.get(name, f"the run `{name}` has just been deleted"))
        long = self.read_on(name)
        attempts, (checkpoints, damage) = self.index.all_attempts(name), list_saves(self.home, name)
        metrics = self.index.metrics(name)
        return {
            **known.summary,
            "read": 1.0 if long is None else long[1],
            "metrics": metrics if long is None else sorted({*metrics, *long[0].metrics()}),
            "events": self.index.records(name, "event"),
            "resumed": attempts[1:],
            "checkpoints": checkpoints,
            "schedule": _read_or(run.path / "schedule.json", None),
            "histograms": self.index.names(name, "histograms"),
            "images": self.index.names(name, "image"),
            "tables": self.index.names(name, "table"),
            "texts": self.index.names(name, "text"),
            "pages": pages_of(self.home, run),
            "troubles": damage if long else self.index.troubles(name) + damage,  # what is not read yet is not torn
            "advice": [] if long else self._advise(name, known),
        }

    def advise_one(self) -> None:
        """Look for advice on one run that has moved since this server began, the one that has waited longest: so the
        table has marks that nobody had to open a page for."""
        with self._lock:
            moved = [
                (known.looked, name, known)
                for name, known in self._known.items()
                if known.summary["updated"] >= self._opened and self._adviser.is_due(name, known.summary)
            ]
        if moved:
            _, name, known = min(moved, key=lambda entry: entry[:2])
            with suppress(Refused):  # it has just been deleted
                if self.read_on(name) is None:
                    self._advise(name, known)

    def _advise(self, name: str, known: _Known) -> list[dict[str, Any]]:
        """Advice on a run that the index has read; what the table says of it moves along."""
        advice, mark = self._adviser.of(name, known.summary), self._adviser.mark(name)
        with self._lock:
            known = self._known.get(name, known)
            if known.summary["advice"] != mark:
                self.version += 1
                known.summary = known.summary | {"advice": mark}
                known.versions["advice"] = self.version
        return advice

    def histograms(self, name: str, histogram: str) -> dict[str, list[Any]]:
        """A histogram's columns over the steps, at most 200 of them, evenly."""
        self.run(name)
        self.catch_up(name)
        rows = {row["step"]: row for row in self.index.records(name, "histograms", histogram)}
        steps = sorted(rows)
        if len(steps) > _MOST_HISTOGRAMS:
            last = len(steps) - 1
            steps = [steps[place * last // (_MOST_HISTOGRAMS - 1)] for place in range(_MOST_HISTOGRAMS)]
        fields = ("low", "high", "counts", "zeros", "norm")
        return {"steps": steps, **{key: [rows[step].get(key) for step in steps] for key in fields}}

    def records(self, name: str, kind: str, record: str) -> list[dict[str, Any]]:
        """The texts, tables or images of one name."""
        self.run(name)
        self.catch_up(name)
        return self.index.records(name, kind, record)

    def move_best(self, name: str, step: Any) -> dict[str, Any]:
        """Let `best` name the save of a step."""
        moved = move_best(self.home, self.run(name).name, step)
        self.look_at(name)
        return moved

    def note(self, name: str, given: Any) -> dict[str, Any]:
        """Change tags, notes or group; all of them as they are then."""
        run = self.run(name)
        if not isinstance(given, dict):
            raise Refused(400, "tags, notes or group are wanted")
        for key, value in given.items():
            if key not in _NOTED or not isinstance(value, _NOTED[key]):
                raise Refused(400, f"`{key}`: only tags (a list of texts), notes and group (texts) can be changed")
        if not all(isinstance(tag, str) for tag in given.get("tags", [])):
            raise Refused(400, "`tags` should be texts")
        notes = read_notes(run) | given
        write_json(run.path / "notes.json", notes)
        self.look_at(name)
        return notes


def read_notes(run: RunDirectory) -> dict[str, Any]:
    """Tags, notes and group; blank where there are none or the file is damaged."""
    notes = _read_or(run.path / "notes.json", {})
    return {key: notes[key] if isinstance(notes.get(key), kind) else _BLANK[key] for key, kind in _NOTED.items()}


def _read_or(path: Path, otherwise: Any) -> Any:
    try:
        return read_json(path)
    except (OSError, Damaged):
        return otherwise


def _stamp(path: str) -> _Stamp:
    """Thousands of times a second, so without pathlib."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
