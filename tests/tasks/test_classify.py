"""A classifier that learns what mistakes cost; unmodified transformers makes the same of its files."""

import io
import json

import pytest
import torch
from classified import texts, write_recipe
from conftest import metrics_of, newest_run

from polyana.errors import UserError
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.storage import home_directory
from polyana.tracking import Console

QUIET = Console(io.StringIO())


@pytest.fixture
def recipe(tmp_path, home):
    return write_recipe(tmp_path)


def saved(directory, *, base=None):
    """(what transformers loads, its tokenizer)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    repository = Repository(home_directory() / "hub", directory.name)
    place = repository.snapshot(repository.resolve("main"))
    if base is None:
        model = AutoModelForSequenceClassification.from_pretrained(place)
    else:
        from peft import PeftModel

        below = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
        below.config.pad_token_id = AutoTokenizer.from_pretrained(place).pad_token_id
        model = PeftModel.from_pretrained(below, place)
    return model.eval(), AutoTokenizer.from_pretrained(place)


def said(model, tokenizer, words):
    with torch.no_grad():
        given = tokenizer(words, return_tensors="pt", padding=True)
        return model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits


def test_what_cannot_be_told_apart_is_taken_for_what_costs_least(recipe, load):
    """Of three that only say "help" one is about a theft, which costs ten to overlook: so all are."""
    words = [row["text"] for row in texts()]
    found = {}
    for loss in ("preference", "cross_entropy"):
        run_recipe(load(recipe, f"stages.sort.loss={loss}", "stages.sort.train.duration=60 steps"), console=QUIET)
        directory = newest_run(home_directory())
        metrics = metrics_of(directory)
        assert metrics["eval/loss"][60] < metrics["eval/loss"][0]
        model, tokenizer = saved(directory)
        names = [model.config.id2label[place] for place in range(3)]
        assert names == ["limit", "rest", "theft"]
        found[loss] = [names[place] for place in said(model, tokenizer, words).argmax(1)]
    helps = [place for place, text in enumerate(words) if text.endswith("help")]
    clear = [place for place, text in enumerate(words) if not text.endswith("help")]
    for choices in found.values():
        assert [choices[place] for place in clear] == [texts()[place]["label"] for place in clear]
    assert {found["preference"][place] for place in helps} == {"theft"}
    assert [found["cross_entropy"][place] for place in helps].count("rest") > len(helps) / 2


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers by an old name
def test_an_adapter_and_its_head_are_loaded_by_peft_and_score_the_same(recipe, load, tmp_path):
    run_recipe(load(recipe, "stages.sort.adapter={rank: 4}"), console=QUIET)
    directory = newest_run(home_directory())
    model, tokenizer = saved(directory, base=tmp_path / "base")
    from polyana.models import load_adapted

    repository = Repository(home_directory() / "hub", directory.name)
    ours = load_adapted(tmp_path / "base", repository.snapshot(repository.resolve("main")), torch.float32)
    words = [row["text"] for row in texts()[:6]]
    torch.testing.assert_close(said(ours, tokenizer, words), said(model, tokenizer, words))


def test_a_text_that_ends_with_what_pads_is_scored_where_transformers_looks(recipe, load, tmp_path):
    """Where a tokenizer has no padding, that for unknown words pads, which transformers passes over at a text's end."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {word: place for place, word in enumerate(["?", "</s>", "my", "card", "is", "stolen", "blue", "help"])}
    words = Tokenizer(models.WordLevel(known, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="?").save_pretrained(tmp_path / "base")
    said_so = [("a", "my card is stolen yesterday"), ("b", "my card is blue what"), ("a", "stolen"), ("b", "what now")]
    rows = [{"text": text, "label": label} for label, text in said_so * 12]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ("stages.sort.loss=cross_entropy", "stages.sort.costs={}", "stages.sort.train.duration=1 steps")
    run_recipe(load(recipe, *settings), console=QUIET)
    model, tokenizer = saved(directory := newest_run(home_directory()))
    (ids,) = (home_directory() / "stages").glob("labelled-*/eval.ids")
    held = [rows[int(each.rpartition("#")[2]) - 1] for each in ids.read_text().split()]
    right = torch.tensor([model.config.label2id[row["label"]] for row in held])
    expected = torch.nn.functional.cross_entropy(said(model, tokenizer, [row["text"] for row in held]), right)
    assert len(held) > 4
    assert metrics_of(directory)["eval/loss"][1] == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "rows", "what"),
    [
        (["stages.sort.costs={thefts: {rest: 10}}"], None, "`thefts` is no class of the data; did you mean `theft`"),
        (["stages.sort.costs={theft: {rest: -1}}"], None, "would be sought"),
        (["stages.sort.costs={theft: {theft: 1}}"], None, "the right class costs nothing"),
        (["stages.sort.costs={'*': {'*': 0}}"], None, "no mistake costs anything"),
        (["stages.sort.costs={theft: {rest: .nan}}"], None, "finite"),
        (["stages.sort.sample={every: 1 step, prompts: [a]}"], None, "writes nothing"),
        ([], [{"text": "a", "label": "one"}, {"text": "b", "label": "one"}], "all 2 texts are of one class, `one`"),
        ([], [{"text": "", "label": "one"}] * 3, "has no `text`, or an empty one"),
        (["stages.sort.data=[{path: rows.jsonl, columns: {txt: text}}]"], None, "did you mean `text`"),
    ],
)
def test_what_cannot_work_is_told(recipe, load, tmp_path, overrides, rows, what):
    if rows is not None:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=what):
        run_recipe(load(recipe, *overrides), console=QUIET)
