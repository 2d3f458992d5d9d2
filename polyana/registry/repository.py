"""Every save is a commit, in the layout of the Hugging Face cache.

    HOME/hub/models--polyana--RUN/
        blobs/SHA256                      a file's content; the same content is stored once
        snapshots/COMMIT/                 one commit: links to blobs, under the files' names, and commit.json
        refs/main, best, step-500         a commit's id
        .no_exist/COMMIT/config.json      said of an adapter, as the hub's client notes it: the commit has no such file
        pins.json                         who wants a commit to stay: {"COMMIT": ["pushed:hub:org/name"]}
        held/COMMIT                       locked by each process that reads the commit for long
        queue.json                        what was put into the queue to be pushed (queue.py)
        arriving/                         commits on their way, each locked by the process that brings it
        evaluations/COMMIT/               what it was found to be worth (evaluations.py)
        .lock                             of the one process that changes something

So `HF_HUB_CACHE=HOME/hub HF_HUB_OFFLINE=1` lets unmodified Hugging Face tools load `polyana/RUN` at any revision.
A commit appears by one rename and goes by one; a crash leaves blobs that nothing refers to, which `collect` removes.
Whoever writes holds `.lock`, for as long as it takes to rename; whoever reads needs no lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from polyana.config import closest
from polyana.errors import Busy, Damaged, UserError
from polyana.registry.evaluations import Evaluations
from polyana.storage import alone, building, flush_to_disk, locked, read_json, sha256_of, shared, write_file, write_json

__all__ = ["NAMESPACE", "Commit", "Repository", "find_repository"]

NAMESPACE = "polyana"
_DATE = "2026-11-22_01.02.03"  # what a run's name ends with
_PATIENCE = 600.0  # seconds that a writer waits for another; guess: far more than any of them takes


@dataclass(frozen=True)
class Commit:
    """One save: `id` is 40 hexadecimal digits that follow from parent, step, tokens, recipe and files.

    recipe, environment: hashes of the resolved recipe and of environment.json in the run's directory.
    """

    id: str
    parent: str | None
    step: int
    tokens: int
    epoch: float
    message: str
    metrics: dict[str, float]
    recipe: str
    files: dict[str, str]  # name -> SHA-256
    time: float
    environment: str = ""  # commits of earlier versions do not say


_FIELDS = {field.name for field in fields(Commit)}


def commit_of(written: dict[str, Any]) -> Commit:
    """What commit.json says, whichever version wrote it. Raises TypeError when that is no commit."""
    return Commit(**{key: value for key, value in written.items() if key in _FIELDS})


class Repository:
    """The commits of one run."""

    def __init__(self, hub: Path, run: str) -> None:
        self.run = run
        self.path = hub / f"models--{NAMESPACE}--{run}"
        self._blobs, self._refs, self._snapshots = (self.path / name for name in ("blobs", "refs", "snapshots"))
        self._missing = self.path / ".no_exist"
        self._scratch = self.path / "arriving"  # on the same disk, where other tools do not look
        self._held = self.path / "held"
        self._pins = self.path / "pins.json"
        self._evaluations = Evaluations(self.path / "evaluations")
        self._changing = threading.local()
        self._bringing: dict[Path, int] = {}  # directories in `arriving`, and what they are locked by

    def exists(self) -> bool:
        return self._snapshots.is_dir()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else writes before the block ends; waits for whoever does. Within a thread it may be entered again."""
        depth = getattr(self._changing, "depth", 0)
        self._changing.depth = depth + 1
        try:
            if depth:
                yield
                return
            with locked(self.path / ".lock", f"{self.run} is being changed", wait=_PATIENCE):
                yield
        finally:
            self._changing.depth = depth

    # Committing

    def arriving(self, step: int) -> Path:
        """An empty directory on the registry's disk, to write the files of a commit into.

        It stays until `commit` takes it, `discard` lets it go, this Repository begins the same step again, or its
        process ends; then `collect` removes it.
        """
        for earlier in [path for path in self._bringing if path.name.startswith(f"step-{step}.")]:
            self.discard(earlier)
        with self.changing():  # or `collect` could come between the two
            directory = self._scratch / f"step-{step}.{os.getpid()}.{time.monotonic_ns()}"
            directory.mkdir(parents=True)
            descriptor = os.open(directory, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._bringing[directory] = descriptor
        return directory

    def discard(self, files: Path) -> None:
        """Let go of what `arriving` gave."""
        shutil.rmtree(files, ignore_errors=True)
        with suppress(KeyError):
            os.close(self._bringing.pop(files))

    def commit(
        self,
        files: Path,
        step: int,
        tokens: int,
        epoch: float,
        message: str,
        metrics: Mapping[str, float],
        recipe: str,
        environment: str = "",
    ) -> Commit:
        """Take the files of a directory (moving them) as a new commit on top of `main`; sets `main` and `step-STEP`.

        Committing again what is there already gives the same commit. Raises Busy when another process does not stop
        changing the repository.
        """
        digests = {}
        for path in sorted(files.iterdir()):
            flush_to_disk(path)
            digests[path.name] = sha256_of(path)
        with self.changing():
            parent = self._parent_of(step)
            content = [parent, step, tokens, recipe, digests]
            identifier = hashlib.sha1(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
            commit = Commit(
                identifier, parent, step, tokens, epoch, message, dict(metrics), recipe, digests,
                round(time.time(), 3), environment,
            )  # fmt: skip
            self._store(commit, files)
            self.set_ref(f"step-{step}", identifier)
            self.set_ref("main", identifier)
            pinned = self.pins()
            for other in self.commits():
                if other.step == step and other.id != identifier and other.id not in pinned:
                    self._let_go(other)  # made before retention took its parent
        self.discard(files)
        return commit

    def receive(self, commit: Commit, files: Path) -> None:
        """Take a commit that was made elsewhere, as it is: those of its files that are not here are moved from a
        directory that `arriving` gave. No ref is set. Raises Damaged when a file is neither here nor there."""
        arrived = [name for name in commit.files if (files / name).exists()]
        for name in arrived:
            flush_to_disk(files / name)
        with self.changing():
            for name, digest in commit.files.items():
                if name not in arrived and not (self._blobs / digest).exists():
                    raise Damaged(f"{name} of {self.run}@step-{commit.step} was deleted a moment ago; do this again")
            self._store(commit, files)

    def _store(self, commit: Commit, files: Path) -> None:
        for directory in (self._blobs, self._refs, self._snapshots, self._held):  # a full disk has no room for more
            directory.mkdir(exist_ok=True)
        for name, digest in commit.files.items():
            if (files / name).exists():
                self._add_blob(files / name, digest)
        flush_to_disk(self._blobs)
        if "config.json" not in commit.files:  # an adapter: unless that is known, tokenizers do not load
            (self._missing / commit.id).mkdir(parents=True, exist_ok=True)
            (self._missing / commit.id / "config.json").touch()
        if not (self._snapshots / commit.id / "commit.json").exists():
            shutil.rmtree(self._snapshots / commit.id, ignore_errors=True)
            self._add_snapshot(commit)

    def _parent_of(self, step: int) -> str | None:
        """The newest commit before `step`: after a resume from an older save, history goes on from there."""
        earlier = [commit for commit in self.commits() if commit.step < step]
        return earlier[-1].id if earlier else None

    def _add_blob(self, file: Path, digest: str) -> None:
        blob = self._blobs / digest
        if not blob.exists() or sha256_of(blob) != digest:  # what is damaged is written again
            file.replace(blob)

    def _add_snapshot(self, commit: Commit) -> None:
        with building(self._snapshots / commit.id, self._scratch) as directory:
            for name, digest in commit.files.items():
                (directory / name).symlink_to(Path("..", "..", "blobs", digest))
            write_json(directory / "commit.json", asdict(commit))

    def set_ref(self, name: str, commit: str) -> None:
        """Let `name` stand for the commit of this id."""
        with self.changing():
            self._scratch.mkdir(parents=True, exist_ok=True)
            write_file(self._refs / name, commit, self._scratch)  # a stray file in refs/ would break other tools

    # Reading

    def refs(self) -> dict[str, str]:
        """Name -> commit id."""
        found = {}
        for path in sorted(self._refs.glob("*")):
            with suppress(FileNotFoundError):  # it went a moment ago
                found[path.name] = path.read_text().strip()
        return found

    def commits(self) -> list[Commit]:
        """Every commit, by step."""
        found = []
        for path in self._snapshots.glob("*/commit.json"):
            with suppress(FileNotFoundError):
                found.append(commit_of(read_json(path)))
        return sorted(found, key=lambda commit: (commit.step, commit.time))

    def resolve(self, revision: str) -> Commit:
        """The commit that a ref, a commit id or the beginning of one names. Raises UserError listing what there is."""
        refs = self.refs()
        identifier = refs.get(revision, revision)
        matching = [commit for commit in self.commits() if commit.id.startswith(identifier)]
        if not matching and self.refs().get(revision, identifier) != identifier:  # it moved between the two looks
            return self.resolve(revision)
        if len(matching) != 1 or not identifier:
            known = ", ".join(sorted(refs, key=_natural)) or "none yet"
            raise UserError(f"{self.run} has no revision `{revision}`; it has: {known}")
        return matching[0]

    def snapshot(self, commit: Commit) -> Path:
        """The directory of a commit's files, once their checksums are found right. Raises Damaged if one is not."""
        directory = self._snapshots / commit.id
        for name, digest in commit.files.items():
            path = directory / name
            if not path.exists() or sha256_of(path) != digest:
                earlier = [other for other in self.commits() if other.step < commit.step]
                advice = f"the commit before it is {self.run}@step-{earlier[-1].step}" if earlier else "train it again"
                raise Damaged(f"{path} is damaged: its checksum is not its name; {advice}")
        return directory

    def blob(self, commit: Commit, name: str) -> Path:
        """Where the content of one of a commit's files lies."""
        return self._blobs / commit.files[name]

    def link(self, commit: Commit, name: str, target: Path) -> None:
        """Make `target` another name of a commit's file; a copy where the disk knows no hard links."""
        try:
            os.link(self.blob(commit, name), target)
        except OSError:
            shutil.copyfile(self.blob(commit, name), target)

    # What a commit was found to be worth

    def record_evaluation(
        self, commit: Commit, suite: str, result: Mapping[str, Any], items: Sequence[Mapping[str, Any]] = ()
    ) -> bool:
        """Keep what a commit scored, beside it: its id stays. False where it has been deleted meanwhile."""
        with self.changing():
            if not (self._snapshots / commit.id / "commit.json").exists():
                return False
            self._evaluations.record(commit.id, suite, result, items)
            return True

    def evaluations(self, commit: Commit) -> dict[str, dict[str, Any]]:
        """Its results, by the suites' names."""
        return self._evaluations.of(commit.id)

    def evaluation_items(self, commit: Commit, suite: str) -> list[dict[str, Any]] | None:
        """What each item of a suite scored, where that was kept."""
        return self._evaluations.items(commit.id, suite)

    # What stays

    @contextmanager
    def holding(self, commit: Commit) -> Iterator[Path]:
        """The directory of a commit's files, which nobody takes away before the block ends, whatever `keep` says; for
        who serves or reads it for long. Raises UserError when it has just been deleted."""
        held = self._held / commit.id
        with suppress(OSError):
            held.parent.mkdir(exist_ok=True)
        if not os.access(held.parent, os.W_OK):  # whoever may not write here cannot keep those from deleting who may
            yield self._snapshots / commit.id
            return
        with shared(held):
            if not (self._snapshots / commit.id / "commit.json").exists():
                raise UserError(f"{self.run}@step-{commit.step} was deleted a moment ago; it has: {self._known()}")
            yield self._snapshots / commit.id

    def pin(self, commit_id: str, by: str) -> None:
        """Let a commit stay, whatever `keep` says, for as long as `by` wants it, as `pushed:hub:org/name`."""
        with self.changing():
            pins = self._written_pins()
            pins[commit_id].add(by)
            self._write_pins(pins)

    def unpin(self, commit_id: str, by: str) -> None:
        """Take back a `pin`; one that is not there is no error."""
        with self.changing():
            pins = self._written_pins()
            pins[commit_id].discard(by)
            self._write_pins(pins)

    def pins(self) -> dict[str, set[str]]:
        """Commit id -> who wants it to stay: those who called `pin`, and tags as `tag:NAME`."""
        pins = self._written_pins()
        for name, identifier in self.refs().items():
            if name not in ("main", "best") and not name.startswith("step-"):
                pins[identifier].add(f"tag:{name}")
        return dict(pins)

    def _written_pins(self) -> defaultdict[str, set[str]]:
        written = read_json(self._pins) if self._pins.exists() else {}
        return defaultdict(set, {identifier: set(names) for identifier, names in written.items()})

    def _write_pins(self, pins: Mapping[str, set[str]]) -> None:
        there = {path.name for path in self._snapshots.glob("*")}
        write_json(self._pins, {key: sorted(names) for key, names in sorted(pins.items()) if names and key in there})

    # Deleting

    def remove(self, commit: Commit) -> None:
        """Forget a commit and the refs and pins that name it; `collect` then frees what only it used.

        Raises Busy while a process is `holding` it.
        """
        if not self._let_go(commit):
            raise Busy(f"{self.run}@step-{commit.step} is being read by another process; end that first")

    def _let_go(self, commit: Commit) -> bool:
        """Forget a commit unless somebody is `holding` it."""
        with self.changing():
            self._held.mkdir(exist_ok=True)  # repositories of earlier versions have none
            self._scratch.mkdir(exist_ok=True)
            with alone(self._held / commit.id) as free:
                if not free:
                    return False
                for name, identifier in self.refs().items():
                    if identifier == commit.id:
                        (self._refs / name).unlink()
                if self._pins.exists() and commit.id in (pins := self._written_pins()):
                    self._write_pins({key: names for key, names in pins.items() if key != commit.id})
                doomed = self._scratch / f"gone-{commit.id}"
                shutil.rmtree(doomed, ignore_errors=True)
                (self._snapshots / commit.id).rename(doomed)  # all of it at once, for those who read
                (self._held / commit.id).unlink()
            shutil.rmtree(doomed)
            self._evaluations.remove(commit.id)
            return True

    def remove_unheld(self, commits: list[Commit]) -> list[Commit]:
        """Forget those of the commits that no process is `holding`, and free what only they used; those that went."""
        with self.changing():
            gone = [commit for commit in commits if self._let_go(commit)]
            self.collect()
        return gone

    def collect(self) -> int:
        """Delete the blobs that no commit uses, and what crashes left behind; the bytes that were freed."""
        with self.changing():
            commits = self.commits()
            used = {digest for commit in commits for digest in commit.files.values()}
            there = {commit.id for commit in commits}
            for directory in (self._refs, self._snapshots):
                if directory.is_dir():
                    flush_to_disk(directory)  # that they went, before what they name goes
            freed = sum(_delete(blob) for blob in self._blobs.glob("*") if blob.name not in used)
            freed += sum(_delete(path) for path in self._snapshots.glob("*") if path.name not in there)
            freed += sum(_delete(path) for path in self._missing.glob("*") if path.name not in there)
            freed += self._evaluations.collect(there)
            for name in [path.name for path in self._held.glob("*") if path.name not in there]:
                with alone(self._held / name) as free:
                    if free:
                        (self._held / name).unlink()
            for path in self._scratch.glob("*"):
                with alone(path) as free:
                    freed += _delete(path) if free else 0
            return freed

    def _known(self) -> str:
        return ", ".join(sorted(self.refs(), key=_natural)) or "none yet"


def _delete(path: Path) -> int:
    """Delete a file, or a directory with all in it; the bytes that are free now, which those of a file with another
    name elsewhere are not."""
    if path.is_dir() and not path.is_symlink():
        freed = sum(_delete(inside) for inside in path.iterdir())
        path.rmdir()
        return freed
    status = path.lstat()
    path.unlink()
    return status.st_size if status.st_nlink == 1 and not stat.S_ISLNK(status.st_mode) else 0


def find_repository(hub: Path, name: str) -> Repository:
    """The run called `name`; or, where `name` is RECIPE-STAGE or another beginning of names, the newest of them."""
    prefix = f"models--{NAMESPACE}--"
    runs = sorted(path.name.removeprefix(prefix) for path in hub.glob(f"{prefix}*"))
    stage_of = {run: run[: -len(_DATE) - 1] for run in runs}
    matching = [run for run in runs if name in (run, stage_of[run])] or [run for run in runs if run.startswith(name)]
    several = sorted({stage_of[run] for run in matching})
    if len(several) > 1:
        raise UserError(f"`{name}` could be {' or '.join(several)}; write one of them")
    if not matching:
        known = f"; runs here: {', '.join(runs)}" if runs else "; nothing has been trained here yet"
        near = closest(name, [*runs, *sorted(set(stage_of.values()))])
        raise UserError(f"there is no run `{name}` in {hub}{near or known}")
    return Repository(hub, max(matching, key=lambda run: run[-len(_DATE) :]))


def _natural(name: str) -> tuple[bool, int, str]:
    """step-90 before step-100; other refs first."""
    number = name.removeprefix("step-")
    return (number.isdigit(), int(number) if number.isdigit() else 0, name)
