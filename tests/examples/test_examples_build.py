"""Rows to examples of at most the context, and where every row went."""

import json

import numpy as np
import pytest
from byte_tokenizer import byte_tokenizer

from polyana.errors import UserError
from polyana.examples import ChatTemplate, ExamplesConfig, ExampleSource, ExamplesReport, examples, report_lines


@pytest.fixture
def template(tmp_path):
    return ChatTemplate(byte_tokenizer(tmp_path / "base"), "chatml")


def make(tmp_path, template, rows, context=1000, source=None, **settings):
    """(the examples, the report) of rows in a file."""
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = ExamplesConfig(data=[ExampleSource(path="a.jsonl", **(source or {}))], **settings)
    report = ExamplesReport()
    return list(examples(config, tmp_path, template, context, report)), report.total()


def text_of(template, example, learnt=False):
    ids = example.tokens[example.weights > 0] if learnt else example.tokens
    return template.tokenizer.decode(ids.tolist())


def turn(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


SYSTEM = {"role": "system", "content": "S"}
LONG = {"messages": [SYSTEM, *turn("one", "1" * 20), *turn("two", "2" * 20), *turn("three", "3" * 20)]}
LENGTH = 145  # tokens: 7 messages, the bytes of their roles and contents, and 4 around each


def test_a_conversation_that_fits_is_whole_and_one_token_less_is_too_few(tmp_path, template):
    for truncate in ("right", "left", "drop"):
        ((whole,), report) = make(tmp_path, template, [LONG], LENGTH, truncate=truncate)
        assert len(whole.tokens) == LENGTH
        assert report.shortened == report.cut_tokens == 0
    with pytest.raises(UserError, match="nothing to learn: longer than the context"):
        make(tmp_path, template, [LONG], LENGTH - 1, truncate="drop")
    ((cut,), report) = make(tmp_path, template, [LONG], LENGTH - 1)
    assert (len(cut.tokens), report.cut_tokens, report.cut_learnt) == (LENGTH - 1, 1, 0)


def test_right_keeps_the_beginning_and_learns_no_end_that_is_not_there(tmp_path, template):
    ((cut,), report) = make(tmp_path, template, [LONG], LENGTH - 10)
    whole = make(tmp_path, template, [LONG], LENGTH)[0][0]
    assert cut.tokens.tolist() == whole.tokens[:-10].tolist()
    assert text_of(template, cut, learnt=True) == "1" * 20 + "<|im_end|>" + "2" * 20 + "<|im_end|>" + "3" * 12
    assert (report.shortened, report.cut_tokens, report.cut_learnt) == (1, 10, 9)  # 8 threes and their end; "\n"


def test_left_leaves_out_whole_exchanges_and_keeps_the_system_message(tmp_path, template):
    ((cut,), report) = make(tmp_path, template, [LONG], LENGTH - 1, truncate="left")
    rest = {"messages": [SYSTEM, *LONG["messages"][3:]]}
    ((expected,), _) = make(tmp_path, template, [rest], LENGTH)
    assert cut.tokens.tolist() == expected.tokens.tolist()
    assert cut.weights.tolist() == expected.weights.tolist()
    assert report.cut_learnt == 21
    ((last,), _) = make(tmp_path, template, [LONG], 50, truncate="left")  # the last exchange alone is too long
    assert len(last.tokens) == 50
    assert text_of(template, last).startswith("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nthree<|im_end|>")


def test_what_has_nothing_left_to_learn_is_left_out_and_counted(tmp_path, template):
    rows = [{"prompt": "long " * 30, "completion": "a"}, {"prompt": "b", "completion": "c"}]
    ((kept,), report) = make(tmp_path, template, rows, 40)
    assert kept.id == "a.jsonl/a.jsonl#2"
    assert report.left_out == {"nothing to learn within the context": 1}


@pytest.mark.parametrize(("length", "sizes"), [(9, [10]), (10, [10, 2]), (18, [10, 10]), (25, [10, 10, 8])])
def test_every_token_of_a_long_text_is_learnt_once(tmp_path, template, length, sizes):
    text = "abcdefghijklmnopqrstuvwxyz"[:length]
    made, report = make(tmp_path, template, [{"text": text}], 10)
    assert [len(part.tokens) for part in made] == sizes
    assert "".join(text_of(template, part, learnt=True) for part in made) == text[1:] + "</s>"
    assert report.cut_texts == (len(sizes) > 1)
    assert len({part.id for part in made}) == len(made)


def test_ids_and_weights_are_what_training_takes(tmp_path, template):
    rows = [{"messages": turn("a", "b")}, {"text": "abc"}]
    made, report = make(tmp_path, template, rows, source={"weight": 0.5})
    for example in made:
        assert (example.tokens.dtype, example.weights.dtype) == (np.uint32, np.float32)
        assert example.weights[0] == 0
        assert set(example.weights.tolist()) == {0.0, 0.5}
    assert (report.rows, report.examples) == (2, 2)
    assert report.tokens == sum(len(example.tokens) for example in made)
    assert report.learnt == sum(int((example.weights > 0).sum()) for example in made)


BAD = {"messages": [{"role": "user", "content": "a"}]}
GOOD = {"messages": turn("a", "b")}


def test_a_few_malformed_rows_are_counted_and_named(tmp_path, template):
    made, report = make(tmp_path, template, [GOOD] * 299 + [BAD, {"x": 1}, {"x": 2}], max_bad=0.01)
    assert len(made) == 299
    assert sum(report.bad.values()) == 3
    assert [problem.where for problem in report.shown] == ["a.jsonl:300", "a.jsonl:301", "a.jsonl:302"]
    assert report.rows == report.examples + sum(report.bad.values()) + sum(report.left_out.values())


def test_more_of_them_stop_the_run_with_a_letter(tmp_path, template):
    with pytest.raises(UserError) as error:
        make(tmp_path, template, [GOOD] * 298 + [BAD] * 4, max_bad=0.01)
    assert str(error.value).splitlines() == [
        "4 of 302 rows cannot be used, more than `max_bad: 1.0%`; mend them, or allow more",
        "a.jsonl:299  ends with the user; the assistant's answer is missing",
        "a.jsonl:300  ends with the user; the assistant's answer is missing",
    ]


def test_data_of_which_nothing_can_be_used_are_not_read_to_their_end(tmp_path, template):
    rows = [{"question": "a", "answer": "b"}] * 300
    with pytest.raises(
        UserError, match=r"none of the first 100 rows of `a.jsonl`(.|\n)*a.jsonl:1 .*`question`, `answer`"
    ):
        make(tmp_path, template, rows)


def test_a_template_that_refuses_rows_stops_the_run(tmp_path, template):
    rows = [{"messages": turn("a", "b"), "tools": [{"name": "f"}]}] * 3
    with pytest.raises(UserError, match=r"a.jsonl:1  the chat template does not write tools"):
        make(tmp_path, template, rows)


def test_no_rows_at_all_is_a_letter(tmp_path, template):
    with pytest.raises(UserError, match="nothing to learn: the data hold no rows"):
        make(tmp_path, template, [])


def test_the_report_says_where_every_row_went(tmp_path, template):
    rows = [LONG, BAD, {"text": "long text " * 30}, {"messages": turn("<|im_end|>", "b")}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ExamplesReport()
    config = ExamplesConfig(data=[ExampleSource(path="a.jsonl")], max_bad=0.5)
    made = list(examples(config, tmp_path, template, 100, report))
    data = json.loads(json.dumps(report.as_data()))
    assert report_lines({"total": {**data["total"], "incomplete_rows": 2}})[-1].startswith(
        "in 2 rows the chat template"
    )
    lines = report_lines(data)
    assert lines[0].startswith(f"4 rows, {len(made)} examples, ")
    assert "1 were longer than the context: 45 tokens were cut" in lines[1]
    assert lines[2:] == [
        "1 texts longer than the context became several examples each",
        "malformed 1: ends with the user; the assistant's answer is missing",
        "  as a.jsonl:2  ends with the user; the assistant's answer is missing",
        "in 1 rows a message says what the tokenizer reads as a special token",
    ]


ROWS = [LONG, {"prompt": "a", "completion": "b", "text": "c", "w": 3}, BAD]


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ({"name": "other"}, {}),
        ({"form": "prompt_completion"}, {"max_bad": 1.0}),
        ({"columns": {"completion": "text"}}, {}),
        ({"columns": {"weight": "w"}}, {}),
        ({"weight": 2.0}, {}),
        ({}, {"turns": "last"}),
        ({}, {"truncate": "left"}),
        ({}, {"truncate": "drop"}),
        ({}, {"max_bad": 0.1}),
    ],
)
def test_every_setting_changes_something(tmp_path, template, source, settings):
    def outcome(source, settings):
        try:
            made, _ = make(tmp_path, template, ROWS, 100, source, **settings)
        except UserError as error:
            return str(error)
        return [(one.id, one.tokens.tolist(), one.weights.tolist()) for one in made]

    plain = {"max_bad": 1.0}
    assert outcome(source, plain | settings) != outcome({}, plain)
