"""What commits scored lies beside them and goes with them."""

import pytest

from polyana.registry import KeepConfig, Repository, apply_retention


def save(repository, step):
    files = repository.arriving(step)
    (files / "model.safetensors").write_text(f"weights {step}")
    return repository.commit(
        files, step=step, tokens=step, epoch=0.0, message="", metrics={"eval/loss": -step}, recipe="r"
    )


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "hub", "demo-pretrain-2026-11-22_01.02.03")


RESULT = {"suite": "perplexity", "metrics": {"loss": {"value": 1.5, "low": 1.0, "high": 2.0, "n": 3}}}


def test_a_result_is_kept_with_its_commit_whose_id_stays(repository):
    commit = save(repository, 1)
    suite = "./my suites/ünï: best?.yaml"
    assert repository.record_evaluation(commit, suite, RESULT, [{"id": "a", "text": "\ud800"}])
    assert repository.record_evaluation(commit, "perplexity", {**RESULT, "n": 1})
    assert repository.record_evaluation(commit, "perplexity", RESULT)  # a newer one takes its place
    assert repository.resolve("main") == commit
    found = repository.evaluations(commit)
    assert set(found) == {suite, "perplexity"}
    assert found["perplexity"]["metrics"] == RESULT["metrics"]
    assert "n" not in found["perplexity"]
    assert repository.evaluation_items(commit, suite) == [{"id": "a", "text": "?"}]
    assert repository.evaluation_items(commit, "never run") is None
    assert all(path.parent.parent.parent == repository.path for path in repository.path.glob("evaluations/*/*"))


def test_results_go_with_their_commit(repository):
    one, two = save(repository, 1), save(repository, 2)
    for commit in (one, two):
        repository.record_evaluation(commit, "perplexity", RESULT, [{"id": "a"}])
    (repository.path / "evaluations" / ("0" * 40)).mkdir()  # of a commit that a crash has half removed
    (repository.path / "evaluations" / ("0" * 40) / "x.json").write_text("{}")
    assert apply_retention(repository, KeepConfig(best=1, last=1), "eval/loss") == [one]
    assert [path.name for path in (repository.path / "evaluations").iterdir()] == [two.id]
    assert not repository.record_evaluation(one, "perplexity", RESULT)
    assert repository.evaluations(one) == {}


def test_what_is_damaged_counts_as_never_computed(repository):
    commit = save(repository, 1)
    repository.record_evaluation(commit, "perplexity", RESULT, [{"id": "a"}])
    (items,) = repository.path.glob("evaluations/*/*.items.gz")
    items.write_bytes(items.read_bytes()[:-1])
    assert repository.evaluation_items(commit, "perplexity") is None
    (result,) = repository.path.glob("evaluations/*/*.json")
    result.write_text("{")
    assert repository.evaluations(commit) == {}
