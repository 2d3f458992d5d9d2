"""Suites from files: what is asked, and the letters about what is wrong. The judge of scores is in test_harness.py."""

import json

import pytest

from polyana.corpus import Document
from polyana.errors import UserError
from polyana.evaluate import HeldOutText, Subject, read_suite
from polyana.evaluate.answers import ExactMatchConfig, ExactMatchTest, Gsm8kConfig, Gsm8kTest
from polyana.evaluate.choices import MultipleChoiceConfig, MultipleChoiceTest
from polyana.evaluate.free_text import _scores as scores_of_text
from polyana.evaluate.questions import prompted


class Around:
    """A run that held two documents out."""

    def held_out(self):
        return HeldOutText([Document("a", "Once upon a time, there was a dog."), Document("b", "Tom ran.")])

    def translation(self, *_):
        raise UserError("this run has not learned to translate")


ARC = {"text": ["ball", "sky"], "label": ["1", "2"]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def subject(shared_data):
    directory = shared_data / "stories260k" / "hf"
    return Subject(directory, None, "fp32", directory, "", "")


def test_every_mistake_of_a_file_is_told_at_once_with_its_line(tmp_path):
    write(tmp_path / "quiz.jsonl", [{"question": "?", "choices": ["a", "b"], "answer": 0}, {"question": "?"}])
    (tmp_path / "mine.yaml").write_text(
        """\
nmae: mine
tasks:
  one: {kind: perplexity, data: quiz.jsonl, strid: 4}
  two: {kind: multiple_chioce, data: quiz.jsonl}
  three: {kind: gsm8k, data: quiz.jsonl, shots: 2}
  four: {data: quiz.jsonl}
  fi.ve: {kind: generation, samples: 2, temperature: 0}
"""
    )
    with pytest.raises(UserError) as caught:
        read_suite("mine.yaml", tmp_path, Around())
    told = [str(problem).replace(str(tmp_path) + "/", "") for problem in caught.value.problems]
    assert told == [
        "mine.yaml:1  unknown key `nmae`; did you mean `name`?",
        "mine.yaml:3  unknown key `strid`; did you mean `stride`?",
        "mine.yaml:4  `kind: multiple_chioce` is not known; did you mean `multiple_choice`?",
        "mine.yaml:5  `shots: 2` needs `examples: FILE`, which is not the file of the questions",
        "mine.yaml:6  task `four` needs a `kind`; write one of: perplexity, multiple_choice, exact_match, gsm8k, "
        "generation, translation, lm_eval",
        "mine.yaml:7  task `fi.ve`: a point parts a task's name from its metrics'; write another sign",
        "mine.yaml:7  with `temperature: 0` all texts after a prompt are the same; write one",
    ]


def test_rows_that_are_no_questions_are_told_with_their_lines(tmp_path):
    write(
        tmp_path / "quiz.jsonl",
        [
            {"question": "?", "choices": ["a", "b"], "answer": 0},
            {"question": "?", "choices": ["a", "b"], "answer": 2},
            {"question": "?", "answer": 1},
            {"q": "?", "choices": ["a", "b"], "answer": 1},
            {"question": "?", "choices": ["a", " b"], "answer": 1},
        ],
    )
    (tmp_path / "mine.yaml").write_text(
        "tasks:\n  quiz: {kind: multiple_choice, data: quiz.jsonl}\n  other: {kind: translation}\n"
        "  third: {kind: gsm8k, data: nowhere.jsonl}\n"
    )
    with pytest.raises(UserError) as caught:
        read_suite("mine.yaml", tmp_path, Around())
    told = [str(problem).replace(str(tmp_path) + "/", "") for problem in caught.value.problems]
    assert told[:5] == [
        "quiz.jsonl:2  `answer: 2` is no label, number from 0 or text of one of its 2 answers",
        "quiz.jsonl:3  has no list of two or more answers under `choices`; its columns: question, answer",
        "quiz.jsonl:4  has no column `question`; its columns: q, choices, answer",
        "quiz.jsonl:5  has the answer ' b', which begins with a blank, and `delimiter` puts one before it, too; write "
        '`delimiter: ""`',
        "mine.yaml:3  this run has not learned to translate",
    ]
    assert told[5].startswith("mine.yaml:4  ")
    assert "nowhere.jsonl" in told[5]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("perplexty", "`perplexty` is no suite; did you mean `perplexity`?"),
        ("gsm8k", "`data` is missing: the questions"),
        ("multiple_choice", "`data` is missing"),
        ("lm-eval:", "tasks"),
        ("absent.yaml", "there is no such file"),
    ],
)
def test_a_suite_that_is_none_is_told(tmp_path, written, told):
    with pytest.raises(UserError) as caught:
        read_suite(written, tmp_path, Around())
    assert told in str(caught.value)


def test_the_hash_is_of_all_that_is_asked_and_of_nothing_else(tmp_path):
    rows = [{"question": "?", "choices": ["a", "b"], "answer": 0}]
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write(tmp_path / place / "quiz.jsonl", rows)
        (tmp_path / place / "mine.yaml").write_text("tasks: {quiz: {kind: multiple_choice, data: quiz.jsonl}}\n")
    one, two = (read_suite(f"{place}/mine.yaml", tmp_path, Around()) for place in ("one", "two"))
    assert one.hash == two.hash
    assert not one.of_run
    write(tmp_path / "two" / "quiz.jsonl", [{**rows[0], "answer": 1}])
    assert read_suite("two/mine.yaml", tmp_path, Around()).hash != one.hash
    assert read_suite("perplexity", tmp_path, Around()).of_run


