"""Rows of many forms as preferences, and the report of what they are like."""

import itertools
import json

import numpy as np
import pytest
from byte_tokenizer import byte_tokenizer

from polyana.errors import UserError
from polyana.examples import (
    BadRow,
    ChatTemplate,
    ExamplesReport,
    PreferencesConfig,
    PreferenceSource,
    auc,
    preference_items,
    preference_report,
    preference_report_lines,
    preferences_of,
)

SOURCE = PreferenceSource(path="a.jsonl")


def config(**settings):
    return PreferencesConfig(data=[SOURCE], **settings)


def read(row, single=False, source=SOURCE, **settings):
    return preferences_of(row, source, config(**settings), single)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ASKED = [user("Hi"), assistant("Hello"), user("And?")]
PAIRS = {
    "texts": {"prompt": "Hi", "chosen": "Yes", "rejected": "No"},
    "messages": {"prompt": [user("Hi")], "chosen": [assistant("Yes")], "rejected": [assistant("No")]},
    "one message": {"prompt": "Hi", "chosen": assistant("Yes"), "rejected": assistant("No")},
    "whole conversations": {"chosen": [user("Hi"), assistant("Yes")], "rejected": [user("Hi"), assistant("No")]},
    "UltraFeedback binarized": {
        "prompt": "Hi", "chosen": [user("Hi"), assistant("Yes")], "rejected": [user("Hi"), assistant("No")],
        "score_chosen": 8.0, "score_rejected": 5.5,
    },
    "HH-RLHF with its prompt": {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "Yes", "rejected": "No"},
    "HH-RLHF": {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
}  # fmt: skip


@pytest.mark.parametrize("form", PAIRS)
def test_a_pair_is_read_in_every_form_that_data_sets_have(form):
    (found,) = read(PAIRS[form])
    assert found.prompt == [user("Hi")]
    assert [answer.messages for answer in found.answers] == [
        [user("Hi"), assistant("Yes")],
        [user("Hi"), assistant("No")],
    ]
    assert [answer.weights for answer in found.answers] == [[0.0, 1.0]] * 2
    assert found.margin == (2.5 if "score_chosen" in PAIRS[form] else 0.0)
    good, bad = read(PAIRS[form], single=True)
    assert (good.said(0), good.desirable, bad.said(0), bad.desirable) == ("Yes", True, "No", False)


def test_only_what_follows_the_prompt_is_an_answer():
    rejected = [assistant("No"), user("Why?"), assistant("So")]
    (found,) = read({"chosen": [*ASKED, assistant("Yes")], "rejected": [*ASKED, *rejected]})
    assert found.prompt == ASKED
    assert [answer.weights for answer in found.answers] == [[0, 0, 0, 1], [0, 0, 0, 1, 0, 1]]
    assert found.said(1) == "No\nSo"
    (found,) = read({"prompt": "Hi", "system": "S", "chosen": "Yes", "rejected": "No"})
    assert found.prompt == [{"role": "system", "content": "S"}, user("Hi")]


def test_scores_and_ranks_become_pairs_by_the_stated_rule():
    row = {"prompt": "Hi", "answers": ["c", "a", "d", "b"], "scores": [2, 9, 1, 8.5]}

    def pairs(**settings):
        return ["".join(found.said(side) for side in (0, 1)) for found in read(row, **settings)]

    assert pairs() == ["ad"]
    assert pairs(pairs="adjacent") == ["ab", "bc", "cd"]
    assert pairs(pairs="all") == ["".join(pair) for pair in itertools.combinations("abcd", 2)]
    assert pairs(pairs="adjacent", min_gap=0.5) == ["bc", "cd"]
    assert pairs(min_gap=8) == []
    assert read(row)[0].margin == 8
    labels = [(found.said(0), found.desirable) for found in read(row, single=True, good_from=2.0)]
    assert labels == [("a", True), ("b", True), ("c", True), ("d", False)]
    assert [(found.said(0), found.desirable) for found in read(row, single=True)] == [("a", True), ("d", False)]
    ranked = {"prompt": "Hi", "answers": ["a", "b", "c"]}
    assert ["".join(found.said(side) for side in (0, 1)) for found in read(ranked, pairs="adjacent")] == ["ab", "bc"]


def test_tools_are_read_as_in_examples_and_a_row_that_counts_nothing_is_told():
    """In CSV a list is a text; and a batch of weight 0 could not be divided by what it counts."""
    row = {"prompt": "Hi", "chosen": "Yes", "rejected": "No", "tools": '[{"name": "f"}]', "w": 0}
    assert [each.tools for each in read(row)[0].answers] == [[{"name": "f"}]] * 2
    with pytest.raises(BadRow, match="its weight is 0"):
        read(row, source=SOURCE.model_copy(update={"columns": {"weight": "w"}}))


@pytest.mark.parametrize(
    ("value", "good"), [(True, True), (0, False), ("up", True), ("False", False), (1.0, True), (-1, False)]
)
def test_labels_as_people_write_them(value, good):
    (found,) = read({"prompt": "Hi", "completion": "Yes", "label": value}, single=True)
    assert found.desirable == good


@pytest.mark.parametrize(
    ("row", "letter"),
    [
        ({"prompt": "Hi", "chosen": "", "rejected": "No"}, "an answer is empty"),
        ({"prompt": "Hi", "chosen": [assistant(" ")], "rejected": "No"}, "the assistant says nothing"),
        ({"prompt": " ", "chosen": "Yes", "rejected": "No"}, "a prompt is empty"),
        ({"chosen": "Yes", "rejected": "No"}, "has no `prompt`, and the answers do not begin alike"),
        ({"prompt": "Hi", "completion": "Yes", "label": True}, "`loss: kto` learns from these"),
        ({"prompt": "Hi", "answers": ["a", "b"], "scores": [1]}, "not as many scores as answers"),
        ({"prompt": "Hi", "answers": ["a", "b"], "scores": [1, "nan"]}, "is no number"),
        ({"prompt": "Hi", "answers": ["a"]}, "no list of two answers"),
        ({"question": "Hi"}, "write `columns: {prompt: ..., chosen: ..., rejected: ...}`"),
        ({"prompt": 5, "chosen": "Yes", "rejected": "No"}, "neither a text nor a list of messages"),
        ({"prompt": "Hi", "chosen": "Yes", "rejected": "No", "tools": "[1]"}, "a tool is described by no object"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row, letter):
    with pytest.raises(BadRow) as caught:
        read(row)
    assert letter in str(caught.value)


def test_a_label_that_is_none_is_named():
    with pytest.raises(BadRow, match="neither true nor false: `maybe`"):
        read({"prompt": "Hi", "completion": "Yes", "label": "maybe"}, single=True)


# Items


@pytest.fixture
def template(tmp_path):
    return ChatTemplate(byte_tokenizer(tmp_path / "base"), "chatml")


def make(tmp_path, template, rows, context=200, single=False, held_out=0.3, **settings):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ExamplesReport()
    items = preference_items(config(**settings), tmp_path, template, context, held_out, single, report)
    return items, report.total()


def rows(count=40):
    return [
        {"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": f"No idea what {n} is!"} for n in range(count)
    ]


def test_what_cannot_be_compared_is_left_out_with_a_reason(tmp_path, template):
    given = [
        *rows(20),
        {"prompt": "Same?", "chosen": "Yes", "rejected": "Yes"},
        {"prompt": "Long" * 100, "chosen": "Yes", "rejected": "No"},
        {"prompt": "Long", "chosen": "Yes " * 100, "rejected": "Yes " * 101},
        {"prompt": "Cut", "chosen": "Yes " * 100, "rejected": "No"},
        {"prompt": "Tie", "answers": ["a", "b"], "scores": [1, 1]},
    ]
    items, report = make(tmp_path, template, given)
    assert report.left_out == {
        "the two answers are the same": 1, "the prompt fills the context": 1,
        "the two answers are the same within the context": 1, "its answers are a tie": 1,
    }  # fmt: skip
    assert len(items) == 21
    assert report.shortened == 1
    assert report.rows == len(items) + sum(report.left_out.values())
    items, report = make(tmp_path, template, given, truncate="drop")
    assert report.left_out["longer than the context"] == 2
    with pytest.raises(UserError, match="1 of 3 rows cannot be used"):
        make(tmp_path, template, [*rows(2), {"prompt": "x"}])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"chosen": "Yes", "rejected": "Yes"}, "4 times the two answers are the same (each row needs a better answer"),
        ({"chosen": "Y" * 300, "rejected": "Y" * 301}, "the same within the context (raise `context` above 200)"),
        ({"answers": ["Yes", "No"], "scores": [1, 1]}, "4 times its answers are a tie (only scores that differ"),
        ({"answers": ["Yes", "No"], "scores": [1, 2], "min_gap": 3}, "a tie (lower `min_gap: 3`)"),
        ({"prompt": "Long" * 100, "chosen": "Yes", "rejected": "No"}, "the context (raise `context` above 200, or sho"),
        ({"chosen": "Y" * 300, "rejected": "No", "truncate": "drop"}, "above 200, or write `truncate: right`)"),
    ],
)  # fmt: skip
def test_where_nothing_is_left_to_learn_the_letter_says_what_to_do(tmp_path, template, row, why):
    settings = {name: row[name] for name in ("min_gap", "truncate") if name in row}
    row = {"prompt": "Really?"} | {name: value for name, value in row.items() if name not in settings}
    with pytest.raises(UserError) as caught:
        make(tmp_path, template, [row] * 4, **settings)
    assert "there is nothing to learn in 4 rows: 4 times" in str(caught.value)
    assert why in str(caught.value)


