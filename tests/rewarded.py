"""For test_no_idle_option.py: a change of each setting of `synthesize`, and all that its rewards ask."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from embedders import write_embedder
from judges import judging

from polyana.errors import PolyanaError
from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.tracking import Console

sys.path.insert(0, str(Path(__file__).parent / "examples"))
from byte_tokenizer import byte_tokenizer

RECIPE = """\
name: rewarded
seed: 3
stages:
  topics:
    kind: classifier
    sources: [{path: warm.txt, name: warm, document: line}, {path: cold.txt, name: cold, document: line}]
    held_out: 40%
  other_topics:
    kind: classifier
    sources: [{path: cold.txt, name: warm, document: line}, {path: warm.txt, name: cold, document: line}]
    held_out: 40%
  prefer:
    kind: synthesize
    of: ./model
    prompts: [{path: prompts.jsonl}]
    answers: 3
    max_tokens: 8
    batch: 6
    temperature: 1.5
    reward: [{kind: length, unit: characters, per: 10}]
"""
TRY = "stages.prefer."


def _part(kind: str, **settings: Any) -> str:
    return f"{TRY}reward=[{json.dumps({'kind': kind, **settings})}]"


NOW = {"timeout": "0 seconds"}  # nothing is done in no time
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "regex": ({"pattern": "[a-m]"}, {"pattern": "[n-z]", "measure": "count"}),
    "length": ({}, {"unit": "words", "target": 3, "per": 7}),
    "language": ({"language": "en"}, {"language": "ru"}),
    "number": ({"tolerance": 1e9}, {"tolerance": 0.0}),
    "classifier": ({"model": "topics", "label": "warm"}, {"model": "other_topics", "label": "cold"}),
    "similarity": ({"model": "./embedder"}, {"model": "./embedder2", "tokens": 1}),
    "reward_model": ({"model": "./scorer"}, {"model": "./scorer2"}),
    "implicit": (
        {"model": "./model2", "reference": "./model"},
        {"model": "./model3", "reference": "./model3", "beta": 3},
    ),
    "human": ({"path": "judged.jsonl"}, {"path": "judged_again.jsonl"}),
}  # fmt: skip
JUDGE = {"kind": "judge", "url": "JUDGE", "model": "fair", "parallel": 1}
JUDGED: dict[str, Any] = {
    "url": "JUDGE/strict", "model": "strict", "template": "Strictly: {answer}", "score": "sum (\\d+)",
    "scale": {"lowest": 0}, "scale.highest": {"highest": 20}, "max_tokens": 7, "temperature": 1.0, "key": "MY_KEY",
    "parallel": 3, "timeout": "0.01 seconds", "retries": 0, "name": "other", "weight": 2,
}  # fmt: skip


def _judge(**more: Any) -> str:
    return f"{TRY}reward=[{json.dumps(JUDGE | more)}]"


def _named(name: str, value: Any) -> dict[str, Any]:
    group, _, _ = name.partition(".")
    return {group: value}


PROMPTS = (TRY + "prompts=[{{path: prompts.jsonl{}}}]").format
CORRUPT = (TRY + "corrupt={{kinds: [truncate, repeat]{}}}").format
MARGIN = (TRY + "pairs={{rule: margin, min_gap: 0.1{}}}").format
CHANGES: dict[str, tuple[list[str], str]] = {
    "of": ([], TRY + "of=[./model, ./model2]"),
    "prompts.path": ([], TRY + "prompts=[{path: other.jsonl}]"),
    "prompts.hub": ([], TRY + "prompts=[{hub: org/name}]"),
    "prompts.files": ([TRY + "prompts=[{hub: org/name}]"], TRY + "prompts=[{hub: org/name, files: other.jsonl}]"),
    "prompts.name": ([], PROMPTS(", name: other")),
    "prompts.prompt": ([], PROMPTS(", prompt: question")),
    "prompts.reference": ([_part("number")], PROMPTS(", reference: other")),
    "prompts.most": ([], PROMPTS(", most: 2")),
    "system": ([], TRY + "system=Be brief."),
    "answers": ([], TRY + "answers=2"),
    "max_tokens": ([], TRY + "max_tokens=5"),
    "temperature": ([], TRY + "temperature=0.5"),
    "top_k": ([], TRY + "top_k=2"),
    "top_p": ([], TRY + "top_p=0.1"),
    "batch": ([], TRY + "batch=3"),
    "pairs.rule": ([TRY + "pairs={min_gap: 0.1}"], MARGIN("")),
    "pairs.min_gap": ([], TRY + "pairs={min_gap: 0.4}"),
    "pairs.most": ([MARGIN("")], MARGIN(", most: 1")),
    "best.most": ([], TRY + "best={most: 2}"),
    "best.min_reward": ([], TRY + "best={min_reward: 0.85}"),
    "corrupt.kinds": ([CORRUPT("")], TRY + "corrupt={kinds: [language], foreign: cold.txt}"),
    "corrupt.share": ([CORRUPT("")], CORRUPT(", share: 30%")),
    "corrupt.foreign": (
        [TRY + "corrupt={kinds: [language], foreign: cold.txt}"],
        TRY + "corrupt={kinds: [language], foreign: warm.txt}",
    ),
    **{
        f"reward.{{{kind}}}.{name}": (
            [_part(kind, **settings)] if name != "kind" else [],
            _part(kind, **settings | ({name: value} if name != "kind" else {})) if kind != "length" or name != "kind"
            else TRY + "reward=[length]",
        )
        for kind, (settings, tried) in PARTS.items()
        for name, value in {**tried, "kind": ..., "name": "other", "weight": -1, **NOW}.items()
    },
    "reward.{judge}.kind": ([], _judge()),
    **{
        f"reward.{{judge}}.{'scale.lowest' if name == 'scale' else name}": ([_judge()], _judge(**_named(name, value)))
        for name, value in JUDGED.items()
    },
}  # fmt: skip


def fill_in(path: Path) -> int:
    """What people do: a score for each answer that has none, here one that follows from it and the file's name. How
    many."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["score"] is None:
            row["score"] = (len(row["answer"]) + len(path.name)) % 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


