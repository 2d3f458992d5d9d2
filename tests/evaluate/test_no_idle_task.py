"""Every setting of every kind of task changes what is found; tests/test_no_idle_option.py does the same for recipes."""

import json

import pytest

from polyana.corpus import Document
from polyana.errors import UserError
from polyana.evaluate import TASK_KINDS, HeldOutText, Subject, read_suite
from polyana.evaluate import harness as harness_module

TEXT = "Once upon a time, there was a little girl named Lily. She had a dog. The dog was big and red. They ran far."

SHOWN = {"data": "quiz.jsonl", "examples": "solved.jsonl", "shots": 1}
ANSWERED = {"data": "quiz.jsonl", "max_tokens": 12}
SUMS = {"data": "sums.jsonl", "max_tokens": 12}
FREE = {"prompts": ["Once upon a time"], "max_tokens": 12}
HARNESS = {"tasks": ["choices"], "include": "tasks"}

# kind.field -> (settings both have, the one that differs)
CHANGES = {
    "perplexity.data": ({}, ["long.txt"]),
    "perplexity.text": ({"data": ["quiz.jsonl"], "text": "question"}, "passage"),
    "perplexity.document": ({"data": ["long.txt"]}, "paragraph"),
    "perplexity.context": ({"data": ["long.txt"]}, 16),
    "perplexity.stride": ({"data": ["long.txt"], "context": 16}, 3),
    "perplexity.limit": ({}, 1),
    **{
        f"multiple_choice.{name}": change
        for name, change in {
            "data": ({"data": "quiz.jsonl"}, "solved.jsonl"),
            "limit": ({"data": "quiz.jsonl"}, 1),
            "shots": ({**SHOWN}, 2),
            "examples": ({**SHOWN}, "quiz.jsonl"),
            "instruction": ({"data": "quiz.jsonl"}, "Tom has a ball."),
            "chat": ({"data": "quiz.jsonl"}, True),
            "group": ({"data": "quiz.jsonl"}, "passage"),
            "prompt": ({"data": "quiz.jsonl"}, "{passage} {question}"),
            "choices": ({"data": "quiz.jsonl"}, ["answer", "passage"]),
            "answer": ({"data": "quiz.jsonl"}, "other"),
            "delimiter": ({"data": "quiz.jsonl"}, "\n"),
        }.items()
    },
    **{
        f"exact_match.{name}": change
        for name, change in {
            "data": (ANSWERED, "solved.jsonl"),
            "limit": (ANSWERED, 1),
            "shots": ({**ANSWERED, **SHOWN}, 2),
            "examples": ({**ANSWERED, **SHOWN}, "quiz.jsonl"),
            "instruction": (ANSWERED, "Tom has a ball."),
            "chat": (ANSWERED, True),
            "group": (ANSWERED, "passage"),
            "max_tokens": ({"data": "quiz.jsonl"}, 5),
            "batch": ({**ANSWERED, "chat": False}, 1),
            "prompt": (ANSWERED, "{passage} {question}"),
            "answer": (ANSWERED, "other"),
            "delimiter": ({**ANSWERED, **SHOWN}, "\n"),
            "until": (ANSWERED, ["e"]),
            "extract": (ANSWERED, r"\w+"),
            "ignore_case": ({**ANSWERED, "extract": r"^\w+", "answer": "loud"}, False),
            "ignore_punctuation": ({**ANSWERED, "extract": r"^\w+", "answer": "dotted"}, True),
        }.items()
    },
    **{
        f"gsm8k.{name}": change
        for name, change in {
            "data": (SUMS, "more.jsonl"),
            "limit": (SUMS, 1),
            "shots": ({**SUMS, "examples": "more.jsonl", "shots": 1}, 2),
            "examples": ({**SUMS, "examples": "more.jsonl", "shots": 1}, "sums.jsonl"),
            "instruction": (SUMS, "Tom has a ball."),
            "chat": (SUMS, True),
            "group": (SUMS, "unit"),
            "max_tokens": ({"data": "sums.jsonl"}, 5),
            "batch": (SUMS, 1),
        }.items()
    },
    **{
        f"generation.{name}": (FREE | shared, value)
        for name, shared, value in (
            ("prompts", {}, ["Tom"]), ("max_tokens", {}, 5), ("temperature", {}, 0), ("top_k", {}, 1),
            ("top_p", {"temperature": 1.5}, 0.1), ("seed", {}, 5), ("samples", {}, 2), ("chat", {}, True),
            ("batch", {"prompts": ["Once upon a time", "Tom"]}, 1),
        )
    },
    "translation.source": ({"source": "a.en", "target": "a.ru"}, "b.en"),
    "translation.target": ({"source": "a.en", "target": "a.ru"}, "b.ru"),
    "translation.limit": ({"source": "a.en", "target": "a.ru"}, 1),
    "lm_eval.tasks": (HARNESS, ["sums"]),
    "lm_eval.include": (HARNESS, "other"),
    "lm_eval.shots": (HARNESS, 3),
    "lm_eval.limit": (HARNESS, 2),
    "lm_eval.chat": (HARNESS, True),
    "lm_eval.batch": (HARNESS, 3),
    "lm_eval.python": (HARNESS, "/usr/bin/python"),
}  # fmt: skip

TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}Then:"


class Around:
    """A run that held two texts out and has learned to translate."""

    def held_out(self):
        return HeldOutText([Document("a", TEXT), Document("b", "Tom ran.")])

    def translation(self, config, base):
        from polyana.tasks import translation_test

        return translation_test(config, base, None, None)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def place(tmp_path):
    one = {"question": "Once upon a time, there was a little", "passage": "A park.", "choices": ["girl", "sky"]}
    more = {"answer": "girl", "other": "sky", "loud": "GIRL", "dotted": "girl."}
    write(tmp_path / "quiz.jsonl", [one | more, one | more | {"question": "Tom had a big red"}])
    write(tmp_path / "solved.jsonl", [one | more | {"question": "Lily saw a"}, one | more | {"question": "Ben was a"}])
    sums = [{"question": f"{n} dogs?", "answer": f"#### {n}", "unit": "dogs"} for n in (1, 2)]
    write(tmp_path / "sums.jsonl", sums)
    write(tmp_path / "more.jsonl", [row | {"question": "How many cats?"} for row in sums])
    (tmp_path / "long.txt").write_text(f"{TEXT}\n\n{TEXT * 3}")
    for name, text in {
        "a.en": "One.\nTwo.",
        "b.en": "One.\nThree.",
        "a.ru": "Раз.\nДва.",
        "b.ru": "Раз.\nТри.",
    }.items():
        (tmp_path / name).write_text(text)
    for name in ("tasks", "other"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def observe(place, shared_data, monkeypatch):
    directory = shared_data / "stories260k" / "hf"
    subject = Subject(directory, None, "fp32", directory, "", "")
    subject.tokenizer.chat_template = TEMPLATE
    told = []

    def runs(command, **_):
        told.append(command[: command.index("--output_path")] + command[command.index("--output_path") + 2 :])
        raise OSError(2, "not here")

    monkeypatch.setattr(harness_module.subprocess, "run", runs)
    sizes = []
    from polyana.evaluate import answers

    writes = answers.write_after
    monkeypatch.setattr(
        answers, "write_after", lambda *given, **more: sizes.append(len(given[2])) or writes(*given, **more)
    )

    def look(kind, settings):
        (place / "mine.yaml").write_text(json.dumps({"tasks": {"one": {"kind": kind, **settings}}}))
        sizes.clear()
        told.clear()
        (test,) = read_suite("mine.yaml", place, Around()).tasks.values()
        if kind == "translation":  # no model here has learned it: what would be asked
            return test.content()
        try:
            found = [item.as_data() for item in test.score(subject, lambda _: None).items]
        except UserError:
            return list(told)
        return [found, list(sizes)]

    return look


def test_every_setting_is_tried():
    known = {f"{kind}.{name}" for kind, config in TASK_KINDS.items() for name in config.model_fields if name != "kind"}
    assert known == set(CHANGES)


@pytest.mark.parametrize("field", CHANGES)
def test_the_setting_changes_something(observe, field):
    kind, _, name = field.partition(".")
    if kind == "lm_eval":
        pytest.importorskip("lm_eval")
    settings, changed = CHANGES[field]
    assert observe(kind, settings) != observe(kind, settings | {name: changed})
