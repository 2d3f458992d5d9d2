"""Unmodified transformers and peft load what training has saved by its name, offline, while training goes on.

Real processes: one trains, the other imports nothing of ours.
"""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import newest_run

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


def test_any_revision_loads_while_training_goes_on(tiny, home, tmp_path):
    text = tiny.read_text().replace("12 steps", "200k steps").replace("eval: {every: 4 steps", "eval: {every: 50 steps")
    tiny.write_text(text.replace("save: {every: 4 steps, keep: {best: 1, last: 2}}", "save: {every: 1 seconds}"))
    with (tmp_path / "said").open("w") as said:
        training = subprocess.Popen(
            [sys.executable, "-m", "polyana", "run", str(tiny), "--set", "stages.pretrain.save.keep.every=1 step"],
            stderr=said, env=os.environ | {"OMP_NUM_THREADS": "1", "POLYANA_HOME": str(home)},
        )  # fmt: skip
        try:
            repository = commits_of(home, 3, training)
            first = repository.commits()[0]
            name = f"polyana/{repository.run}"
            found = load_elsewhere(home, tmp_path, name, "best", f"step-{first.step}", first.id, "main")
            assert training.poll() is None, (tmp_path / "said").read_text()
        finally:
            training.kill()
            training.wait()
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