class RewardWorkshop:
    """What the stage makes, or says instead, and what its judge was asked."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "recipe.yaml").write_text(RECIPE)
        asked = ["What is 1 and 1?", "Say something.", "Who is there?", "Where is the key?"]
        rows = [{"prompt": text, "question": text.upper(), "reference": f"{number} cats", "other": "7"}
                for number, text in enumerate(asked)]  # fmt: skip
        for name, given in (("prompts", rows), ("other", rows[::-1])):
            (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
        for name, words in (("warm", "sun heat summer beach"), ("cold", "snow ice winter frost")):
            given = words.split()
            lines = [f"{given[n % 4]} and {given[n // 4 % 4]} of day {n} {given[n // 16 % 4]}" for n in range(150)]
            (place / f"{name}.txt").write_text("\n".join(lines))
        for number, name in enumerate(("model", "model2", "model3"), 1):
            self._write_model(place / name, number)
        for number, name in enumerate(("scorer", "scorer2"), 1):
            self._write_model(place / name, number, scoring=True)
        for number, name in enumerate(("embedder", "embedder2"), 1):
            write_embedder(place / name, ["a b c d e f g cats 1 2 3"], seed=number)

    @staticmethod
    def _write_model(directory: Path, seed: int, *, scoring: bool = False) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

        byte_tokenizer(directory)
        settings = LlamaConfig(
            vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=96, bos_token_id=256, eos_token_id=257, pad_token_id=257, num_labels=1,
        )  # fmt: skip
        torch.manual_seed(seed)
        kind = LlamaForSequenceClassification if scoring else LlamaForCausalLM
        kind(settings).save_pretrained(directory)

    def observe(self, *overrides: str) -> dict[str, Any]:
        busy, most, lock = 0, 0, threading.Lock()

        def reply(number: int, asked: str) -> Any:
            nonlocal busy, most
            with lock:
                busy += 1
                most = max(most, busy)
            time.sleep(0.05)
            with lock:
                busy -= 1
            if number == 2:
                return 503, {}, "later"
            return f"sum {1 + len(asked) % 7}. Score: {1 + len(asked) % 9}"

        home = self.place / "home"
        with pytest.MonkeyPatch.context() as patch, judging(reply) as server:
            patch.setenv("POLYANA_HOME", str(home))
            patch.setenv("MY_KEY", "secret")
            patch.setattr("polyana.examples.rows._snapshot", lambda _: self._snapshot())
            patch.setattr("polyana.rewards.judge._FIRST_WAIT", 0.01)
            overrides = tuple(each.replace("JUDGE", server.url) for each in overrides)
            known = set((home / "stages").glob("synthesize-*"))
            run = lambda: run_recipe(  # noqa: E731
                load_recipe(self.place / "recipe.yaml", overrides), stage="prefer", console=Console(io.StringIO())
            )
            try:
                try:
                    run()
                except PolyanaError as error:
                    if "judged by nobody yet" not in str(error):
                        raise
                    fill_in(next(self.place.glob("judged*.open.jsonl")))
                    run()
            except PolyanaError as error:
                return {"letter": str(error).replace(server.url, "JUDGE")}
            finally:
                for ledger in (home / "synthesis").glob("*/judge-*"):  # the next one is asked, too
                    ledger.unlink()
                for judged in self.place.glob("judged*.open.jsonl"):
                    judged.unlink()
        (made,) = set((home / "stages").glob("synthesize-*")) - known
        files = {path.name: path.read_text() for path in made.glob("*.jsonl")}
        for path in made.iterdir():
            path.unlink()
        made.rmdir()
        asked = sorted(json.dumps(each, sort_keys=True) for each in server.asked)
        return {**files, "asked": asked, "at once": most}

    def _snapshot(self) -> Path:
        """A stand-in for the hub."""
        directory = self.place / ("0" * 40)
        directory.mkdir(exist_ok=True)
        for name in ("prompts", "other"):
            (directory / f"{name}.jsonl").write_bytes((self.place / f"{name}.jsonl").read_bytes())
        return directory
