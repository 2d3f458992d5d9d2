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
        for mark in field.metadata:
            if not isinstance(mark, StageReference):
                continue
            given = settings.get(name)
            listed: list[Any] = given if isinstance(given, list) else [given]
            for place, written in enumerate(listed):
                stage = mark.stage_of(written) if isinstance(written, str) else None
                if stage is not None:
                    yield (name, place) if listed is given else (name,), stage, mark.kinds
        if isinstance(settings.get(name), list):
            classes = {kind_of(each): each for each in config_classes(field.annotation) if "kind" in each.model_fields}
            for place, inner in enumerate(settings[name]):
                if isinstance(inner, Mapping) and str(inner.get("kind")) in classes:
                    for path, stage, kinds in references_of(classes[str(inner["kind"])], inner):
                        yield (name, place, *path), stage, kinds
