"""lm-eval itself is the judge: unmodified, from the registry by name, without network, on the same items as ours."""

import json

import pytest
import torch
from harness_tasks import ROLLING
from published import publish

from polyana.errors import PolyanaError
from polyana.evaluate import Subject, metrics_of, read_suite

pytest.importorskip("lm_eval")

WORDS = ("dog", "cat", "red ball", "tree", "big blue house")

TASKS = {
    "choices": """\
task: choices
dataset_path: json
dataset_kwargs: {data_files: {test: PLACE/quiz.jsonl, train: PLACE/solved.jsonl}}
test_split: test
fewshot_split: train
fewshot_config: {sampler: first_n}
num_fewshot: 1
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}]
""",
    "rolling": ROLLING,
    "sums": """\
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: PLACE/sums.jsonl, train: PLACE/solved_sums.jsonl}}
test_split: test
fewshot_split: train
fewshot_config: {sampler: first_n}
num_fewshot: 1
output_type: generate_until
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["Question:", "</s>", "<|im_end|>"], do_sample: false, max_gen_toks: 24}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", "\\\\$", "(?s).*#### ", "\\\\.$"]
filter_list:
  - name: strict-match
    filter: [{function: regex, regex_pattern: "#### (\\\\-?[0-9\\\\.\\\\,]+)"}, {function: take_first}]
  - name: flexible-extract
    filter: [{function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)"}, {function: take_first}]
""",
}

SUITE = """\
tasks:
  quiz: {kind: multiple_choice, data: quiz.jsonl, examples: solved.jsonl, shots: 1}
  texts: {kind: perplexity, data: texts.jsonl, context: 512, stride: 512}
  sums: {kind: gsm8k, data: sums.jsonl, examples: solved_sums.jsonl, shots: 1, max_tokens: 24}
  theirs: {kind: lm_eval, tasks: [choices, rolling, sums], include: tasks, batch: 8}
"""


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def place(tmp_path):
    """Questions in three forms, as lm-eval's tasks and as a suite of ours."""
    quiz = [
        {"question": f"Once upon a time, {name} had a {word}. {name} {did}", "choices": list(WORDS), "answer": at}
        for name in ("Lily", "Tom", "Ben") for did in ("loved the", "saw the", "said that the")
        for at, word in enumerate(WORDS)
    ]  # fmt: skip
    write(tmp_path / "quiz.jsonl", quiz[1:])
    write(tmp_path / "solved.jsonl", quiz[:1])
    stories = ["Tom ran. " * 3, "Lily — «мяч» — had a ball.", "Once upon a time, there was a dog. " * 90]
    write(tmp_path / "texts.jsonl", [{"text": text} for text in stories])
    sums = [
        {"question": f"Tom had {n} balls. How many?", "answer": f"Tom had {n}.\n#### {n}"} for n in (1, 2, 3, 10, 1000)
    ]
    write(tmp_path / "sums.jsonl", sums[1:])
    write(tmp_path / "solved_sums.jsonl", sums[:1])
    (tmp_path / "tasks").mkdir()
    for name, task in TASKS.items():
        (tmp_path / "tasks" / f"{name}.yaml").write_text(task.replace("PLACE", str(tmp_path)))
    (tmp_path / "mine.yaml").write_text(SUITE)
    return tmp_path


@pytest.fixture
def subject(home, shared_data, tmp_path):
    """A story model that has been taught to answer sums, and to count to some of them.

    Its tokenizer adds no beginning mark: lm-eval has such a mark predicted behind another one, in a whole text.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory, model = tmp_path / "model", AutoModelForCausalLM.from_pretrained(shared_data / "stories260k" / "hf")
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "stories260k" / "hf")
    lessons = "\n\n".join(
        f"Question: Tom had {n} balls. How many?\nAnswer: Tom had {n}.\n#### {n}" for n in (1, 2, 3, 2, 3, 1)
    )
    ids = tokenizer(lessons, return_tensors="pt").input_ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    told = json.loads((directory / "tokenizer.json").read_text())
    (directory / "tokenizer.json").write_text(json.dumps(told | {"post_processor": None}))
    run = "story-pretrain-2026-11-22_01.02.03"
    commit = publish(home, run, directory)
    snapshot = home / "hub" / f"models--polyana--{run}" / "snapshots" / commit.id
    return Subject(snapshot, None, "fp32", home / "hub", f"polyana/{run}", commit.id)


def test_our_scores_are_lm_evals_on_the_same_items(place, subject, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(place / "huggingface"))
    suite = read_suite("mine.yaml", place, None)
    scored = {name: test.score(subject, lambda _: None) for name, test in suite.tasks.items()}
    ours = {name: metrics_of(scored[name]) for name in ("quiz", "texts", "sums")}
    theirs = metrics_of(scored["theirs"])
    for name in ("acc", "acc_norm", "acc_bytes"):
        assert ours["quiz"][name].value == pytest.approx(theirs[f"choices.{name}"].value, abs=1e-12)
    assert 0 < theirs["choices.acc"].value < 1
    assert ours["texts"]["bits_per_byte"].value == pytest.approx(theirs["rolling.bits_per_byte"].value, rel=1e-5)
    assert ours["sums"]["exact_match"].value == theirs["sums.exact_match strict-match"].value
    assert ours["sums"]["exact_match_flexible"].value == theirs["sums.exact_match flexible-extract"].value
    assert 0 < theirs["sums.exact_match strict-match"].value < 1
    # item by item: the same log p of every answer, the same right ones
    their_items = [item for item in scored["theirs"].items if item.id.startswith("choices/")]
    for item, their in zip(scored["quiz"].items, their_items, strict=True):
        log_p = [float(each.rpartition(" ")[2]) for each in item.shown["log p"].split(", ")]
        assert log_p == [pytest.approx(float(each), abs=0.011) for each in their.shown["answer"].split(", ")]
        assert item.scores["acc"] == their.scores["choices.acc"]
    # an interval from its own items where a metric is their mean, from its standard error or none where it is not
    assert theirs["choices.acc"].low < theirs["choices.acc"].value < theirs["choices.acc"].high
    assert (theirs["choices.acc"].better, theirs["rolling.bits_per_byte"].better) == ("higher", "lower")


@pytest.mark.slow
def test_its_own_words_are_passed_on_when_it_fails(place, subject):
    suite = read_suite("lm-eval:no_such_task", place, None, {"include": "tasks"})
    with pytest.raises(PolyanaError, match=r"lm-eval did not run: .*no_such_task"):
        suite.tasks[""].score(subject, lambda _: None)


def test_the_hash_knows_the_tasks_and_their_data(place):
    before = read_suite("lm-eval:choices", place, None, {"include": "tasks"}).hash
    write(place / "quiz.jsonl", [{"question": "?", "choices": ["a", "b"], "answer": 0}])
    assert read_suite("lm-eval:choices", place, None, {"include": "tasks"}).hash != before
