"""Where examples come from: the rows of tables, each with the place a letter to the user names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from polyana.corpus import (
    DAMAGE,
    FORMATS,
    Document,
    Row,
    decode,
    files_of,
    open_file,
    package_version,
    read_source,
    rows_of,
)
from polyana.errors import Problem, UserError
from polyana.examples.config import ExampleSource, TemplateConfig
from polyana.examples.named_templates import NAMED
from polyana.storage import ContentDigests

__all__ = ["SourceRow", "example_inputs", "read_rows", "template_inputs"]

TABLES = {ending: format for ending, format in FORMATS.items() if format in ("jsonl", "parquet", "csv", "tsv")}
TABLES[".json"] = "json"
"""File name endings read in a directory. A file of text is read only where the recipe names it or a glob finds it."""

_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
_NO_ROWS = ("dataset_info.json", "dataset_infos.json", "state.json")  # what the library `datasets` writes beside rows


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row. `id` is unique and does not depend on where the data lies: SOURCE/FILE#NUMBER; `where` is FILE:LINE.

    `problem` says why there are no values.
    """

    id: str
    where: str
    values: dict[str, Any]
    problem: str | None = None


class Sources(Protocol):
    """Settings that name where rows come from, and a template for them or none."""

    @property
    def data(self) -> Sequence[ExampleSource]: ...

    @property
    def template(self) -> str | None: ...


def example_inputs(
    config: Sources, base: Path, digests: ContentDigests, where: Callable[..., str],
    stages: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What examples are made from: content hashes of files, commits of data sets, versions of packages; of `stages`
    what each is made from.

    Raises UserError for everything that is not there; `where(*path)` gives the place of a setting in the recipe.
    """
    inputs: dict[str, Any] = {}
    problems: list[Problem] = []
    for index, source in enumerate(config.data):
        setting = next(name for name in ("path", "hub", "package", "stage") if getattr(source, name) is not None)
        try:
            if source.stage is not None:
                inputs[source.label] = (stages or {})[source.stage]
                continue
            if source.package is not None:
                inputs[source.label] = package_version(source.package)
            elif source.hub is not None:
                inputs[source.label] = [_snapshot(source).name, [name for name, _ in _files(source, base)]]
            else:
                inputs[source.label] = {name: digests.of(path) for name, path in _files(source, base)}
        except UserError as error:
            problems += [Problem(where("data", index, setting), problem.what) for problem in error.problems]
    try:
        inputs |= template_inputs(config, base, digests, where)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(problems)
    return inputs


def template_inputs(
    config: Sources | TemplateConfig, base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """The content hash of the file that a template is, if it is one. Raises UserError when it is not there."""
    if config.template is None or config.template in NAMED:
        return {}
    path = base / Path(config.template).expanduser()
    if not path.is_file():
        raise UserError(Problem(where("template"), f"`{config.template}` does not exist (looked for {path})"))
    return {"template": digests.of(path)}


def read_rows(source: ExampleSource, base: Path) -> Iterator[SourceRow]:
    """Every row of a source, in a fixed order. A file that breaks off gives the rows before the damage, and one row
    that names it."""
    if source.package is not None:
        for item in read_source(source.files_config, base):
            assert isinstance(item, Document)
            yield SourceRow(item.id, item.id, {"text": item.text})
        return
    for name, path in _files(source, base):
        identifier, shown = f"{source.label}/{name}", _shown(path, base, source, name)
        format = _format(path)
        try:
            if format == "text":
                with open_file(path) as stream:
                    yield SourceRow(identifier, shown, {"text": decode(stream.read())})
                continue
            for row in _json(path) if format == "json" else rows_of(path, format):
                where = f"{shown}:{row.line}"
                if not isinstance(row.values, dict):
                    what = "is not JSON" if row.values is None else "is no JSON object `{...}`"
                    yield SourceRow(f"{identifier}#{row.number}", where, {}, what)
                    continue
                values = _without_none(row.values) if format == "parquet" else row.values
                yield SourceRow(f"{identifier}#{row.number}", where, values)
        except (*DAMAGE, UnicodeError) as error:
            yield SourceRow(identifier, shown, {}, f"is damaged ({error or type(error).__name__})")


def _files(source: ExampleSource, base: Path) -> list[tuple[str, Path]]:
    """(name, path) of each file of a source that is no package, sorted by name."""
    if source.hub is None:
        files = files_of(source.files_config, base, TABLES)
    else:
        snapshot = _snapshot(source)
        wanted = source.files_config.model_copy(update={"path": source.files or "."})
        found = [path for _, path in files_of(wanted, snapshot, TABLES) if path.name not in _NO_ROWS]
        files = [(path.relative_to(snapshot).as_posix(), path) for path in found]
        splits = sorted({word for name, _ in files for word in re.findall("[a-z]+", name) if word in _SPLITS})
        if source.files is None and len(splits) > 1:
            names = ", ".join(name for name, _ in files[:8])
            raise UserError(
                f"`{source.hub}` holds several splits ({', '.join(splits)}); choose among its files, "
                f"as `files: '*{splits[-1]}*'`: {names}{', ...' if len(files) > 8 else ''}"
            )
    for _, path in files:
        if _format(path) == "html":
            raise UserError(f"`{path.name}` is HTML, which holds no rows; make a corpus of it")
    return files


def _snapshot(source: ExampleSource) -> Path:
    """The directory of a data set of the Hub in its cache, fetched where it is not there; named by its commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = str(source.hub).partition("@")
    patterns = source.files or [f"*{ending}{packed}" for ending in TABLES for packed in ("", ".gz", ".zst")]
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the data set `{source.hub}` cannot be had from the Hub ({reason}); look at its name and revision, at the "
            "network, and at HF_TOKEN if it is gated"
        ) from None


def _shown(path: Path, base: Path, source: ExampleSource, name: str) -> str:
    """A file as its reader knows it: from the recipe's directory where it lies below it."""
    if source.hub is not None:
        return f"{source.hub}/{name}"
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _format(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    return (dict(FORMATS) | TABLES).get(Path(name).suffix, "text")


def _json(path: Path) -> Iterator[Row]:
    """The items of a file that is one JSON list, each with its line; or JSON lines that are called so."""
    with open_file(path) as stream:
        text = decode(stream.read()).lstrip("\ufeff")
    if not text.lstrip().startswith("["):
        yield from rows_of(path, "jsonl")
        return
    decoder = json.JSONDecoder()
    at, line, counted = _after(text, text.index("[") + 1), 1, 0
    number = 0
    while text[at : at + 1] != "]":
        number += 1
        line, counted = line + text.count("\n", counted, at), at
        try:
            values, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield Row(number, line, None, 0)  # where the next one begins cannot be known
            return
        yield Row(number, line, values, 0)
        at = _after(text, end)
        if text[at : at + 1] == ",":
            at = _after(text, at + 1)


def _after(text: str, at: int) -> int:
    """The place of the first character from `at` on that is no white space."""
    while text[at : at + 1].isspace():
        at += 1
    return at


def _without_none(value: Any) -> Any:
    """Parquet gives every row all fields of a structure; those that a row does not have are None."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
