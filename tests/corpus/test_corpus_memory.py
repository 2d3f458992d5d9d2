"""What the mill takes of the memory, all its processes together: text that is larger than it, in documents of any size.

Figures for gigabytes and millions stand in docs/corpus.md; here are some tens of megabytes, and what comes in addition.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyana.corpus import Corpus
from polyana.corpus.config import SourceConfig
from polyana.corpus.readers import read_source
from polyana.corpus.readers.plain import LONGEST
from polyana.corpus.stage import WorkConfig

STEPS = [
    "leftovers",
    {"kind": "gopher_quality", "min_words": 1, "min_stop_words": 0, "max_words": 10**9},
    "near_duplicates",
    {"kind": "exact_duplicates", "unit": "line", "min_characters": 40},
    "privacy",
]
BUILD = """
import io, sys
from pathlib import Path
from polyana.corpus import CorpusConfig, build_corpus
from polyana.tracking import Console
if __name__ == "__main__":
    base = Path(sys.argv[1])
    config = CorpusConfig.model_validate_json((base / "config.json").read_bytes())
    (base / "corpus").mkdir()
    build_corpus(config, base, base / "corpus", Console(io.StringIO()), workshop=base / "mill")
"""


def sentences(count: int, seed: int) -> Iterator[str]:
    """Lines of words that hardly ever come again in this order."""
    noise = random.Random(seed)
    known = ["".join(noise.choices("bdfgklmnprst", k=3) + noise.choices("aeiou", k=3)) for _ in range(2000)]
    for _ in range(count):
        yield " ".join(noise.choices(known, k=12)) + "."


def peak_of(base: Path, **settings: object) -> float:
    """MB that the processes of a run in `base` take at most together, shared pages counted once."""
    base.mkdir(exist_ok=True)
    about = {"kind": "corpus", "sources": [{"path": "texts", "name": "s"}], "language": "en", "guard": 1.0, "eval": 0}
    (base / "config.json").write_text(json.dumps(about | {"steps": STEPS} | settings), encoding="utf-8")
    script = base / "build.py"
    script.write_text(BUILD, encoding="utf-8")
    run = subprocess.Popen([sys.executable, script, base], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    most = 0
    while run.poll() is None:
        most = max(most, sum(share_of(process) for process in tree_of(run.pid)))
        time.sleep(0.05)
    assert run.returncode == 0
    return most / 1e6


def tree_of(process: int) -> list[int]:
    """A process and all that it began."""
    try:
        begun = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has ended
        return []
    return [process, *(each for child in begun for each in tree_of(int(child)))]


def share_of(process: int) -> int:
    """Bytes of a process, each page divided by the number of those that share it."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def write_lines(base: Path, megabytes: float) -> None:
    (base / "texts").mkdir(parents=True)
    with (base / "texts" / "a.jsonl").open("w", encoding="utf-8") as file:
        size = 0
        for line in sentences(10**9, 1):
            size += file.write(json.dumps({"text": line}) + "\n")
            if size > megabytes * 1e6:
                return


@pytest.fixture(scope="module")
def least(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the mill takes before text counts."""
    base = tmp_path_factory.mktemp("least")
    write_lines(base, 0.1)
    return peak_of(base, work={"workers": 1})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes share")
def test_memory_does_not_follow_the_number_of_documents(tmp_path, least):
    """70 and 140 MB of documents of a line each (0.8 and 1.6 million); to hold them would take 250 MB more."""
    peaks = []
    for megabytes in (70, 140):
        base = tmp_path / str(megabytes)
        write_lines(base, megabytes)
        peaks.append(peak_of(base, work={"workers": 1}))
    assert peaks[1] - peaks[0] < 120
    assert peaks[1] - least < 450


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes share")
def test_a_document_larger_than_all_others_takes_no_more_than_they(tmp_path, least):
    """16 MB as one document took 700 MB more."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("\n".join(sentences(350_000, 2)), encoding="utf-8")
    assert peak_of(tmp_path, work={"workers": 1}) - least < 350
    assert len(list(Corpus(tmp_path / "corpus").documents("train"))) >= 4


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_text_that_is_too_long_is_cut_and_nothing_is_lost(tmp_path, name):
    """At paragraphs where there are some, anywhere where there is no blank at all."""
    text = "\n\n".join(sentences(60_000, 3)) + " " + "x" * (LONGEST + 7)
    rest = json.dumps({"text": text}) if name == "a.jsonl" else text
    (tmp_path / name).write_text(rest, encoding="utf-8")
    documents = list(read_source(SourceConfig(path=name, name="s"), tmp_path))
    assert "".join(document.text for document in documents) == text
    first = f"s/{name}#1" if name == "a.jsonl" else f"s/{name}"
    assert [document.id for document in documents] == [f"{first}#{at}" for at in range(1, len(documents) + 1)]
    assert max(len(document.text) for document in documents) <= LONGEST
    assert documents[0].text.endswith("." if len(documents[0].text) == LONGEST else ("\n\n", " "))


def test_a_text_just_as_long_as_allowed_stays_whole(tmp_path):
    (tmp_path / "a.txt").write_text("x" * LONGEST, encoding="utf-8")
    (document,) = read_source(SourceConfig(path="a.txt", name="s"), tmp_path)
    assert document.id == "s/a.txt"


def test_memory_says_how_many_processes_work():
    workers = [WorkConfig(workers=16, memory=memory).processes() for memory in ("1 GB", "2 GB", "100 GB")]
    assert workers[0] == 1 < workers[1] < workers[2] == 16
    assert WorkConfig(workers=1, memory="100 GB").processes() == 1


def test_too_little_memory_is_refused_with_what_is_needed():
    ((path, letter),) = WorkConfig(memory="300 MB").problems()
    assert path == ("memory",)
    assert "`memory: 300 MB` is too little" in letter
    assert "may take 1 GB" in letter
    assert list(WorkConfig(memory="1 GB").problems()) == []
