"""What stays whatever `keep` says, and who may write when."""

import json
import os
import subprocess
import sys
import time

import pytest

from polyana.errors import Busy, UserError
from polyana.registry import KeepConfig, Repository, apply_retention
from polyana.storage import disk_used

RUN = "demo-pretrain-2026-11-22_01.02.03"


def save(repository, step, text=None, **metrics):
    files = repository.arriving(step)
    (files / "model.safetensors").write_text(text or f"weights {step}")
    return repository.commit(files, step, step * 10, step / 100, f"step {step}", metrics, "r", environment="e")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "hub", RUN)


def retain(repository):
    apply_retention(repository, KeepConfig(best=1, last=1), "eval/loss")
    return [commit.step for commit in repository.commits()]


def test_what_is_pinned_or_tagged_stays_until_nobody_wants_it(repository):
    commits = {step: save(repository, step) for step in range(1, 6)}
    repository.pin(commits[1].id, "pushed:hub:org/name")
    repository.pin(commits[1].id, "pushed:s3://bucket/path")
    repository.set_ref("for-the-paper", commits[2].id)
    assert repository.pins() == {
        commits[1].id: {"pushed:hub:org/name", "pushed:s3://bucket/path"},
        commits[2].id: {"tag:for-the-paper"},
    }
    assert retain(repository) == [1, 2, 5]
    repository.unpin(commits[1].id, "pushed:hub:org/name")
    assert retain(repository) == [1, 2, 5]
    repository.unpin(commits[1].id, "pushed:s3://bucket/path")
    assert retain(repository) == [2, 5]
    assert Repository(repository.path.parent, RUN).commits()[0].environment == "e"


def test_a_commit_of_an_earlier_version_is_read(repository):
    commit = save(repository, 1)
    path = repository.path / "snapshots" / commit.id / "commit.json"
    about = json.loads(path.read_text())
    del about["environment"]
    path.write_text(json.dumps(about | {"what_a_later_version_says": 1}))
    assert repository.resolve("main").environment == ""


HOLD = """
import sys, time
from pathlib import Path
from polyana.registry import Repository
repository = Repository(Path(sys.argv[1]), sys.argv[2])
with repository.holding(repository.resolve("step-1")) as directory:
    print((directory / "model.safetensors").read_text(), flush=True)
    time.sleep(60)
"""


def test_what_another_process_holds_stays_until_it_dies(repository):
    for step in range(1, 4):
        save(repository, step)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, repository.path.parent, RUN], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "weights 1\n"
    assert retain(repository) == [1, 3]
    with pytest.raises(Busy, match=r"@step-1 is being read by another process"):
        repository.remove(repository.resolve("step-1"))
    holder.kill()
    holder.communicate()
    one = repository.resolve("step-1")
    assert retain(repository) == [3]
    with pytest.raises(UserError, match="was deleted a moment ago"), repository.holding(one):
        pass
    repository.collect()
    assert list((repository.path / "held").iterdir()) == [], "what was held leaves something behind"


def test_collecting_frees_to_the_byte_and_leaves_alone_what_is_on_its_way(repository):
    for step in range(1, 4):
        save(repository, step, text="x" * step * 1000)
    here, dead = repository.arriving(7), repository.arriving(8)
    (here / "model.safetensors").write_text("y" * 500)
    (dead / "model.safetensors").write_text("z" * 500)
    os.close(repository._bringing.pop(dead))  # as when its process is killed
    linked = repository.path.parent / "linked"
    repository.link(repository.resolve("step-2"), "model.safetensors", linked)
    for step in (1, 2):
        repository.remove(repository.resolve(f"step-{step}"))
    before = disk_used(repository.path.parent)
    freed = repository.collect()
    assert freed == before - disk_used(repository.path.parent) == 1000 + 500
    assert here.exists()
    assert not dead.exists()
    repository.discard(here)
    assert linked.stat().st_size == 2000


COMMITTING = """
import sys
from pathlib import Path
from polyana.registry import Repository
repository = Repository(Path(sys.argv[1]), sys.argv[2])
for step in map(int, sys.argv[3:]):
    files = repository.arriving(step)
    (files / "model.safetensors").write_text(f"weights {step}")
    (files / "tokenizer.json").write_text("same")
    repository.commit(files, step, step, 0.0, "", {"eval/loss": 1 / step}, "r")
"""
READING = """
import sys, time
from pathlib import Path
from polyana.errors import Damaged
from polyana.registry import Repository
repository = Repository(Path(sys.argv[1]), sys.argv[2])
looks, until = 0, time.monotonic() + float(sys.argv[3])
while time.monotonic() < until or looks < 3:
    refs = repository.refs()
    if "main" not in refs:
        continue
    repository.resolve("main")
    try:
        commit = repository.commits()[-1]
        with repository.holding(commit):
            repository.snapshot(commit)
    except Exception as error:
        if "was deleted a moment ago" not in str(error):
            raise
    looks += 1
"""
COLLECTING = """
import sys, time
from pathlib import Path
from polyana.registry import KeepConfig, Repository, apply_retention
repository = Repository(Path(sys.argv[1]), sys.argv[2])
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    apply_retention(repository, KeepConfig(best=1, last=2), "eval/loss")
    time.sleep(0.01)
"""


def test_two_that_commit_ten_that_read_and_one_that_collects(repository, tmp_path):
    def start(code, *arguments):
        command = [sys.executable, "-c", code, str(tmp_path / "hub"), RUN, *map(str, arguments)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    save(repository, 1)
    processes = [start(READING, 1.5) for _ in range(10)] + [start(COLLECTING, 1.5)]
    processes += [start(COMMITTING, *range(2, 82, 2)), start(COMMITTING, *range(3, 83, 2))]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    retain(repository)
    commits = repository.commits()
    assert commits[-1].step in (80, 81)
    refs = repository.refs()
    assert set(refs.values()) <= {commit.id for commit in commits}
    for commit in commits:
        repository.snapshot(commit)
        assert refs[f"step-{commit.step}"] == commit.id
    used = {digest for commit in commits for digest in commit.files.values()}
    assert {path.name for path in (repository.path / "blobs").iterdir()} == used
    assert not list((repository.path / "arriving").iterdir())


def test_a_writer_waits_for_the_one_before_it(repository):
    save(repository, 1)
    began = time.monotonic()
    code = "import time\nwith repository.changing():\n    print('in', flush=True)\n    time.sleep(1)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.partition("with")[0] + code, repository.path.parent, RUN],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "in\n"
    save(repository, 2)
    assert time.monotonic() - began > 1
    process.communicate()
    assert process.returncode == 0
    assert repository.resolve("main").step == 2
