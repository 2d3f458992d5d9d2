"""What fine-tuning starts from: a new model, and a base with more tokens."""

import io
import json
import re

import pytest
import torch
from conftest import metrics_of, newest_run

from polyana.errors import UserError
from polyana.pipeline import Pipeline, start_step
from polyana.recipe import load_recipe
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.storage import home_directory
from polyana.tracking import Console

for name in ("sacrebleu", "babel", "py3langid", "sentencex", "snowballstemmer"):
    pytest.importorskip(name)
# peft 0.21 asks transformers 5.23 for what has a new name there.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

QUIET = Console(io.StringIO())
WORDS = {"dog": "собака", "cat": "кошка", "tree": "берёза", "house": "избушка"}
COLOURS = {"red": "красная", "big": "большая", "little": "маленькая", "happy": "весёлая"}
PAIRS = [
    (f"Here is a {colour} {noun}.", f"Вот {COLOURS[colour]} {WORDS[noun]}.") for noun in WORDS for colour in COLOURS
]

RECIPE = """\
name: toy
seed: 3
stages:
  russian:
    kind: translate
    model: {architecture: llama, layers: 2, width: 64, heads: 2}
    vocabulary: {pieces: 400}
    data: [{source: a.en, target: a.ru, document: line}]
    languages: {source: en, target: ru}
    hygiene: {wrong_language: false, duplicates: false, overlap: false}
    held_out: 20%
    context: 128
    train: {duration: 60 steps, batch: 16 sequences, lr: 3e-3, precision: fp32}
    eval: {sentences: 6}
    save: {every: 60 steps}
"""


@pytest.fixture
def recipe(tmp_path, home):
    for side, code in enumerate(("en", "ru")):
        (tmp_path / f"a.{code}").write_text("".join(pair[side] + "\n" for _ in range(8) for pair in PAIRS))
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def with_base(recipe, shared_data):
    """The same with a real model of 260,000 parameters, which writes Russian in single bytes."""
    base = f"base: {shared_data / 'stories260k' / 'hf'}\n    adapter: full\n    prompt: tags"
    recipe.write_text(re.sub("model: .*", base, RECIPE).replace("60 steps", "2 steps"))
    return recipe


def run(path, *overrides):
    """(summary, directory of the last save)"""
    summary = run_recipe(load_recipe(path, overrides), console=QUIET)
    ((_, told),) = summary.items()
    repository = Repository(home_directory() / "hub", told["run"])
    return told, repository.snapshot(repository.resolve("main"))


def started_from(path, *overrides):
    """(directory of what the stage starts from, its step)"""
    pipeline = Pipeline(load_recipe(path, overrides), home_directory(), QUIET)
    ((name, config),) = pipeline.recipe.stages.items()
    step = start_step(pipeline, name, config)
    return pipeline.store.get(step).directory, step


def test_a_new_model_learns_to_translate_with_tokens_of_its_own(recipe, home):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    summary, saved = run(recipe)
    metrics = metrics_of(newest_run(home))
    assert metrics["eval/loss"][60] < 0.5 * metrics["eval/loss"][0]
    assert summary["scores"]["chrF2++"]["value"] > summary["scores"]["chrF2++"]["before"] + 20
    tokenizer, model = AutoTokenizer.from_pretrained(saved), AutoModelForCausalLM.from_pretrained(saved)
    assert model.config.max_position_embeddings == 128
    assert len(tokenizer) == model.config.vocab_size <= 400 + 2
    ids = tokenizer("<en> Here is a red dog.\n<ru>")["input_ids"]
    assert [ids[0], ids[-1]] == tokenizer.convert_tokens_to_ids(["<en>", "<ru>"])
    assert len(ids) < 12
    written = model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, len(ids) :]
    assert tokenizer.decode(written, skip_special_tokens=True).split()[0] == "Вот"
    # only what is trained on is learned from: other held-out documents, other tokens
    first, second = (started_from(recipe, f"stages.russian.held_out={share}")[1] for share in ("20%", "50%"))
    assert first.making.fingerprint != second.making.fingerprint


