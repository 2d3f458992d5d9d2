"""A model of somebody else's as the save of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

from polyana.registry import Commit, Repository


def publish(home: Path, run: str, model: Path, step: int = 10) -> Commit:
    """Commit the files of a model's directory; the run's own directory is not made."""
    repository = Repository(home / "hub", run)
    files = repository.arriving(step)
    for path in model.iterdir():
        if path.is_file():
            shutil.copyfile(path, files / path.name)
    return repository.commit(files, step=step, tokens=step, epoch=0.0, message="", metrics={}, recipe="r")
