"""The base class of every config, and the reader that turns what is wrong into letters with file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from polyana.config.quantity import Quantity
from polyana.config.source import KeyPath, Source, closest
from polyana.errors import Problem

__all__ = ["Config", "read_config"]

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Settings of one part, declared beside that part.

    Unknown keys and wrong types are errors. What can only be judged from several settings together goes into
    `problems`. Marks in `json_schema_extra`: "watching" says how a run is watched, not what it makes, so that changing
    it does not make a stage run again; "path" names files, relative to the recipe, whose content counts and not their
    place.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """(path within this config, what is wrong and what to write instead) for each impossible combination."""
        yield from ()

    def identity(self) -> dict[str, Any]:
        """The settings that decide what this config makes, as plain data."""
        return {
            name: _plain(getattr(self, name), lambda config: config.identity())
            for name, field in type(self).model_fields.items()
            if not _marks(field) & {"watching", "path"}
        }

    def resolved(self, base: Path) -> dict[str, Any]:
        """All settings as plain data, paths made absolute from `base`."""
        result = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if "path" in _marks(field) and value is not None:
                value = str(base / Path(value).expanduser())
            result[name] = _plain(value, lambda config: config.resolved(base))
        return result


def _marks(field: FieldInfo) -> set[str]:
    return set(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else set()


def _plain(value: Any, of_config: Callable[[Config], dict[str, Any]]) -> Any:
    """A setting's value as YAML or JSON holds it."""
    if isinstance(value, Config):
        return of_config(value)
    if isinstance(value, list):
        return [_plain(item, of_config) for item in value]
    return str(value) if isinstance(value, Quantity) else value


def read_config(cls: type[C], data: Any, source: Source, path: KeyPath) -> tuple[C | None, list[Problem]]:
    """`data`, found at `path` of `source`, as a `cls`; or None and every problem found in it."""
    if not isinstance(data, dict):
        known = ", ".join(cls.model_fields)
        return None, [Problem(source.where(path), f"`{_dotted(path)}` should be settings: {known}")]
    try:
        config = cls.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        letters = [_letter(cls, detail, source, path) for detail in details]
        broken = {detail["loc"][0] for detail in details if detail["loc"]}
        for name, field in cls.model_fields.items():  # what is whole within a broken config is still checked
            inner = _config_class(field.annotation)
            if inner and name not in broken and isinstance(data.get(name), dict):
                letters += read_config(inner, data[name], source, (*path, name))[1]
        return None, letters
    return config, list(_combinations(config, source, path))


def _combinations(config: Config, source: Source, path: KeyPath) -> Iterator[Problem]:
    for inner_path, what in config.problems():
        yield Problem(source.where((*path, *inner_path)), what)
    for name in type(config).model_fields:
        for index, item in _configs_in(getattr(config, name)):
            yield from _combinations(item, source, (*path, name, *index))


def _configs_in(value: Any) -> Iterable[tuple[KeyPath, Config]]:
    if isinstance(value, Config):
        yield (), value
    elif isinstance(value, list):
        yield from (((index,), item) for index, item in enumerate(value) if isinstance(item, Config))


def _letter(cls: type[Config], detail: ErrorDetails, source: Source, path: KeyPath) -> Problem:
    """One pydantic error as a sentence that says what to write."""
    location = tuple(detail["loc"])
    key = str(location[-1]) if location else ""
    where = source.where((*path, *location))
    given = detail.get("input")
    owner = _config_at(cls, location[:-1])
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            known = list(owner.model_fields) if owner else []
            near = closest(key, known)
            what = f"unknown key `{key}`{near or '; known here: ' + ', '.join(known)}"
        case "missing":
            hint = owner.model_fields[key].description if owner and key in owner.model_fields else None
            return Problem(source.where((*path, *location[:-1])), f"`{key}` is missing{': ' + hint if hint else ''}")
        case "literal_error":
            choices = [choice.strip("'") for choice in str(context["expected"]).replace(" or ", ", ").split(", ")]
            near = closest(str(given), choices)
            what = f"`{key}: {given}` is not known{near or '; write one of: ' + ', '.join(choices)}"
        case "value_error":
            what = f"`{key}`: {context['error']}"
        case "model_type" | "dict_type":
            inner = _config_at(cls, location)
            what = f"`{key}` should be settings{': ' + ', '.join(inner.model_fields) if inner else ''}, not `{given}`"
        case "list_type":
            what = f"`{key}: {given}` should be a list; write it in [ ] or with one `- ` a line"
        case "int_type" | "int_from_float":
            what = f"`{key}: {given}` should be a whole number"
        case "float_type":
            what = f"`{key}: {given}` should be a number"
        case "bool_type":
            what = f"`{key}: {given}` should be true or false"
        case "string_type":
            what = f"`{key}: {given}` should be text; put it in quotes if it is meant so"
        case _:
            what = f"`{key}: {given}`: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    return Problem(where, what)


def _config_at(cls: type[Config], location: KeyPath) -> type[Config] | None:
    """The config class that the settings at `location` within `cls` belong to."""
    current: Any = cls
    for part in location:
        if isinstance(part, str):
            field = current.model_fields.get(part) if current else None
            current = _config_class(field.annotation) if field else None
    return current if isinstance(current, type) and issubclass(current, Config) else None


def _config_class(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, Config) else None
    if get_origin(annotation) in (list, Union) or get_args(annotation):
        for argument in get_args(annotation):
            found = _config_class(argument)
            if found:
                return found
    return None


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)
