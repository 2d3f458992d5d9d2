"""Which commits stay when disk is limited."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import Field

from polyana.config import Config, Size, Steps
from polyana.registry.commit import Commit, Ranking
from polyana.registry.repository import Repository
from polyana.storage import show_bytes

__all__ = ["KeepConfig", "apply_retention", "best_commits", "bytes_of_commits", "going", "would_go"]

_LEAST = 3  # saves that `total` must hold


class KeepConfig(Config):
    """A commit stays if any of these wants it; `main` and `best`, and what is tagged, pushed, waiting to be sent or
    being served, always stay."""

    best: int = Field(
        1,
        ge=1,
        description="the so many with the lowest eval/loss; with `gold`, the highest gold; or by `polyana models pick`",
    )
    last: int = Field(1, ge=1, description="the so many newest")
    every: Steps | None = Field(None, description="those at multiples of this, as `1000 steps`")
    total: Size | None = Field(
        None,
        description="what all saves may take, as `20 GB`, the one that is being made among them: first go those that "
        "only `every` wants, the oldest first, then those of `last`, then the worst of `best`",
    )

    def too_little(self, commit: int) -> str | None:
        """What is wrong with `total` where a commit takes so many bytes."""
        if self.total is None or self.total.bytes >= _LEAST * commit:
            return None
        return (
            f"`keep: {{total: {self.total}}}` holds less than {_LEAST} saves of {show_bytes(commit)}: the newest, the "
            f"best, and the one that is being made; write at least {show_bytes(1.05 * _LEAST * commit)}"
        )


def best_commits(commits: list[Commit], metric: str) -> list[Commit]:
    """Commits that have `metric`, lowest first, or highest where it is written `-metric`; of equal ones the earlier
    first."""
    return Ranking.of(metric).sort(commits)


def bytes_of_commits(commits: Collection[Commit], sizes: Mapping[str, int]) -> int:
    """What their files take together, the same content once; `sizes` by checksum."""
    return sum(sizes.get(digest, 0) for digest in {digest for commit in commits for digest in commit.files.values()})


def going(
    commits: list[Commit],
    keep: KeepConfig,
    ranking: Ranking,
    protected: Collection[str],
    sizes: Mapping[str, int],
    coming: int = 0,
    needed: int = 0,
) -> list[Commit]:
    """Which of `commits` (by step) go. `protected`: ids of those that stay whatever `keep` says. `coming`: how many
    newer ones are about to be made, which need so many bytes."""
    strength: dict[str, tuple[int, int]] = {}  # what is wanted more, by which wish and within it, goes later
    if keep.every is not None:
        strength |= {each.id: (0, each.step) for each in commits if each.step % int(keep.every.amount) == 0}
    newest = commits[max(len(commits) - max(keep.last - coming, 0), 0) :]
    strength |= {each.id: (1, each.step) for each in newest}
    ranked = ranking.sort(commits)[: keep.best]
    strength |= {each.id: (2, len(ranked) - place) for place, each in enumerate(ranked)}
    staying = [each for each in commits if each.id in strength or each.id in protected]
    if keep.total is not None:
        yielding = sorted((each for each in staying if each.id not in protected), key=lambda each: strength[each.id])
        for each in yielding:
            if bytes_of_commits(staying, sizes) + needed <= keep.total.bytes:
                break
            staying.remove(each)
    kept = {each.id for each in staying}
    return [each for each in commits if each.id not in kept]


def would_go(repository: Repository, keep: KeepConfig, metric: str, coming: int = 0, needed: int = 0) -> list[Commit]:
    """The commits that `apply_retention` would delete, but for those that another process reads."""
    refs = repository.refs()
    protected = set(repository.pins()) | {refs[name] for name in ("main", "best") if name in refs}
    sizes = repository.blob_sizes() if keep.total is not None else {}
    return going(repository.commits(), keep, repository.ranking(metric), protected, sizes, coming, needed)


def apply_retention(
    repository: Repository, keep: KeepConfig, metric: str, coming: int = 0, needed: int = 0
) -> list[Commit]:
    """Delete what `keep` does not want and free its space; the commits that went. `metric`: what decides which are the
    best, as in `best_commits`, unless somebody has picked by another. `coming`, `needed`: see `going`."""
    with repository.changing():
        return repository.remove_unheld(would_go(repository, keep, metric, coming, needed))
