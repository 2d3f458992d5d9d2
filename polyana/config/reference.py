"""A setting that names another stage of the same recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from polyana.config.config import Config, config_classes, kind_of
from polyana.config.source import KeyPath

__all__ = ["StageReference", "references_of"]


@dataclass(frozen=True, slots=True)
class StageReference:
    """Marks a field as the name of a stage of one of the kinds: `Annotated[str, StageReference(("corpus",))]`.

    Of a list, each is one. `stage_of`: the stage's name in what is written, or None where that is something else.
    """

    kinds: tuple[str, ...]
    stage_of: Callable[[str], str | None] = str


def references_of(kind: type[Config], settings: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, tuple[str, ...]]]:
    """(path, name of the stage, kinds it may have) for each reference in a stage's settings, checked or not yet."""
    for name, field in kind.model_fields.items():
        given = settings.get(name)
        for mark in (mark for mark in field.metadata if isinstance(mark, StageReference)):
            for path, written in _named(name, given):
                stage = mark.stage_of(written)
                if stage is not None:
                    yield path, stage, mark.kinds
        classes = config_classes(field.annotation)
        for inner_path, inner in _settings(name, given):
            for cls in classes:
                if len(classes) == 1 or kind_of(cls) == str(inner.get("kind")):
                    for path, stage, kinds in references_of(cls, inner):
                        yield (*inner_path, *path), stage, kinds


def _named(name: str, given: Any) -> Iterator[tuple[KeyPath, str]]:
    """The names that a setting has in it: one, or a list of them."""
    if isinstance(given, str):
        yield (name,), given
    elif isinstance(given, list):
        yield from (((name, place), each) for place, each in enumerate(given) if isinstance(each, str))


def _settings(name: str, given: Any) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    if isinstance(given, Mapping):
        yield (name,), given
    elif isinstance(given, list):
        yield from (((name, place), each) for place, each in enumerate(given) if isinstance(each, Mapping))
