"""`polyana models ...` over a registry with real weights' files."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from saves import make_run

from polyana.registry import Commit, Ranking, Repository
from polyana.registry.difference import by_layer, weight_distances
from polyana.storage import disk_used, show_bytes, write_file, write_json

RUN = "demo-pretrain-2026-11-22_01.02.03"
LOSSES = {1: 3.0, 2: 1.0, 3: 2.0}


def save(repository, step, tensors, metrics=None, **settings):
    files = repository.arriving(step)
    save_file(tensors, files / "model.safetensors", metadata={"format": "pt"})
    write_json(files / "config.json", {"model_type": "llama", "vocab_size": 99} | settings)
    return repository.commit(files, step, step * 10, step / 2, f"step {step} of 3", metrics or {}, f"recipe {step}")


def weights(step):
    torch.manual_seed(step)
    return {f"model.layers.{block}.mlp.weight": torch.randn(8, 8) for block in range(2)} | {"head": torch.ones(4, 8)}


@pytest.fixture
def repository(home):
    repository = Repository(home / "hub", RUN)
    for step, loss in LOSSES.items():
        metrics = {"eval/loss": loss, "eval/accuracy": loss / 10}
        save(repository, step, weights(step), metrics, vocab_size=99 + (step == 3))
    repository.set_ref("best", repository.resolve("step-2").id)
    return repository


def test_listing_logging_and_showing(repository, polyana):
    assert polyana("models").stdout.splitlines()[1].split() == [RUN, "3", "2.8", "kB", "3", "2", "eval/loss", "1"]
    (row,) = json.loads(polyana("models", "--json").stdout)
    assert (row["commits"], row["bytes"]) == (3, sum(repository.blob_sizes().values()))

    head, titles, *rows = polyana("models", "log", "demo-pretrain").stdout.splitlines()
    assert head == f"{RUN}  3 commits, 2.8 kB  eval/loss █▁▅ 3 to 2"
    assert titles.split() == ["step", "commit", "epoch", "eval/loss", "eval/accuracy", "alone", "saved", "refs"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert rows[1].endswith("best")
    assert rows[2].endswith("main")
    listed = json.loads(polyana("models", "log", RUN, "--json").stdout)
    assert [each["refs"] for each in listed] == [["step-1"], ["best", "step-2"], ["main", "step-3"]]

    said = polyana("models", "show", f"{RUN}@best").stdout
    assert "weights      3 tensors, 160 in F32" in said
    assert "metric       eval/loss 1" in said
    shown = json.loads(polyana("models", "show", "demo-pretrain@step-3", "--json").stdout)
    assert shown["step"] == 3
    assert {each["name"] for each in shown["files"]} == {"model.safetensors", "config.json"}
    assert shown["alone"] == shown["bytes"]
    assert polyana("models", "show", "demo-pretrain@step-9", check=2).stderr.startswith(f"{RUN} has no revision")


def test_an_adapter_is_shown_with_rank_targets_and_base(repository, polyana):
    files = repository.arriving(4)
    save_file({"base_model.model.q.lora_A.weight": torch.ones(2, 8)}, files / "adapter_model.safetensors")
    about = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "org/base"}
    write_json(files / "adapter_config.json", about)
    repository.commit(files, 4, 40, 2.0, "", {}, "r")
    said = polyana("models", "show", RUN).stdout
    assert "adapter      rank 2, alpha 4, on q_proj, v_proj" in said
    assert "base         org/base" in said


def test_two_commits_side_by_side(repository, polyana):
    found = json.loads(polyana("models", "diff", f"{RUN}@step-1", f"{RUN}@step-3", "--json").stdout)
    one, three = weights(1), weights(3)
    for each in found["tensors"]:
        a, b = one[each["name"]].double(), three[each["name"]].double()
        assert each["relative"] == pytest.approx(float((b - a).norm() / a.norm()))
        assert each["largest"] == pytest.approx(float((b - a).abs().max()))
    whole = [torch.cat([each.flatten() for each in save.values()]).double() for save in (one, three)]
    assert found["relative"] == pytest.approx(float((whole[1] - whole[0]).norm() / whole[0].norm()))
    assert found["settings"]["config.json"] == ["vocab_size was 99, is 100"]
    assert found["metrics"]["eval/loss"] == [3.0, 2.0]
    said = polyana("models", "diff", f"{RUN}@step-1", f"{RUN}@step-3").stdout
    assert "config.json  vocab_size was 99, is 100" in said
    assert [line.split()[0] for line in said.splitlines() if "%" in line and "all of it" not in line] == [
        "head", "model.layers.0", "model.layers.1",
    ]  # fmt: skip


def test_recipes_of_two_runs_are_compared(repository, home, polyana):
    other = Repository(home / "hub", "demo-pretrain-2026-11-23_01.02.03")
    save(other, 1, weights(1))
    for run, lr in ((RUN, 0.1), (other.run, 0.2)):
        (home / "runs" / run).mkdir(parents=True)
        write_file(home / "runs" / run / "recipe.yaml", f"name: demo\nstages:\n  pretrain: {{lr: {lr}}}\n")
    found = json.loads(polyana("models", "diff", f"{RUN}@step-2", f"{other.run}@main", "--json").stdout)
    assert found["settings"]["recipe"] == ["stages.pretrain.lr was 0.1, is 0.2"]


def test_distances_of_every_type_and_of_what_does_not_fit(tmp_path):
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
    one = {str(kind): torch.arange(1, 7).reshape(2, 3).to(kind) for kind in kinds}
    other = {name: (each.flip(1) if each.dtype != torch.bool else ~each) for name, each in one.items()}
    one |= {"gone": torch.ones(1), "grown": torch.ones(2, 2)}
    other |= {"new": torch.ones(1), "grown": torch.ones(3, 2), "large": torch.zeros(0)}
    one["large"] = torch.zeros(0)
    save_file(one, tmp_path / "one")
    save_file(other, tmp_path / "other")
    found = {each.name: each for each in weight_distances({"": tmp_path / "one"}, {"": tmp_path / "other"})}
    for kind in kinds:
        a, b = one[str(kind)].double(), other[str(kind)].double()
        assert found[str(kind)].relative == pytest.approx(float((b - a).norm() / a.norm())), kind
    assert {name: each.why for name, each in found.items() if each.why} == {
        "gone": "only in the first", "new": "only in the second", "grown": "of different shapes: 2x2 and 3x2",
    }  # fmt: skip
    assert len(by_layer(list(found.values()))) == len(kinds) + 1


def test_layers_are_in_their_order(tmp_path):
    save_file({f"layers.{number}.weight": torch.ones(2) for number in (10, 1, 2, 0)}, tmp_path / "one")
    found = list(weight_distances({"": tmp_path / "one"}, {"": tmp_path / "one"}))
    assert [each.name for each in by_layer(found)] == ["layers.0", "layers.1", "layers.2", "layers.10"]


MEASURE = """
import resource, sys
from pathlib import Path
from polyana.registry.difference import weight_distances
files = [{"": Path(path)} for path in sys.argv[1:]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
list(weight_distances(*files))
anonymous = next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, anonymous)
"""


def test_comparing_needs_little_memory_whatever_the_size(tmp_path):
    """What is mapped can be taken back by the system at any time; what is ours is some megabytes."""
    for name in ("one", "other"):
        save_file({"w": torch.randn(40_000_000)}, tmp_path / name)
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "one", tmp_path / "other"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(process.stdout.split()[1]) < 150_000, "kB"


def test_picking_moves_best_and_training_goes_on_to_choose_so(repository, polyana):
    assert polyana("models", "pick", RUN, "--by", "eval/accuracy").stdout.startswith(
        f"{RUN}@best is step 1: the highest"
    )
    assert repository.refs()["best"] == repository.resolve("step-1").id
    assert repository.ranking() == Ranking("eval/accuracy", lowest=False)
    polyana("models", "pick", RUN, "--by", "eval/accuracy", "--min")
    assert repository.resolve("best").step == 2
    assert json.loads(polyana("models", "pick", RUN, "--json").stdout)["step"] == 2
    said = polyana("models", "pick", RUN, "--by", "eval/bleu", check=2).stderr
    assert said == f"no commit of {RUN} has a metric `eval/bleu`; they have: eval/accuracy, eval/loss\n"


def test_tags(repository, polyana):
    assert polyana("models", "tag", f"{RUN}@step-1", "v1").stdout == f"{RUN}@v1 is step 1\n"
    assert repository.pins() == {repository.resolve("step-1").id: {"tag:v1"}}
    said = polyana("models", "tag", f"{RUN}@step-2", "v1", check=2).stderr
    assert said == f"`v1` is step 1 of {RUN}; write another tag, or --force to move it\n"
    polyana("models", "tag", f"{RUN}@step-2", "v1", "--force")
    assert repository.resolve("v1").step == 2
    for name in ("best", "main", "step-7", "step-x", "abcdef0", "a/b", ".x"):
        assert "cannot be a tag" in polyana("models", "tag", RUN, name, check=2).stderr
    polyana("models", "tag", RUN, "v1", "--delete")
    assert repository.pins() == {}
    assert "has no tag `v1`; it has: none" in polyana("models", "tag", RUN, "v1", "--delete", check=2).stderr
    assert "has no tag `best`" in polyana("models", "tag", RUN, "best", "--delete", check=2).stderr


def test_deleting_frees_exactly_what_nothing_else_uses(repository, home, polyana):
    repository.pin(repository.resolve("step-1").id, "pushed:hub:org/name")
    said = polyana("models", "rm", f"{RUN}@step-1", check=2).stderr
    assert said == f"{RUN}@step-1 is kept: pushed:hub:org/name; --force deletes it\n"
    assert "is kept: best" in polyana("models", "rm", f"{RUN}@best", check=2).stderr
    for revision in ("step-3", "best"):  # which is main, too, in the first
        before = disk_used(home)
        found = json.loads(polyana("models", "rm", f"{RUN}@{revision}", "--force", "--json").stdout)
        assert found["freed"] == before - disk_used(home) > 0
        assert set(repository.refs()) > {"main", "best"}
    assert [commit.step for commit in repository.commits()] == [1]
    assert "write the run's whole name" in polyana("models", "rm", "demo-pretrain", check=2).stderr
    assert "step-1 (pushed:hub:org/name)" in polyana("models", "rm", RUN, check=2).stderr
    before = disk_used(home)
    found = json.loads(polyana("models", "rm", RUN, "--force", "--json").stdout)
    assert found["freed"] == before
    assert list((home / "hub").iterdir()) == []


def test_what_the_state_for_resuming_has_too_is_said(repository, home, polyana):
    """`log` counts it, `rm` does not free it."""
    commit = repository.resolve("step-2")
    state = home / "runs" / RUN / "state" / "weights"
    state.parent.mkdir(parents=True)
    repository.link(commit, "model.safetensors", state)
    size = state.stat().st_size
    row = next(row for row in json.loads(polyana("models", "log", RUN, "--json").stdout) if row["step"] == 2)
    before = disk_used(home)
    found = json.loads(polyana("models", "rm", f"{RUN}@step-2", "--force", "--json").stdout)
    assert found["later"] == size
    assert found["freed"] == before - disk_used(home)
    assert row["alone"] <= found["freed"] + found["later"] < row["alone"] + 10_000  # and its commit.json
    repository.link(repository.resolve("step-1"), "model.safetensors", state.with_name("other"))
    said = polyana("models", "rm", RUN, "--force").stdout
    assert f"; {show_bytes(size)} more once the run's state for resuming goes, which has the same weights" in said


def test_a_save_that_lacks_a_file_can_be_deleted(repository, home, polyana):
    repository.blob(repository.resolve("step-2"), "model.safetensors").unlink()
    found = json.loads(polyana("models", "rm", f"{RUN}@step-2", "--force", "--json").stdout)
    assert found["later"] == 0
    assert 2 not in [commit.step for commit in repository.commits()]
    assert "are as they were written" in polyana("models", "verify").stdout


def test_a_flipped_bit_is_found_in_its_commits_and_files(repository, home, polyana):
    assert "are as they were written" in polyana("models", "verify").stdout
    commit = repository.resolve("step-2")
    blob = repository.blob(commit, "model.safetensors")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    said = polyana("models", "verify", check=1).stdout
    assert said.startswith(f"{RUN}@step-2  model.safetensors  is damaged: the checksum of {blob} is not its name")
    assert len(said.splitlines()) == 1
    (trouble,) = json.loads(polyana("models", "verify", RUN, "--json", check=1).stdout)["troubles"]
    assert (trouble["commit"], trouble["file"]) == (f"{RUN}@step-2", "model.safetensors")


def test_a_flipped_bit_is_found_in_a_save_of_an_earlier_version(home, polyana):
    """Whose files are known by SHA-256; the next save stores nothing of them twice under that name."""
    repository = make_run(home / "hub", steps=(1, 2, 3), best=1, sha256=(1, 2))
    assert "are as they were written" in polyana("models", "verify").stdout
    assert len(repository.blob_sizes()) == 4 + 2 + 4
    for name in ("model.safetensors", "README.md"):
        blob = repository.blob(repository.resolve("step-2"), name)
        blob.write_bytes(b"x" + blob.read_bytes()[1:])
    said = polyana("models", "verify", check=1).stdout.splitlines()
    assert [line.split("  ")[:2] for line in said] == [
        [f"{RUN}@step-2", "README.md"],
        [f"{RUN}@step-2", "model.safetensors"],
    ]


def test_all_that_can_be_wrong_is_named(repository, polyana):
    commits = {step: repository.resolve(f"step-{step}") for step in LOSSES}
    repository.blob(commits[1], "model.safetensors").unlink()
    link = repository.path / "snapshots" / commits[2].id / "config.json"
    link.unlink()
    link.write_text("{}")
    (repository.path / "snapshots" / commits[3].id / "commit.json").write_text("{")
    said = polyana("models", "verify", check=1).stdout
    for part in ("step-1  model.safetensors  is missing", "step-2  config.json  leads elsewhere",
                 f"{commits[3].id[:12]}  commit.json  cannot be read", "refs/main  names"):  # fmt: skip
        assert part in said


def test_garbage_is_collected_to_the_byte_and_the_disk_is_told(repository, home, polyana):
    repository.remove(repository.resolve("step-1"))
    (repository.path / "arriving" / "step-9.1.1").mkdir()
    (repository.path / "arriving" / "step-9.1.1" / "model.safetensors").write_bytes(bytes(1234))
    about = json.loads(polyana("models", "disk", "--json").stdout)
    assert about["repositories"][0]["unused"] > 0
    assert "2" in polyana("models", "disk").stdout.splitlines()[1].split()
    before = disk_used(home)
    freed = json.loads(polyana("models", "gc", "--json").stdout)["freed"][RUN]
    assert freed == before - disk_used(home) == about["repositories"][0]["unused"] + 1234
    assert polyana("models", "gc", RUN).stdout == "nothing to free: all of it is used\n"


def test_listing_needs_no_torch(repository, home):
    """It takes longer to import than listing 300 commits does; so do numpy and what recipes are read with."""
    code = (
        "import sys\nfrom polyana.cli import main\nsys.argv = ['polyana', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'polyana.config', 'polyana.tracking'} & set(sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "models", "log", RUN], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(RUN)


def test_metrics_that_are_no_numbers_rank_last():
    commits = [Commit(str(step), None, step, 0, 0.0, "", {"eval/loss": loss}, "", {}, 0.0)
               for step, loss in ((1, float("nan")), (2, 2.0), (3, 1.0), (4, 1.0))]  # fmt: skip
    assert [each.step for each in Ranking().sort(commits)] == [3, 4, 2]
    assert [each.step for each in Ranking(lowest=False).sort(commits)] == [2, 3, 4]
    assert [each.step for each in Ranking(commit="1").sort(commits)] == [1, 3, 4, 2]
