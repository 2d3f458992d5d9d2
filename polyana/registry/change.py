"""What people do to commits by hand: pick the best, tag, delete."""

from __future__ import annotations

import re

from polyana.errors import UserError
from polyana.registry.commit import Commit, Ranking
from polyana.registry.repository import Repository

__all__ = ["delete_commit", "delete_repository", "delete_tag", "pick", "tag"]

_TAG = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_OURS = re.compile(r"main|best|step-\d+|[0-9a-f]{7,40}")  # the last: what could be a commit's id
_LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte", "ter", "wer", "error", "cost", "cost_by_probability")


def pick(repository: Repository, by: str, lowest: bool | None = None) -> Commit:
    """Move `best` to the commit that is the best by a metric, and let training go on to choose by it.

    `lowest`: whether less is better; None for what is usual for the metric. Raises UserError where no commit has it.
    """
    with repository.changing():
        commits = repository.commits()
        if lowest is None:
            lowest = any(re.split(r"[/_]", by)[-1] == word or by.endswith(word) for word in _LOWER_IS_BETTER)
        ranking = Ranking(by, lowest)
        ranked = ranking.sort(commits)
        if not ranked:
            known = ", ".join(sorted({name for commit in commits for name in commit.metrics})) or "none"
            raise UserError(f"no commit of {repository.run} has a metric `{by}`; they have: {known}")
        repository.rank_by(ranking)
        repository.set_ref("best", ranked[0].id)
        return ranked[0]


def tag(repository: Repository, commit: Commit, name: str, force: bool = False) -> None:
    """Let `name` stand for a commit, which then stays whatever `keep` says. `force`: move a tag that is there.

    Raises UserError for a name that is taken or cannot be a tag.
    """
    if _OURS.fullmatch(name) or not _TAG.fullmatch(name) or name.startswith("step-"):
        raise UserError(
            f"`{name}` cannot be a tag: main, best, step-N and what looks like a commit's id have meanings of their "
            "own; write letters, digits, dots and dashes, as `v1.0` or `for-the-paper`"
        )
    with repository.changing():
        there = repository.refs().get(name)
        if there is not None and there != commit.id and not force:
            earlier = repository.resolve(name)
            raise UserError(
                f"`{name}` is step {earlier.step} of {repository.run}; write another tag, or --force to move it"
            )
        repository.set_ref(name, commit.id)


def delete_tag(repository: Repository, name: str) -> None:
    """Take a tag away; its commit stays as long as `keep` wants it. Raises UserError where there is none."""
    with repository.changing():
        tags = sorted(ref for ref in repository.refs() if not _OURS.fullmatch(ref))
        if name not in tags:
            raise UserError(f"{repository.run} has no tag `{name}`; it has: {', '.join(tags) or 'none'}")
        repository.delete_ref(name)


def delete_commit(repository: Repository, commit: Commit, force: bool = False) -> int:
    """Delete a commit and what only it used; the bytes that are free now.

    `main` and `best` move to the newest and the best that are left. Raises UserError for what is pinned or `best`,
    unless `force`, and Busy for what another process reads.
    """
    with repository.changing():
        refs = repository.refs()
        why = sorted(repository.pins().get(commit.id, ())) + ["best"] * (refs.get("best") == commit.id)
        if servers := [each.removeprefix("served:") for each in why if each.startswith("served:")]:
            raise UserError(f"{repository.run}@step-{commit.step} is served at {', '.join(servers)}; end that first")
        if why and not force:
            raise UserError(f"{repository.run}@step-{commit.step} is kept: {', '.join(why)}; --force deletes it")
        left = [other for other in repository.commits() if other.id != commit.id]
        if left:  # first, so that there is never a moment without them
            if refs.get("main") == commit.id:
                repository.set_ref("main", left[-1].id)
            if refs.get("best") == commit.id:
                repository.set_ref("best", (repository.ranking().sort(left) or left[-1:])[0].id)
        return repository.remove(commit) + repository.collect()


def delete_repository(repository: Repository, force: bool = False) -> int:
    """Delete all commits of a run, and its repository; the bytes that are free now.

    Raises UserError where something is pinned, unless `force`, and Busy for what another process reads.
    """
    with repository.changing():
        commits, pins = repository.commits(), repository.pins()
        kept = [commit for commit in commits if commit.id in pins]
        if kept and not force:
            names = ", ".join(f"step-{commit.step} ({', '.join(sorted(pins[commit.id]))})" for commit in kept)
            raise UserError(f"{repository.run} has commits that are kept: {names}; --force deletes them too")
        freed = sum(repository.remove(commit) for commit in reversed(commits))
        return freed + repository.collect() + repository.vanish()
