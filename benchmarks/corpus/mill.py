"""The mill against datatrove: filters, near copies, and end to end from JSONL to tokens.

    make bench-corpus [ARGS=--quick]

Both sides read the same JSONL, whose text is normalised beforehand, and write what they keep. Compared are megabytes
per CPU second, of all processes together, two workers on each side. What loading costs all these processes before they
see a document is measured on ten documents and taken off on both sides. The bars of filters and of MinHash are of these
steps themselves: what reading and writing cost without any step is taken off on both sides, too; the rates with them
stand beside. Everything is measured three times, in turns, and the median counts; theirs on all of the text once. With
--quick theirs has a part of the text, for it is slow, and ours all of it: decisions are compared on that part. Exit
code 1 when a bar is short.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from text import real_text

from polyana.corpus import Corpus, CorpusConfig, build_corpus
from polyana.corpus.chunks import Sizes
from polyana.corpus.normalise import normalise
from polyana.tracking import Console

PROJECT = Path(__file__).resolve().parents[2]
WORK = PROJECT / ".polyana" / "bench-corpus"
RIVAL = PROJECT / ".venv-rivals" / "datatrove" / "bin" / "python"
PAGE = 5_000  # characters of a document; guess: a page of the web
ALL = 210.0  # megabytes
PART = {"filters": 6.0, "minhash": 10.0, "end_to_end": 6.0}  # that theirs has with --quick: about a minute each
_ROUNDS = 3
_CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux
_TWINS = {
    "filters": "",
    "minhash": "; of copies each keeps the first, and theirs reads in another order",
    "end_to_end": "; of copies each keeps the first, and theirs reads in another order",
}
TARGETS = {"filters": 50.0, "minhash": 50.0, "end_to_end": 30.0}
FILTERS: list[Any] = [
    "gopher_repetition",
    {"kind": "gopher_quality", "min_stop_words": 0, "min_alphabetic": 0.5},
    {"kind": "c4", "ended_lines": False, "curly_bracket": False},
    {"kind": "fineweb_quality", "max_repeated_characters": 0.1},
]  # as lenient as rivals' end-to-end run, or little would reach the later steps
# FTFYFormatter changes quotes, ligatures and widths, too
REPAIR = {"kind": "repair", "quotes": True, "ligatures": True, "widths": True, "entities": True}
STEPS: dict[str, list[Any]] = {
    "plain": [],
    "filters": FILTERS,
    "minhash": ["near_duplicates"],
    "end_to_end": [REPAIR, *FILTERS, "near_duplicates", {"kind": "privacy", "kinds": ["email", "ip"]}],
}


def prepare(megabytes: float) -> Path:
    """A directory with the text as JSONL, in four files, so that two workers have something each."""
    directory = WORK / f"pages-{megabytes:g}"
    if not directory.exists():
        half = directory.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        streams = [(half / f"{number}.jsonl").open("w", encoding="utf-8") for number in range(4)]
        for number, (identifier, text) in enumerate(real_text(megabytes, WORK)):
            for at in range(0, len(text), PAGE):
                page = normalise(text[at : at + PAGE])
                line = json.dumps({"id": f"{identifier}.{at}", "text": page}, ensure_ascii=False)
                streams[number % 4].write(line + "\n")
        for stream in streams:
            stream.close()
        half.rename(directory)
    return directory


def few() -> Path:
    """Ten documents, for what loading costs."""
    directory = WORK / "pages-few"
    directory.mkdir(parents=True, exist_ok=True)
    for path in prepare(1.0).iterdir():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:3]
        (directory / path.name).write_text("".join(lines), encoding="utf-8")
    return directory


def tokenizer() -> Path:
    from transformers import PreTrainedTokenizerFast

    from polyana.tokenizer import END_OF_TEXT, learn_bpe

    directory = WORK / "tokenizer"
    if not (directory / "tokenizer.json").exists():
        learned = learn_bpe((text for _, text in real_text(20.0, WORK)), 30_000, 2, [END_OF_TEXT])
        PreTrainedTokenizerFast(
            tokenizer_object=learned, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
        ).save_pretrained(directory)
    return directory


def ours(what: str, source: Path, work: Path) -> None:
    """One run, in a process of its own."""
    (work / "corpus").mkdir(parents=True)
    # each file a source of its own, so that two processes have something even of ten documents
    sources = [{"path": str(path), "id": "id", "name": path.stem} for path in sorted(source.iterdir())]
    config = CorpusConfig.model_validate(
        {
            "kind": "corpus", "sources": sources, "language": "en",
            "eval": 0, "drop_duplicates": False, "guard": 1.0, "steps": STEPS[what], "work": {"workers": 2},
        }
    )  # fmt: skip
    quiet = Console(io.StringIO())
    build_corpus(config, work, work / "corpus", quiet, sizes=Sizes(process=1))
    if what == "end_to_end":
        from polyana.data import tokenise  # loads torch
        from polyana.tokenizer import TextTokenizer

        (work / "tokens").mkdir()
        tokenise(Corpus(work / "corpus"), TextTokenizer(tokenizer()), work / "tokens", quiet)


def run(side: str, what: str, source: Path) -> tuple[dict[str, float], Path]:
    work = WORK / f"{side}-{what}-{source.name}"
    shutil.rmtree(work, ignore_errors=True)
    if side == "ours":
        command = [sys.executable, __file__, "--ours", what, source, work]
    else:
        command = [RIVAL, Path(__file__).with_name("rival_datatrove.py"), what, source, work]
        command += [tokenizer() / "tokenizer.json"] if what == "end_to_end" else []
    return measured([str(part) for part in command]), work


def measured(command: list[str], output: Path = WORK / "log") -> dict[str, float]:
    """Of a command that has to succeed, and writes into `output`: seconds, and of all its processes CPU seconds, the
    most MB at once, and those of the largest (RSS)."""
    ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1)  # what it leaves behind comes to this process, and is counted
    began = time.perf_counter()
    with output.open("w") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log).pid
    cpu, memory, largest, seconds = 0.0, 0.0, 0.0, 0.0
    while True:
        try:
            process, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return {"seconds": seconds, "cpu": cpu, "memory": memory, "largest": largest}
        if not process:
            memory = max(memory, memory_below(os.getpid()))
            time.sleep(0.2)
            continue
        if process == first:
            seconds = time.perf_counter() - began
            if status:
                print(output.read_text(), file=sys.stderr)
                raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
        cpu += usage.ru_utime + usage.ru_stime
        largest = max(largest, usage.ru_maxrss / 1e3)


def memory_below(process: int) -> float:
    """MB of a process's children and theirs; a page that several share is counted once (PSS)."""
    total = 0.0
    for child in _read(f"/proc/{process}/task/{process}/children").split():
        shares = re.search(r"^Pss: +(\d+) kB", _read(f"/proc/{child}/smaps_rollup"), re.MULTILINE)
        total += (int(shares[1]) / 1e3 if shares else 0.0) + memory_below(int(child))
    return total


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has just ended
        return ""


