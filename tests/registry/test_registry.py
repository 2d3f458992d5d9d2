"""Saves as commits; the judge is unmodified transformers in a process that imports nothing of ours."""

import json
import os
import subprocess
import sys

import pytest
from conftest import newest_run

from polyana.errors import Damaged, UserError
from polyana.registry import KeepConfig, Repository, apply_retention, best_commits, find_repository


def save(repository, step, content, metrics=None):
    files = repository.arriving(step)
    for name, text in content.items():
        (files / name).write_text(text)
    return repository.commit(
        files, step=step, tokens=step * 10, epoch=step / 100, message=f"step {step}", metrics=metrics or {}, recipe="r"
    )


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "hub", "demo-pretrain-2026-11-22_01.02.03")


def test_commits_have_history_refs_and_shared_blobs(repository):
    one = save(repository, 1, {"model.safetensors": "a", "tokenizer.json": "same"})
    two = save(repository, 2, {"model.safetensors": "b", "tokenizer.json": "same"})
    assert (one.parent, two.parent) == (None, one.id)
    assert repository.refs() == {"main": two.id, "step-1": one.id, "step-2": two.id}
    assert len(list((repository.path / "blobs").iterdir())) == 3
    assert (repository.snapshot(two) / "tokenizer.json").read_text() == "same"
    assert repository.resolve("step-1") == repository.resolve(one.id[:7]) == one
    with pytest.raises(UserError, match=r"has no revision `step-7`; it has: main, step-1, step-2"):
        repository.resolve("step-7")


def test_the_same_save_twice_is_one_commit(repository):
    first, again = (save(repository, 1, {"model.safetensors": "a"}) for _ in range(2))
    assert first.id == again.id
    assert len(repository.commits()) == 1
    assert not list((repository.path / "arriving").rglob("*.safetensors"))


def test_retention_frees_exactly_what_nothing_refers_to(repository):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0, 5: 5.0}
    for step, loss in losses.items():
        save(repository, step, {"model.safetensors": f"weights {step}", "tokenizer.json": "same"}, {"eval/loss": loss})
    best = best_commits(repository.commits(), "eval/loss")
    assert [commit.step for commit in best] == [2, 3, 1, 4, 5]
    repository.set_ref("best", best[0].id)
    gone = apply_retention(repository, KeepConfig(best=2, last=1), "eval/loss")
    assert [commit.step for commit in gone] == [1, 4]
    assert sorted(repository.refs()) == ["best", "main", "step-2", "step-3", "step-5"]
    contents = {path.read_text() for path in (repository.path / "blobs").iterdir()}
    assert contents == {"same", "weights 2", "weights 3", "weights 5"}


def test_retention_keeps_multiples_and_tags(repository):
    for step in range(1, 7):
        save(repository, step, {"model.safetensors": str(step)})
    repository.set_ref("for-the-paper", repository.resolve("step-1").id)
    keep = KeepConfig.model_validate({"best": 1, "last": 1, "every": "2 steps"})
    apply_retention(repository, keep, "eval/loss")
    assert [commit.step for commit in repository.commits()] == [1, 2, 4, 6]


def test_a_damaged_file_is_named_with_the_commit_before_it(repository):
    save(repository, 1, {"model.safetensors": "a"})
    two = save(repository, 2, {"model.safetensors": "b"})
    (repository.path / "blobs" / two.files["model.safetensors"]).write_text("c")
    with pytest.raises(Damaged, match=r"model\.safetensors is damaged.*@step-1"):
        repository.snapshot(two)


def test_runs_are_found_by_the_beginning_of_their_name(tmp_path):
    for run in (
        "demo-pretrain-2026-11-22_01.02.03",
        "demo-pretrain-2026-11-23_01.02.03",
        "other-x-2026-11-24_01.02.03",
    ):
        save(Repository(tmp_path, run), 1, {"a": "b"})
    assert find_repository(tmp_path, "demo-pretrain").run == "demo-pretrain-2026-11-23_01.02.03"
    assert find_repository(tmp_path, "demo-pretrain-2026-11-22").run == "demo-pretrain-2026-11-22_01.02.03"
    save(Repository(tmp_path, "demo-pretrain2-2026-11-25_01.02.03"), 1, {"a": "b"})
    assert find_repository(tmp_path, "demo-pretrain").run == "demo-pretrain-2026-11-23_01.02.03"
    with pytest.raises(UserError, match="`demo` could be demo-pretrain or demo-pretrain2; write one of them"):
        find_repository(tmp_path, "demo")
    with pytest.raises(UserError, match="there is no run `nothing`"):
        find_repository(tmp_path, "nothing")


def test_a_step_made_again_replaces_its_commit_and_mends_a_damaged_blob(repository):
    """The parent is gone by then, so the commit has another id."""
    save(repository, 1, {"model.safetensors": "a"})
    two = save(repository, 2, {"model.safetensors": "b"})
    repository.remove(repository.resolve("step-1"))
    (repository.path / "blobs" / two.files["model.safetensors"]).write_text("damaged")
    again = save(repository, 2, {"model.safetensors": "b"})
    assert again.id != two.id
    assert repository.commits() == [again]
    assert (repository.snapshot(again) / "model.safetensors").read_text() == "b"
    assert repository.refs() == {"main": again.id, "step-2": again.id}


FOREIGN = """
import sys, json
from transformers import AutoModelForCausalLM, AutoTokenizer
name, revisions = sys.argv[1], sys.argv[2:]
found = {}
for revision in revisions:
    model = AutoModelForCausalLM.from_pretrained(name, revision=revision)
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    ids = tokenizer("The people of the State", return_tensors="pt")
    loss = model(**ids, labels=ids["input_ids"]).loss.item()
    found[revision] = [sum(p.numel() for p in model.parameters()), loss, tokenizer.eos_token]
from huggingface_hub import scan_cache_dir
scan = scan_cache_dir()
assert not scan.warnings, scan.warnings
assert not any(module.startswith("polyana") for module in sys.modules)
print(json.dumps(found))
"""


def test_plain_transformers_loads_any_revision_by_name_offline(tiny, home, polyana):
    polyana("run", tiny)
    run = newest_run(home)
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FOREIGN, f"polyana/{run.name}", "best", "main", "step-8", "step-12"],
        env=os.environ | {"HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["main"] == found["step-12"]
    assert found["step-8"][1] != found["step-12"][1]
    assert found["main"][2] == "<|endoftext|>"
    commits = {commit.step: commit for commit in Repository(home / "hub", run.name).commits()}
    assert sorted(commits) == [8, 12]
    assert commits[12].metrics["eval/loss"] < 6.5
