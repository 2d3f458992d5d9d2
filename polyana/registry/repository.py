"""Every save is a commit, in the layout of the Hugging Face cache.

    HOME/hub/models--polyana--RUN/
        blobs/CHECKSUM                    a file's content; the same content is stored once (storage/checksum.py)
        snapshots/COMMIT/                 one commit: links to blobs, under the files' names, and commit.json
        refs/main, best, step-500         a commit's id
        .no_exist/COMMIT/config.json      said of an adapter, as the hub's client notes it: the commit has no such file
        pins.json                         who wants a commit to stay (pins.py)
        ranking.json                      by what `best` was picked, unless by the lowest eval/loss
        held/COMMIT                       locked by each process that reads the commit for long
        served/COMMIT.RANDOM              locked by the server that answers with the commit (served.py)
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
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyana.errors import Busy, Damaged, UserError
from polyana.registry.commit import Commit, Ranking, by_number
from polyana.registry.evaluations import Evaluations
from polyana.registry.pins import Pins
from polyana.registry.served import locked_note, served_by
from polyana.storage import (
    alone,
    building,
    checksum_of,
    delete,
    flush_to_disk,
    has_checksum,
    json_text,
    link_or_copy,
    locked,
    read_json,
    shared,
    write_files,
    write_json,
)

__all__ = ["NAMESPACE", "Repository"]

NAMESPACE = "polyana"
_PATIENCE = 600.0  # seconds that a writer waits for another; guess: far more than any of them takes


class Repository:
    """The commits of one run."""

    def __init__(self, hub: Path, run: str) -> None:
        self.run = run
        self.path = hub / f"models--{NAMESPACE}--{run}"
        self._blobs, self._refs, self._snapshots = (self.path / name for name in ("blobs", "refs", "snapshots"))
        self._missing = self.path / ".no_exist"
        self._scratch = self.path / "arriving"  # on the same disk, where other tools do not look
        self._held, self._served = self.path / "held", self.path / "served"
        self._pins = Pins(self.path / "pins.json", self._snapshots)
        self._ranking = self.path / "ranking.json"
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

    def bring(self, digest: str, target: Path) -> bool:
        """Make `target` another name of a blob that is there; False where there is none, or it is damaged."""
        blob = self._blobs / digest
        if not blob.exists() or not has_checksum(blob, digest):
            return False
        link_or_copy(blob, target)
        return True

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
        known: Mapping[str, str] | None = None,
    ) -> Commit:
        """Take the files of a directory as a new commit on top of `main`; sets `main` and `step-STEP`. The directory
        goes. `known`: checksums of those files that are on the disk for sure.

        Committing again what is there already gives the same commit; when it fails, the files are still there. Raises
        Busy when another process does not stop changing the repository.
        """
        digests = {path.name: (known or {}).get(path.name) or checksum_of(path) for path in sorted(files.iterdir())}
        flush_to_disk(*(files / name for name in digests if name not in (known or {})))
        with self.changing():
            others = self.commits()
            earlier = [other for other in others if other.step < step]  # after a resume history goes on from there
            parent = earlier[-1].id if earlier else None
            content = [parent, step, tokens, recipe, digests]
            identifier = hashlib.sha1(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
            commit = Commit(
                identifier, parent, step, tokens, epoch, message, dict(metrics), recipe, digests,
                round(time.time(), 3), environment,
            )  # fmt: skip
            self._store(commit, files)
            self._set_refs(f"step-{step}", "main", to=identifier)
            pinned = self.pins()
            for other in others:
                if other.step == step and other.id != identifier and other.id not in pinned:
                    self._let_go(other)  # made before retention took its parent
        self.discard(files)
        return commit

    def name_newest(self) -> None:
        """Let `main` and `step-STEP` stand for the newest commit where `commit` was killed just before they did: it is
        whole, but nothing names it."""
        with self.changing():
            refs, commits = self.refs(), self.commits()
            if not commits or (newest := commits[-1]).id in refs.values():
                return
            step_of_main = next((each.step for each in commits if each.id == refs.get("main")), None)
            if step_of_main in (None, newest.step) or newest.parent == refs["main"]:  # else it was pulled by its id
                self._set_refs(f"step-{newest.step}", "main", to=newest.id)

    def receive(self, commit: Commit, files: Path) -> None:
        """Take a commit that was made elsewhere, as it is: those of its files that are not here are moved from a
        directory that `arriving` gave. No ref is set. Raises Damaged when a file is neither here nor there."""
        arrived = [name for name in commit.files if (files / name).exists()]
        flush_to_disk(*(files / name for name in arrived))
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
        if "config.json" not in commit.files:  # an adapter: unless that is known, tokenizers do not load
            (self._missing / commit.id).mkdir(parents=True, exist_ok=True)
            (self._missing / commit.id / "config.json").touch()
        if not (self._snapshots / commit.id / "commit.json").exists():
            shutil.rmtree(self._snapshots / commit.id, ignore_errors=True)
            self._add_snapshot(commit)

    def _add_blob(self, file: Path, digest: str) -> None:
        blob = self._blobs / digest
        if not blob.exists() or not has_checksum(blob, digest):  # what is damaged is written again
            aside = self._scratch / f"{digest}.blob"
            aside.unlink(missing_ok=True)
            link_or_copy(file, aside)
            aside.replace(blob)

    def _add_snapshot(self, commit: Commit) -> None:
        with building(self._snapshots / commit.id, self._scratch, after=[self._blobs]) as directory:
            for name, digest in commit.files.items():
                (directory / name).symlink_to(Path("..", "..", "blobs", digest))
            (directory / "commit.json").write_text(json_text(asdict(commit)), encoding="utf-8")

    def set_ref(self, name: str, commit: str) -> None:
        """Let `name` stand for the commit of this id."""
        self._set_refs(name, to=commit)

    def _set_refs(self, *names: str, to: str) -> None:
        with self.changing():
            self._scratch.mkdir(parents=True, exist_ok=True)
            # A stray file in refs/ would break other tools.
            write_files({self._refs / name: to for name in names}, self._scratch)

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
        for name in os.listdir(self._snapshots) if self._snapshots.is_dir() else ():  # noqa: PTH208  half glob's time
            with suppress(FileNotFoundError):
                found.append(Commit.read(self._snapshots / name / "commit.json"))
        return sorted(found, key=lambda commit: (commit.step, commit.time))

    def resolve(self, revision: str) -> Commit:
        """The commit that a ref, a commit id or the beginning of one names. Raises UserError listing what there is."""
        refs = self.refs()
        identifier = refs.get(revision, revision)
        matching = [commit for commit in self.commits() if commit.id.startswith(identifier)]
        if not matching and self.refs().get(revision, identifier) != identifier:  # it moved between the two looks
            return self.resolve(revision)
        if len(matching) != 1 or not identifier:
            raise UserError(f"{self.run} has no revision `{revision}`; it has: {self._known()}")
        return matching[0]

    def snapshot(self, commit: Commit) -> Path:
        """The directory of a commit's files, once their checksums are found right. Raises Damaged if one is not."""
        directory = self._snapshots / commit.id
        for name, digest in commit.files.items():
            path = directory / name
            if not path.exists() or not has_checksum(path, digest):
                earlier = [other for other in self.commits() if other.step < commit.step]
                advice = f"the commit before it is {self.run}@step-{earlier[-1].step}" if earlier else "train it again"
                raise Damaged(f"{path} is damaged: its checksum is not its name; {advice}")
        return directory

    def blob(self, commit: Commit, name: str) -> Path:
        """Where the content of one of a commit's files lies."""
        return self._blobs / commit.files[name]

    def blob_sizes(self) -> dict[str, int]:
        """Bytes of each file's content that is stored, by its checksum."""
        if not self._blobs.is_dir():
            return {}
        with os.scandir(self._blobs) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}

    def link(self, commit: Commit, name: str, target: Path) -> None:
        """Make `target` another name of a commit's file; a copy where the disk knows no hard links."""
        link_or_copy(self.blob(commit, name), target)

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

    def evaluation_files(self, commit: Commit) -> dict[str, Path]:
        """The files in which they are kept."""
        return self._evaluations.files(commit.id)

    def bring_evaluations(self, commit: Commit, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        """Keep what a commit was found to be worth elsewhere, as `files` has it there; `replace`: also where another
        result of the suite is kept here."""
        with self.changing():
            if files and (self._snapshots / commit.id / "commit.json").exists():
                self._evaluations.bring(commit.id, files, replace=replace)

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

    @contextmanager
    def serving(self, commit: Commit, by: str) -> Iterator[None]:
        """Pin a commit that one is `holding` as `served:BY`, until the block ends or the process does."""
        with locked_note(self._served, commit.id, by):
            yield

    def pin(self, commit_id: str, by: str) -> None:
        """Let a commit stay, whatever `keep` says, for as long as `by` wants it, as `pushed:hub:org/name`."""
        self.pin_all([commit_id], by)

    def pin_all(self, commit_ids: Iterable[str], by: str) -> None:
        """`pin` several at once."""
        with self.changing():
            self._pins.add(commit_ids, by)

    def unpin(self, commit_id: str, by: str) -> None:
        """Take back a `pin`; one that is not there is no error."""
        self.unpin_all([commit_id], by)

    def unpin_all(self, commit_ids: Iterable[str], by: str) -> None:
        """`unpin` several at once."""
        with self.changing():
            self._pins.discard(commit_ids, by)

    def pins(self) -> dict[str, set[str]]:
        """Commit id -> who wants it to stay: those who called `pin`, tags as `tag:NAME`, and servers as `served:BY`."""
        pins = self._pins.read()
        for identifier, servers in served_by(self._served).items():
            pins[identifier].update(f"served:{server}" for server in servers)
        for name, identifier in self.refs().items():
            if name not in ("main", "best") and not name.startswith("step-"):
                pins[identifier].add(f"tag:{name}")
        return dict(pins)

    def ranking(self, usual: str = "eval/loss") -> Ranking:
        """By what `best` is chosen: what somebody has picked by, or else the usual, as `Ranking.of` reads it."""
        return Ranking(**read_json(self._ranking)) if self._ranking.exists() else Ranking.of(usual)

    def rank_by(self, ranking: Ranking) -> None:
        """Let `best` be chosen by this from now on, by training too."""
        with self.changing():
            write_json(self._ranking, asdict(ranking))

    # Deleting

    def remove(self, commit: Commit) -> int:
        """Forget a commit and the refs and pins that name it; the bytes this alone has freed. `collect` then frees what
        only it used. Raises Busy while a process is `holding` it."""
        freed = self._let_go(commit)
        if freed is None:
            raise Busy(f"{self.run}@step-{commit.step} is being read by another process; end that first")
        return freed

    def _let_go(self, commit: Commit) -> int | None:
        """Forget a commit, for some bytes, unless somebody is `holding` it."""
        with self.changing():
            self._held.mkdir(exist_ok=True)  # repositories of earlier versions have none
            self._scratch.mkdir(exist_ok=True)
            with alone(self._held / commit.id) as free:
                if not free:
                    return None
                names = [name for name, identifier in self.refs().items() if identifier == commit.id]
                freed = sum(delete(self._refs / name) for name in names)
                freed += self._pins.forget(commit.id)
                doomed = self._scratch / f"gone-{commit.id}"
                shutil.rmtree(doomed, ignore_errors=True)
                (self._snapshots / commit.id).rename(doomed)  # all of it at once, for those who read
                (self._held / commit.id).unlink()
            there = {path.name for path in self._snapshots.glob("*")}
            return freed + delete(doomed) + self._evaluations.collect(there)

    def remove_unheld(self, commits: list[Commit]) -> list[Commit]:
        """Forget those of the commits that no process is `holding`, and free what only they used; those that went."""
        with self.changing():
            gone = [commit for commit in commits if self._let_go(commit) is not None]
            self.collect()
        return gone

    def delete_ref(self, name: str) -> None:
        """Take a name away; the commit stays."""
        with self.changing():
            (self._refs / name).unlink(missing_ok=True)

    def vanish(self) -> int:
        """Delete what is left of a repository without commits; the bytes that are free now. One that is being made
        meanwhile stays."""
        with self.changing():
            if self.commits() or any(self._scratch.glob("*")):
                return 0
            freed = sum(delete(path) for path in self.path.iterdir() if not path.name.startswith(".lock"))
            for path in self.path.glob(".lock*"):  # last: those who wait for it see that it is gone, and begin anew
                path.unlink()
            self.path.rmdir()
            return freed

    def collect(self) -> int:
        """Delete the blobs that no commit uses, and what crashes left behind; the bytes that were freed."""
        with self.changing():
            commits = self.commits()
            used = {digest for commit in commits for digest in commit.files.values()}
            there = {commit.id for commit in commits}
            self.name_newest()
            for directory in (self._refs, self._snapshots):
                if directory.is_dir():
                    flush_to_disk(directory)  # that they went, before what they name goes
            freed = sum(delete(blob) for blob in self._blobs.glob("*") if blob.name not in used)
            freed += sum(delete(path) for path in self._snapshots.glob("*") if path.name not in there)
            freed += sum(delete(path) for path in self._missing.glob("*") if path.name not in there)
            freed += self._evaluations.collect(there)
            for name in [path.name for path in self._held.glob("*") if path.name not in there]:
                with alone(self._held / name) as free:
                    if free:
                        (self._held / name).unlink()
            for path in (*self._scratch.glob("*"), *self._served.glob("*")):
                with suppress(FileNotFoundError), alone(path) as free:  # a server that ends takes its note along
                    freed += delete(path) if free else 0
            return freed

    def _known(self) -> str:
        return ", ".join(sorted(self.refs(), key=by_number)) or "none yet"
