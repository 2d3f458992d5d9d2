"""Pushing to the Hugging Face Hub with history: one commit there for each save, in their order.

What is there already is read from the Hub itself, so nothing has to be remembered here: each commit's description ends
with the lines `Polyana-Run: RUN` and `Polyana-Commit: ID`. A commit names its parent, which the Hub compares with the
branch's head; so neither a lost answer nor another process makes one twice, and nobody's commit is ever written over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyana.errors import Damaged, PolyanaError, UserError
from polyana.registry.commit import Commit
from polyana.registry.patience import Patience
from polyana.registry.repository import Repository
from polyana.registry.targets import HubTarget
from polyana.storage import read_json, sha256_if_whole

if TYPE_CHECKING:
    from huggingface_hub.hf_api import GitCommitInfo

__all__ = [
    "COMMIT_FILE",
    "EVALUATIONS",
    "HUB_NAMES",
    "RANKING",
    "HubBranch",
    "Origin",
    "be_silent",
    "download",
    "git_hash",
    "origin_of",
    "told",
]

COMMIT_FILE = "commit.json"
HUB_NAMES = "sha256"  # in commit.json there: name -> what the Hub names its content by
RANKING = "ranking"  # there, too: by what `best` was picked when the save was pushed
EVALUATIONS = "evaluations/"  # of the save, as they were when it was pushed
_THEIRS = ".gitattributes"  # made by the Hub, and none of our files
_ORIGIN = re.compile(r"^Polyana-Run: (?P<run>\S+)\s+^Polyana-Commit: (?P<id>[0-9a-f]{40})$", re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    """Which save a commit on the Hub is."""

    run: str
    id: str


def origin_of(commit: GitCommitInfo) -> Origin | None:
    """What a commit's description says; None for a commit that no `push` has made."""
    match = _ORIGIN.search(commit.message)
    return Origin(match["run"], match["id"]) if match else None


def _description(run: str, commit: Commit) -> str:
    more = "\n".join(commit.message.splitlines()[1:]).strip()
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(commit.metrics.items()))
    progress = f"step {commit.step}, {commit.tokens:,} tokens, epoch {commit.epoch:.4g}"
    about = "; ".join(part for part in (progress, metrics) if part)
    origin = f"Polyana-Run: {run}\nPolyana-Commit: {commit.id}"
    return "\n\n".join(part for part in (more, about, origin) if part)


