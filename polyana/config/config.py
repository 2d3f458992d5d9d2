"""The base class of every config, and the reader that turns what is wrong into letters with file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from polyana.config.quantity import Quantity
from polyana.config.source import KeyPath, Source, closest
from polyana.errors import Problem

__all__ = ["Config", "config_classes", "kind_of", "of_kind", "read_config"]

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Settings of one part, declared beside that part.

    Unknown keys and wrong types are errors. What can only be judged from several settings together goes into
    `problems`. Marks in `json_schema_extra`: "watching" says how a run is watched, not what it makes, so that changing
    it does not make a stage run again; "path" names files, relative to the recipe, whose content counts and not their
    place.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

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

    def told(self) -> dict[str, Any]:
        """The settings that decide what this config makes and are not their defaults, for people; of paths the last
        part."""
        result = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name != "kind" and (
                "watching" in _marks(field) or value == field.get_default(call_default_factory=True, validated_data={})
            ):
                continue
            if value is not None and "path" in _marks(field):
                value = Path(value).name
            result[name] = _plain(value, lambda config: config.told())
        return result

    def resolved(self, base: Path) -> dict[str, Any]:
        """All settings as plain data, paths made absolute from `base`."""
        result = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if "path" in _marks(field) and value is not None:
                value = str(base / Path(value).expanduser())
            result[name] = _plain(value, lambda config: config.resolved(base))
        return result


def of_kind(default: str) -> BeforeValidator:
    """For a setting that is one of several configs, told apart by `kind`; beside `Field(discriminator="kind")`.

    A plain name stands for that kind with its defaults; settings without a kind are of the `default` one.
    """

    def read(value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": default} | value if isinstance(value, dict) else value

    return BeforeValidator(read)


def config_classes(annotation: Any) -> list[type[Config]]:
    """The configs that an annotation names: several where `kind` decides."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, Config) else []
    return [found for argument in get_args(annotation) for found in config_classes(argument)]


def kind_of(cls: type[Config]) -> str:
    """What `kind` says of a config that is one of several."""
    return str(get_args(cls.model_fields["kind"].annotation)[0])


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
            inner = config_classes(field.annotation)
            if inner and name not in broken and isinstance(data.get(name), dict):
                kind = data[name].get("kind")
                cls_of_it = next((one for one in inner[1:] if kind_of(one) == kind), inner[0])
                letters += read_config(cls_of_it, data[name], source, (*path, name))[1]
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
    at, location = _enter(cls, detail["loc"])
    owner = _enter(cls, detail["loc"][:-1])[0][:1]
    key = str(location[-1]) if location else ""
    where = source.where((*path, *location))
    given = detail.get("input")
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            known = [name for each in owner for name in each.model_fields]
            near = _elsewhere(cls, detail) or closest(key, known)
            what = f"unknown key `{key}`{near or '; known here: ' + ', '.join(known)}"
        case "missing":
            hint = owner[0].model_fields[key].description if owner and key in owner[0].model_fields else None
            return Problem(source.where((*path, *location[:-1])), f"`{key}` is missing{': ' + hint if hint else ''}")
        case "literal_error":
            choices = [choice.strip("'") for choice in str(context["expected"]).replace(" or ", ", ").split(", ")]
            near = closest(str(given), choices)
            what = f"`{key}: {given}` is not known{near or '; write one of: ' + ', '.join(choices)}"
        case "union_tag_invalid":
            kinds, kind = [kind_of(each) for each in at], str(context["tag"])
            what = f"{key} `{kind}` is not known{closest(kind, kinds) or '; write one of: ' + ', '.join(kinds)}"
            where = source.where((*path, *location, "kind"))
        case "value_error":
            what = f"`{key}`: {context['error']}"
        case "model_attributes_type":
            what = f"`{key}: {given}` should be one of {', '.join(map(kind_of, at))}, or settings with such a `kind`"
        case "model_type" | "dict_type":
            what = f"`{key}` should be settings{': ' + ', '.join(at[0].model_fields) if at else ''}, not `{given}`"
        case "list_type":
            what = f"`{key}: {given}` should be a list; write it in [ ] or with one `- ` a line"
        case plain if plain in _PLAIN:
            what = f"`{key}: {given}` should be {_PLAIN[plain]}"
        case _:
            what = f"`{key}: {given}`: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    return Problem(where, what)


_PLAIN = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text; put it in quotes if it is meant so",
}


def _enter(cls: type[Config], location: KeyPath) -> tuple[list[type[Config]], KeyPath]:
    """The configs that pydantic's `location` within `cls` may hold, and its path in the file: there a kind that was
    chosen is no step."""
    classes: list[type[Config]] = [cls]
    path: list[str | int] = []
    for part in location:
        chosen = [each for each in classes if len(classes) > 1 and kind_of(each) == part]
        if chosen:
            classes = chosen
            continue
        path.append(part)
        if isinstance(part, str):
            field = classes[0].model_fields.get(part) if classes else None
            classes = config_classes(field.annotation) if field else []
    return classes, tuple(path)


def _elsewhere(cls: type[Config], detail: ErrorDetails) -> str:
    """Where an unknown key would be known: in settings beside it, or in another kind of the same ones; or ""."""
    *around, last = detail["loc"]
    (owner, *_), _ = _enter(cls, tuple(around))
    if around and len(others := _enter(cls, tuple(around[:-1]))[0]) > 1:
        kinds = [kind_of(other) for other in others if last in other.model_fields]
        if kinds:
            return f": it belongs to `kind: {'` or `kind: '.join(kinds)}`, not to {kind_of(owner)}"
    places = []
    for name, field in owner.model_fields.items():
        inner = config_classes(field.annotation)
        fitting = [each for each in inner if last in each.model_fields]
        if fitting and get_origin(field.annotation) is not list:
            kind = f"kind: {kind_of(fitting[0])}, " if fitting[0] is not inner[0] else ""
            given = "..." if isinstance(detail["input"], dict | list) else detail["input"]
            places.append(f"`{name}: {{{kind}{last}: {given}}}`")
    return f"; did you mean {' or '.join(places)}?" if places else ""


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)
