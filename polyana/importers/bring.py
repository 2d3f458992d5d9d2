"""Old runs of other trackers brought below HOME/runs, where they are runs like any other.

run.json        as of any run; `imported` says from where, by which a second import knows it
metrics/        an attempt for each process that wrote it
media/          its images
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from polyana.errors import UserError
from polyana.importers.foreign import ForeignAttempt, ForeignRun
from polyana.importers.tensorboard import read_event_files
from polyana.importers.trackio import is_trackio, read_trackio
from polyana.importers.wandb import read_wandb
from polyana.storage import building, flush_to_disk, write_json
from polyana.tracking import RunDirectory, find_runs, name_run

__all__ = ["Brought", "bring"]

_SHORT = 36  # characters of a project and of a name within a run's name, as of a recipe and a stage
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Brought:
    """What became of a run. `points`: numbers in it; `troubles`: what of it could not be read."""

    run: str
    kind: str
    what: Literal["new", "grown", "unchanged"]
    attempts: int
    points: int
    troubles: list[str]


def bring(paths: Sequence[Path], home: Path) -> list[Brought]:
    """Import what TensorBoard, Trackio and W&B (offline) have written at or below some paths.

    A run that was imported before is brought up to date, with what its files have now. Raises UserError where a path is
    missing or nothing is found.
    """
    runs = _joined([run for path in paths for run in _read(path)])
    if not runs:
        where = ", ".join(map(str, paths))
        kinds = "TensorBoard event files, Trackio databases (*.db) and W&B offline runs (*.wandb)"
        raise UserError(f"nothing to import in {where}; {kinds} can be read")
    known = {
        about["imported"]["identity"]: (run, about["imported"])
        for run in find_runs(home / "runs")
        if isinstance((about := run.about()).get("imported"), dict)
    }
    return [_bring(run, known.get(run.identity), home) for run in runs]


def _read(path: Path) -> list[ForeignRun]:
    if not path.exists():
        raise UserError(f"there is no {path}")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    root = path if path.is_dir() else path.parent
    root = root.resolve()
    found: list[ForeignRun] = []
    directories: dict[Path, list[Path]] = {}
    for file in files:
        file = file.resolve()  # noqa: PLW2901
        if ".tfevents." in file.name:
            directories.setdefault(file.parent, []).append(file)
        elif file.suffix == ".wandb":
            found.append(read_wandb(file))
        elif file.suffix == ".db" and is_trackio(file):
            found += read_trackio(file)
    found += [read_event_files(directory, events, root) for directory, events in sorted(directories.items())]
    return found


def _joined(runs: list[ForeignRun]) -> list[ForeignRun]:
    """Each run once: W&B writes each attempt of a run offline to a directory of its own."""
    joined: dict[str, ForeignRun] = {}
    for run in sorted(runs, key=lambda run: run.started):
        known = joined.get(run.identity)
        if known is None:
            joined[run.identity] = run
            continue
        told = {attempt.source for attempt in known.attempts}
        known.attempts += [attempt for attempt in run.attempts if attempt.source not in told]
        known.config |= run.config
        known.media |= run.media
        known.troubles += [trouble for trouble in run.troubles if trouble not in known.troubles]
        known.outcome = run.outcome
    return list(joined.values())


def _bring(run: ForeignRun, known: tuple[RunDirectory, dict[str, Any]] | None, home: Path) -> Brought:
    attempts = [attempt for attempt in run.attempts if attempt.rows]
    if not attempts:
        return Brought(run.name, run.kind, "unchanged", 0, 0, run.troubles or ["it has no numbers"])
    if known is not None:  # what was imported of other files, if it is not given again
        here = {str(source) for source in run.sources}
        others = [Path(source) for source in known[1]["sources"] if source not in here and Path(source).exists()]
        again = [other for source in others for other in _read(source) if other.identity == run.identity]
        run = _joined([*again, run])[0]
        attempts = [attempt for attempt in run.attempts if attempt.rows]
    lines = _lines(attempts)
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    points = sum(len(row) - 3 for attempt in attempts for row in attempt.rows if "scalars" in row)
    told = Brought("", run.kind, "new", len(attempts), points, run.troubles)
    if known is not None:
        less = points < known[1]["points"]
        if less:
            run.troubles.append("its files have less by now than was imported of them, so it stays as it was")
        if less or known[1]["digest"] == digest:
            return replace(told, run=known[0].name, what="unchanged")
    target = known[0].path if known is not None else _free_place(home / "runs", run)
    imported = {
        "from": run.kind,
        "identity": run.identity,
        "sources": [str(source) for source in run.sources],
        "digest": digest,
        "points": points,
    }
    about = {
        "recipe": _as_name(run.project), "stage": _as_name(run.name), "started": run.started, "fingerprint": "",
        "settings": run.config, "outcome": run.outcome, "finished": run.ended, "imported": imported,
    }  # fmt: skip
    home.mkdir(parents=True, exist_ok=True)
    notes = target / "notes.json"
    with building(target, home, replace=True) as directory:
        for part in ("metrics", "samples", "state", "media"):
            (directory / part).mkdir()
        for number, content in enumerate(lines, 1):
            (directory / "metrics" / f"attempt-{number:04d}.jsonl").write_bytes(content)
        for file, content in run.media.items():
            (directory / file).write_bytes(content)
        if notes.exists():
            shutil.copyfile(notes, directory / "notes.json")
        elif run.tags or run.notes or run.group:
            write_json(directory / "notes.json", {"tags": run.tags, "notes": run.notes, "group": run.group})
        write_json(directory / "run.json", about)
        target.parent.mkdir(parents=True, exist_ok=True)
    flush_to_disk(target.parent)
    return replace(told, run=target.name, what="new" if known is None else "grown")


def _lines(attempts: list[ForeignAttempt]) -> list[bytes]:
    """The content of each attempt's file."""
    files = []
    for number, attempt in enumerate(attempts, 1):
        header = {"attempt": number, "parent": number - 1 or None, "resumes_at": attempt.begins_at(), "recipe": "",
                  "time": attempt.rows[0]["time"]}  # fmt: skip
        rows = ({name: value for name, value in row.items() if name != "scalars"} for row in attempt.rows)
        files.append(b"".join(_encode(row) + b"\n" for row in (header, *rows)))
    return files


def _free_place(runs: Path, run: ForeignRun) -> Path:
    """A name of its own: by project, name and when it began, or the next second that is free."""
    moment = run.started
    while (place := runs / name_run(_as_name(run.project), _as_name(run.name), moment)).exists():
        moment += 1
    return place


def _as_name(text: str) -> str:
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in text).split()
    return "-".join(words)[:_SHORT].rstrip("-") or "run"
