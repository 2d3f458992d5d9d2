"""A save that somebody reads while its training goes on."""

import pytest

from polyana.errors import UserError
from polyana.registry import KeepConfig, Repository, apply_retention
from polyana.revisions import held_revision

RUN = "tiny-pretrain-2026-11-22_01.02.03"


def save(repository: Repository, step: int) -> None:
    files = repository.arriving(step)
    (files / "model.safetensors").write_text(f"weights {step}")
    repository.commit(files, step, step, 0.0, "", {"eval/loss": 1 / step}, "r")
    apply_retention(repository, KeepConfig(best=1, last=1), "eval/loss")


def test_it_stays_until_it_was_read(tmp_path):
    repository = Repository(tmp_path / "hub", RUN)
    save(repository, 1)
    with held_revision("tiny-pretrain", tmp_path) as revision:
        save(repository, 2)
        save(repository, 3)
        assert str(revision) == f"{RUN}@step-1"
        assert (revision.directory / "model.safetensors").read_text() == "weights 1"
    save(repository, 4)
    assert [commit.step for commit in repository.commits()] == [4]


def test_a_name_that_moves_on_is_looked_up_again(tmp_path, monkeypatch):
    repository = Repository(tmp_path / "hub", RUN)
    save(repository, 1)
    resolve, resolved = Repository.resolve, []

    def slow(self, name):
        resolved.append(commit := resolve(self, name))
        if len(resolved) == 1:
            save(repository, 2)  # which takes the first away
        return commit

    monkeypatch.setattr(Repository, "resolve", slow)
    with held_revision("tiny-pretrain", tmp_path) as revision:
        assert revision.commit.step == 2
    assert [commit.step for commit in resolved] == [1, 2]
    with pytest.raises(UserError, match="has no revision `step-1`"), held_revision("tiny-pretrain@step-1", tmp_path):
        pass
