"""Fine-tuning end to end: a pretrained model, examples, an adapter that other tools load, resumed to the last bit."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLOCKED, metrics_of, newest_run
from rich.console import Console as RichConsole

from polyana.data import TokenData
from polyana.errors import Interrupted, UserError
from polyana.models import hidden_states
from polyana.pipeline import Pipeline
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.storage import home_directory, read_json
from polyana.tracking import Console
from polyana.train import Trainer

RECIPE = """\
name: stories
seed: 3
stages:
  chat:
    kind: sft
    base: {base}
    data: [{{path: rows.jsonl}}]
    template: raw
    context: 128
    held_out: 20%
    adapter: {{rank: 4, targets: [q_proj, v_proj]}}
    train: {{duration: 8 steps, batch: 4 sequences, lr: 1e-2, precision: fp32}}
    eval: {{every: 4 steps}}
    save: {{every: 4 steps}}
    sample: {{prompts: [Tell me of a cat.], max_tokens: 8}}
"""
QUIET = Console(io.StringIO())


@pytest.fixture
def recipe(shared_data, tmp_path, home) -> Path:
    rows = [
        {"prompt": f"Tell me of a {what} and {who}.", "completion": f"{who} had a {what}. They played all day."}
        for what in ("cat", "dog", "ball", "bird", "car", "tree")
        for who in ("Tom", "Lily", "Ben", "Mia", "Sam", "Anna", "Max", "Sue")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "stories.yaml"
    path.write_text(RECIPE.format(base=shared_data / "stories260k" / "hf"))
    return path


def run(recipe) -> tuple[dict, Path]:
    summary = run_recipe(recipe, console=QUIET)
    directory = newest_run(home_directory())
    return summary, Repository(home_directory() / "hub", directory.name).snapshot(
        Repository(home_directory() / "hub", directory.name).resolve("main")
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers by an old name
def test_it_learns_and_unmodified_peft_loads_what_it_saved(recipe, load, home):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    summary, saved = run(load(recipe))
    losses = metrics_of(newest_run(home))["eval/loss"]
    assert losses[8] < 0.9 * losses[0]
    assert summary["chat"]["steps"] == 8
    settings = json.loads((saved / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(settings["base_model_name_or_path"], dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(saved)).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved)
    data = next((home / "stages").glob("examples-*"))
    held_out = TokenData(data).shards("eval")
    starts = [*held_out.document_starts().tolist(), len(held_out)]
    nats = count = 0.0
    for start, end in pairwise(starts):  # an oracle of eval/loss: one example after the other
        tokens, weights = held_out.read(start, end)[0], torch.from_numpy(held_out.weights(start, end).copy())
        with torch.no_grad():
            predicted = theirs(input_ids=torch.from_numpy(tokens)[None]).logits[0, :-1].log_softmax(-1)
        chosen = predicted.gather(1, torch.from_numpy(tokens)[1:, None])[:, 0]
        nats, count = nats - float((chosen * weights[1:]).sum()), count + float(weights[1:].sum())
    assert losses[8] == pytest.approx(nats / count, rel=1e-5)
    assert tokenizer.chat_template is not None
    code = (
        "from transformers import AutoModelForCausalLM as Model, AutoTokenizer as Tokenizer\n"
        f"name = 'polyana/{newest_run(home).name}'\n"
        "ids = Tokenizer.from_pretrained(name, revision='best')('Tell me of a cat.', return_tensors='pt')\n"
        "model = Model.from_pretrained(name, revision='best')\n"
        "print(ids['input_ids'].tolist(), float(model(**ids).logits.square().mean()))"
    )
    offline = os.environ | {"HF_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1"}
    by_name = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    ids = tokenizer("Tell me of a cat.", return_tensors="pt")
    with torch.no_grad():
        mean = float(theirs(**ids).logits.square().mean())
    said, _, number = by_name.stdout.strip().rpartition(" ")
    assert said == str(ids["input_ids"].tolist())
    assert float(number) == pytest.approx(mean, rel=1e-5)


def test_a_killed_run_goes_on_to_the_last_bit(recipe, load, home, monkeypatch):
    changed = "stages.chat.adapter.dropout=0.1"
    run_recipe(load(recipe, changed), console=QUIET)
    whole = metrics_of(newest_run(home))
    original = Trainer._between_steps

    def stopping(self, signals):
        if self.position.step == 3:
            signals.received = signal.SIGTERM
        original(self, signals)

    monkeypatch.setattr(Trainer, "_between_steps", stopping)
    with pytest.raises(Interrupted):
        run_recipe(load(recipe, changed), fresh=True, console=QUIET)
    monkeypatch.setattr(Trainer, "_between_steps", original)
    run_recipe(load(recipe, changed), resume=True, console=QUIET)
    resumed = metrics_of(newest_run(home))
    for name in set(whole) - CLOCKED:
        assert {step: resumed[name][step] for step in whole[name]} == whole[name], name


def task_of(recipe, load, *overrides):
    return Pipeline(load(recipe, *overrides), home_directory(), QUIET).task("chat")


@pytest.mark.parametrize("packing", ["documents", "none"])
def test_only_what_the_assistant_says_is_learned(packing, recipe, load):
    task = task_of(recipe, load, f"stages.chat.train.packing={packing}")
    batch = task.batch(0, 8)
    tokenizer = task._tokenizer
    position = learned = 0
    for length in batch.lengths:
        part = slice(position, position + length)
        counts = batch.weight_N[part] != 0
        said = tokenizer.decode(batch.targets_N[part][counts], skip_special_tokens=False)
        text = tokenizer.decode(batch.tokens_N[part])
        assert "Tell me of a" in text
        assert "Tell me" not in said
        assert said.strip().removesuffix("</s>").rstrip().endswith("They played all day.")
        assert batch.targets_N[part][counts][-1] == tokenizer.eos_token_id  # the end of turn is learned
        position, learned = position + length, learned + int(counts.sum())
    assert 0 < batch.labelled == learned < batch.tokens


def test_a_message_of_weight_a_half_counts_half(recipe, load, tmp_path):
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    weighed = [json.dumps({**json.loads(row), "weight": (0.5, 1.0, 2.0)[index % 3]}) for index, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(weighed))
    task = task_of(recipe, load, "stages.chat.data=[{path: rows.jsonl, columns: {weight: weight}}]")
    task.model.eval()
    batch = task.batch(0, 6)
    assert set(batch.weight_N.unique().tolist()) == {0.0, 0.5, 1.0, 2.0}
    output = task.loss(batch)
    with torch.no_grad():
        states = hidden_states(task.model, batch.tokens_N, batch.position_N, batch.lengths)
        logits = states @ task.model.get_output_embeddings().weight.T
    each = torch.nn.functional.cross_entropy(logits, batch.targets_N, reduction="none")
    assert float(output.total.detach()) == pytest.approx(float((each * batch.weight_N).sum()), rel=1e-5)
    assert output.count == pytest.approx(float(batch.weight_N.sum()))


def test_a_part_without_a_label_has_a_graph_and_teaches_nothing(recipe, load):
    task = task_of(recipe, load)
    batch = task.batch(0, 1)
    output = task.loss(batch.window(0, int((batch.weight_N != 0).int().argmax())))
    assert (float(output.total.detach()), output.count) == (0, 0)
    output.total.backward()
    gradients = [each.grad for each in task.model.parameters() if each.grad is not None]
    assert gradients
    assert not any(each.any() for each in gradients)


def test_a_stage_learns_on_from_another_whole_and_with_its_adapter(tiny, load, home, tmp_path):
    from transformers import AutoModelForCausalLM

    (tmp_path / "rows.jsonl").write_text('{"prompt": "The people", "completion": " are many."}\n' * 3)
    text = tiny.read_text()
    for name, base, adapter in (("first", "pretrain", "{rank: 2}"), ("second", "first@main", "full")):
        text += (
            f"  {name}:\n    kind: sft\n    base: {base}\n    data: [{{path: rows.jsonl}}]\n    template: raw\n"
            f"    context: 32\n    held_out: 0\n    adapter: {adapter}\n"
            "    train: {duration: 2 steps, batch: 2 sequences, precision: fp32}\n"
        )
    tiny.write_text(text)
    summaries = run_recipe(load(tiny), console=QUIET)
    assert list(summaries) == ["pretrain", "first", "second"]

    def saved(stage):
        repository = Repository(home / "hub", summaries[stage]["run"])
        return repository.snapshot(repository.resolve("main"))

    assert (saved("first") / "adapter_model.safetensors").exists()
    second = AutoModelForCausalLM.from_pretrained(saved("second"))  # a whole model, the adapter merged beneath
    pipeline = Pipeline(load(tiny), home, QUIET)
    base = pipeline.store.find(pipeline.before("second", pipeline.recipe.stages["second"])["start"].making)
    merged = AutoModelForCausalLM.from_pretrained(base.directory)
    assert {name for name, _ in merged.named_parameters()} == {name for name, _ in second.named_parameters()}
    told = run_recipe(load(tiny), console=QUIET)
    assert told == summaries  # nothing is run again


def test_new_tokens_begin_as_the_mean_of_their_pieces(recipe, load, home):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, saved = run(load(recipe, "stages.chat.template=chatml", "stages.chat.adapter=full", "stages.chat.train.lr=1e-9"))
    tokenizer, model = AutoTokenizer.from_pretrained(saved), AutoModelForCausalLM.from_pretrained(saved)
    base = AutoModelForCausalLM.from_pretrained(load(recipe).stages["chat"].base)
    before = AutoTokenizer.from_pretrained(load(recipe).stages["chat"].base)
    new = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert new >= len(before)
    pieces = before("<|im_end|>", add_special_tokens=False)["input_ids"]
    expected = base.get_input_embeddings().weight[pieces].mean(0)
    torch.testing.assert_close(model.get_input_embeddings().weight[new], expected, rtol=0, atol=1e-6)
    assert new in model.generation_config.eos_token_id


LETTERS = {
    "stages.chat.base='package:'": "names no package",
    "stages.chat.base=pretrian": "there is no stage `pretrian`",
    "stages.chat.base=./nowhere": "nowhere",
    "stages.chat.context=4096": "`context: 4096` is more than the 512 tokens that the base reads",
    "stages.chat.train.packing=concat": "documents",
    "stages.chat.adapter.targets=[qproj]": "no linear layer of this model's blocks is named `qproj`",
    "stages.chat.template=null": "the base has no chat template",
    "stages.chat.template=chatml": "an adapter trains no embeddings; write `adapter: full`",
    "stages.chat.held_out=0": "`eval.every` needs held-out examples",
    "stages.chat.held_out=0.001%": "examples fell to eval at `held_out: 0.0%`; raise it, or write `held_out: 0`",
}


@pytest.mark.parametrize(("adapter", "train", "says"), [
    ("dora", "compile=true", "layers with dora cannot be compiled"), ("qlora", "precision=fp8", "no layers for fp8"),
])  # fmt: skip
def test_an_adapter_that_cannot_be_trained_so(adapter, train, says, recipe, load):
    with pytest.raises(UserError, match=says):
        load(recipe, f"stages.chat.adapter={adapter}", f"stages.chat.train.{train}")


@pytest.mark.parametrize("change", LETTERS)
def test_what_is_wrong_is_said_before_anything_is_trained(change, recipe, load, home):
    with pytest.raises(UserError) as caught:
        run_recipe(load(recipe, change), console=QUIET)
    assert LETTERS[change] in str(caught.value)
    assert all(re.match(r".*stories\.yaml:\d+$|--set ", problem.where) for problem in caught.value.problems)
    assert not (home / "runs").exists()


BAD_ROWS = {
    '{"prompt": "Who?", "completion": ""}': "the assistant says nothing (message 2)",
    '{"question": "Who?", "answer": "I."}': "its columns are `question`, `answer`; write `columns: {prompt: ...",
    '{"messages": [{"role": "assistant", "content": "I."}]}': "the assistant speaks first (message 1)",
}


def test_bad_rows_are_named_with_file_and_line(recipe, load, tmp_path):
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.writelines(f"{row}\n" for row in BAD_ROWS)
    with pytest.raises(UserError) as caught:
        run_recipe(load(recipe), console=QUIET)
    said = str(caught.value).splitlines()
    assert "3 of 51 rows cannot be used" in said[0]
    assert [line.startswith(f"rows.jsonl:{number}  ") for number, line in enumerate(said[1:], 49)] == [True] * 3
    assert all(letter in line for line, letter in zip(said[1:], BAD_ROWS.values(), strict=True))


def test_a_column_that_no_row_has_is_named(recipe, load):
    change = "stages.chat.data=[{path: rows.jsonl, columns: {completion: completoin}}]"
    with pytest.raises(UserError, match=r"rows\.jsonl:1  has no `completoin`; did you mean `completion`\?"):
        run_recipe(load(recipe, change), console=QUIET)


def test_an_answer_stands_apart_from_its_question_and_beside_the_bases(recipe, load, home, polyana):
    said = io.StringIO()
    run_recipe(load(recipe, "stages.chat.save.keep={best: 2, last: 2}"), console=Console(said))
    first = newest_run(home)
    shown = polyana("run", recipe).stdout  # from what the run has left
    assert re.search(rf"the base's *│ {metrics_of(first)['eval/loss'][0]:.4f}", shown)
    assert "step 0, the base: Tell me of a cat.\n" in shown
    assert f"Try next:\n  polyana chat {first.name}@best\n" in shown
    answer = json.loads((first / "samples" / "step-00000008.json").read_text())[0]
    assert (answer["prompt"], answer["form"]) == ("Tell me of a cat.", "chat")
    assert f"says  Tell me of a cat. {answer['text'].strip()}" in said.getvalue()
    options = ("--max-tokens", "8", "--temperature", "0")
    tuned = polyana("generate", first.name, "Tell me of a cat.", *options).stdout
    base = polyana("generate", first.name, "Tell me of a cat.", *options, "--base").stdout
    assert tuned != base  # which has no chat template and goes on with the text
    assert base.startswith("Tell me of a cat.")
    both = polyana("generate", f"{first.name}@best", "Tell me of a cat.", *options, "--beside", f"{first.name}@step-4",
                   "--beside", f"{first.name}@best").stdout  # fmt: skip
    ours, other, again = re.split(rf"{first.name}@step-\d+:\n", both)[1:]
    best = polyana("generate", f"{first.name}@best", "Tell me of a cat.", *options).stdout
    assert ours == again == best != other
    assert other == polyana("generate", f"{first.name}@step-4", "Tell me of a cat.", *options).stdout


def test_the_picture_of_a_batch_has_what_is_learned_in_colour(recipe, load):
    task = task_of(recipe, load, "stages.chat.train.packing=none")
    batch = task.batch(0, 1)
    picture = task.picture(batch)
    body = picture.plain.index("\n") + 1
    parts = {"dim": "", "colour": ""}
    for span in picture.spans:
        if span.start >= body and span.style != "bright_black":
            parts["dim" if span.style == "dim" else "colour"] += picture.plain[span.start : span.end]
    rows = map(json.loads, (recipe.parent / "rows.jsonl").read_text().splitlines())
    answers = {row["prompt"].replace(" ", ""): row["completion"].replace(" ", "") for row in rows}
    asked, learned = (parts[which].replace(" ", "") for which in ("dim", "colour"))
    assert learned == answers[asked.removeprefix("<s>")] + "</s>"  # the token that ends a turn too
    marked = task.picture(batch, marks=True).plain
    before, inside = re.fullmatch(r"(.*)«(.*)»\n*", marked[marked.index("\n") + 1 :], re.DOTALL).groups()
    rows = map(json.loads, (recipe.parent / "rows.jsonl").read_text().splitlines())
    words = {row["prompt"]: row["completion"] for row in rows}
    asked = before.replace("|", "").removeprefix("<s>").strip()  # with the spaces that SentencePiece leaves out
    assert inside.replace("|", "").removesuffix("</s>").strip() == words[asked]


def test_a_plan_counts_the_adapter(recipe, load, home):
    from polyana.plan import picture, plan_recipe

    plan = plan_recipe(load(recipe), prepare=True, console=QUIET)
    training = plan.stages[-1].training
    assert training.trained == 5 * 4 * (64 + 64 + 64 + 32)  # layers, rank, q_proj, v_proj
    assert training.memory.gradients == 4 * training.trained
    assert training.memory.optimizer == 8 * training.trained
    assert training.disk.kept < 4 * training.parameters  # no save holds the base
    shown = io.StringIO()
    RichConsole(file=shown, width=200).print(picture(plan))
    assert "of which 4,480 are trained (1.69%): the adapter's files take 17.9 kB" in shown.getvalue()
    assert "lora: rank 4, alpha 8, on q_proj, v_proj" in shown.getvalue()


def test_stages_that_wait_for_each_other_are_named(recipe, load):
    text = recipe.read_text()
    stage = text[text.index("  chat:") :]
    base = next(line for line in stage.splitlines() if "base:" in line)
    both = stage.replace(base, "    base: other") + stage.replace("  chat:", "  other:").replace(base, "    base: chat")
    recipe.write_text(text.replace(stage, both))
    with pytest.raises(UserError, match="stage `chat` waits for itself"):
        load(recipe)


def test_the_report_tells_what_was_learned(recipe, load, home):
    task_of(recipe, load)
    report = read_json(next((home / "stages").glob("examples-*")) / "report.json")
    shards = TokenData(next((home / "stages").glob("examples-*")))
    weights = [shards.shards(split).weights(0, len(shards.shards(split))) for split in ("train", "eval")]
    assert report["total"]["learnt"] == int(np.count_nonzero(np.concatenate(weights)))
    assert report["total"]["examples"] == 48
