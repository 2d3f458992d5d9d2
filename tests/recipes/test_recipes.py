"""Everything shipped runs: each recipe for a few steps, with a model and a vocabulary that are small enough."""

import json

import pytest
from conftest import PROJECT, metrics_of, newest_run

RECIPES = sorted((PROJECT / "recipes").glob("*.yaml"))
SMALLER = ["stages.pretrain.train.duration=2 steps", "stages.pretrain.train.batch=2 sequences",
           "stages.pretrain.train.micro_batch=1 sequences", "stages.pretrain.train.warmup=1 steps",
           "stages.pretrain.eval.tokens=2k tokens"]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
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


def test_every_recipe_is_named_in_the_readme():
    readme = (PROJECT / "README.md").read_text()
    assert all(f"recipes/{recipe.name}" in readme for recipe in RECIPES)
