"""What the mill takes of memory where text is larger than it: `work: {memory: 1 GB}` against four kinds of input.

    python benchmarks/corpus/bounds.py pages|lines|files|text|row [--share 0.01]

pages: 2 GB of pages in JSONL; lines: 10 million documents of 30 to 100 characters; files: a directory of 100,000 of
them; text: one of 300 MB; row: the same text in one row of JSONL. Words are those of the real text that text.py
gathers, dealt out in another order for each round, so that no document is a copy. It takes minutes; `--share` takes a
part.

A bar is the memory of all processes together, a page that several share counted once (PSS), against what the recipe
allows. Exit code 1 when it is more.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mill import WORK, measured
from text import real_text

from polyana.corpus import CorpusConfig, build_corpus
from polyana.tracking import Console

ALLOWED = 1000  # MB
STEPS: list[Any] = [
    "leftovers",
    {"kind": "gopher_repetition", "max_top_grams": [1, 1, 1]},  # two words are a third of a line
    {
        "kind": "gopher_quality",
        "min_words": 1,
        "max_words": 10**9,
        "min_stop_words": 0,
        "min_alphabetic": 0.3,
        "max_mean_length": 20,
    },
    {"kind": "fineweb_quality", "min_ended_lines": 0, "max_short_lines": 1, "max_newlines": 1},
    "near_duplicates",
    {"kind": "exact_duplicates", "unit": "line", "min_characters": 40},
    "privacy",
]  # so lenient that most of it is kept
KINDS = ("pages", "lines", "files", "text", "row")
SOURCE_MB = 100.0  # of real text whose words are dealt out


def words() -> Iterator[str]:
    """Words of real text without end."""
    number = 0
    while True:
        noise = random.Random(number)
        for _, text in real_text(SOURCE_MB, WORK):
            page = text.split()
            noise.shuffle(page)
            yield from page
        number += 1


def texts(shortest: int, longest: int) -> Iterator[str]:
    """Texts of so many characters, but for the last word, in lines of some 70."""
    noise, source = random.Random(1), words()
    while True:
        wanted, lines, line, size = noise.randint(shortest, longest), list[str](), list[str](), 0
        for word in source:
            line.append(word)
            size += len(word) + 1
            if size >= wanted:
                break
            if sum(map(len, line)) + len(line) > 70:
                lines.append(" ".join(line))
                line = []
        yield "\n".join([*lines, " ".join(line)])


def make(kind: str, share: float) -> Path:
    """A directory with the input; kept for the next run."""
    target = WORK / f"bounds-{kind}-{share:g}"
    if target.exists():
        return target
    half = target.with_suffix(".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    if kind == "files":
        for number, text in zip(range(int(100_000 * share)), texts(1500, 4500), strict=False):
            (half / f"{number % 100:02d}").mkdir(exist_ok=True)
            (half / f"{number % 100:02d}" / f"{number}.txt").write_text(text, encoding="utf-8")
    elif kind in ("text", "row"):
        size = int(300e6 * share)
        with (half / ("a.txt" if kind == "text" else "a.jsonl")).open("w", encoding="utf-8") as stream:
            stream.write("" if kind == "text" else '{"text": "')
            for text in texts(1500, 4500):
                size -= stream.write(text + "\n\n" if kind == "text" else json.dumps(text + "\n\n")[1:-1])
                if size <= 0:
                    break
            stream.write("" if kind == "text" else '"}\n')
    else:
        count, longest = (int(370_000 * share), 9000) if kind == "pages" else (int(10_000_000 * share), 100)
        with (half / "a.jsonl").open("w", encoding="utf-8") as stream:
            for _, text in zip(range(count), texts(30 if kind == "lines" else 2000, longest), strict=False):
                stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    half.rename(target)
    return target


def build(source: Path, work: Path) -> None:
    """One run, in a process of its own."""
    config = CorpusConfig.model_validate(
        {
            "kind": "corpus", "sources": [{"path": str(source), "name": "s"}], "language": "en", "eval": 0,
            "guard": 1.0, "steps": STEPS, "work": {"memory": "1 GB"},
        }
    )  # fmt: skip
    (work / "corpus").mkdir(parents=True)
    report = build_corpus(config, work, work / "corpus", Console(io.StringIO()), workshop=work / "mill")
    print(json.dumps({name: report["total"][name] for name in ("read", "train", "dropped")}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build is not None:
        build(*options.build)
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    source, work = make(options.kind, options.share), WORK / f"bounded-{options.kind}"
    shutil.rmtree(work, ignore_errors=True)
    output = work.with_suffix(".log")
    found = measured([sys.executable, __file__, options.kind, "--build", str(source), str(work)], output)
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file()) / 1e6
    print(output.read_text().strip())
    print(
        f"{options.kind}: {size:,.0f} MB in {found['seconds']:.0f} s, {found['cpu']:.0f} CPU "
        f"seconds, {found['memory']:,.0f} MB of all processes, {found['largest']:,.0f} MB of the largest (RSS)"
    )
    passed = found["memory"] <= ALLOWED
    ratio = ALLOWED / found["memory"]
    print(f"BAR memory_{options.kind} ratio={ratio:.2f} target=1.00 {'PASS' if passed else 'SHORT'}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
