"""Who wants a commit to stay, whatever `keep` says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from polyana.storage import read_json, write_json

__all__ = ["Pins"]


class Pins:
    """The pins.json of one repository: {"COMMIT": ["pushed:hub:org/name"]}. Whoever changes it holds the repository's
    lock; what it says of commits that are not there is left out when it is written."""

    def __init__(self, file: Path, snapshots: Path) -> None:
        self._file, self._snapshots = file, snapshots

    def read(self) -> defaultdict[str, set[str]]:
        """Commit id -> who wants it to stay."""
        written = read_json(self._file) if self._file.exists() else {}
        return defaultdict(set, {identifier: set(names) for identifier, names in written.items()})

    def add(self, commit_ids: Iterable[str], by: str) -> None:
        """Let commits stay for as long as `by` wants them."""
        pins = self.read()
        new = [identifier for identifier in commit_ids if by not in pins[identifier]]
        for identifier in new:
            pins[identifier].add(by)
        if new:
            self._write(pins)

    def discard(self, commit_ids: Iterable[str], by: str) -> None:
        """`by` wants them no longer; whether or not it did."""
        pins = self.read()
        gone = [identifier for identifier in commit_ids if by in pins[identifier]]
        for identifier in gone:
            pins[identifier].discard(by)
        if gone:
            self._write(pins)

    def forget(self, commit_id: str) -> int:
        """Nobody wants it; the bytes that the file is shorter by."""
        pins = self.read()
        if pins.pop(commit_id, None) is None:
            return 0
        before = self._file.stat().st_size
        self._write(pins)
        return before - self._file.stat().st_size

    def _write(self, pins: Mapping[str, set[str]]) -> None:
        there = {path.name for path in self._snapshots.glob("*")}
        write_json(self._file, {key: sorted(names) for key, names in sorted(pins.items()) if names and key in there})
