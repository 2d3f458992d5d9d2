"""A setting that names another stage of the same recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from polyana.config.config import Config
from polyana.config.source import KeyPath

__all__ = ["StageReference", "references_of"]


@dataclass(frozen=True, slots=True)
class StageReference:
    """Marks a field as the name of a stage of the given kind: `Annotated[str, StageReference("corpus")]`."""

    kind: str


def references_of(kind: type[Config], settings: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """(path, name of the stage, kind it must have) for each reference in a stage's settings, checked or not yet."""
    for name, field in kind.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, StageReference) and isinstance(settings.get(name), str):
                yield (name,), settings[name], mark.kind