def test_a_base_learns_pieces_of_a_language_that_it_does_not_know(with_base):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, _ = started_from(with_base, "stages.russian.vocabulary={pieces: 50, tokens: [<ru>], special_tokens: [<x>]}")
    base = load_recipe(with_base).stages["russian"].base
    old, new = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(place)
    model, before = AutoModelForCausalLM.from_pretrained(place), AutoModelForCausalLM.from_pretrained(base)
    assert model.config.vocab_size == len(new) == len(old) + 50 + 2
    russian = PAIRS[0][1]
    assert new(russian)["input_ids"] != old(russian)["input_ids"]
    assert len(new(russian)["input_ids"]) < len(old(russian)["input_ids"])
    # logits of a text without new tokens are what they were
    text = torch.tensor([old("Once upon a time there was")["input_ids"]])
    assert new("Once upon a time there was")["input_ids"] == text[0].tolist()
    torch.testing.assert_close(model(text).logits[..., : len(old)], before(text).logits[..., : len(old)])
    rows, old_rows = model.get_input_embeddings().weight, before.get_input_embeddings().weight
    marks = old("<ru>", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(rows[new.convert_tokens_to_ids("<ru>")], old_rows[marks].mean(0))
    assert new.decode(new("a<ru><x>", add_special_tokens=False)["input_ids"], skip_special_tokens=True) == "a<ru>"


def test_what_is_saved_has_the_new_tokens(with_base):
    from transformers import AutoTokenizer

    _, saved = run(with_base, "stages.russian.vocabulary={pieces: 50}")
    place, _ = started_from(with_base, "stages.russian.vocabulary={pieces: 50}")
    text = PAIRS[3][1]
    assert (
        AutoTokenizer.from_pretrained(saved)(text)["input_ids"]
        == AutoTokenizer.from_pretrained(place)(text)["input_ids"]
    )


def test_instructions_in_a_language_that_the_base_does_not_know(tmp_path, shared_data, home):
    from transformers import AutoTokenizer

    rows = [{"prompt": f"Как по-русски {one}?", "completion": other} for one, other in PAIRS for _ in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    recipe = tmp_path / "chat.yaml"
    recipe.write_text(f"""\
name: chat
stages:
  russian:
    kind: sft
    base: {shared_data / "stories260k" / "hf"}
    vocabulary: {{pieces: 60}}
    adapter: full
    template: raw
    data: [{{path: rows.jsonl}}]
    context: 256
    train: {{duration: 2 steps, batch: 4 sequences, precision: fp32}}
""")
    _, saved = run(recipe)
    new = AutoTokenizer.from_pretrained(saved)
    assert len(new) == 512 + 60
    assert len(new(rows[0]["prompt"])["input_ids"]) < 0.6 * len(rows[0]["prompt"].encode())
    # a row that is held out teaches no pieces
    steps = [started_from(recipe, f"stages.russian.held_out={share}")[1] for share in ("5%", "50%")]
    assert steps[0].making.fingerprint != steps[1].making.fingerprint
    # nor does a column that is not read
    data = f"stages.russian.data=[{{path: {tmp_path / 'rows.jsonl'}, columns: {{prompt: completion}}}}]"
    assert started_from(recipe, data)[1].making.fingerprint != started_from(recipe)[1].making.fingerprint


LETTERS = {
    "stages.russian.base=./other": "`base` is a model to go on with and `model` a new one; leave one of them out",
    "stages.russian.model=null": "write `base`, what to start from: a stage",
    "stages.russian.adapter=lora": "a new model has nothing an adapter could stand on; write `adapter: full`",
    "stages.russian.model.context=64": "write it beside `model:`, as `context: 64` of the stage",
    "stages.russian.vocabulary.pieces=100": "`pieces: 100` has no room for bytes and special tokens; at least 257",
    "stages.russian.vocabulary.tokens=[a]": "has a token of one character",
    "stages.russian.model.heads=3": "is not a multiple of `heads: 3`",
}


@pytest.mark.parametrize("change", LETTERS)
def test_what_is_wrong_is_said_with_its_line(change, recipe):
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, [change])
    assert LETTERS[change] in str(caught.value)


def test_an_adapter_cannot_train_new_tokens(with_base):
    with pytest.raises(
        UserError, match=r"an adapter trains no embeddings, which new tokens need; write `adapter: full`"
    ):
        load_recipe(with_base, ["stages.russian.adapter=lora"])
