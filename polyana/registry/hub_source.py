"""Reading a model repository of the Hugging Face Hub as commits, whoever has made it.

A commit that `push` made is the same one here: the same id, files, metrics. Anybody else's, as a base or what somebody
changed on the Hub's page, becomes a commit with the Hub's own id and no step.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from polyana.errors import Damaged, PolyanaError, UserError
from polyana.registry.commit import Commit, Ranking, commit_of
from polyana.registry.hub import (
    COMMIT_FILE,
    EVALUATIONS,
    HUB_NAMES,
    RANKING,
    be_silent,
    download,
    git_hash,
    origin_of,
    told,
)
from polyana.registry.patience import Patience
from polyana.registry.targets import HubTarget
from polyana.storage import has_checksum

__all__ = ["HubSource"]

T = TypeVar("T")
_ID = re.compile(r"[0-9a-f]{7,40}")
_ABOUT = ("*.json", "*.jinja", "*.model", "*.txt", "README.md", "LICENSE*", "*.safetensors")
_OLDER = "pytorch_model*.bin"  # read where there is no safetensors file


class HubSource:
    """A repository on the Hub to pull from."""

    def __init__(self, target: HubTarget, patience: Patience) -> None:
        from huggingface_hub import HfApi

        be_silent()
        self.target, self._patience, self._api = target, patience, HfApi()
        self._small: dict[str, bytes] = {}  # SHA-256 -> content of what lies in git itself, 10 MB at most each
        self._blobs: dict[str, str] = {}  # git's hash of them -> SHA-256
        self._named: dict[str, str] = {}  # our checksums -> SHA-256
        self._evaluated: dict[str, list[str]] = {}  # the Hub's id -> files of evaluations
        self._ranking: Ranking | None = None
        self._at: dict[str, str] = {}  # our id -> the Hub's
        self.run = target.name.rpartition("/")[2]

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a commit of the Hub or one of ours names. Raises UserError listing what
        there is. `run` is the run's name afterwards."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> str | None:
            try:
                return str(self._api.model_info(self.target.name, revision=revision).sha)
            except GatedRepoError:
                what = "its owner must let you in: ask on its page, then set HF_TOKEN"
                raise UserError(f"{self.target}: {what}") from None
            except RepositoryNotFoundError:
                raise UserError(
                    f"{self.target}: the Hub has no such model, or it is private and HF_TOKEN is not set to a token "
                    "that may read it"
                ) from None
            except RevisionNotFoundError:
                return None

        found = self._patiently(ask)
        if found is None and _ID.fullmatch(revision):
            history = self._history("main")
            own = {(origin.id, at) for at, origin in history if origin and origin.id.startswith(revision)}
            found = own.pop()[1] if len(own) == 1 else None
        if found is None:
            known = ", ".join(name for name, _ in self._names()) or "none"
            raise UserError(f"{self.target} has no revision `{revision}`; it has: {known}")
        runs = [origin.run for _, origin in self._history(found) if origin]
        self.run = runs[0] if runs else self.run
        return self._commit_at(found)

    def before(self, commit: Commit) -> list[Commit]:
        """The saves that lead up to a commit, oldest first."""
        history = self._history(self._at[commit.id])
        saves = [self._commit_at(at) for at, origin in reversed(history) if origin and at != self._at[commit.id]]
        return [save for save in saves if save.id != commit.id]

    def names(self, commits: Sequence[Commit]) -> dict[str, str]:
        """The branches and tags that name one of the commits, with its id."""
        ids = {self._at[commit.id]: commit.id for commit in commits}
        return {name: ids[at] for name, at in self._names() if at in ids}

    def knows(self, identifier: str) -> bool:
        """Whether a commit of this id lies on the branch `main`."""
        return identifier in self._at or any(
            identifier == (origin.id if origin else at) for at, origin in self._history("main")
        )

    def fetch(self, commit: Commit, name: str, target: Path) -> None:
        """Write one of a commit's files to `target`. Raises Damaged when it is not what the Hub says it is."""
        from huggingface_hub import hf_hub_download

        small = self._small.get(self._named[commit.files[name]])
        if small is not None:
            target.write_bytes(small)
        else:
            scratch = target.parent / ".download"
            found = self._patiently(
                lambda: hf_hub_download(self.target.name, name, revision=self._at[commit.id], local_dir=scratch)
            )
            Path(found).replace(target)
        if not has_checksum(target, commit.files[name]):
            raise Damaged(f"{name} came from {self.target} damaged: its checksum is another; pull it again")

    def evaluations(self, commit: Commit) -> dict[str, bytes]:
        """The files in which a commit's evaluations are kept, by name."""
        at = self._at[commit.id]
        return {
            path.removeprefix(EVALUATIONS): self._patiently(partial(download, self.target.name, at, path))
            for path in self._evaluated.get(at, ())
        }

    def ranking(self) -> Ranking | None:
        """By what `best` was picked when the commit that was asked for was pushed; None of what no push has made."""
        return self._ranking

    def _commit_at(self, at: str) -> Commit:
        files, about = self._files_at(at), None
        own = files.pop(COMMIT_FILE, None)
        if own is not None:
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                written = json.loads(self._small[own])
                if written.get(HUB_NAMES, written["files"]) == files and set(written["files"]) == set(files):
                    about = commit_of(written)
                    self._ranking = self._ranking or Ranking.read(written.get(RANKING))
        if about is None:  # nobody's save, or what it became when somebody changed it
            (head, *_) = self._patiently(lambda: self._api.list_repo_commits(self.target.name, revision=at))
            about = Commit(at, None, 0, 0, 0.0, head.title, {}, "", files, head.created_at.timestamp())
        self._at[about.id] = at
        self._named |= {about.files[name]: files[name] for name in files}
        return about

    def _files_at(self, at: str) -> dict[str, str]:
        """Name -> SHA-256 of the files that matter; those that lie in git itself are fetched, for git knows no SHA-256.

        Raises UserError when there are no weights, and Damaged.
        """
        from huggingface_hub.hf_api import RepoFile

        entries: list[Any] = self._patiently(
            lambda: list(self._api.list_repo_tree(self.target.name, recursive=True, revision=at))
        )
        found = {each.path: each for each in entries if isinstance(each, RepoFile)}
        self._evaluated[at] = [path for path in found if path.startswith(EVALUATIONS)]
        found = {path: each for path, each in found.items() if "/" not in path}
        names = [name for name in found if any(fnmatch.fnmatch(name, pattern) for pattern in _ABOUT)]
        if not any(name.endswith(".safetensors") for name in names):
            names += fnmatch.filter(found, _OLDER)
            if not fnmatch.filter(names, _OLDER):
                raise UserError(f"{self.target} holds no weights: no .safetensors file and no pytorch_model.bin")
        if COMMIT_FILE in found:  # of ours all: a picture in the model's card, too
            names = [name for name in found if name != ".gitattributes"]
        digests = {}
        for name in names:
            lfs = found[name].lfs
            if lfs:
                digests[name] = lfs.sha256
                continue
            if found[name].blob_id in self._blobs:  # the same in many saves
                digests[name] = self._blobs[found[name].blob_id]
                continue
            content = self._patiently(partial(download, self.target.name, at, name))
            if git_hash(content) != found[name].blob_id:
                raise Damaged(f"{name} came from {self.target} damaged: git's checksum is another; pull it again")
            digests[name] = hashlib.sha256(content).hexdigest()
            self._small[digests[name]], self._blobs[found[name].blob_id] = content, digests[name]
        return digests

    def _history(self, revision: str) -> list[tuple[str, Any]]:
        """(the Hub's id, which save it is) of all commits, newest first."""
        found = self._patiently(lambda: self._api.list_repo_commits(self.target.name, revision=revision))
        return [(commit.commit_id, origin_of(commit)) for commit in found]

    def _names(self) -> list[tuple[str, str]]:
        refs = self._patiently(lambda: self._api.list_repo_refs(self.target.name))
        return [(ref.name, ref.target_commit) for ref in (*refs.branches, *refs.tags)]

    def _patiently(self, ask: Callable[[], T]) -> T:
        while True:
            try:
                answer = ask()
            except PolyanaError:
                raise
            except Exception as error:  # the Hub's, or the connection's
                self._patience.after(told(error, self.target), f"pulling from {self.target}")
            else:
                self._patience.progress()
                return answer
