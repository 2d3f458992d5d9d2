"""Which commits stay when disk is limited."""

from __future__ import annotations

from pydantic import Field

from polyana.config import Config, Steps
from polyana.registry.repository import Commit, Repository

__all__ = ["KeepConfig", "apply_retention", "best_commits"]


class KeepConfig(Config):
    """A commit stays if any of these wants it; `main` and `best`, and what is tagged, pushed or being served, always
    stay."""

    best: int = Field(1, ge=1, description="the so many with the lowest eval/loss; with `gold`, the highest gold")
    last: int = Field(1, ge=1, description="the so many newest")
    every: Steps | None = Field(None, description="those at multiples of this, as `1000 steps`")


def best_commits(commits: list[Commit], metric: str) -> list[Commit]:
    """Commits that have `metric`, lowest first, or highest where it is written `-metric`; of equal ones the earlier
    first."""
    name, sign = metric.removeprefix("-"), -1 if metric.startswith("-") else 1
    measured = [commit for commit in commits if name in commit.metrics]
    return sorted(measured, key=lambda commit: (sign * commit.metrics[name], commit.step))


def apply_retention(repository: Repository, keep: KeepConfig, metric: str) -> list[Commit]:
    """Delete what `keep` does not want and free its space; the commits that went."""
    with repository.changing():
        commits = repository.commits()
        staying = {commit.id for commit in commits[-keep.last :]} | set(repository.pins())
        staying |= {commit.id for commit in best_commits(commits, metric)[: keep.best]}
        refs = repository.refs()
        staying |= {refs[name] for name in ("main", "best") if name in refs}
        if keep.every is not None:
            staying |= {commit.id for commit in commits if commit.step % int(keep.every.amount) == 0}
        return repository.remove_unheld([commit for commit in commits if commit.id not in staying])
