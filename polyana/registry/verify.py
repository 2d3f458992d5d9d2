"""Is everything there as it was written? Every byte is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from polyana.errors import Damaged
from polyana.registry.commit import Commit
from polyana.registry.repository import Repository
from polyana.storage import has_checksum

__all__ = ["Trouble", "verify"]


@dataclass(frozen=True)
class Trouble:
    """Something that is not as it was written. `commit`: RUN@step-N; empty where it is nobody's."""

    commit: str
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.commit or 'no commit'}  {self.file}  {self.what}"


def verify(repository: Repository) -> Iterator[Trouble]:
    """What is wrong in a repository: content that is not what its name says, links and refs that lead nowhere,
    commit.json that cannot be read. A file that many commits share is read once, and named for each."""
    commits = []
    for path in sorted(repository.path.glob("snapshots/*/commit.json")):
        try:
            commits.append(Commit.read(path))
        except (Damaged, TypeError) as damage:
            yield Trouble(f"{repository.run}@{path.parent.name[:12]}", "commit.json", f"cannot be read: {damage}")
    wrong: dict[str, str] = {}
    for digest in sorted({digest for commit in commits for digest in commit.files.values()}):
        blob = repository.path / "blobs" / digest
        if not blob.exists():
            wrong[digest] = f"is missing: there is no {blob}"
        elif not has_checksum(blob, digest):
            wrong[digest] = f"is damaged: the checksum of {blob} is not its name"
    for commit in commits:
        name = f"{repository.run}@step-{commit.step}"
        for file, digest in commit.files.items():
            link = repository.path / "snapshots" / commit.id / file
            if digest in wrong:
                yield Trouble(name, file, wrong[digest])
            elif not link.is_symlink() or link.resolve().name != digest:
                yield Trouble(name, file, f"leads elsewhere: {link} should be a link to the blob {digest[:19]}...")
    yield from _names(repository, {commit.id for commit in commits})


def _names(repository: Repository, known: set[str]) -> Iterator[Trouble]:
    """Refs and pins that name no commit."""
    for ref, identifier in repository.refs().items():
        if identifier not in known:
            yield Trouble("", f"refs/{ref}", f"names {identifier[:12] or 'nothing'}, which is no commit")
    for commit_id, names in repository.pins().items():
        if commit_id not in known:
            yield Trouble("", "pins.json", f"{', '.join(sorted(names))} pins {commit_id[:12]}, which is no commit")
