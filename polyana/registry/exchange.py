"""Pushing a run's commits to where others find them, and pulling them from there into this registry."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from polyana.errors import Busy, Damaged, UserError
from polyana.registry.commit import Commit, Ranking
from polyana.registry.hub import HubBranch
from polyana.registry.hub_source import HubSource
from polyana.registry.patience import Patience
from polyana.registry.repository import NAMESPACE, Repository
from polyana.registry.store import StoredRepository, choose_run, is_ahead, runs_in_store
from polyana.registry.targets import DirectoryTarget, HubTarget, StoreTarget, Target, parse_source
from polyana.storage import has_checksum, is_checksum

__all__ = ["Pulled", "Pushed", "Pusher", "pull", "push"]

PATIENCE = 300.0  # seconds without any progress, but for those that the Hub asks to wait; guess
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")  # of a run or a ref: both become names of files here


def _nothing(_: object) -> None:
    """Said to nobody."""


# Pushing


@dataclass(frozen=True)
class Pushed:
    """What a push came to. new: commits that were not there before; refs: names that were made or moved there."""

    run: str
    target: Target
    commits: Sequence[Commit]
    new: Sequence[Commit]
    refs: Sequence[str]


class Pusher:
    """Pushes one run to one target, any number of times; what it has seen of the Hub it need not ask for again."""

    def __init__(self, repository: Repository, target: Target, patience: Patience, say: Callable[[str], None],
                 *, private: bool = True) -> None:  # fmt: skip
        """`private`: of a repository of the Hub that has to be made; one that is public is refused then."""
        self.repository, self.target = repository, target
        self._patience, self._say = patience, say
        self._branch = HubBranch(target, repository, private=private) if isinstance(target, HubTarget) else None

    def push(self, commits: Sequence[Commit], done: Callable[[Commit], None] = _nothing) -> Pushed:
        """Make those of `commits` there that are missing, in their order, and then the refs that name any of them.

        `done` is told of each that is there now. Raises UserError, Unreachable and Damaged; pushed again it goes on.
        """
        commits = sorted(commits, key=lambda commit: (commit.step, commit.time))
        everything = {commit.id: commit.step for commit in self.repository.commits()}
        target, self._before = self.target, self.repository.refs()
        if self._branch is not None:
            new = self._branch.send(commits, self._patience, done)
            moved = self._branch.tag(self._all_refs(), self._patience, self._say)
        elif isinstance(target, StoreTarget):
            stored = StoredRepository(target, self.repository.run, self._patience)
            new = stored.send(self.repository, commits, done)
            refs = self._refs(commits, stored.ids())
            moved = stored.point(refs, everything)
            if "best" in refs:
                stored.rank_by(self.repository.ranking())
        else:
            assert isinstance(target, DirectoryTarget)
            new, moved = self._push_to_directory(commits, target, done)
        self._patience.progress()
        return Pushed(self.repository.run, target, commits, new, moved)

    def _all_refs(self) -> dict[str, str]:
        """Those that retention took with a commit while it was sent, too."""
        return self._before | self.repository.refs()

    def _refs(self, commits: Sequence[Commit], there: set[str]) -> dict[str, str]:
        """What the refs there should name, of what is there."""
        refs = {name: identifier for name, identifier in self._all_refs().items() if identifier in there}
        return ({"main": commits[-1].id} if commits else {}) | refs  # of `push RUN@REV`: what was pushed last

    def _push_to_directory(
        self, commits: Sequence[Commit], target: DirectoryTarget, done: Callable[[Commit], None]
    ) -> tuple[list[Commit], list[str]]:
        other = Repository(target.path, self.repository.run)
        if other.path.resolve() == self.repository.path.resolve():
            raise UserError(f"{target} is where this registry lies; name another directory")
        new, here = [], _Here(self.repository)
        for commit in commits:
            if _adopt(other, commit, here):
                new.append(commit)
            other.bring_evaluations(commit, here.evaluations(commit), replace=True)
            done(commit)
        moved = []
        with other.changing():
            steps, there = {commit.id: commit.step for commit in other.commits()}, other.refs()
            refs = self._refs(commits, set(steps))
            if "best" in refs and other.ranking() != self.repository.ranking():
                other.rank_by(self.repository.ranking())
            for name, identifier in refs.items():
                if there.get(name) != identifier and not (
                    name == "main" and is_ahead(there.get(name), identifier, steps)
                ):
                    other.set_ref(name, identifier)
                    moved.append(name)
        return new, moved


def push(repository: Repository, target: Target, revision: str | None = None, *, private: bool = True,
         say: Callable[[str], None] = _nothing, patience: float | None = PATIENCE) -> Pushed:  # fmt: skip
    """Push all of a run, or all up to `revision`, by hand: what was pushed so stays here, too, until it is unpinned.

    Raises UserError, Unreachable and Damaged.
    """
    if revision is None:
        repository.name_newest()
    last, commits = repository.resolve(revision or "main"), repository.commits()
    if revision is not None:
        commits = [each for each in commits if (each.step, each.time) <= (last.step, last.time)]
    pusher = Pusher(repository, target, Patience(patience, say), say, private=private)
    by, pinned = f"pushed:{target}", repository.pins()
    missing = {commit.id for commit in commits if by not in pinned.get(commit.id, ())}
    repository.pin_all(missing, by)  # before, so that none goes meanwhile; and one by one is slow

    def done(commit: Commit) -> None:
        missing.discard(commit.id)
        repository.unpin(commit.id, f"queued:{target}")

    _warn_of_base(repository, commits, say)
    try:
        return pusher.push(commits, done)
    finally:
        with suppress(OSError):  # of a full disk
            repository.unpin_all(missing, by)


def _warn_of_base(repository: Repository, commits: Sequence[Commit], say: Callable[[str], None]) -> None:
    """Say so when an adapter stands on what nobody else has."""
    from polyana.storage import read_json

    if commits and "adapter_config.json" in commits[-1].files:
        base = str(read_json(repository.blob(commits[-1], "adapter_config.json")).get("base_model_name_or_path"))
        if Path(base).is_absolute():
            say(
                f"  {repository.run} is an adapter whose base lies on this machine alone ({base}); for others make "
                f"them one: `polyana models export {repository.run}@step-{commits[-1].step} --to merged`"
            )


# Pulling


@dataclass(frozen=True)
class Pulled:
    """What a pull came to. new: commits that were not here before; refs: names that were set or moved here."""

    run: str
    commit: Commit
    new: Sequence[Commit]
    refs: Sequence[str]


class Source(Protocol):
    """A run that lies elsewhere. `run`: its name, `ranking`: by what its `best` is picked, or None where nothing says;
    both once a revision of it has been resolved."""

    run: str

    def resolve(self, revision: str) -> Commit: ...
    def before(self, commit: Commit) -> list[Commit]: ...
    def names(self, commits: Sequence[Commit]) -> dict[str, str]: ...
    def knows(self, identifier: str) -> bool: ...
    def fetch(self, commit: Commit, name: str, target: Path) -> None: ...
    def evaluations(self, commit: Commit) -> Mapping[str, bytes]: ...
    def ranking(self) -> Ranking | None: ...


class _Here:
    """A repository in a directory, as a source."""

    def __init__(self, repository: Repository) -> None:
        self._repository, self.run = repository, repository.run
        self.resolve, self.ranking = repository.resolve, repository.ranking

    def before(self, commit: Commit) -> list[Commit]:
        return [other for other in self._repository.commits() if other.step < commit.step]

    def names(self, commits: Sequence[Commit]) -> dict[str, str]:
        wanted = {commit.id for commit in commits}
        return {name: identifier for name, identifier in self._repository.refs().items() if identifier in wanted}

    def knows(self, identifier: str) -> bool:
        return any(commit.id == identifier for commit in self._repository.commits())

    def evaluations(self, commit: Commit) -> Mapping[str, bytes]:
        return {name: path.read_bytes() for name, path in self._repository.evaluation_files(commit).items()}

    def fetch(self, commit: Commit, name: str, target: Path) -> None:
        blob = self._repository.blob(commit, name)
        if not blob.exists():
            raise Damaged(f"{self.run}@step-{commit.step} lacks {name} in {self._repository.path}")
        shutil.copyfile(blob, target)
        if not has_checksum(target, commit.files[name]):
            raise Damaged(f"{blob} is damaged: its checksum is not its name")


def pull(hub: Path, text: str, *, name: str | None = None, history: bool = False,
         say: Callable[[str], None] = _nothing, patience: float | None = PATIENCE) -> Pulled:  # fmt: skip
    """Bring the revision that `text` names, as `hub:org/name@best` or `s3://bucket/path/RUN@step-500`, into the
    registry `hub`; with `history` all that led up to it. `name`: of the run here (default: as it is called there).

    Every checksum is compared. A ref that is here already moves only where the other side knows what it named.
    Raises UserError, Unreachable and Damaged.
    """
    target, run, revision = parse_source(text)
    waiting = Patience(patience, say)
    source = _source(target, run, waiting)
    commit = _checked(source.resolve(revision or (target.branch if isinstance(target, HubTarget) else "main")), source)
    run = name or source.run
    if not _NAME.fullmatch(run) or "--" in run:
        raise UserError(f"`{run}` cannot be the name of a run; name it otherwise: `--as NAME`")
    repository = Repository(hub, run)
    wanted = [*(_checked(save, source) for save in (source.before(commit) if history else [])), commit]
    try:
        new = [each for each in wanted if _adopt(repository, each, source)]
    except BaseException:
        with suppress(OSError, Busy):
            repository.vanish()  # unless something of it was here already
        raise
    for each in wanted:
        repository.bring_evaluations(each, source.evaluations(each))
    moved = []
    with repository.changing():
        here = repository.refs()
        named = dict.fromkeys(() if "main" in here else ("main",), commit.id)
        named |= {f"step-{each.step}": each.id for each in (new if history else ())}
        named |= {ref: identifier for ref, identifier in source.names(wanted).items() if _NAME.fullmatch(ref)}
        for ref, identifier in named.items():
            if here.get(ref) == identifier:
                continue
            if ref in here and not source.knows(here[ref]):
                say(f"  `{ref}` stays what it is here, for {text} does not know that commit")
                continue
            repository.set_ref(ref, identifier)
            moved.append(ref)
        ranking = source.ranking() if "best" in moved or not here else None  # it goes where `best` goes
        if ranking is not None and ranking != repository.ranking():
            repository.rank_by(ranking)
    return Pulled(run, commit, new, moved)


def _source(target: Target, run: str, patience: Patience) -> Source:
    """What to pull from: of ADDRESS/RUN the last part is a run if what lies above it is a registry."""
    if isinstance(target, HubTarget):
        return HubSource(target, patience)
    if isinstance(target, StoreTarget):
        inside = runs_in_store(target, patience)
        if inside:
            return StoredRepository(target, choose_run(inside, "", str(target)), patience)
        above = StoreTarget(target.address.rpartition("/")[0])
        return StoredRepository(above, choose_run(runs_in_store(above, patience), run, str(above)), patience)
    inside, place, wanted = _runs_in(target.path), target.path, ""
    if not inside:
        inside, place, wanted = _runs_in(target.path.parent), target.path.parent, run
    if not inside:
        raise UserError(f"{target.path} holds no runs: name a directory that runs were pushed to, or a run in one")
    return _Here(Repository(place, choose_run(inside, wanted, str(place))))


def _runs_in(directory: Path) -> list[str]:
    prefix = f"models--{NAMESPACE}--"
    return sorted(path.name.removeprefix(prefix) for path in directory.glob(f"{prefix}*"))


def _checked(commit: Commit, source: Source) -> Commit:
    """The commit, if its names can be those of files in a directory of its own: they were written by others.

    Raises UserError.
    """
    odd = [name for name in commit.files if not re.fullmatch(r"[^/\0]+", name) or name in (".", "..", "commit.json")]
    wrong = [digest for digest in commit.files.values() if not is_checksum(digest)]
    if odd or wrong or not re.fullmatch(r"[0-9a-f]{40}", commit.id):
        raise UserError(f"{source.run}@step-{commit.step} is no commit that can be kept here: {(odd + wrong)[:3]}")
    return commit


def _adopt(repository: Repository, commit: Commit, source: Source) -> bool:
    """Take a commit from elsewhere, unless all of it is here; whether it was taken."""
    here = (repository.path / "snapshots" / commit.id / "commit.json").exists()
    held = {digest: repository.path / "blobs" / digest for digest in commit.files.values()}
    whole = {digest for digest, blob in held.items() if blob.exists() and has_checksum(blob, digest)}
    if here and whole == set(held):
        return False
    files = repository.arriving(commit.step)
    try:
        for name, digest in commit.files.items():
            if digest not in whole:
                source.fetch(commit, name, files / name)
        repository.receive(commit, files)
    finally:
        repository.discard(files)
    return True
