"""Writing so that a crash at any moment leaves either the old content or the new one, never a part of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyana.errors import Damaged

__all__ = [
    "building",
    "flush_to_disk",
    "json_text",
    "link_or_copy",
    "read_json",
    "write_file",
    "write_files",
    "write_json",
]

_AT_ONCE = 8  # guess


def flush_to_disk(*paths: Path) -> None:
    """Return only when `paths` (files, or directories' lists of names) would survive a power cut. Several are asked for
    at once: a journal writes them together, in the time that one takes."""
    if len(paths) == 1:
        _flush(paths[0])
    elif paths:
        with ThreadPoolExecutor(min(len(paths), _AT_ONCE), thread_name_prefix="flush") as threads:
            list(threads.map(_flush, paths))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Put lines behind those of `path`, which is made if it is not there; they would survive a power cut. A line that
    one has torn is ended first; who reads the file leaves it out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))  # models write half surrogates
    flush_to_disk(path)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Make `target` another name of the file `source`; a copy where the disk knows no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_file(path: Path, content: str | bytes, scratch: Path | None = None) -> None:
    """Replace `path` by `content`, durably and all at once; first written in `scratch` (default: beside `path`)."""
    write_files({path: content}, scratch)


def write_files(contents: Mapping[Path, str | bytes], scratch: Path | None = None) -> None:
    """`write_file` of several, in less time: each is replaced all at once, in this order."""
    temporary = {path: (scratch or path.parent) / f".{path.name}.{os.getpid()}.tmp" for path in contents}
    try:
        for path, content in contents.items():
            temporary[path].write_bytes(content.encode() if isinstance(content, str) else content)
        flush_to_disk(*temporary.values())
        for path in contents:
            temporary[path].replace(path)
    except BaseException:
        for left in temporary.values():
            left.unlink(missing_ok=True)
        raise
    flush_to_disk(*{path.parent for path in contents})


def write_json(path: Path, content: Any) -> None:
    write_file(path, json_text(content))


def json_text(content: Any) -> str:
    """As our JSON files are written."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def read_json(path: Path) -> Any:
    """Raises Damaged when the file is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from None


@contextmanager
def building(
    target: Path, scratch: Path | None = None, *, replace: bool = False, after: Sequence[Path] = ()
) -> Iterator[Path]:
    """A directory to fill, which appears under the name `target` when the block ends well, and not before.

    It is filled in `scratch` (on the same disk; default: beside `target`). What an earlier process left half-built
    under the same name is removed, and with `replace` so is an older `target`. Whoever builds holds a lock on `target`.
    `after`: what must be on the disk before it appears.
    """
    half_built = (scratch or target.parent) / f".half-{target.name}"
    shutil.rmtree(half_built, ignore_errors=True)
    half_built.mkdir(parents=True)
    try:
        yield half_built
        flush_to_disk(*after, *(path for path in half_built.rglob("*") if not path.is_symlink()), half_built)
        if replace:
            shutil.rmtree(target, ignore_errors=True)
        half_built.rename(target)
    except BaseException:
        shutil.rmtree(half_built, ignore_errors=True)
        raise
    flush_to_disk(target.parent)
