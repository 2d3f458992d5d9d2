"""What finished stages made: found again by the content hash of everything that went into it.

    HOME/stages/KIND-FINGERPRINT/   the stage's files
                    artifact.json   what made them, and the size and SHA-256 of each

A directory of that name exists only when its stage has finished (see `building`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyana.errors import Damaged
from polyana.storage.checksum import sha256_of
from polyana.storage.durable import building, read_json, write_json
from polyana.storage.lock import locked

__all__ = ["Artifact", "ArtifactStore", "Making", "Step", "changes", "fingerprint", "fingerprints"]


def fingerprint(content: Any) -> str:
    """A hash of plain data that does not depend on the order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Making:
    """Everything that decides what a stage makes.

    `version` is raised by hand when the code's output changes for the same settings; tests hold it against
    recorded outputs. `inputs` are the fingerprints of what the stage reads.
    """

    kind: str
    version: int
    settings: dict[str, Any]
    inputs: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.kind, self.version, self.settings, self.inputs])


@dataclass(frozen=True)
class Artifact:
    """A finished stage's directory."""

    directory: Path
    fingerprint: str

    def damage(self) -> str | None:
        """What is wrong with the files, as text for the user; None when all are as they were written."""
        try:
            files = read_json(self.directory / "artifact.json")["files"]
        except Damaged as damage:
            return str(damage)
        for name, (size, digest) in files.items():
            path = self.directory / name
            if not path.is_file():
                return f"{path} is missing"
            if path.stat().st_size != size or sha256_of(path) != digest:
                return f"{path} is damaged (its checksum is not the one it was written with)"
        return None


@dataclass(frozen=True)
class Step:
    """One thing to have: `fill` writes its files into a directory. `used_by` is its name to the user: RECIPE/STAGE."""

    used_by: str
    making: Making
    fill: Callable[[Path], None]


def fingerprints(steps: Mapping[str, Step]) -> dict[str, str]:
    """What the steps' results are found by, under the same names."""
    return {name: step.making.fingerprint for name, step in steps.items()}


class ArtifactStore:
    """The finished stages below `home`; `say(stage, text)` tells the user what is made and why."""

    def __init__(self, home: Path, say: Callable[[str, str], None]) -> None:
        self.directory = home / "stages"
        self._say = say
        self._sound: set[str] = set()  # fingerprints of what this process has made or checked

    def find(self, making: Making) -> Artifact | None:
        """The finished stage that `making` describes; None if there is none."""
        directory = self.place(making)
        return Artifact(directory, making.fingerprint) if (directory / "artifact.json").is_file() else None

    def get(self, step: Step) -> Artifact:
        """A finished stage whose files have the right checksums: the one that is there, or one made now.

        Raises Busy if another process is making it.
        """
        found = self.find(step.making)
        if found and step.making.fingerprint in self._sound:
            return found
        name = step.used_by.rpartition("/")[2]
        if found and (damage := found.damage()):
            self._say(name, f"{damage}: making it again")
            self.discard(found)
        elif found:
            self._sound.add(step.making.fingerprint)
            return found
        else:
            self._say(name, self.why(step))
        return self._make(step)

    def _make(self, step: Step) -> Artifact:
        making, target = step.making, self.place(step.making)
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self.directory / f".{target.name}.lock", f"{step.used_by} is being made by another process"):
            if found := self.find(making):  # by somebody who has just let go of the lock
                return found
            shutil.rmtree(target, ignore_errors=True)
            with building(target) as directory:
                step.fill(directory)
                files = {
                    str(path.relative_to(directory)): [path.stat().st_size, sha256_of(path)]
                    for path in sorted(directory.rglob("*"))
                    if path.is_file()
                }
                about = {"kind": making.kind, "version": making.version, "settings": making.settings}
                more = {"inputs": making.inputs, "used_by": step.used_by, "made": time.time(), "files": files}
                write_json(directory / "artifact.json", about | more)
        self._sound.add(making.fingerprint)
        return Artifact(target, making.fingerprint)

    def discard(self, artifact: Artifact) -> None:
        shutil.rmtree(artifact.directory)

    def why(self, step: Step) -> str:
        """Why nothing finished fits: what changed since the last one, in the user's words."""
        making = step.making
        earlier = []
        for path in self.directory.glob(f"{making.kind}-*/artifact.json"):
            with suppress(Damaged):
                earlier += [about for about in [read_json(path)] if about["used_by"] == step.used_by]
        if not earlier:
            return "not made yet"
        last = max(earlier, key=lambda about: float(about["made"]))
        if last["version"] != making.version:
            return "Polyana's code for it has changed"
        found = changes(last["settings"], making.settings)
        found += [f"{name} has changed" for name in making.inputs if last["inputs"].get(name) != making.inputs[name]]
        return "; ".join(found[:3]) + ("; ..." if len(found) > 3 else "") if found else "its result is gone"

    def place(self, making: Making) -> Path:
        """Where the finished stage lies, or will."""
        return self.directory / f"{making.kind}-{making.fingerprint[:16]}"


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two settings, as `lr was 0.1, is 0.2`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [
            change for key in keys for change in changes(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(old, list) and isinstance(new, list) and any(isinstance(each, dict) for each in old + new):
        if len(old) != len(new):
            return [f"{path} had {len(old)} entries, has {len(new)}"]
        pairs = enumerate(zip(old, new, strict=True))
        return [change for index, (one, other) in pairs for change in changes(one, other, f"{path}.{index}")]
    return [] if old == new else [f"{path} was {_shown(old)}, is {_shown(new)}"]


def _shown(value: Any) -> str:
    """A setting as a recipe has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
