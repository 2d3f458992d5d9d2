"""Every save is a commit, in the layout of the Hugging Face cache.

    HOME/hub/models--polyana--RUN/
        blobs/SHA256                      a file's content; the same content is stored once
        snapshots/COMMIT/                 one commit: links to blobs, under the files' names, and commit.json
        refs/main, best, step-500         a commit's id
        .no_exist/COMMIT/config.json      said of an adapter, as the hub's client notes it: the commit has no such file
        arriving/                         a commit on its way
        evaluations/COMMIT/               what it was found to be worth (evaluations.py)

So `HF_HUB_CACHE=HOME/hub HF_HUB_OFFLINE=1` lets unmodified Hugging Face tools load `polyana/RUN` at any revision.
A commit appears by one rename; a crash before it leaves blobs that nothing refers to, which `collect` removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyana.config import closest
from polyana.errors import Damaged, UserError
from polyana.registry.evaluations import Evaluations
from polyana.storage import building, flush_to_disk, read_json, sha256_of, write_file, write_json

__all__ = ["NAMESPACE", "Commit", "Repository", "find_repository"]

NAMESPACE = "polyana"
_DATE = "2026-11-22_01.02.03"  # what a run's name ends with


@dataclass(frozen=True)
class Commit:
    """One save: `id` is 40 hexadecimal digits that follow from everything below but the time."""

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


class Repository:
    """The commits of one run."""

    def __init__(self, hub: Path, run: str) -> None:
        self.run = run
        self.path = hub / f"models--{NAMESPACE}--{run}"
        self._blobs, self._refs, self._snapshots = (self.path / name for name in ("blobs", "refs", "snapshots"))
        self._missing = self.path / ".no_exist"
        self._scratch = self.path / "arriving"  # on the same disk, where other tools do not look
        self._evaluations = Evaluations(self.path / "evaluations")

    def arriving(self, step: int) -> Path:
        """An empty directory on the registry's disk, to write the files of a commit into."""
        directory = self._scratch / f"step-{step}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def exists(self) -> bool:
        return self._snapshots.is_dir()

    def commit(
        self,
        files: Path,
        step: int,
        tokens: int,
        epoch: float,
        message: str,
        metrics: Mapping[str, float],
        recipe: str,
    ) -> Commit:
        """Take the files of a directory (moving them) as a new commit on top of `main`; sets `main` and `step-STEP`.

        Committing again what is there already gives the same commit.
        """
        for directory in (self._blobs, self._refs, self._snapshots):
            directory.mkdir(parents=True, exist_ok=True)
        digests = {path.name: sha256_of(path) for path in sorted(files.iterdir())}
        parent = self._parent_of(step)
        content = [parent, step, tokens, recipe, digests]
        identifier = hashlib.sha1(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        commit = Commit(
            identifier,
            parent,
            step,
            tokens,
            epoch,
            message,
            dict(metrics),
            recipe,
            digests,
            round(time.time(), 3),
        )
        for name, digest in digests.items():
            self._add_blob(files / name, digest)
        if "config.json" not in digests:  # an adapter: unless it is known that there is none, tokenizers do not load
            (self._missing / identifier).mkdir(parents=True, exist_ok=True)
            (self._missing / identifier / "config.json").touch()
        if not (self._snapshots / identifier / "commit.json").exists():
            shutil.rmtree(self._snapshots / identifier, ignore_errors=True)
            self._add_snapshot(commit)
        for other in self.commits():
            if other.step == step and other.id != identifier:  # made before retention took its parent
                self.remove(other)
        self.set_ref(f"step-{step}", identifier)
        self.set_ref("main", identifier)
        shutil.rmtree(files)
        return commit

    def _parent_of(self, step: int) -> str | None:
        """The newest commit before `step`: after a resume from an older save, history goes on from there."""
        earlier = [commit for commit in self.commits() if commit.step < step]
        return earlier[-1].id if earlier else None

    def _add_blob(self, file: Path, digest: str) -> None:
        blob = self._blobs / digest
        if not blob.exists() or sha256_of(blob) != digest:  # what is damaged is written again
            flush_to_disk(file)
            file.replace(blob)
            flush_to_disk(self._blobs)

    def _add_snapshot(self, commit: Commit) -> None:
        with building(self._snapshots / commit.id, self._scratch) as directory:
            for name, digest in commit.files.items():
                (directory / name).symlink_to(Path("..", "..", "blobs", digest))
            write_json(directory / "commit.json", asdict(commit))

    def set_ref(self, name: str, commit: str) -> None:
        self._scratch.mkdir(exist_ok=True)
        write_file(self._refs / name, commit, self._scratch)  # a stray file in refs/ would break other tools

    def refs(self) -> dict[str, str]:
        """Name -> commit id."""
        if not self._refs.is_dir():
            return {}
        return {path.name: path.read_text().strip() for path in sorted(self._refs.iterdir())}

    def commits(self) -> list[Commit]:
        """Every commit, by step."""
        found = [Commit(**read_json(path)) for path in self._snapshots.glob("*/commit.json")]
        return sorted(found, key=lambda commit: (commit.step, commit.time))

    def resolve(self, revision: str) -> Commit:
        """The commit that a ref, a commit id or the beginning of one names. Raises UserError listing what there is."""
        refs = self.refs()
        identifier = refs.get(revision, revision)
        matching = [commit for commit in self.commits() if commit.id.startswith(identifier)]
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

    def remove(self, commit: Commit) -> None:
        """Forget a commit and the refs that name it; `collect` then frees what only it used."""
        for name, identifier in self.refs().items():
            if identifier == commit.id:
                (self._refs / name).unlink()
        doomed = self._snapshots / commit.id
        (doomed / "commit.json").unlink()  # from here on it is no commit, whatever happens next
        shutil.rmtree(doomed)
        self._evaluations.remove(commit.id)

    def collect(self) -> int:
        """Delete the blobs that no commit uses, and what crashes left behind; the bytes that were freed."""
        used = {digest for commit in self.commits() for digest in commit.files.values()}
        freed = 0
        for blob in self._blobs.glob("*"):
            if blob.name not in used:
                freed += blob.stat().st_size if blob.stat().st_nlink == 1 else 0
                blob.unlink()
        for snapshot in self._snapshots.glob("*"):
            if not (snapshot / "commit.json").exists():
                shutil.rmtree(snapshot)
        for noted in self._missing.glob("*"):
            if not (self._snapshots / noted.name).exists():
                shutil.rmtree(noted)
        shutil.rmtree(self._scratch, ignore_errors=True)
        return freed + self._evaluations.collect({commit.id for commit in self.commits()})

    def record_evaluation(
        self, commit: Commit, suite: str, result: Mapping[str, Any], items: Sequence[Mapping[str, Any]] = ()
    ) -> bool:
        """Keep what a commit scored, beside it: its id stays. False where it has been deleted meanwhile."""
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

    def blob(self, commit: Commit, name: str) -> Path:
        """Where the content of one of a commit's files lies."""
        return self._blobs / commit.files[name]

    def link(self, commit: Commit, name: str, target: Path) -> None:
        """Make `target` another name of a commit's file; a copy where the disk knows no hard links."""
        try:
            os.link(self.blob(commit, name), target)
        except OSError:
            shutil.copyfile(self.blob(commit, name), target)


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
