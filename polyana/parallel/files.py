"""Which files a source of parallel text stands for, and which two of them belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polyana.corpus import SourceConfig, before_wildcard
from polyana.corpus import files_of as found_by_corpus
from polyana.errors import UserError
from polyana.parallel.apt import help_directories
from polyana.parallel.config import FORMATS, LanguagesConfig, ParallelSource
from polyana.parallel.segment import Rejected

__all__ = ["ParallelFile", "files_of"]


@dataclass(frozen=True, slots=True)
class ParallelFile:
    """`paths`: the file that holds both languages, or that of the source and that of the target language.

    `name` is relative to the directory the recipe gives, `shown` are the paths as messages show them.
    """

    name: str
    format: str
    paths: tuple[Path, ...]
    shown: tuple[str, ...]


def files_of(
    source: ParallelSource, languages: LanguagesConfig, base: Path, cache: Path
) -> tuple[list[ParallelFile], list[Rejected]]:
    """The files of a source, sorted by name; and what has no counterpart in the other language's directory.

    Raises UserError when there is none.
    """
    if source.package is not None:
        roots = help_directories(source.package, (languages.source, languages.target), cache)
        return _pairs_below(roots, (languages.source, languages.target), source, languages)
    if source.path is not None:
        found = _found(source.path, base)
        return [ParallelFile(name, _format(path, source), (path,), (shown,)) for name, path, shown in found], []
    given = (str(source.source), str(source.target))
    one, other = (base / Path(text).expanduser() for text in given)
    for text, path in zip(given, (one, other), strict=True):
        if not path.exists():
            raise UserError(f"`{text}` does not exist (looked for {path})")
    if one.is_dir() != other.is_dir():
        raise UserError(f"one of `{given[0]}` and `{given[1]}` is a file and the other a directory; give two of a kind")
    if one.is_dir():
        return _pairs_below((one, other), given, source, languages)
    format_ = "html" if _format(one, source) == "html" else "lines"
    return [ParallelFile(one.name, format_, (one, other), given)], []


def _ending(path: Path) -> str:
    """The name's ending once .gz or .zst is taken off, in small letters."""
    return Path(path.stem if path.suffix.lower() in (".gz", ".zst") else path.name).suffix.lower()


def _format(path: Path, source: ParallelSource) -> str:
    """Raises UserError when a file that should hold both languages has an ending that tells nothing."""
    if source.format != "auto":
        return source.format
    format_ = FORMATS.get(_ending(path))
    if format_ is None and source.path is not None:
        known = ", ".join(FORMATS)
        what = f"`{path.name}`: its ending does not say how it holds two languages ({known} do); write `format: ...`"
        raise UserError(what)
    return format_ or "lines"


def _found(given: str, base: Path) -> list[tuple[str, Path, str]]:
    """(name, path, path as the recipe gives it) of the files that a file, a directory or a glob stands for."""
    found = found_by_corpus(SourceConfig(path=given), base, FORMATS)
    if (base / Path(given).expanduser()).is_file():
        return [(name, path, given) for name, path in found]
    shown = Path(*before_wildcard(Path(given)))
    return [(name, path, (shown / name).as_posix()) for name, path in found]


def _pairs_below(
    roots: tuple[Path, Path], shown: tuple[str, str], source: ParallelSource, languages: LanguagesConfig
) -> tuple[list[ParallelFile], list[Rejected]]:
    """Files of two directories that have one name, but for the language's code in front of or as its ending."""
    named: list[dict[str, Path]] = []
    for root, code in zip(roots, (languages.source, languages.target), strict=True):
        files = sorted(file for file in root.rglob("*") if file.is_file() and not file.name.startswith("."))
        by_name: dict[str, Path] = {}
        for file in files:
            first = by_name.setdefault(_without_code(file.relative_to(root).as_posix(), code), file)
            if first != file:
                raise UserError(f"{first} and {file} have one name but for the language's code; rename one of them")
        named.append(by_name)
    both = [name for name in named[0] if name in named[1]]
    if source.format == "html" or source.package is not None:
        both = [name for name in both if FORMATS.get(_ending(named[0][name])) == "html"]
    if not both:
        raise UserError(f"no file of `{shown[0]}` has one of its name in `{shown[1]}`")
    pairs = []
    for name in both:
        paths = (named[0][name], named[1][name])
        names = tuple(
            f"{where}/{path.relative_to(root).as_posix()}"
            for where, path, root in zip(shown, paths, roots, strict=True)
        )
        pairs.append(ParallelFile(name, "html" if _format(paths[0], source) == "html" else "lines", paths, names))
    alone = [
        Rejected(f"{shown[side]}/{name}", "no file of its name on the other side")
        for side in (0, 1)
        for name in named[side]
        if name not in named[1 - side]
        and (source.format != "html" or FORMATS.get(_ending(named[side][name])) == "html")
    ]
    return pairs, alone


def _without_code(name: str, code: str) -> str:
    """`a.en`, `a.en.txt` and `a.en.gz` are `a`, `a.txt` and `a.gz` in every language."""
    directory, slash, file = name.rpartition("/")
    first, *endings = file.split(".")
    return directory + slash + ".".join([first, *(ending for ending in endings if ending.lower() != code.lower())])