def size_of(source: Path) -> float:
    return (
        sum(len(json.loads(line)["text"].encode()) for path in source.iterdir() for line in path.open(encoding="utf-8"))
        / 1e6
    )


def kept_by_rival(work: Path) -> set[str]:
    return {json.loads(line)["id"] for path in (work / "kept").glob("*.jsonl") for line in path.open(encoding="utf-8")}


def kept_by_us(work: Path) -> set[str]:
    return {document.id.partition("#")[2] for document in Corpus(work / "corpus").documents("train")}


def race(what: str, part: float) -> bool:
    sources = {"ours": prepare(ALL), "datatrove": prepare(part)}
    taken: dict[tuple[str, str], list[dict[str, float]]] = {}  # (side, what) -> what each round took
    loaded: dict[tuple[str, str], list[dict[str, float]]] = {}
    works: dict[str, Path] = {}
    for turn in range(_ROUNDS):
        for side, source in sources.items():
            for each in [what] if what == "end_to_end" else [what, "plain"]:
                loaded.setdefault((side, each), []).append(run(side, each, few())[0])
                if turn == 0 or side == "ours" or part != ALL:
                    found, works[side + each] = run(side, each, source)
                    taken.setdefault((side, each), []).append(found)
    rates, memory, figures = {}, {}, []
    for side, source in sources.items():
        size, key = size_of(source), (side, what)
        loading, whole = _median(loaded[key]), _median(taken[key])
        cpu = whole["cpu"] - loading["cpu"]
        figure = f"{side} {size / cpu:.2f} MB per CPU second"
        if what != "end_to_end":
            cpu -= _median(taken[side, "plain"])["cpu"] - _median(loaded[side, "plain"])["cpu"]
            figure += f", {size / cpu:.2f} without reading and writing"
        rates[side], memory[side] = size / cpu, whole["memory"]
        figures.append(
            f"{figure} ({size:.0f} MB in {whole['seconds']:.0f} s with {loading['seconds']:.0f} s of loading; "
            f"{whole['memory']:,.0f} MB of memory)"
        )
    if part != ALL:
        _, works[f"ours{what}"] = run("ours", what, sources["datatrove"])
    one, other = kept_by_us(works[f"ours{what}"]), kept_by_rival(works[f"datatrove{what}"])
    ratio = rates["ours"] / rates["datatrove"]
    print(f"{what}: {'; '.join(figures)}")
    print(f"  ours keeps {len(one):,} documents, theirs {len(other):,}, both {len(one & other):,}{_TWINS[what]}")
    passed = ratio >= TARGETS[what]
    print(f"BAR {what} ratio={ratio:.1f} target={TARGETS[what]:.1f} {'PASS' if passed else 'SHORT'}", flush=True)
    if what == "end_to_end" and part == ALL:  # theirs grows with the text
        less = memory["datatrove"] / memory["ours"]
        print(f"BAR memory ratio={less:.2f} target=1.00 {'PASS' if less >= 1 else 'SHORT'}", flush=True)
        passed = passed and less >= 1
    return passed


def _median(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="theirs has a part of the text")
    parser.add_argument("--only", choices=TARGETS, help="one of the races")
    parser.add_argument("--ours", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours is not None:
        ours(options.ours[0], Path(options.ours[1]), Path(options.ours[2]))
        return 0
    if not RIVAL.exists():
        print("make .venv-rivals/datatrove/made first", file=sys.stderr)
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    names = [options.only] if options.only else list(TARGETS)
    passed = [race(name, PART[name] if options.quick else ALL) for name in names]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
