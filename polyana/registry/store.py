"""A registry at an address: S3 and what speaks its protocol, and any other file system that fsspec knows.

    ADDRESS/models--polyana--RUN/
        blobs/CHECKSUM                  a file's content, as on a disk
        snapshots/COMMIT/commit.json    one commit; its `files` say which blob is which file: stores know no links
        refs/main, best, step-500       a commit's id
        ranking.json                    by what `best` was picked, as on a disk
        evaluations/COMMIT/             what it was found to be worth, as on a disk; the last who pushes is right

A commit is written from below: its blobs, then commit.json, then the refs. So whatever a reader finds is whole, and a
push that was cut off leaves blobs that the next one finds. Nothing is ever deleted there but by hand.

On S3, blobs and commit.json are made with If-None-Match and refs are moved with If-Match: of two writers one wins, and
the other looks again. Other stores have no such condition: an object appears whole, but of two who move a ref in the
same moment the later wins, whatever the earlier has read.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from polyana.config import closest
from polyana.errors import Damaged, PolyanaError, UserError
from polyana.registry.commit import Commit, Ranking, commit_of
from polyana.registry.patience import Patience
from polyana.registry.repository import NAMESPACE, Repository
from polyana.registry.targets import StoreTarget, check_target
from polyana.storage import has_checksum, json_text

__all__ = ["StoredRepository", "choose_run", "is_ahead", "runs_in_store"]

T = TypeVar("T")
_PREFIX = f"models--{NAMESPACE}--"
_ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}  # an object appears whole
_RANKING = "ranking.json"
_RACES = 20  # lost in a row before we give up on a ref; guess


def _open(target: StoreTarget) -> tuple[Any, str]:
    """What reads and writes an address, and the path there. Raises UserError where nothing that is installed does."""
    from fsspec.core import url_to_fs

    check_target(target)
    system, path = url_to_fs(target.address)
    return system, str(path).rstrip("/")


def runs_in_store(target: StoreTarget, patience: Patience) -> list[str]:
    """The runs that a registry at an address holds; none where there is no registry."""
    system, root = _open(target)

    def listed() -> list[str]:
        system.invalidate_cache()
        try:
            names = [str(path).rstrip("/").rpartition("/")[2] for path in system.ls(root, detail=False)]
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))

    return _patiently(listed, patience, f"reading {target}")


def _patiently(work: Callable[[], T], patience: Patience, what: str) -> T:
    while True:
        try:
            found = work()
        except PolyanaError:
            raise
        except Exception as error:  # every store has errors of its own
            patience.after(error, what)
        else:
            patience.progress()
            return found


class StoredRepository:
    """The commits of one run, in a registry at an address."""

    def __init__(self, target: StoreTarget, run: str, patience: Patience) -> None:
        self.target, self.run = target, run
        self._patience = patience
        self._system, root = _open(target)
        self._root = f"{root}/{_PREFIX}{run}"
        protocol = self._system.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)

    # Reading

    def commits(self) -> list[Commit]:
        """Every commit, by step."""
        contents = self._read_all([path for path in self._list("snapshots", 2) if path.endswith("/commit.json")])
        found = [commit for content in contents.values() if (commit := _commit_in(content))]
        return sorted(found, key=lambda commit: (commit.step, commit.time))

    def commit(self, identifier: str) -> Commit | None:
        """The commit of this id, or None; one that cannot be read is none, and the next push of it writes it again."""
        return _commit_in(self._read(f"snapshots/{identifier}/commit.json")[0])

    def ids(self) -> set[str]:
        """The ids of all commits."""
        return {path.split("/")[-2] for path in self._list("snapshots", 2) if path.endswith("/commit.json")}

    def refs(self) -> dict[str, str]:
        """Name -> commit id."""
        read = {path.rpartition("/")[2]: content for path, content in self._read_all(self._list("refs", 1)).items()}
        named = {name: content.decode(errors="replace").strip() for name, content in read.items()}
        return {name: identifier for name, identifier in sorted(named.items()) if len(identifier) == 40}

    def resolve(self, revision: str) -> Commit:
        """The commit that a ref, a commit id or the beginning of one names. Raises UserError listing what there is."""
        refs, ids = self.refs(), self.ids()
        matching = [each for each in ids if each.startswith(refs.get(revision, revision or "-"))]
        found = self.commit(matching[0]) if len(matching) == 1 else None
        if found is None:
            known = ", ".join(refs) or "none yet"
            raise UserError(f"{self.run} in {self.target} has no revision `{revision}`; it has: {known}")
        return found

    def before(self, commit: Commit) -> list[Commit]:
        """The commits that lead up to it."""
        return [other for other in self.commits() if other.step < commit.step]

    def names(self, commits: Sequence[Commit]) -> dict[str, str]:
        """The refs that name one of the commits, with its id."""
        wanted = {commit.id for commit in commits}
        return {name: identifier for name, identifier in self.refs().items() if identifier in wanted}

    def knows(self, identifier: str) -> bool:
        """Whether there is a commit of this id."""
        return identifier in self.ids()

    def fetch(self, commit: Commit, name: str, target: Path) -> None:
        """Write one of a commit's files to `target`. Raises Damaged when it is not what was pushed."""
        blob = f"blobs/{commit.files[name]}"

        def get() -> None:
            try:
                self._system.get_file(self._at(blob), str(target))
            except FileNotFoundError:
                raise Damaged(f"{self.target}: {self.run}@step-{commit.step} lacks {name}; push it again") from None

        _patiently(get, self._patience, f"pulling from {self.target}")
        if not has_checksum(target, commit.files[name]):
            target.unlink()
            raise Damaged(
                f"{self._at(blob)} is damaged: its checksum is not its name. Delete it there, and push "
                f"{self.run}@step-{commit.step} again from where it is whole"
            )

    def evaluations(self, commit: Commit) -> dict[str, bytes]:
        """The files in which a commit's evaluations are kept, by name."""
        found = self._read_all(self._list(f"evaluations/{commit.id}", 1))
        return {path.rpartition("/")[2]: content for path, content in found.items()}

    def ranking(self) -> Ranking | None:
        """By what `best` is picked there; None where nothing says."""
        return _ranking_in(self._read(_RANKING)[0])

    # Writing

    def send(self, repository: Repository, commits: Iterable[Commit], done: Callable[[Commit], None]) -> list[Commit]:
        """Make those of `commits` that are not there yet, in this order; those that are new there. `done` is told of
        each that is there now. Raises UserError and Unreachable, as `Patience` does, and Damaged."""
        there, new = self.ids(), []
        for commit in commits:
            if commit.id not in there or self.commit(commit.id) is None:
                for name, digest in commit.files.items():
                    self._add_blob(repository.blob(commit, name), digest, f"{name} of {self.run}@step-{commit.step}")
                about = repository.path / "snapshots" / commit.id / "commit.json"
                self._write(f"snapshots/{commit.id}/commit.json", about, again=commit.id in there)
                new.append(commit)
            self._send_evaluations(repository.evaluation_files(commit), commit)
            done(commit)
        return new

    def _send_evaluations(self, files: Mapping[str, Path], commit: Commit) -> None:
        there = self.evaluations(commit) if files else {}
        for name, path in files.items():
            if there.get(name) != path.read_bytes():
                self._write(f"evaluations/{commit.id}/{name}", path, again=name in there)

    def point(self, refs: Mapping[str, str], steps: Mapping[str, int]) -> list[str]:
        """Let the refs there name what `refs` do; those that were made or moved. `steps`: of the commits known here.

        `main` only ever moves forward, so that of two machines it shows the furthest, whoever comes last.
        """
        changed, there = [], self.refs()
        for name, identifier in refs.items():
            if there.get(name) == identifier:
                continue
            for _ in range(_RACES):
                old, tag = self._read(f"refs/{name}")
                named = old.decode(errors="replace").strip()
                known = steps
                if name == "main" and len(named) == 40 and named not in steps and (other := self.commit(named)):
                    known = {**steps, named: other.step}
                if named == identifier or (name == "main" and is_ahead(named, identifier, known)):
                    break
                swap = partial(self._swap, f"refs/{name}", identifier, old, tag)
                if _patiently(swap, self._patience, f"pushing to {self.target}"):
                    changed.append(name)
                    break
            else:
                raise PolyanaError(f"{self.target}: others kept moving `{name}`; the same command tries again")
        return changed

    def rank_by(self, ranking: Ranking) -> None:
        """Say there by what `best` is picked."""
        old, tag = self._read(_RANKING)
        if ranking != (_ranking_in(old) or Ranking()):
            swap = partial(self._swap, _RANKING, json_text(asdict(ranking)), old, tag)
            _patiently(swap, self._patience, f"pushing to {self.target}")  # of two at once one wins

    # One object

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _list(self, directory: str, depth: int) -> list[str]:
        def listed() -> list[str]:
            self._system.invalidate_cache()
            try:
                return sorted(map(str, self._system.find(self._at(directory), maxdepth=depth)))
            except FileNotFoundError:
                return []

        found: list[str] = _patiently(listed, self._patience, f"reading {self.target}")
        return [path for path in found if not path.endswith(".arriving")]

    def _read_all(self, paths: list[str]) -> dict[str, bytes]:
        """Path -> content, all at once where the store can do that; of what has just gone nothing."""

        def read() -> dict[str, bytes]:
            found = self._system.cat(paths, on_error="return") if paths else {}
            for error in found.values():
                if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
                    raise error
            return {path: bytes(content) for path, content in found.items() if not isinstance(content, Exception)}

        return _patiently(read, self._patience, f"reading {self.target}")

    def _read(self, path: str) -> tuple[bytes, str]:
        """(content, what it is known by to a conditional write), or (b"", "") of what is not there."""

        def read() -> tuple[bytes, str]:
            self._system.invalidate_cache()
            try:
                tag = ""
                if "s3" in self._protocols:  # first: of a content that changes between the two no write comes after
                    tag = str(self._system.info(self._at(path))["ETag"])
                return bytes(self._system.cat_file(self._at(path))), tag
            except FileNotFoundError:
                return b"", ""

        found: tuple[bytes, str] = _patiently(read, self._patience, f"reading {self.target}")
        return found

    def _size(self, path: str) -> int | None:
        self._system.invalidate_cache()
        try:
            return int(self._system.info(self._at(path))["size"])
        except FileNotFoundError:
            return None

    def _add_blob(self, blob: Path, digest: str, what: str) -> None:
        if not blob.exists() or not has_checksum(blob, digest):
            raise Damaged(f"{what} is damaged here and was not pushed; `polyana models verify` says what is whole")
        path = f"blobs/{digest}"
        size = _patiently(lambda: self._size(path), self._patience, f"pushing to {self.target}")
        if size != blob.stat().st_size:  # one of another size is damaged
            self._write(path, blob, again=size is not None)

    def _write(self, path: str, source: Path, *, again: bool) -> None:
        """Upload what its path alone decides; whoever else did it a moment ago has written the same. `again`: over
        what is there and damaged."""

        def write() -> None:
            with contextlib.suppress(FileExistsError):
                if "s3" in self._protocols:
                    self._system.put_file(str(source), self._at(path), mode="overwrite" if again else "create")
                else:
                    self._place(path, lambda place: self._system.put_file(str(source), place))

        _patiently(write, self._patience, f"pushing to {self.target}")

    def _swap(self, path: str, content: str, old: bytes, tag: str) -> bool:
        """Replace `old`, known by `tag`, or nothing where both are empty; whether nobody else has come in between."""
        if "s3" in self._protocols:
            condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
            bucket, key, _ = self._system.split_path(self._at(path))
            try:
                self._system.call_s3("put_object", Bucket=bucket, Key=key, Body=content.encode(), **condition)
            except OSError as error:
                if _lost_race(error):
                    return False
                raise
            return True
        if self._read(path)[0] != old:
            return False
        self._place(path, lambda place: self._system.pipe_file(place, content.encode()))
        return True

    def _place(self, path: str, write: Callable[[str], Any]) -> None:
        """Let an object appear whole: at once where the store does so, else by renaming it."""
        place = self._at(path)
        if self._protocols & _ATOMIC:
            write(place)
            return
        self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
        arriving = f"{place}.{os.getpid()}-{uuid.uuid4().hex[:8]}.arriving"
        try:
            write(arriving)
            self._system.mv(arriving, place)
        except BaseException:
            with contextlib.suppress(Exception):
                self._system.rm(arriving)
            raise


