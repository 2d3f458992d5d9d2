"""What people say of answers is a part of a reward: asked for once, never guessed."""

import io
import json

import pytest
from rewarded import fill_in

from polyana.errors import PolyanaError, UserError
from polyana.recipe import load_recipe
from polyana.rewards import Answered
from polyana.rewards.human import HumanPartConfig
from polyana.rewards.part import Surroundings
from polyana.run import run_recipe
from polyana.tracking import Console


def part(place, name="judged.jsonl"):
    return HumanPartConfig(kind="human", path=name).open(Surroundings({}, len, place))


def said(answer, prompt="Why?"):
    return Answered([{"role": "user", "content": prompt}], answer)


def write(path, *rows):
    path.write_text(
        "".join(json.dumps(dict(zip(("prompt", "answer", "score"), row, strict=True))) + "\n" for row in rows)
    )


def test_an_answer_is_worth_the_mean_of_what_people_said(tmp_path):
    write(tmp_path / "judged.jsonl", ("Why?", "So.", 1), ("Why?", "So.", 0), ("Who?", "So.", 5), ("Why?", "No.", 2.5))
    assert part(tmp_path).score([said("So."), said("No."), said("So.", "Who?")]) == [0.5, 2.5, 5]


def test_what_nobody_has_judged_is_asked_for_once_and_not_guessed(tmp_path):
    write(tmp_path / "judged.jsonl", ("Why?", "So.", 1))
    answers = [said("So."), said("Ёлка"), said("Ёлка"), said("No.")]
    for _ in range(2):  # asking again adds nothing
        with pytest.raises(PolyanaError, match=r"2 of 4 answers are judged by nobody yet.*judged\.open\.jsonl"):
            part(tmp_path).score(answers)
        rows = [json.loads(line) for line in (tmp_path / "judged.open.jsonl").read_text().splitlines()]
        assert rows == [{"prompt": "Why?", "answer": each, "score": None} for each in ("Ёлка", "No.")]
    write(tmp_path / "judged.open.jsonl", ("Why?", "Ёлка", 3), ("Why?", "No.", None))
    with pytest.raises(PolyanaError, match="1 of 4"):
        part(tmp_path).score(answers)
    assert '"score": 3' in (tmp_path / "judged.open.jsonl").read_text()  # what people wrote stays
    write(tmp_path / "judged.open.jsonl", ("Why?", "Ёлка", 3), ("Why?", "No.", 0))
    assert part(tmp_path).score(answers) == [1, 3, 3, 0]


def test_every_line_that_is_no_judgement_is_named(tmp_path):
    (tmp_path / "judged.jsonl").write_text('{"prompt": "a", "answer": "b", "score": "good"}\n[1]\n\n{"prompt": "a"}\n')
    with pytest.raises(UserError) as caught:
        part(tmp_path).score([said("So.")])
    assert len(caught.value.problems) == 3
    assert [problem.where.rpartition(":")[2] for problem in caught.value.problems] == ["1", "2", "4"]


def test_a_file_in_another_encoding_is_told(tmp_path):
    (tmp_path / "judged.jsonl").write_bytes("Ёлка".encode("cp1251"))
    with pytest.raises(UserError, match="is not in UTF-8"):
        part(tmp_path).score([said("So.")])


RECIPE = """\
name: people
seed: 4
stages:
  align:
    kind: preference
    base: {model}
    data: [{{path: pairs.jsonl}}]
    template: raw
    context: 96
    held_out: 20%
    adapter: full
    train: {{duration: 4 steps, batch: 4 sequences, lr: 2e-3, schedule: constant, warmup: 0%, precision: fp32}}
    eval: {{every: 2 steps}}
    save: {{every: 2 steps, keep: {{best: 1, last: 9}}}}
    gold:
      reward: [{{kind: human, path: judged.jsonl}}]
      proxy: [length]
      prompts: [{{path: held.jsonl}}]
      max_tokens: 6
      batch: 16
"""


def test_people_are_the_gold_of_a_training(tmp_path, shared_data, home):
    """It stops where it needs them, goes on from its last save, and `best` is what they liked best."""
    pairs = [{"prompt": f"Day {n}", "chosen": " was good", "rejected": " was bad and sad"} for n in range(64)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({"prompt": f"Once {n}"}) + "\n" for n in range(16)))
    (tmp_path / "people.yaml").write_text(RECIPE.format(model=shared_data / "stories260k" / "hf"))
    asked = []
    for _ in range(6):  # steps 0, 2 and 4 are looked at
        try:
            summary = run_recipe(load_recipe(tmp_path / "people.yaml"), console=Console(io.StringIO()))["align"]
            break
        except PolyanaError as error:
            if "judged by nobody yet" not in str(error):
                raise
            asked.append(fill_in(tmp_path / "judged.open.jsonl"))
    assert asked == sorted(set(asked))  # each time more, none twice
    assert len(asked) >= 2
    assert len(list((home / "runs").iterdir())) == 1  # the same run all along
    kept = sorted((home / "runs" / summary["run"] / "gold").glob("step-*.jsonl"))
    assert [path.stem for path in kept] == ["step-00000000", "step-00000002", "step-00000004"]
    for path in kept:
        for row in map(json.loads, path.read_text().splitlines()):
            assert row["gold"] == (len(row["answer"]) + len("judged.open.jsonl")) % 7