def test_numbers_beside_answers_that_nothing_would_read_are_refused():
    """Else the answers would be taken for a ranking, the best first."""
    row = {"prompt": "Which?", "answers": ["a", "b", "c"], "ranks": [3, 1, 2], "place": [1, 2]}
    with pytest.raises(BadRow) as caught:
        read(row)
    assert "`ranks`, that nothing would read; write `columns: {scores: ranks}` if higher" in str(caught.value)
    scores = SOURCE.model_copy(update={"columns": {"scores": "ranks"}})
    assert (read(row, source=scores)[0].said(0), read(row, source=scores)[0].said(1)) == ("a", "b")
    ranking = SOURCE.model_copy(update={"form": "ranking"})
    assert (read(row, source=ranking)[0].said(0), read(row, source=ranking)[0].said(1)) == ("a", "c")


def test_labels_that_contradict_each_other_are_told(tmp_path, template):
    contrary = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows(9)]
    for single, advice in ((False, "9 of 49 pairs contradict others, so their labels are noisy; `loss: robust`"),
                           (True, "18 of 98 answers contradict others, so their labels are noisy")):  # fmt: skip
        found = preference_report(make(tmp_path, template, [*rows(), *contrary], single=single)[0], single)
        assert f"look at it: {advice}" in "\n".join(preference_report_lines(found))
    assert "noisy" not in "\n".join(preference_report_lines(preference_report(
        make(tmp_path, template, [*rows(), contrary[0]])[0], single=False)))  # fmt: skip


