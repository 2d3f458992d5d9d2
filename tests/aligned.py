"""A stage that learns from preferences, small enough for tests: a base of its own, some pairs, a recipe."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent / "examples"))
from byte_tokenizer import byte_tokenizer

MARKS = ("<|im_start|>", "<|im_end|>")

RECIPE = """\
name: aligned
seed: 3
stages:
  align:
    kind: {kind}
    base: ./base
    data: [{{path: pairs.jsonl}}]
    template: chatml
    context: 160
    held_out: 25%
    adapter: {{rank: 4}}
    train: {{duration: 4 steps, batch: 4 sequences, lr: 1e-2, precision: fp32}}
"""


def pairs() -> list[dict]:
    """Short and long prompts; the better answer is polite."""
    asked = [
        "Where is the key?",
        "Tell me, in a few words and without any hurry, where I may find the small black cat.",
    ]
    return [
        {"prompt": f"{name}: {question}", "chosen": f"Please look {place}, {name}.",
         "rejected": f"{place}, {name}! Are you blind?"}
        for name in ("Tom", "Lily", "Ben", "Mia", "Sam", "Anna")
        for question in asked
        for place in ("here", "in the garden")
    ]  # fmt: skip


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_base(place: Path, marks: tuple[str, ...] = MARKS) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = byte_tokenizer(place / "base", marks)
    torch.manual_seed(5)
    settings = LlamaConfig(
        vocab_size=256 + 2 + len(marks), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    LlamaForCausalLM(settings).save_pretrained(directory)
    return directory


def write_recipe(place: Path, kind: str = "preference") -> Path:
    write_base(place)
    write_rows(place / "pairs.jsonl", pairs())
    recipe = place / "aligned.yaml"
    recipe.write_text(RECIPE.format(kind=kind))
    return recipe


# What each setting changes (tests/test_no_idle_option.py)

KINDS = ("preference", "reward")
TRY = "stages.align."
SCORES = TRY + "data=[{path: scores.jsonl}]"
SINGLE = TRY + "loss=kto"


def loss(kind: str, **more) -> str:
    return f"{TRY}loss={json.dumps({'kind': kind, **more})}"


LOSSES = {
    "dpo": {"beta": 0.5, "label_smoothing": 0.2},
    "robust": {"beta": 0.5, "epsilon": 0.3},
    "ipo": {"tau": 0.5, "average": "sum"},
    "kto": {"beta": 0.5, "lambda_D": 3, "lambda_U": 3, "balance": "none"},
    "orpo": {"lambda_OR": 0.5},
    "simpo": {"beta": 5, "gamma": 0.1},
    "cpo": {"beta": 0.5, "alpha": 0.1},
}
ROWS = {
    "data.path": ([], TRY + "data=[{path: other.jsonl}]"),
    "data.hub": ([], TRY + "data=[{hub: org/name}]"),
    "data.stage": ([], TRY + "data=[{stage: nobody}]"),
    "data.package": ([], TRY + "data=[{package: nowhere}]"),
    "data.files": ([TRY + "data=[{hub: org/name}]"], TRY + "data=[{hub: org/name, files: pairs.jsonl}]"),
    "data.name": ([], TRY + "data=[{path: pairs.jsonl, name: other}]"),
    "data.form": ([], TRY + "data=[{path: pairs.jsonl, form: labels}]"),
    "data.columns": ([], TRY + "data=[{path: pairs.jsonl, columns: {chosen: rejected, rejected: chosen}}]"),
    "data.weight": (
        [TRY + "data=[{path: pairs.jsonl}, {path: other.jsonl}]"],
        TRY + "data=[{path: pairs.jsonl}, {path: other.jsonl, weight: 3}]",
    ),
    "template": ([], TRY + "template=raw"),
    "pairs": ([SCORES], TRY + "pairs=all"),
    "min_gap": ([SCORES, TRY + "pairs=all"], TRY + "min_gap=1.5"),
    "truncate": ([TRY + "context=110"], TRY + "truncate=drop"),
    "max_bad": ([TRY + "data=[{path: broken.jsonl}]"], TRY + "max_bad=90%"),
    "base": ([], TRY + "base=./base2"),
    "context": ([], TRY + "context=110"),
    "held_out": ([], TRY + "held_out=50%"),
}
CHANGES = {f"preference.{name}": change for name, change in ROWS.items()} | {
    "preference.good_from": ([SINGLE, SCORES], TRY + "good_from=4"),
    "preference.reference": ([], TRY + "reference=stored"),
    **{f"preference.loss.{{{kind}}}.kind": ([], loss(kind)) for kind in LOSSES if kind != "dpo"},
    **{
        f"preference.loss.{{{kind}}}.{name}": (
            [TRY + "data=[{path: skewed.jsonl}]", loss(kind)] if kind == "kto" else [loss(kind)],
            loss(kind, **{name: value}),
        )
        for kind, tried in LOSSES.items()
        for name, value in tried.items()
    },
}
CHANGES |= {
    "reward.good_from": ([], TRY + "good_from=4"),
    "reward.loss.margin": ([SCORES], TRY + "loss.margin=1"),
    "reward.loss.centering": ([], TRY + "loss.centering=1"),
}
ELSEWHERE = {f"reward.{name}": f"preference.{name}" for name in ROWS}


LETTERS = {"kind": "regex", "pattern": "[a-z ]", "measure": "count"}
WATCHED = {
    "reward": [LETTERS | {"weight": -1}], "proxy": [LETTERS], "prompts": [{"path": "gold.jsonl"}], "max_tokens": 12,
}  # fmt: skip


def watched(**more) -> str:
    return f"{TRY}gold={json.dumps(WATCHED | more)}"


# from random bytes to letters in a few steps: the proxy likes them, gold does not
HACKED = [TRY + "loss=orpo", TRY + "adapter=full", TRY + "eval={every: 1 step}", TRY + "train.duration=6 steps"]
CHANGES |= {
    "preference.gold.system": ([watched()], watched(system="Be brief.")),
    "preference.gold.max_tokens": ([watched()], watched(max_tokens=5)),
    "preference.gold.batch": ([watched()], watched(batch=3)),
    "preference.gold.evaluations": ([*HACKED, watched()], watched(evaluations=1)),
    "preference.gold.stop_on_hacking": ([*HACKED, watched()], watched(stop_on_hacking=True)),
}


def watch_references(patch: Any) -> set[str]:
    """What is asked for the reference's log-probabilities: the model that learns, another, or none. What is said of it
    would be said of a setting that nobody heeds, too."""
    from polyana.tasks import preference

    found = set[str]()
    log_probs, reference = preference._log_probs, preference.PreferenceTask._reference

    def watched(task: Any, *given: Any) -> Any:
        asked = list[str]()

        def ask(model: Any, *more: Any) -> Any:
            asked.append("its own" if model is task.model else "another")
            return log_probs(model, *more)

        patch.setattr(preference, "_log_probs", ask)
        answer = reference(task, *given)
        patch.setattr(preference, "_log_probs", log_probs)
        found.add(" and ".join(asked) or "none")
        return answer

    patch.setattr(preference.PreferenceTask, "_reference", watched)
    return found


class AlignWorkshop:
    """What comes out of an aligned stage."""

    made = "answers"

    def __init__(self, place: Path, kind: str = "preference") -> None:
        self.place, self.recipe = place, write_recipe(place, kind)
        whole = pairs()
        write_rows(place / "other.jsonl", [{**row, "chosen": row["chosen"] + " Thank you."} for row in whole])
        write_rows(place / "broken.jsonl", [*whole, *[{"prompt": "Who?"}] * 10])
        answers = ["yes", "yes, of course", "no", "never"]
        write_rows(
            place / "scores.jsonl",
            [{"prompt": row["prompt"], "answers": answers, "scores": [3, 5, 2, 1]} for row in whole],
        )
        write_rows(place / "gold.jsonl", [{"prompt": f"{row['prompt']} Quick!"} for row in whole])
        skewed = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in whole]
        skewed += [{"prompt": row["prompt"], "completion": row["rejected"], "label": False} for row in whole[::5]]
        write_rows(place / "skewed.jsonl", skewed)
        self.write_second_base()

    def write_second_base(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        place = self.place
        model = AutoModelForCausalLM.from_pretrained(place / "base")
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.5)
        model.save_pretrained(place / "base2")
        AutoTokenizer.from_pretrained(place / "base").save_pretrained(place / "base2")

    def observe(self, *overrides: str) -> dict:
        import io

        import pytest
        from conftest import CLOCKED, metrics_of

        from polyana.errors import UserError
        from polyana.recipe import load_recipe
        from polyana.run import run_recipe
        from polyana.tracking import Console

        home, said = self.place / "home", io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POLYANA_HOME", str(home))
            patch.setattr("polyana.examples.rows._snapshot", lambda _: self.snapshot())
            references = watch_references(patch)
            try:
                (made,) = run_recipe(load_recipe(self.recipe, overrides), fresh=True, console=Console(said)).values()
            except UserError as error:
                return {"letter": str(error)}
        metrics = {
            name: points for name, points in metrics_of(home / "runs" / made["run"]).items() if name not in CLOCKED
        }
        newest = max((home / "stages").glob(f"{self.made}-*"), key=lambda path: path.stat().st_mtime)
        return {
            "metrics": json.dumps(metrics), "ids": (newest / "train.ids").read_text(), "references": references,
        }  # fmt: skip

    def snapshot(self) -> Path:
        """A stand-in for the hub."""
        directory = self.place / ("0" * 40)
        directory.mkdir(exist_ok=True)
        for name in ("pairs", "other"):
            (directory / f"{name}.jsonl").write_bytes((self.place / f"{name}.jsonl").read_bytes())
        return directory
