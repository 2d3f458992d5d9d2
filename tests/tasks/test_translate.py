"""Learning to translate, end to end on a real model of 260,000 parameters and a toy language."""

import gzip
import io
import json
import random
import shutil
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from conftest import metrics_of, newest_run

from polyana.data import TokenData
from polyana.errors import UserError
from polyana.examples import ChatTemplate
from polyana.parallel import ParallelText, UnitReport, units
from polyana.pipeline import Pipeline
from polyana.recipe import load_recipe
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.storage import home_directory, read_json
from polyana.tasks.translate_units import UnitWriter
from polyana.tracking import Console

for name in ("sacrebleu", "babel", "py3langid", "sentencex", "snowballstemmer"):
    pytest.importorskip(name)
# peft 0.21 asks transformers 5.23 for what has a new name there.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

QUIET = Console(io.StringIO())
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
    return run_recipe(load_recipe(path, overrides), console=QUIET)["german"]


def test_it_learns_and_unmodified_peft_translates_the_same(recipe, home, tmp_path):
    summary = run(recipe)
    directory = newest_run(home)
    metrics = metrics_of(directory)
    assert metrics["eval/loss"][30] < 0.5 * metrics["eval/loss"][0]
    assert metrics["eval/chrf"][30] > metrics["eval/chrf"][0] + 20
    assert metrics["eval/bleu"].keys() == metrics["eval/loss"].keys() == {0, 15, 30}
    bleu = summary["scores"]["BLEU"]
    assert bleu["signature"].startswith("nrefs:1|bs:1000|seed:12345|case:mixed")
    assert bleu["value"] == pytest.approx(metrics["eval/bleu"][summary["best_step"]], abs=1e-9)
    assert bleu["before"] == pytest.approx(metrics["eval/bleu"][0], abs=1e-9)
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
    assert 'ids = tokenizer("<en> ...\\n<de>", return_tensors="pt")' in (saved / "README.md").read_text()
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
        answer = written[0, ids.shape[1] :]
        with torch.no_grad():
            best_N2 = model(written).logits[0, ids.shape[1] - 1 : -1].topk(2).values
        # bytes that the base has never seen have the same weights: which of them is greedy's is a matter of rounding
        ties = (best_N2[:, 0] - best_N2[:, 1] < 1e-3).nonzero().flatten().tolist()
        sure = tokenizer.decode(answer[: ties[0]] if ties else answer, skip_special_tokens=True).strip()
        assert each["hypothesis"].startswith(sure) if ties else each["hypothesis"] == sure
        assert len(sure) > 16


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(directory, environment's home) of a finished run of both directions in a chat with context."""
    from conftest import SHARED

    if not SHARED.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    place = tmp_path_factory.mktemp("trained")
    for name, text in zip(("a.en", "a.de"), toy(), strict=True):
        (place / name).write_text(text)
    text = RECIPE.replace("BASE", str(SHARED / "stories260k" / "hf")).replace(
        "    prompt: tags\n",
        "    prompt: {kind: chat, instruction: '{target_language}: {text}'}\n    template: zephyr\n"
        "    both_directions: true\n    unit: {kind: sentence, context: 1}\n",
    )
    text = text.replace("sentences: 6", "sentences: 6, decoding: {max_ratio: 1.5}").replace("30 steps", "2 steps")
    (place / "toy.yaml").write_text(text.replace("15 steps", "1 step, keep: {last: 2}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYANA_HOME", str(place / "home"))
        run(place / "toy.yaml")
    return place


@pytest.fixture
def saved(trained, monkeypatch):
    """(name of the run, its directory), in the home where it is."""
    monkeypatch.setenv("POLYANA_HOME", str(trained / "home"))
    directory = newest_run(trained / "home")
    return directory.name, directory


def test_the_commands_use_what_was_saved(trained, saved, polyana, tmp_path):
    name, directory = saved
    kept = [json.loads(line) for line in (directory / "translations" / "step-00000002.jsonl").read_text().splitlines()]
    documents = [[each["source"] for each in kept if each["document"] == one]
                 for one in dict.fromkeys(each["document"] for each in kept)]  # fmt: skip
    asked = 'tokenizer.apply_chat_template([{"role": "user", "content": "German: ..."}], add_generation_prompt=True'
    repository = Repository(trained / "home" / "hub", name)
    assert asked in (repository.snapshot(repository.resolve("main")) / "README.md").read_text()
    (tmp_path / "held.en").write_text("\n\n".join("\n".join(each) for each in documents))
    polyana("translate", f"{name}@step-2", "held.en", "--output", "held.de")
    written = (tmp_path / "held.de").read_text().split("\n")
    assert [line for line in written if line] == [" ".join(each["hypothesis"].split()) for each in kept]
    assert written[len(documents[0])] == ""
    back = polyana("translate", name, "held.en", "--into", "en").stdout
    assert back.count("\n") == len(written) - 1
    assert back != (tmp_path / "held.de").read_text()
    refused = polyana("translate", name, "held.en", "--into", "fr", check=2).stderr
    assert "has not learned to translate into `fr`; it has learned en to de and back" in refused
    compared = json.loads(polyana("compare", f"{name}@step-1", f"{name}@step-2", "--json", "--page", "a.html").stdout)
    assert [each["name"] for each in compared] == ["BLEU", "chrF2++", "document BLEU", "document chrF2++"]
    assert f"{name}@step-2" in (tmp_path / "a.html").read_text()
    assert "may be chance" in polyana("compare", f"{name}@step-1", name).stdout
    assert f"both are {name}@step-2" in polyana("compare", f"{name}@step-2", name, check=2).stderr
    lacking = polyana("compare", f"{name}@step-1", name, "--comet", "absent.ckpt", check=2).stderr
    assert "there is no COMET model at absent.ckpt" in lacking


def test_an_adapter_writes_and_is_merged(trained, saved, polyana, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, _ = saved
    greedy = ("--temperature", "0", "--max-tokens", "12")
    answer = polyana("generate", name, "Tom saw a cat.", *greedy).stdout
    raw = polyana("generate", name, "Tom saw a cat.", "--raw", *greedy).stdout
    assert raw.startswith("Tom saw a cat.")
    assert not answer.startswith("Tom saw a cat.")
    told = polyana("models", "export", name, "--to", "merged", "-o", "merged").stdout
    assert "float32; log probabilities differ from the adapter's by at most" in told
    model, tokenizer = (kind.from_pretrained(tmp_path / "merged") for kind in (AutoModelForCausalLM, AutoTokenizer))
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Tom saw a cat."}], add_generation_prompt=True, return_tensors="pt"
    )
    written = model.generate(**ids, max_new_tokens=12, do_sample=False)
    text = tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text + "\n" == answer
    again = polyana("models", "export", name, "--to", "merged", "-o", "merged", check=2).stderr
    assert "merged is there already; name another with --output" in again
    (base,) = (trained / "home" / "stages").glob("base-*")
    shutil.rmtree(base)  # and it is made again, as the run's own recipe says
    assert polyana("generate", name, "Tom saw a cat.", *greedy).stdout == answer
    assert base.is_dir()


def test_writing_leaves_no_trace_in_training(recipe, home):
    """Nor does sampling among several answers, for random numbers of its own are drawn; dropout would tell."""
    shared = ("stages.german.train.duration=4 steps", "stages.german.save.every=2 steps")
    dropout = "stages.german.adapter={rank: 4, dropout: 0.2}"
    losses = []
    for evaluation in ("{sentences: 0}", "{sentences: 2, decoding: {kind: mbr, samples: 2, max_ratio: 0.5}}"):
        summary = run(recipe, *shared, dropout, f"stages.german.eval={evaluation}")
        metrics = metrics_of(newest_run(home))
        losses.append((metrics["train/loss"], metrics["eval/loss"]))
        assert ("eval/bleu" in metrics) == ("scores" in summary) == (evaluation != "{sentences: 0}")
    assert losses[0] == losses[1]


def test_units_longer_than_a_sentence_are_scored_by_sentences(recipe, home):
    run(recipe, "stages.german.train.duration=1 step", "stages.german.unit={kind: chunk, min_sentences: 2}")
    kept = (newest_run(home) / "translations" / "step-00000001.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"].count(".") for line in kept] == [1] * 6


def test_a_document_takes_what_the_context_holds(recipe, home):
    """Its thousand tokens are more than the context has; half of the text would be lost, and nothing be evaluated."""
    loaded = load_recipe(recipe, ["stages.german.unit=document", "stages.german.context=80"])
    pipeline = Pipeline(loaded, home_directory(), QUIET)
    directory = pipeline.store.get(pipeline.before("german", loaded.stages["german"])["data"]).directory
    report = read_json(directory / "report.json")
    assert report["units"][0] == "document: at most 61 tokens, for which `context: 80` has room"
    assert not report["total"]["left_out"]
    shards = TokenData(directory).shards("train")
    assert 50 < max(np.diff([*shards.document_starts(), len(shards)])) <= 80
    with pytest.raises(UserError, match=r"[0-9]+ of [0-9]+ units are longer than `context: 70`; write a longer one"):
        run(recipe, "stages.german.unit={kind: chunk, min_sentences: 3}", "stages.german.context=70")


def test_a_text_in_another_language_than_it_is_said_to_be(tmp_path, recipe, shared_data):
    with gzip.open(shared_data / "libreoffice_help_en_ru" / "pairs.jsonl.gz", "rt") as lines:
        pairs = [json.loads(line) for line in islice(lines, 200)]
    for code in ("en", "ru"):
        (tmp_path / f"help.{code}").write_text("".join(pair[code] + "\n" for pair in pairs))
    said = "stages.german.data=[{source: help.en, target: help.ru, document: line}]"
    with pytest.raises(UserError, match=r"`help.en`: its target looks like `ru`, not like `de`") as caught:
        run(recipe, said, "stages.german.hygiene={}")
    assert caught.value.problems[0].where.startswith("--set stages.german.data=")
    with pytest.raises(UserError, match=r"its source looks like `en`, not like `ru`"):
        run(recipe, said, "stages.german.hygiene={}", "stages.german.languages={source: ru, target: en}")


def test_scores_need_sacrebleu_before_anything_is_read(recipe, monkeypatch):
    monkeypatch.setattr("polyana.tasks.translate_units.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'polyana.translate.', or write `sentences: 0`"):
        load_recipe(recipe)


PROMPTS = {
    "tags": ("prompt=tags",),
    "raw": ("prompt={instruction: '{target_language}: {text} = '}", "template=raw"),
    "chatml": ("prompt={system: You translate.}", "template=chatml"),
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_is_learned_follows_what_will_be_asked(recipe, prompt):
    """Only the last answer and its end count; what stands before it is, token for token, the question at inference."""
    changes = [f"stages.german.{each}" for each in (*PROMPTS[prompt], "unit={kind: sentence, context: 1}")]
    loaded = load_recipe(recipe, changes)
    pipeline = Pipeline(loaded, home_directory(), QUIET)
    config = loaded.stages["german"]
    directory = pipeline.store.get(pipeline.before("german", config)["data"]).directory
    shards, template = TokenData(directory).shards("eval"), ChatTemplate(directory)
    starts = [*shards.document_starts().tolist(), len(shards)]
    writer, tokenizer = UnitWriter(template, config.prompt), template.tokenizer
    found = list(units(ParallelText(directory).segments("eval"), config, 3, len, UnitReport(), training=False))
    assert {len(unit.context) for unit in found} == {0, 1}
    for unit, (start, end) in zip(found, pairwise(starts), strict=True):
        tokens, weights = shards.read(start, end)[0].tolist(), shards.weights(start, end)
        asked = writer.question(unit.direction, unit.context, unit.source)
        assert tokens[: len(asked)] == asked
        assert not weights[: len(asked)].any()
        behind = len(tokens) - int(weights[::-1].argmax())  # one behind the last that is learned
        assert weights[len(asked) : behind].all()
        stop = template.end_of_turn[-1] if tokenizer.chat_template else tokenizer.eos_token_id
        assert tokens[behind - 1] == stop
        assert tokenizer.decode(tokens[len(asked) : behind - 1]).strip() == unit.target


def test_what_is_shown_before_is_left_out_where_it_does_not_fit(recipe):
    """And a unit that is too long alone is left out, and counted."""
    longer, shorter = (
        load_recipe(recipe, ["stages.german.unit={kind: sentence, context: 2}", f"stages.german.context={context}"])
        for context in (256, 60)
    )
    made = []
    for loaded in (longer, shorter):
        pipeline = Pipeline(loaded, home_directory(), QUIET)
        directory = pipeline.store.get(pipeline.before("german", loaded.stages["german"])["data"]).directory
        starts = TokenData(directory).shards("train").document_starts()
        made.append((read_json(directory / "report.json")["total"], max(np.diff(starts))))
    (whole, longest), (cut, most) = made
    assert longest > 60 >= most
    assert whole["shortened"] == 0
    assert cut["shortened"] > 0
    assert cut["rows"] == cut["examples"] + sum(cut["left_out"].values()) == whole["rows"]
    refused = load_recipe(recipe, ["stages.german.context=20"])
    with pytest.raises(UserError, match=r"no unit of translation is left to train on: .* longer than the context"):
        run_recipe(refused, console=QUIET)


def test_letters(recipe, polyana, tmp_path):
    def letter(*changes: str) -> str:
        with pytest.raises(UserError) as found:
            run_recipe(load_recipe(recipe, [f"stages.german.{change}" for change in changes]), console=QUIET)
        return str(found.value)

    assert "`template` writes conversations; with `prompt: tags` there are none" in letter("template=chatml")
    assert "the base has no chat template; write `prompt: tags`, which needs none" in letter("prompt=chat")
    assert "source=xx  `xx` is no code" in letter("prompt=chat", "template=raw", "languages.source=xx")
    assert "the base reads; write less" in letter("context=9999")
    assert "`held_out`" in letter("held_out=0")
    assert "there is no run `nobody`" in polyana("translate", "nobody", "a.en", check=2).stderr


def test_a_batch_is_shown_and_the_run_planned(recipe, polyana):
    shown = polyana("show", "batch", "toy.yaml").stdout
    assert "|de|>|" in shown.replace("d|e", "de")
    assert "« Tom| sa|h|" in shown or "« Lily| sa|h|" in shown
    planned = json.loads(polyana("plan", "toy.yaml", "--json").stdout)
    stages = {stage["name"]: stage for stage in planned["stages"]}
    assert [*stages] == ["base", "parallel", "units", "german"]
    assert stages["german"]["training"]["trained"] < stages["german"]["training"]["parameters"]
