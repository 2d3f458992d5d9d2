"""Tokenising real text to a memory map: ours against datasets.map, wall MB/s on both cores of the same machine.

    make .venv-rivals/datasets/made && python benchmarks/corpus/tokenising.py [--quick]

Ours is the tokens stage from the corpus stage's compressed shards to finished token shards, loading the fast encoder
included; theirs begins with the text in datasets' own format. Each runs in a process of its own, in turn, ours
before and after theirs; the medians are compared. The ids have to be the same. Exit code 1 when the bar is short.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from text import real_text
from transformers import PreTrainedTokenizerFast

from polyana.corpus import Corpus
from polyana.data import TokenData, tokenise
from polyana.tokenizer import END_OF_TEXT, TextTokenizer, learn_bpe
from polyana.tracking import Console

TARGET = 10.0
VOCABULARY = 30_000
LEARN = 20.0  # megabytes that the tokenizer is learned from: enough for so many tokens, in seconds; guess
PROJECT = Path(__file__).resolve().parents[2]
WORK = PROJECT / ".polyana" / "bench-corpus"
RIVAL = PROJECT / ".venv-rivals" / "datasets" / "bin" / "python"


def prepare(base: Path, megabytes: float) -> float:
    """A corpus stage's directory, the same text as plain JSONL, and a tokenizer; returns megabytes of text."""
    (base / "corpus").mkdir()
    documents = size = 0
    packed = zstandard.open(base / "corpus" / "train-00000.jsonl.zst", "wt", encoding="utf-8", newline="\n")
    with packed, (base / "text.jsonl").open("w", encoding="utf-8", newline="\n") as plain:
        for identifier, text in real_text(megabytes, WORK):
            line = json.dumps({"id": identifier, "text": text}, ensure_ascii=False) + "\n"
            packed.write(line)
            plain.write(line)
            documents, size = documents + 1, size + len(text.encode())
    report = {"total": {"train": {"documents": documents}, "eval": {"documents": 0}}}
    (base / "corpus" / "report.json").write_text(json.dumps(report))
    learned = WORK / f"tokenizer-{VOCABULARY}.json"
    if not learned.exists():
        learn_bpe((text for _, text in real_text(LEARN, WORK)), VOCABULARY, 2, [END_OF_TEXT]).save(str(learned))
    PreTrainedTokenizerFast(
        tokenizer_file=str(learned), eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    ).save_pretrained(base / "tokenizer")
    return size / 1e6


def ours(base: Path) -> None:
    """One run, in a process of its own; prints what the rival prints."""
    (base / "tokens").mkdir(exist_ok=True)
    began, used = time.perf_counter(), time.process_time()
    tokenizer = TextTokenizer(base / "tokenizer")
    tokenise(Corpus(base / "corpus"), tokenizer, base / "tokens", Console(io.StringIO()))
    measured = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps(measured | {"memory": memory, "engine": tokenizer.engine}))


def run(command: list[str | Path]) -> dict[str, Any]:
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 MB once, not 210 MB three times")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours is not None:
        ours(options.ours)
        return 0
    if not RIVAL.exists():
        print("make .venv-rivals/datasets/made first", file=sys.stderr)
        return 2
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        base = Path(directory)
        size = prepare(base, 100 if options.quick else 210)
        sides: dict[str, list[dict[str, Any]]] = {"ours": [], "datasets.map": []}
        own = [sys.executable, __file__, "--ours", base]
        for _ in range(1 if options.quick else 3):
            sides["ours"].append(run(own))
            theirs = [RIVAL, Path(__file__).with_name("rival_datasets.py"), base / "text.jsonl", base / "tokenizer"]
            sides["datasets.map"].append(run([*theirs, base / "rival.bin"]))
            sides["ours"].append(run(own))
        shards = TokenData(base / "tokens").shards("train")
        tokens, _ = shards.read(0, len(shards))
        dtype = np.uint16 if VOCABULARY <= 1 << 16 else np.uint32
        same = np.array_equal(tokens, np.memmap(base / "rival.bin", dtype=dtype, mode="r"))
    speeds = {}
    for name, runs in sides.items():
        wall, cpu = (statistics.median(size / each[what] for each in runs) for what in ("seconds", "cpu"))
        memory = max(each["memory"] for each in runs)
        print(f"{name:<12} {wall:6.1f} MB/s, {cpu:6.1f} MB per CPU second, its largest process {memory:,.0f} MB")
        speeds[name] = wall
    ratio = speeds["ours"] / speeds["datasets.map"]
    engine, agree = sides["ours"][0]["engine"], "the same" if same else "NOT THE SAME"
    print(f"{size:.1f} MB, {len(tokens):,} tokens by {engine}, {agree} on both sides")
    passed = same and ratio >= TARGET
    print(f"BAR tokenising ratio={ratio:.1f} target={TARGET:.1f} {'PASS' if passed else 'SHORT'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
