"""Unmodified transformers and peft load what training has saved by its name, offline, while training goes on.

Real processes: one trains, the other imports nothing of ours.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from conftest import newest_run
from harness_tasks import ROLLING

from polyana.registry import Repository
from polyana.storage import sha256_of

LOADING = """
import json, sys
name, revisions = sys.argv[1], sys.argv[2:]
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
found = {}
for revision in revisions:
    if "--adapter" in name:
        from peft import AutoPeftModelForCausalLM
        model = AutoPeftModelForCausalLM.from_pretrained(name.removesuffix("--adapter"), revision=revision)
    else:
        model = AutoModelForCausalLM.from_pretrained(name, revision=revision)
    tokenizer = AutoTokenizer.from_pretrained(name.removesuffix("--adapter"), revision=revision)
    ids = tokenizer("The people of the State", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        found[revision] = model(**ids, labels=ids["input_ids"]).loss.item()
assert not any(module.startswith("polyana") for module in sys.modules)
print(json.dumps(found))
"""


def load_elsewhere(home, tmp_path, name, *revisions):
    """Loss of a text by revision, in a process that sees no cache but the registry and no network."""
    cache = {"HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "no-home")}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADING, name, *revisions],
        env=os.environ | cache | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def commits_of(home, at_least, process):
    limit = time.monotonic() + 240
    while time.monotonic() < limit and process.poll() is None:
        for path in (home / "hub").glob("models--polyana--*"):
            repository = Repository(home / "hub", path.name.removeprefix("models--polyana--"))
            if len(repository.commits()) >= at_least and "best" in repository.refs():
                return repository
        time.sleep(0.1)
    raise AssertionError(f"it ended, or four minutes passed, before its saves were there: {process.stderr}")


@contextmanager
def training(recipe, home, tmp_path):
    """The repository of a run that goes on until the block ends, once it has three saves."""
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "polyana", "run", str(recipe)], stderr=said,
            env=os.environ | {"OMP_NUM_THREADS": "1", "POLYANA_HOME": str(home)},
        )  # fmt: skip
        try:
            yield commits_of(home, 3, process)
            assert process.poll() is None, (tmp_path / "said").read_text()
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def endless(tiny):
    text = tiny.read_text().replace("12 steps", "200k steps").replace("eval: {every: 4 steps", "eval: {every: 50 steps")
    saving = "save: {every: 1 seconds, keep: {every: 1 step}}"
    tiny.write_text(text.replace("save: {every: 4 steps, keep: {best: 1, last: 2}}", saving))
    return tiny


def test_any_revision_loads_while_training_goes_on(endless, home, tmp_path):
    with training(endless, home, tmp_path) as repository:
        first = repository.commits()[0]
        name = f"polyana/{repository.run}"
        found = load_elsewhere(home, tmp_path, name, "best", f"step-{first.step}", first.id, "main")
    assert found[f"step-{first.step}"] == found[first.id] != found["main"]


ADAPTER = """\
name: stories
seed: 3
stages:
  chat:
    kind: sft
    base: {base}
    data: [{{path: rows.jsonl}}]
    template: raw
    context: 64
    held_out: 0
    adapter: {{rank: 2, targets: [q_proj]}}
    train: {{duration: 3 steps, batch: 2 sequences, lr: 1e-1, precision: fp32}}
    save: {{every: 1 steps, keep: {{last: 3}}}}
"""


@pytest.mark.parametrize("hub", [False, True])
def test_an_adapter_is_loaded_with_its_base_by_name(hub, shared_data, home, tmp_path, polyana):
    """Of a base that lies in a directory, and of one of the Hub: with HF_HUB_CACHE pointed at the registry, the cache
    that it was fetched into is hidden."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "The people", "completion": " are many."}\n' * 6)
    recipe = tmp_path / "stories.yaml"
    recipe.write_text(ADAPTER.format(base=shared_data / "stories260k" / "hf"))
    polyana("run", recipe)
    if hub:  # as if it had been fetched
        (start,) = (home / "stages").glob("base-*")
        about = json.loads((start / "artifact.json").read_text())
        (start / "base.json").write_text(json.dumps({"name": "org/tales", "revision": "ab" * 20}))
        about["files"]["base.json"] = [(start / "base.json").stat().st_size, sha256_of(start / "base.json")]
        (start / "artifact.json").write_text(json.dumps(about))
        polyana("run", recipe, "--fresh")
    run = newest_run(home)
    repository = Repository(home / "hub", run.name)
    about = json.loads((repository.snapshot(repository.resolve("main")) / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"].startswith("org/tales" if hub else str(home / "stages" / "base-"))
    found = load_elsewhere(
        home, tmp_path, f"polyana/{run.name}--adapter", "main", "step-1", repository.resolve("best").id
    )
    assert found["main"] != found["step-1"]


def measured_elsewhere(home, tmp_path, *revisions, **model):
    """Bits per byte that lm-eval finds by revision, of a task of its own, without another cache or a network."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "rolling.yaml").write_text(ROLLING.replace("PLACE", str(tmp_path)))
    (tmp_path / "texts.jsonl").write_text('{"text": "The people of the State"}\n{"text": "Once upon a time"}\n')
    cache = {"HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    found = {}
    for revision in revisions:
        output = tmp_path / f"measured-{revision}"
        arguments = ",".join(f"{name}={value}" for name, value in {**model, "revision": revision}.items())
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "lm_eval", "run", "--model", "hf", "--model_args", arguments,
             "--tasks", "rolling", "--include_path", str(tmp_path / "tasks"), "--device", "cpu",
             "--output_path", str(output)],
            env=os.environ | cache | {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "no-home")},
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        (results,) = output.rglob("results_*.json")
        found[revision] = json.loads(results.read_text())["results"]["rolling"]["bits_per_byte,none"]
    return found


@pytest.mark.slow
def test_lm_eval_measures_any_revision_while_training_goes_on(endless, home, tmp_path):
    pytest.importorskip("lm_eval")
    with training(endless, home, tmp_path) as repository:
        first = repository.commits()[0]
        name = f"polyana/{repository.run}"
        found = measured_elsewhere(home, tmp_path, "best", f"step-{first.step}", first.id, pretrained=name)
    assert found[f"step-{first.step}"] == found[first.id] > found["best"]


@pytest.mark.slow
def test_peft_and_lm_eval_load_an_adapter_while_it_trains(shared_data, home, tmp_path):
    pytest.importorskip("lm_eval")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "The people", "completion": " of the State are many."}\n' * 6)
    recipe, text = tmp_path / "stories.yaml", ADAPTER.format(base=shared_data / "stories260k" / "hf")
    text = text.replace("3 steps", "200k steps").replace("1e-1", "1e-3").replace("held_out: 0", "held_out: 0.2")
    recipe.write_text(text.replace("{every: 1 steps, keep: {last: 3}}", "{every: 1 seconds, keep: {every: 1 step}}"))
    with training(recipe, home, tmp_path) as repository:
        first = repository.commits()[0]
        name, revisions = f"polyana/{repository.run}", ("best", f"step-{first.step}", first.id)
        settings = json.loads((repository.path / "snapshots" / first.id / "adapter_config.json").read_text())
        lost = load_elsewhere(home, tmp_path, f"{name}--adapter", *revisions, "main")
        base = settings["base_model_name_or_path"]
        bits = measured_elsewhere(home, tmp_path, *revisions, pretrained=base, peft=name, tokenizer=name)
    assert lost[f"step-{first.step}"] == lost[first.id] > lost["main"]
    assert bits[f"step-{first.step}"] == bits[first.id] > bits["best"]
