"""Learning to translate, end to end on a real model of 260,000 parameters and a toy language."""

import io
import json
import random

import pytest
import torch
from conftest import metrics_of, newest_run

from polyana.recipe import load_recipe
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.tracking import Console

for name in ("sacrebleu", "babel", "py3langid", "sentencex", "snowballstemmer"):
    pytest.importorskip(name)
# peft 0.21 asks transformers 5.23 for what has a new name there.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

WORDS = {"dog": "hund", "cat": "katze", "ball": "ball", "tree": "baum", "house": "haus", "bird": "vogel"}
COLOURS = {"red": "rote", "big": "gros", "little": "klein", "happy": "froh"}


def toy(documents: int = 24, sentences: int = 3) -> tuple[str, str]:
    """Line files of English and of a toy German, documents parted by blank lines."""
    draws, one, other = random.Random(0), [], []
    for _ in range(documents):
        for _ in range(sentences):
            noun, colour, name = draws.choice(list(WORDS)), draws.choice(list(COLOURS)), draws.choice(["Tom", "Lily"])
            one.append(f"{name} saw a {colour} {noun}.")
            other.append(f"{name} sah {COLOURS[colour]} {WORDS[noun]}.")
        one.append("")
        other.append("")
    return "\n".join(one), "\n".join(other)


RECIPE = """\
name: toy
seed: 3
stages:
  german:
    kind: translate
    base: BASE
    data: [{source: a.en, target: a.de, document: blank_line}]
    languages: {source: en, target: de}
    hygiene: {wrong_language: false, duplicates: false, overlap: false}
    held_out: 20%
    prompt: tags
    context: 256
    adapter: {kind: lora, rank: 8}
    train: {duration: 30 steps, batch: 8 sequences, lr: 1e-2, precision: fp32, packing: none}
    eval: {sentences: 6}
    save: {every: 15 steps}
    sample: {prompts: [Tom saw a red dog.], max_tokens: 8, temperature: 0}
"""


@pytest.fixture
def recipe(tmp_path, shared_data, home):
    for name, text in zip(("a.en", "a.de"), toy(), strict=True):
        (tmp_path / name).write_text(text)
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE.replace("BASE", str(shared_data / "stories260k" / "hf")))
    return path


def run(path, *overrides) -> dict:
    return run_recipe(load_recipe(path, overrides), console=Console(io.StringIO()))["german"]


def test_it_learns_and_unmodified_peft_translates_the_same(recipe, home, tmp_path):
    summary = run(recipe)
    directory = newest_run(home)
    metrics = metrics_of(directory)
    assert metrics["eval/loss"][30] < 0.5 * metrics["eval/loss"][0]
    assert metrics["eval/chrf"][30] > metrics["eval/chrf"][0] + 20
    assert metrics["eval/bleu"].keys() == metrics["eval/loss"].keys() == {0, 15, 30}
    assert summary["scores"][0].startswith("BLEU|nrefs:1|case:mixed")
    assert summary["metrics"]["eval/bleu"] == metrics["eval/bleu"][summary["best_step"]]
    kept = [json.loads(line) for line in (directory / "translations" / "step-00000030.jsonl").read_text().splitlines()]
    assert len(kept) == 6
    page = (directory / "translations.html").read_text()
    assert kept[0]["source"] in page
    assert "By chance?" in page

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    repository = Repository(home / "hub", directory.name)
    saved = repository.snapshot(repository.resolve("step-30"))
    base = json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), saved).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved)
    for each in kept:
        asked = tokenizer(f"<en> {each['source']}\n<de>", add_special_tokens=False, return_tensors="pt")["input_ids"]
        source = tokenizer.encode(each["source"], add_special_tokens=False)
        ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), asked], 1)
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max(16, 3 * len(source)),
            do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=0,
        )  # fmt: skip
        assert tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip() == each["hypothesis"]
