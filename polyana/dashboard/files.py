"""Files of a run as they are: its log, recipe, environment, samples, pages that it has made, pictures.

A page that a run has made is shown in a sandbox: it may draw with its own scripts, and reach nothing of ours.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, Response

from polyana.dashboard.errors import Refused
from polyana.dashboard.reports import stage_directory
from polyana.dashboard.runs import Catalogue
from polyana.errors import Damaged
from polyana.storage import read_json

__all__ = ["SANDBOX_POLICY", "read_environment", "read_log", "read_recipe", "read_samples", "report", "run_file"]

SANDBOX_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
_LOG_PIECE = 256 << 10  # bytes of a log at once; guess


def read_log(catalogue: Catalogue, name: str, begin: int) -> dict[str, Any]:
    """{"text", "next"}: what the log says from byte `begin` on, whole lines, and where to go on."""
    path = catalogue.run(name).path / "log.txt"
    try:
        with path.open("rb") as file:
            file.seek(max(begin, 0))
            piece = file.read(_LOG_PIECE)
    except FileNotFoundError:
        return {"text": "", "next": 0}
    whole = piece[: piece.rfind(b"\n") + 1] if len(piece) < _LOG_PIECE or b"\n" in piece else piece
    return {"text": whole.decode("utf-8", "replace"), "next": max(begin, 0) + len(whole)}


def read_recipe(catalogue: Catalogue, name: str) -> str:
    return _text(catalogue.run(name).path / "recipe.yaml")


def read_environment(catalogue: Catalogue, name: str) -> Any:
    return _json(catalogue.run(name).path / "environment.json")


def read_samples(catalogue: Catalogue, name: str) -> dict[str, Any]:
    """{"steps", "samples": {step: what the model wrote then}}; a damaged file is left out."""
    samples = {}
    for path in sorted((catalogue.run(name).path / "samples").glob("step-*.json")):
        number = path.stem.removeprefix("step-")
        if number.isdigit():
            try:
                samples[int(number)] = read_json(path)
            except (OSError, Damaged):
                continue
    return {"steps": list(samples), "samples": samples}


def run_file(catalogue: Catalogue, name: str, path: str) -> Response:
    """A file below a run's directory."""
    return _sandboxed(catalogue.run(name).path, path)


def report(catalogue: Catalogue, stage: str, path: str) -> Response:
    """A page of a finished stage, as a corpus' report."""
    return _sandboxed(stage_directory(catalogue.home, stage), path)


def _sandboxed(directory: Path, path: str) -> Response:
    base = directory.resolve()
    found = (base / path).resolve()
    if not found.is_relative_to(base) or not found.is_file():
        raise Refused(404, f"there is no file `{path}`")
    kind = mimetypes.guess_type(found.name)[0] or "text/plain"
    return FileResponse(found, media_type=kind, headers={"content-security-policy": SANDBOX_POLICY})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise Refused(404, f"{path.name} is not there yet") from None


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise Refused(404, f"{path.name} is not there yet") from None
    except Damaged as error:
        raise Refused(409, str(error)) from None