def test_answers_are_labels_numbers_or_texts(tmp_path, subject):
    rows = [
        {"question": "Tom had a red", "choices": ["ball", "sky"], "answer": 0, "text": "t"},
        {"question": "Tom had a red", "choices": ["sky", "ball"], "answer": "B", "text": "t"},
        {"question": "Tom had a red", "choices": ["sky", "ball"], "answer": "ball", "text": "u"},
        {"question": "Tom had a red", "choices": ARC, "answer": "1", "text": "v"},
    ]  # fmt: skip
    write(tmp_path / "quiz.jsonl", rows)
    config = MultipleChoiceConfig(kind="multiple_choice", data="quiz.jsonl", group="text")
    scored = MultipleChoiceTest(config, tmp_path).score(subject, lambda _: None)
    assert [item.scores["acc"] for item in scored.items] == [(1.0, 1.0)] * 4
    assert [item.group for item in scored.items] == ["t", "t", "u", "v"]
    (tmp_path / "wide.csv").write_text("question,one,two,answer\nTom had a red,ball,sky,one\n")
    wide = MultipleChoiceConfig(kind="multiple_choice", data="wide.csv", choices=["one", "two"])
    (item,) = MultipleChoiceTest(wide, tmp_path).score(subject, lambda _: None).items
    assert (item.shown["right"], item.scores["acc"]) == ("ball", (1.0, 1.0))


def test_solved_examples_stand_before_the_question(tmp_path):
    config = Gsm8kConfig(kind="gsm8k", data="a.jsonl", examples="b.jsonl", shots=1, instruction="Think.")
    asked = prompted(config, None, [("Question: 1+1?\nAnswer:", "2\n#### 2")], "Question: 2+2?\nAnswer:")
    assert asked == "Think.\n\nQuestion: 1+1?\nAnswer: 2\n#### 2\n\nQuestion: 2+2?\nAnswer:"


@pytest.mark.parametrize(
    ("written", "strict", "flexible"),
    [
        ("2 * 9 = 18\n#### 18", 1, 1),
        ("#### 18.", 1, 1),
        ("#### $18", 0, 1),  # a sign in front is none of the strict rule's
        ("#### 1,8", 1, 1),
        ("so it is 18 dollars", 0, 1),
        ("18, or rather 19", 0, 0),
        ("#### 18\n#### 19", 1, 0),
        ("#### -18", 0, 0),
        ("nothing", 0, 0),
    ],
)
def test_a_number_is_found_strictly_and_flexibly(tmp_path, written, strict, flexible):
    write(tmp_path / "q.jsonl", [{"question": "?", "answer": "9 * 2 = <<9*2=18>>18\n#### 18"}])
    test = Gsm8kTest(Gsm8kConfig(kind="gsm8k", data="q.jsonl"), tmp_path)
    found = {name: right for name, (_, right) in test._scores(written, test._asked[0].answers).items()}
    assert found == {"exact_match": strict, "exact_match_flexible": flexible}


def test_an_exact_match_is_extracted_and_compared_as_the_file_says(tmp_path, subject):
    write(tmp_path / "q.jsonl", [{"question": "Once upon a time, there was a little", "answer": ["Girl!", "boy"]}])
    settings = {"kind": "exact_match", "data": "q.jsonl", "until": [" named"], "max_tokens": 12}
    (strict,) = ExactMatchTest(ExactMatchConfig(**settings), tmp_path).score(subject, lambda _: None).items
    loose = ExactMatchConfig(**settings, ignore_punctuation=True, extract=r"(\w+)")
    (found,) = ExactMatchTest(loose, tmp_path).score(subject, lambda _: None).items
    assert found.shown["written"] == "girl"
    assert (strict.scores["exact_match"], found.scores["exact_match"]) == ((0.0, 1.0), (1.0, 1.0))
    assert found.scores["unfinished"] == (0.0, 1.0)
    with pytest.raises(ValueError, match="is no regular expression"):
        ExactMatchConfig(**settings, extract="(")


def test_what_is_written_does_not_depend_on_the_batch(tmp_path, subject):
    rows = [{"question": "Once upon a time" + ", Lily" * n, "answer": "x"} for n in range(5)]
    write(tmp_path / "q.jsonl", rows)
    written = [
        [item.shown["written"] for item in ExactMatchTest(
            ExactMatchConfig(kind="exact_match", data="q.jsonl", max_tokens=16, batch=batch), tmp_path
        ).score(subject, lambda _: None).items]
        for batch in (1, 5)
    ]  # fmt: skip
    assert written[0] == written[1]
    assert len(set(written[0])) > 1


def test_repetition_and_variety_are_counted_in_words():
    found = scores_of_text("the cat sat on the cat sat on the mat")
    assert found["distinct_1"] == (5 / 10, 1.0)
    assert found["distinct_2"] == (5 / 9, 1.0)
    assert found["repetition"] == pytest.approx((2 / 7, 1.0))  # "the cat sat on" and "cat sat on the" come twice
    assert scores_of_text("One. Two!") == {"distinct_1": (1.0, 1.0), "distinct_2": (1.0, 1.0)}
    assert scores_of_text("") == {}


def test_free_texts_are_the_same_with_the_same_seed(tmp_path, subject):
    (tmp_path / "mine.yaml").write_text("tasks: {free: {kind: generation, samples: 2, max_tokens: 12, seed: 5}}\n")
    suite = read_suite("mine.yaml", tmp_path, Around())
    one, other = (suite.tasks["free"].score(subject, lambda _: None).items for _ in range(2))
    assert [item.shown for item in one] == [item.shown for item in other]
    assert [item.group for item in one] == ["0", "0", "1", "1"]
    assert one[0].shown["prompt"] == "Once upon a time, there was a dog."
    assert one[0].shown["written"] != one[1].shown["written"]
