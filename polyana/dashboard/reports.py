"""Reports: pages that stages and runs have written, as of a corpus, an ablation, a translation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from polyana.dashboard.errors import Refused
from polyana.errors import Damaged
from polyana.storage import read_json
from polyana.tracking import RunDirectory

__all__ = ["all_reports", "pages_of", "stage_directory"]


def pages_of(home: Path, run: RunDirectory) -> list[dict[str, str]]:
    """{"title", "url"} of the pages of a run, of the stages that it was made from, and of what was found out about
    these."""
    pages = [{"title": path.stem, "url": f"/files/{run.name}/{path.name}"} for path in sorted(run.path.glob("*.html"))]
    for stage in _stages_below(home, run):
        pages += [{"title": _title(stage, path), "url": _url(stage, path)} for path in sorted(stage.glob("*.html"))]
    return pages


def all_reports(home: Path, runs: list[RunDirectory]) -> list[dict[str, Any]]:
    """{"title", "url", "of", "made"} of every page of finished stages, whether a run has used them or not, and of runs;
    newest first. of: RECIPE/STAGE or the run's name; made: seconds since 1970."""
    found = []
    for directory in (home / "stages").glob("*-*"):
        about: dict[str, Any] = {}
        with suppress(OSError, Damaged, TypeError, ValueError):
            about = dict(read_json(directory / "artifact.json"))
        for path in directory.glob("*.html"):
            found.append(_listed(_title(directory, path), _url(directory, path), about.get("used_by"), about, path))
    for run in runs:
        for path in run.path.glob("*.html"):
            found.append(_listed(path.stem, f"/files/{run.name}/{path.name}", run.name, {}, path))
    return sorted(found, key=lambda report: (-report["made"], report["url"]))


def stage_directory(home: Path, name: str) -> Path:
    """The directory of a finished stage. Raises Refused when there is none."""
    directory = home / "stages" / name
    if name in ("", ".", "..") or Path(name).name != name or not (directory / "artifact.json").is_file():
        raise Refused(404, f"there is no finished stage `{name}`; it may have been deleted")
    return directory


def _listed(title: str, url: str, of: Any, about: dict[str, Any], path: Path) -> dict[str, Any]:
    made = about.get("made")
    if not isinstance(made, int | float):
        made = path.stat().st_mtime
    return {"title": title, "url": url, "of": of if isinstance(of, str) else "", "made": float(made)}


def _title(stage: Path, path: Path) -> str:
    kind = stage.name.partition("-")[0]
    return kind if path.stem == kind else f"{kind} {path.stem}"


def _url(stage: Path, path: Path) -> str:
    return f"/reports/{stage.name}/{path.name}"


def _stages_below(home: Path, run: RunDirectory) -> list[Path]:
    """The directories of the finished stages that a run was made from, its corpus, its tokenizer, and of ablations of
    its corpora."""
    about = run.about()
    directories = {path.name.rpartition("-")[2]: path for path in (home / "stages").glob("*-*")}
    start = str(about.get("start", "")).rpartition("-")[2]
    waiting, found = [start, str(about.get("fingerprint", ""))[:16]], dict[str, Path]()
    while waiting:
        fingerprint = waiting.pop()
        directory = directories.get(fingerprint)
        if directory is None or fingerprint in found:
            continue
        found[fingerprint] = directory
        waiting += _inputs(directory)
    about_them = [path for path in (home / "stages").glob("ablation-*") if found.keys() & set(_inputs(path))]
    return sorted([*found.values(), *about_them])


def _inputs(stage: Path) -> list[str]:
    """The first 16 digits of what a finished stage was made from."""
    with suppress(OSError, Damaged):
        inputs = read_json(stage / "artifact.json").get("inputs", {})
        return [text[:16] for text in _texts(inputs) if len(text) == 64]
    return []


def _texts(nested: Any) -> Iterator[str]:
    if isinstance(nested, str):
        yield nested
    elif isinstance(nested, dict):
        for value in nested.values():
            yield from _texts(value)