def _commit_in(content: bytes) -> Commit | None:
    """The commit that commit.json holds; None of one that is torn."""
    with contextlib.suppress(ValueError, TypeError):
        return commit_of(json.loads(content)) if content else None
    return None


def _ranking_in(content: bytes) -> Ranking | None:
    with contextlib.suppress(ValueError):
        return Ranking.read(json.loads(content))
    return None


def _lost_race(error: OSError) -> bool:
    """Whether S3 said that somebody else has written: 412, or 409 while they still are (ConditionalRequestConflict)."""
    if isinstance(error, FileExistsError):
        return True
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", {})
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412)


def is_ahead(named: str | None, identifier: str, steps: Mapping[str, int]) -> bool:
    """Whether a commit that `main` names is further than another one; of equal steps, any order that all agree on.

    One that is not in `steps` is not there, or its ref was torn by a store that cannot do better.
    """
    return named in steps and named is not None and (steps[named], named) > (steps[identifier], identifier)


def choose_run(runs: list[str], name: str, where: str) -> str:
    """The one of `runs` that `name` is or begins, or that it is when `name` is "". Raises UserError listing them."""
    matching = [run for run in runs if run == name] or [run for run in runs if run.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(runs[-10:]) or "none"
    if not matching:
        raise UserError(f"{where} holds no run `{name}`{closest(name, runs) or ''}; it has: {known}")
    raise UserError(f"{where} holds several runs; write {where}/RUN with one of: {known}")
