"""What is to be pushed while training goes on. Nothing of it is kept in memory: what waits is pinned in the repository,
so retention leaves it alone, and a later process finds what an earlier one did not come to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from polyana.config import Config, KeyPath, Quantity, SaveEvery, Wait
from polyana.errors import Damaged, UserError
from polyana.registry.commit import Commit
from polyana.registry.repository import Repository
from polyana.registry.targets import DirectoryTarget, Target, check_target, parse_target
from polyana.storage import read_json, write_json

__all__ = ["PushConfig", "PushQueue", "PushSetting"]


class PushConfig(Config):
    """Where saves are sent while training goes on, in the background. A place that does not answer is not felt in
    training, and what it missed is sent later; what waits to be sent stays on the disk, whatever `keep` says."""

    to: str = Field(
        description="`hub:org/name`, or `hub:org/name@branch`; `s3://bucket/path` or another address that fsspec "
        "knows; or a directory as `./shared`"
    )
    every: SaveEvery = Field(
        Quantity(1, "saves"),
        description="as `5 saves` or `1000 steps`: then what has been saved since and is still kept; the end is always "
        "sent",
    )
    stays: bool = Field(
        True,
        description="whether what was sent stays here, too, whatever `keep` says; where false, `keep` takes it then",
    )
    private: bool = Field(
        True, description="of a repository of the Hub that is made; true refuses to push to a public one"
    )
    wait: Wait = Field(
        Quantity(5, "minutes"), description="how long the end of training waits for what is not sent yet"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        try:
            check_target(parse_target(self.to))
        except UserError as error:
            yield ("to",), error.problems[0].what

    def resolved(self, base: Path) -> dict[str, Any]:
        target = parse_target(self.to, base)
        return super().resolved(base) | ({"to": str(target)} if isinstance(target, DirectoryTarget) else {})


PushSetting = Annotated[PushConfig, BeforeValidator(lambda value: {"to": value} if isinstance(value, str) else value)]
"""Settings, or just where to."""


class PushQueue:
    """The commits of a run that are to be sent to a target and have not been."""

    def __init__(self, repository: Repository, target: Target) -> None:
        self._repository, self._by = repository, f"queued:{target}"
        self._key, self._notes = str(target), repository.path / "queue.json"

    def saved(self, step: int, every: Quantity) -> None:
        """A save has been made at `step`: count it, and queue what is there when `every` says so."""
        with self._repository.changing():
            note = self._note()
            if note["step"] == step:  # told again, as after a crash
                return
            note["step"], note["saves"] = step, note["saves"] + 1
            if every.unit == "saves":
                due = note["saves"] >= every.amount
            else:
                due = step // every.amount > note["sent_at"] // every.amount
            self._keep(note)
            if due:
                self.everything()

    def everything(self) -> None:
        """Queue every commit that is there and never was."""
        with self._repository.changing():
            self._repository.name_newest()
            note, commits = self._note(), self._repository.commits()
            self._repository.pin_all((each.id for each in commits if each.id not in note["queued"]), self._by)
            sent_at = commits[-1].step if commits else 0
            self._keep(note | {"queued": [commit.id for commit in commits], "saves": 0, "sent_at": sent_at})

    def waiting(self) -> list[Commit]:
        """What is queued, by step."""
        pins = self._repository.pins()
        return [commit for commit in self._repository.commits() if self._by in pins.get(commit.id, ())]

    def sent(self, commit: Commit, stays: bool) -> None:
        """A commit has arrived. `stays`: here, too."""
        with self._repository.changing():
            if stays:
                self._repository.pin(commit.id, f"pushed:{self._key}")
            self._repository.unpin(commit.id, self._by)

    def _note(self) -> dict[str, Any]:
        found: dict[str, Any] = self._read().get(self._key, {})
        return {"step": -1, "saves": 0, "sent_at": 0, "queued": []} | found

    def _read(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, Damaged):
            return dict(read_json(self._notes))
        return {}

    def _keep(self, note: dict[str, Any]) -> None:
        write_json(self._notes, self._read() | {self._key: note})
