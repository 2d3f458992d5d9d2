"""Content hashes of the user's files, remembered by size and modification time as git's index does."""

from __future__ import annotations

import time
from pathlib import Path

from polyana.errors import Damaged
from polyana.storage.checksum import sha256_of
from polyana.storage.durable import read_json, write_json

__all__ = ["ContentDigests"]

_RACE = 2.0  # seconds; a file changed this recently could change again within its time stamp's resolution (git: racy)


class ContentDigests:
    """SHA-256 of files, computed once per change. `save` writes what was learned to `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[object]] = {}
        self._changed = False
        if path.is_file():
            try:
                self._known = read_json(path)
            except Damaged:  # only a memory of what can be computed again
                self._known = {}

    def of(self, path: Path) -> str:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        key = str(path.resolve())
        if key in self._known and self._known[key][:3] == stamp:
            return str(self._known[key][3])
        digest = sha256_of(path)
        if time.time() - status.st_mtime > _RACE:
            self._known[key] = [*stamp, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        if self._changed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self._known)
            self._changed = False