class HubBranch:
    """A branch of a repository on the Hub, and what is known of it. Used by one thread."""

    def __init__(self, target: HubTarget, repository: Repository, *, private: bool) -> None:
        """`private`: of a repository that has to be made."""
        from huggingface_hub import HfApi

        be_silent()
        self.target, self._repository, self._private = target, repository, private
        self._api = HfApi()
        self._known = False
        self._head: str | None = None
        self._tree: dict[str, str] = {}  # path -> SHA-256, or `git:` and git's hash where the Hub tells that alone
        self._sent: dict[str, str] = {}  # our id -> the Hub's
        self._known_as: dict[str, str] = {}  # our checksums -> SHA-256, which the Hub names content by
        self._squashed: set[str] = set()  # ours that were there, and are one commit with a later one now

    def send(self, commits: Iterable[Commit], patience: Patience, done: Callable[[Commit], None]) -> list[Commit]:
        """Make those of `commits` that are not there yet, in this order; those that are new there. `done` is told of
        each that is there now.

        Raises UserError where the branch holds what is not of this run, or the Hub refuses; Unreachable when it has
        not answered for longer than `patience` waits.
        """
        commits, before = list(commits), None
        while True:
            try:
                if not self._known:
                    self._look()
                before = {*self._sent, *self._squashed} if before is None else before
                for commit in commits:
                    if commit.id not in self._sent and commit.id not in self._squashed:
                        self._add(commit)
                        patience.progress()
                    done(commit)
                return [commit for commit in commits if commit.id not in before]
            except PolyanaError:
                self._known = False
                raise
            except Exception as error:  # the Hub's, the connection's, or a race that somebody else has won
                self._known = False  # whether the commit was made after all
                patience.after(told(error, self.target), f"pushing to {self.target}")

    def tag(self, refs: Mapping[str, str], patience: Patience, say: Callable[[str], None]) -> list[str]:
        """Let the Hub's tags name what `refs` do (name -> our id); those that were made or moved.

        The Hub moves no tag: one that names another commit is deleted and made again.
        """
        prefix = "" if self.target.branch == "main" else f"{self.target.branch}-"
        changed: list[str] = []
        while True:
            try:
                found = self._api.list_repo_refs(self.target.name)
                there = {tag.name: tag.target_commit for tag in found.tags}
                branches = {branch.name for branch in found.branches}
                for ref, identifier in refs.items():
                    name, commit = prefix + ref, self._sent.get(identifier)
                    if ref == "main" or commit is None or there.get(name) == commit:
                        continue
                    if name in branches or (name in there and there[name] not in self._sent.values()):
                        what = "a branch" if name in branches else "a tag of somebody else's"
                        say(f"  {self.target}: `{name}` is {what} there and stays as it is")
                        continue
                    if name in there:
                        self._api.delete_tag(self.target.name, tag=name)
                        del there[name]
                    self._api.create_tag(self.target.name, tag=name, revision=commit)
                    changed.append(name)
                    patience.progress()
                return changed
            except PolyanaError:
                raise
            except Exception as error:
                patience.after(told(error, self.target), f"tagging on {self.target}")

    # What is there

    def _look(self) -> None:
        """Read the branch, and make what is missing of repository and branch."""
        from huggingface_hub.errors import RepositoryNotFoundError

        api, name, branch = self._api, self.target.name, self.target.branch
        try:
            private = api.model_info(name).private
        except RepositoryNotFoundError:
            api.create_repo(name, private=self._private, exist_ok=True)
            private = self._private
        if self._private and private is False:
            raise UserError(
                f"{self.target} is public, and runs are pushed to private repositories; write `private: false` "
                "(--public) if all may see it, or name another repository"
            )
        branches = {each.name: each.target_commit for each in api.list_repo_refs(name).branches}
        if branch not in branches and branch != "main":
            start = self._start_of_branch(api.list_repo_commits(name))
            api.create_branch(name, branch=branch, revision=start, exist_ok=True)
        history = api.list_repo_commits(name, revision=branch) if branches else []
        self._head = history[0].commit_id if history else None
        self._tree = self._tree_of(self._head) if self._head else {}
        self._sent = {origin.id: commit.commit_id for commit in reversed(history) if (origin := self._own(commit))}
        if history and not self._own(history[0]) and not self._known_by_file(history[0]):
            self._check_stranger(history)
        self._known = True

    def _own(self, commit: GitCommitInfo) -> Origin | None:
        origin = origin_of(commit)
        return origin if origin and origin.run == self._repository.run else None

    def _known_by_file(self, head: GitCommitInfo) -> bool:
        """Whether the head is one of our saves by its commit.json, as after the Hub's history was squashed."""
        if COMMIT_FILE not in self._tree:
            return False
        try:
            identifier = json.loads(download(self.target.name, head.commit_id, COMMIT_FILE))["id"]
        except (ValueError, KeyError, TypeError):
            return False
        commits = self._repository.commits()
        found = [commit for commit in commits if commit.id == identifier]
        if not found or identifier in self._sent or origin_of(head):  # in the last two cases it lies on top of ours
            return False
        files = {path: key for path, key in self._tree.items() if path not in (COMMIT_FILE, _THEIRS)}
        files = {path: key for path, key in files.items() if not path.startswith(EVALUATIONS)}
        if set(files) != set(found[0].files):
            return False
        for path, key in files.items():
            blob = self._repository.blob(found[0], path)
            if key not in (self._sha256(found[0], path), f"git:{git_hash(blob.read_bytes())}"):
                return False
        self._sent[identifier] = head.commit_id
        self._squashed = {commit.id for commit in commits[: commits.index(found[0])]}
        return True

    def _check_stranger(self, history: list[GitCommitInfo]) -> None:
        """Raises UserError unless the branch is as the Hub makes it: empty."""
        head = history[0]
        theirs = [commit for commit in history if not self._own(commit)]
        other = f"; or to a branch of its own, as `hub:{self.target.name}@{self._repository.run[:40].rstrip('-_.')}`"
        if len(theirs) < len(history):
            who = ", ".join(head.authors) or "somebody"
            raise UserError(
                f"{self.target}: on top of this run's commits lies one that is not of this run: `{head.title}`, by "
                f"{who} on {head.created_at:%Y-%m-%d %H:%M}. It is not written over: push to another repository{other}"
            )
        if runs := {origin.run for commit in history if (origin := origin_of(commit))}:
            raise UserError(f"{self.target} holds the run {sorted(runs)[0]}; push to another repository{other}")
        if files := sorted(set(self._tree) - {_THEIRS}):
            some = ", ".join(files[:4]) + (", ..." if len(files) > 4 else "")
            raise UserError(
                f"{self.target} holds files that are not of this run ({some}), which a push would take away; "
                f"push to a new repository{other}"
            )

    def _start_of_branch(self, history: list[GitCommitInfo]) -> str:
        """Where a new branch leaves `main`: after this run's newest commit there, else at the beginning of all."""
        own = [commit.commit_id for commit in history if self._own(commit)]
        return own[0] if own else history[-1].commit_id

    def _tree_of(self, revision: str) -> dict[str, str]:
        from huggingface_hub.hf_api import RepoFile

        entries = self._api.list_repo_tree(self.target.name, recursive=True, revision=revision)
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
        return {file.path: file.lfs.sha256 if file.lfs else f"git:{file.blob_id}" for file in files}

    # Sending

    def _add(self, commit: Commit) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = []
        files = {name: self._sha256(commit, name) for name in commit.files}
        for name, digest in files.items():
            if self._tree.get(name) == digest:
                continue
            adding = CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(self._repository.blob(commit, name)))
            adding.upload_info.sha256 = bytes.fromhex(digest)
            operations.append(adding)
        written = read_json(self._repository.path / "snapshots" / commit.id / COMMIT_FILE)
        more = {HUB_NAMES: files, RANKING: asdict(self._repository.ranking())}
        about = json.dumps(written | more, ensure_ascii=False, indent=1).encode()
        operations.append(CommitOperationAdd(path_in_repo=COMMIT_FILE, path_or_fileobj=about))
        evaluated = {EVALUATIONS + name: str(path) for name, path in self._repository.evaluation_files(commit).items()}
        operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in evaluated.items()]
        gone = set(self._tree) - set(commit.files) - set(evaluated) - {COMMIT_FILE, _THEIRS}
        operations += [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in sorted(gone)]
        made = self._api.create_commit(
            self.target.name,
            operations,
            commit_message=(commit.message.splitlines() or [""])[0].strip() or f"step {commit.step}",
            commit_description=_description(self._repository.run, commit),
            revision=self.target.branch,
            parent_commit=self._head,
        )
        self._head, self._sent[commit.id] = made.oid, made.oid
        kept = {path: digest for path, digest in self._tree.items() if path == _THEIRS}
        self._tree = kept | files | dict.fromkeys([COMMIT_FILE, *evaluated], "")

    def _sha256(self, commit: Commit, name: str) -> str:
        """What the Hub calls the content of one of a commit's files. Raises Damaged when it is not what it was."""
        checksum = commit.files[name]
        if checksum not in self._known_as:
            blob = self._repository.blob(commit, name)
            found = sha256_if_whole(blob, checksum) if blob.exists() else None
            if found is None:
                raise Damaged(
                    f"{name} of {self._repository.run}@step-{commit.step} is damaged and was not pushed; "
                    f"`polyana models verify {self._repository.run}` says what is whole"
                )
            self._known_as[checksum] = found
        return self._known_as[checksum]


def git_hash(content: bytes) -> str:
    """What git calls a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def be_silent() -> None:
    """Let the Hub's client log no warnings, which print addresses that are signed."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def download(name: str, revision: str, path: str) -> bytes:
    """The content of a small file on the Hub. Raises what its client raises."""
    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory() as directory:
        return Path(hf_hub_download(name, path, revision=revision, local_dir=directory)).read_bytes()


def told(error: Exception, target: HubTarget) -> Exception:
    """A refusal as a letter; anything else as it is."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return UserError("HF_HUB_OFFLINE is set; unset it to push")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status in (401, 403):
        return UserError(
            f"the Hub refuses ({status}): it wants a token that may write to {target.name}; set HF_TOKEN, or run "
            "`hf auth login`"
        )
    return error
