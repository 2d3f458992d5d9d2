"""SIGKILL at random moments of saves, tags, deletions and collections: never a broken head, never a lost blob.

One process forks a child for each kill. The child changes a repository as fast as it can, all in random order; after
its death every ref must name a whole commit and every commit have all its files, and then what it left is collected.
"""

import os
import random
import signal
import time

import pytest

from polyana.registry import KeepConfig, Repository, apply_retention
from polyana.registry.change import delete_commit, delete_tag, tag
from polyana.registry.verify import verify

RUN = "demo-pretrain-2026-11-22_01.02.03"


def save(repository, step, rng):
    files = repository.arriving(step)
    (files / "model.safetensors").write_bytes(rng.randbytes(20_000))
    (files / "tokenizer.json").write_text("always the same")
    repository.commit(files, step, step, 0.0, f"step {step}", {"eval/loss": rng.random()}, "r")
    repository.set_ref("best", repository.ranking().sort(repository.commits())[0].id)


def change(repository, rng):
    """One thing that people or training do."""
    commits = repository.commits()
    kind = rng.choice(["save", "save", "retain", "tag", "untag", "pin", "delete", "collect"])
    if kind == "save" or not commits:
        step = max((commit.step for commit in commits), default=0) + rng.choice([0, 1, 1, 1])
        save(repository, max(step, 1), rng)
    elif kind == "retain":
        apply_retention(repository, KeepConfig(best=2, last=2), "eval/loss")
    elif kind == "tag":
        tag(repository, rng.choice(commits), rng.choice("xyz"), force=True)
    elif kind == "untag":
        for name in set(repository.refs()) & set("xyz"):
            delete_tag(repository, name)
    elif kind == "pin":
        repository.pin(rng.choice(commits).id, "pushed:hub:org/name")
    elif kind == "delete":
        delete_commit(repository, rng.choice(commits), force=True)
    else:
        repository.collect()


def killed_after(repository, seconds, seed):
    """Whether a child that changes the repository was killed in the middle, `seconds` after it had begun."""
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(begun, b".")
            rng, until = random.Random(seed), time.monotonic() + 20
            while time.monotonic() < until:
                change(Repository(repository.path.parent, RUN), rng)
        finally:
            os._exit(1)
    os.read(ready, 1)
    for descriptor in (ready, begun):
        os.close(descriptor)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def check(repository, seed):
    commits = repository.commits()
    refs = repository.refs()
    troubles = [str(trouble) for trouble in verify(repository)]
    assert not troubles, f"kill {seed}: {troubles}"
    first = len(commits) == 1  # its head may not be written yet; a head that is there never breaks
    assert first or not commits or "main" in refs, f"kill {seed}: {sorted(refs)} of {len(commits)} commits"
    repository.collect()
    assert not commits or "main" in repository.refs()
    used = {digest for commit in commits for digest in commit.files.values()}
    assert set(repository.blob_sizes()) == used, f"kill {seed}"
    assert not list((repository.path / "arriving").iterdir()), f"kill {seed}"
    left = {path.name for path in (repository.path / "snapshots").iterdir()}
    assert left == {commit.id for commit in commits}, f"kill {seed}"


def kill(tmp_path, times):
    repository, rng = Repository(tmp_path / "hub", RUN), random.Random(7)
    for step in (1, 2):
        save(repository, step, rng)
    for seed in range(times):
        assert killed_after(repository, rng.uniform(0.0, 0.12), seed), f"the child of kill {seed} ended by itself"
        check(repository, seed)


def test_killed_at_random_moments(tmp_path):
    kill(tmp_path, 25)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_two_hundred_random_moments(tmp_path):
    kill(tmp_path, 200)
