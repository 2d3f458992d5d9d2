"""Which files a source stands for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyana.corpus.compressed import PACKED, unpacked_name
from polyana.corpus.config import FORMATS, SourceConfig, before_wildcard
from polyana.corpus.remote import File, files_at, files_of_hub, is_address
from polyana.errors import UserError
from polyana.storage import ContentDigests

__all__ = ["Found", "Listing", "files_of", "format_of", "identity_of", "list_files", "written"]


_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")  # in which anything may lie under any name


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source. `name` is relative to the source's own directory; `size`: bytes on disk."""

    name: str
    file: File
    size: int


@dataclass(slots=True)
class Listing:
    """`passed`: (name, reason, size) of what lies beside the files and is not read."""

    files: list[Found] = field(default_factory=list)
    passed: list[tuple[str, str, int]] = field(default_factory=list)


def files_of(source: SourceConfig, base: Path, endings: Mapping[str, str] = FORMATS) -> list[tuple[str, Path]]:
    """(name, path) of each file of a source, sorted by name; the name is relative to the source's own directory.

    `endings` are those that are read in a directory. Raises UserError when there is no file here.
    """
    if is_address(str(source.path)):
        raise UserError(f"`{source.path}` lies elsewhere; only a corpus is read from there, so fetch it first")
    listed = list_files(source, base, endings).files
    return [(found.name, found.file) for found in listed if isinstance(found.file, Path)]


def list_files(source: SourceConfig, base: Path, endings: Mapping[str, str] = FORMATS) -> Listing:
    """The files of a source and what lies beside them, each sorted by name. Raises UserError when there is no file."""
    listing = _elsewhere(source, endings) if is_address(str(source.path)) else _here(source, base, endings)
    listing.files.sort(key=lambda found: found.name)
    listing.passed.sort()
    return listing


def _elsewhere(source: SourceConfig, endings: Mapping[str, str]) -> Listing:
    """The files at an address. One that is named or matched is read whatever its ending, as here."""
    given = str(source.path)
    found = files_of_hub(given) if given.startswith("hub:") else files_at(given)
    chosen = any(sign in given for sign in "*?[") or given.startswith("hub:")
    listing = Listing()
    for name, file in found:
        hidden = any(part.startswith(".") for part in name.split("/"))
        if chosen or name == given.rpartition("/")[2] or (not hidden and _is_read(file.name, source, endings)):
            listing.files.append(Found(written(name), file, file.size))
        elif not hidden:
            listing.passed.append((written(name), _no_reader(file.name), file.size))
    if not listing.files:
        raise UserError(f"`{given}` holds no file that can be read ({_endings_read(endings)})")
    return listing


def _here(source: SourceConfig, base: Path, endings: Mapping[str, str]) -> Listing:
    given = Path(str(source.path)).expanduser()
    path = base / given
    fixed = before_wildcard(given)
    pattern = len(fixed) < len(given.parts)
    try:
        if path.is_file():
            return Listing([Found(path.name, path, path.stat().st_size)])
        if path.is_dir():
            root = path
            listing = _below(path, source, endings)
        elif pattern:
            root = base.joinpath(*fixed)
            matching = root.glob(str(Path(*given.parts[len(fixed) :])))
            files = [(written(file.relative_to(root).as_posix()), file) for file in matching if file.is_file()]
            listing = Listing([Found(name, file, _size(file)) for name, file in files])
        else:
            raise UserError(f"`{given}` does not exist (looked for {path})")
    except PermissionError as error:
        raise UserError(f"`{given}` cannot be read: no permission for {error.filename}") from None
    if not listing.files:
        what = "matches no file" if pattern else "holds no file that can be read"
        raise UserError(f"`{given}` {what} (looked in {root}; {_endings_read(endings)})")
    return listing


def _endings_read(endings: Mapping[str, str]) -> str:
    packed = f"{', '.join(PACKED[:-1])} or {PACKED[-1]}"
    return f"endings read: {', '.join(ending for ending in endings if ending)}, each also with {packed}"


def _no_reader(name: str) -> str:
    ending = Path(name).suffix
    advice = ": unpack it first" if ending.lower() in _ARCHIVES else ""
    return f"no reader for {ending or 'a name without an ending'}{advice}"


def _below(root: Path, source: SourceConfig, endings: Mapping[str, str]) -> Listing:
    """What a directory holds."""
    listing = Listing()
    for name, entry in _walk(root):
        shown = written(name)
        if isinstance(entry, str):
            listing.passed.append((shown, entry, 0))
        elif not _is(entry.is_file):
            listing.passed.append((shown, "no file, or a link to none", 0))
        elif _is_read(entry.name, source, endings):
            listing.files.append(Found(shown, Path(entry.path), _size(entry)))
        else:
            listing.passed.append((shown, _no_reader(entry.name), _size(entry)))
    return listing


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str] | str]]:
    """(name below `root`, entry) of everything that is no directory, but for what is hidden; or why one is not entered.

    Goes through symbolic links, after all that can be reached without them, and into each directory once.
    """
    entered: set[tuple[int, int]] = set()
    waiting = deque([("", str(root))])
    while waiting:
        below, directory = waiting.popleft()
        try:
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            if directory == str(root):
                raise
            yield below, "no permission" if isinstance(error, PermissionError) else "damaged directory"
            continue
        for entry in visible:
            if not _is(entry.is_dir):
                yield below + entry.name, entry
            elif entry.is_symlink():
                waiting.append((f"{below}{entry.name}/", entry.path))
            else:
                waiting.appendleft((f"{below}{entry.name}/", entry.path))


def _is(kind: Callable[[], bool]) -> bool:
    """What `kind` says of an entry; a link to itself is nothing."""
    try:
        return kind()
    except OSError:
        return False


def written(text: str) -> str:
    """A path as text that can be written on one line: control characters and bytes that are no UTF-8 (names from old
    archives) become \\xNN, a backslash two."""
    if text.isprintable() and "\\" not in text:
        return text
    text = os.fsencode(text.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _size(file: Path | os.DirEntry[str]) -> int:
    try:
        return file.stat().st_size
    except OSError:  # gone since it was listed; its reader will say so
        return 0


def _is_read(name: str, source: SourceConfig, endings: Mapping[str, str]) -> bool:
    """Whether a file found in a directory is read: its ending says how, or the recipe does."""
    ending = _ending(name)
    return ending in endings and (ending != "" or source.format != "auto")


def _ending(name: str) -> str:
    stem, dot, ending = unpacked_name(name).rpartition(".")
    return dot + ending if stem else ""


def format_of(file: File, source: SourceConfig) -> str:
    """Which reader a file gets. A file named outright whose ending is not known is read as text."""
    return FORMATS.get(_ending(file.name), "text") if source.format == "auto" else source.format


def identity_of(file: File, digests: ContentDigests) -> str:
    """What changes when a file's content does: of one that is here a hash of it, else what its store says.

    Of one that cannot be read this is all there is to know: its reader drops it.
    """
    if not isinstance(file, Path):
        return file.stamp
    try:
        return digests.of(file)
    except OSError:
        return "cannot be read"
