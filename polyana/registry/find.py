"""Repositories and commits by the names that people write."""

from __future__ import annotations

from pathlib import Path

from polyana.errors import UserError
from polyana.registry.commit import Commit
from polyana.registry.repository import NAMESPACE, Repository

__all__ = ["find_commit", "find_repository", "repositories"]

_DATE = "2026-11-22_01.02.03"  # what a run's name ends with
_PREFIX = f"models--{NAMESPACE}--"


def repositories(hub: Path) -> list[Repository]:
    """All of them, by name; those too that have no commit any more."""
    return [Repository(hub, path.name.removeprefix(_PREFIX)) for path in sorted(hub.glob(f"{_PREFIX}*"))]


def find_commit(hub: Path, text: str) -> tuple[Repository, Commit]:
    """What RUN[@REV] names: @best, @main (which stands for no @), @step-500, a tag, a commit id. Raises UserError."""
    name, _, revision = text.partition("@")
    repository = find_repository(hub, name)
    return repository, repository.resolve(revision or "main")


def find_repository(hub: Path, name: str) -> Repository:
    """The run called `name`; or, where `name` is RECIPE-STAGE or another beginning of names, the newest of them."""
    runs = [repository.run for repository in repositories(hub)]
    stage_of = {run: run[: -len(_DATE) - 1] for run in runs}
    matching = [run for run in runs if name in (run, stage_of[run])] or [run for run in runs if run.startswith(name)]
    several = sorted({stage_of[run] for run in matching})
    if len(several) > 1:
        raise UserError(f"`{name}` could be {' or '.join(several)}; write one of them")
    if not matching:
        known = f"; runs here: {', '.join(runs)}" if runs else "; nothing has been trained here yet"
        from polyana.config import closest  # takes longer to import than to find what is there

        near = closest(name, [*runs, *sorted(set(stage_of.values()))])
        raise UserError(f"there is no run `{name}` in {hub}{near or known}")
    return Repository(hub, max(matching, key=lambda run: run[-len(_DATE) :]))