def test_a_prompt_falls_to_one_split_with_all_its_answers(tmp_path, template):
    given = [row | {"rejected": f"{row['rejected']} {n}"} for row in rows() for n in range(3)]
    items, _ = make(tmp_path, template, given)
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.prompt, set()).add(item.split)
    assert all(len(each) == 1 for each in splits.values())
    assert {each for found in splits.values() for each in found} == {"train", "eval"}


def test_white_space_and_system_messages_make_no_other_question(tmp_path, template):
    """What is asked in training is not held out, however it is written; only what is said exactly so is the same."""
    given = [row | more for row in rows() for more in
             ({}, {"prompt": row["prompt"].replace(" ", "  ") + "\n"}, {"system": "Be brief."})]  # fmt: skip
    for single in (False, True):
        items, _ = make(tmp_path, template, given, single=single)
        splits: dict[str, set[str]] = {}
        for item in items:
            splits.setdefault(item.question, set()).add(item.split)
        assert len(splits) == 40
        assert all(len(each) == 1 for each in splits.values())
        assert preference_report(items, single)["duplicates"] == 0


def test_a_single_answer_stands_beside_anothers(tmp_path, template):
    items, _ = make(tmp_path, template, rows(), single=True)
    for item in items:
        own, other = ("".join(template.tokenizer.convert_ids_to_tokens(tokens.tolist())) for tokens, _ in item.texts)
        question, answer = own.split("assistant"), other.split("assistant")
        assert question[0] == answer[0], "another prompt"
        assert question[1] != answer[1], "its own answer"
    again = make(tmp_path, template, rows(), single=True)[0]
    assert all(np.array_equal(a.texts[1][0], b.texts[1][0]) for a, b in zip(items, again, strict=True))


def test_labels_of_one_kind_are_refused(tmp_path, template):
    given = [{"prompt": f"{n}?", "completion": f"{n}!", "label": True} for n in range(9)]
    with pytest.raises(UserError, match="all 9 answers are good; kto learns from good ones and bad ones"):
        make(tmp_path, template, given, single=True)
    given += [{"prompt": "What is 3?", "completion": "No!", "label": False}]  # which is held out
    items, _ = make(tmp_path, template, given, single=True, held_out=0)
    assert {item.desirable for item in items} == {True, False}
    with pytest.raises(UserError, match=r"answers of train are good; .* add more, or lower `held_out`"):
        make(tmp_path, template, given, single=True)


def test_the_report_tells_what_length_alone_would_tell(tmp_path, template):
    items, _ = make(
        tmp_path, template, [*rows(), rows()[0], {**rows()[1], "chosen": "No idea what 1 is!", "rejected": "It is 1."}]
    )
    found = preference_report(items, single=False)
    assert found["longer_is_chosen"] == pytest.approx(1 / 42)
    assert found["length_auc"] < 0.05
    assert (found["duplicates"], found["contradictions"]) == (1, 1)
    said = "\n".join(preference_report_lines(found))
    assert "1 pairs say the opposite of an earlier one" in said
    assert "short answers are preferred so often" in said
    assert "only " in said
    rare = [{"prompt": f"{n}?", "completion": f"{n}!", "label": n > 0} for n in range(300)]
    items, _ = make(tmp_path, template, rare, single=True, held_out=0)
    said = "\n".join(preference_report_lines(preference_report(items, single=True)))
    assert "299 good answers (99.7%), 1 bad ones" in said
    assert "bad answers are 0.33% of all" in said
    assert "only 1 bad answers" in said


def test_the_auc_is_that_of_all_comparisons():
    random = np.random.default_rng(4)
    good, bad = random.integers(0, 20, 50), random.integers(0, 15, 70)
    wanted = np.mean([(a > b) + (a == b) / 2 for a in good for b in bad])
    assert auc(good, bad) == pytest.approx(wanted)
    assert np.isnan(auc(good, bad[:0]))
