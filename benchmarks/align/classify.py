"""What learning the costs of mistakes brings: who will pay a loan back?

    python benchmarks/align/classify.py [--folds 5]

German credit (Hofmann 1994; ../shared/data): 1,000 customers of a bank, 300 of whom did not pay. The data come with
their costs: to take a bad customer for a good one costs 5, a good one for a bad one 1. Each fifth is held out once; on
the rest the same small model, which had only read stories, learns by `loss: preference` and by `cross_entropy`. A
customer is a line of the data's own codes. What is saved is loaded and tested by transformers alone. Minutes on two
cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
WORK = PROJECT / ".polyana" / "bench-classify"
SHARED = PROJECT.parent / "shared" / "data"

NAMES = ["bad", "good"]
COSTS = {"bad": {"good": 5}, "good": {"bad": 1}}
MATRIX = np.array([[0.0, 5.0], [1.0, 0.0]])
DECIDED = "cross_entropy, deciding by expected cost"


def main() -> None:
    """Train, test, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args()
    os.environ.setdefault("POLYANA_HOME", str(WORK))
    sys.path.insert(0, str(PROJECT))
    with (SHARED / "tabular_adult_german" / "german.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    texts = [" ".join(value for name, value in row.items() if name != "credit") for row in rows]
    right = np.array([NAMES.index("good" if row["credit"] == "1" else "bad") for row in rows])
    part = np.random.default_rng(0).permutation(len(rows)) % options.folds
    said = {name: np.zeros(len(rows), int) for name in ("cross_entropy", DECIDED, "preference")}
    for fold in range(options.folds):
        held, train = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
        for loss in ("cross_entropy", "preference"):
            examples = [{"text": texts[row], "label": NAMES[right[row]]} for row in train]
            scores = learn(loss, fold, examples, [texts[row] for row in held], options)
            said[loss][held] = scores.argmax(1)
            if loss == "cross_entropy":
                shares = np.exp(scores - scores.max(1, keepdims=True))
                said[DECIDED][held] = ((shares / shares.sum(1, keepdims=True)) @ MATRIX).argmin(1)
    print("| | a customer costs | less than cross entropy | right | bad ones taken |\n|---|--:|--:|--:|--:|")
    plain = MATRIX[right, said["cross_entropy"]]
    for name, found in said.items():
        costs = MATRIX[right, found]
        less = "" if name == "cross_entropy" else f"{(plain - costs).mean():.3f} ± {half(plain - costs):.3f}"
        shares = f"{(found == right).mean():.1%} | {float((found[right == 0] == 1).mean()):.1%}"
        print(f"| {name} | {costs.mean():.3f} ± {half(costs):.3f} | {less} | {shares} |")
    for name, place in (("all are taken", 1), ("none is taken", 0)):
        costs = MATRIX[right, place]
        print(f"| {name} | {costs.mean():.3f} | | {(right == place).mean():.1%} | {float(place):.0%} |")


def learn(
    loss: str, fold: int, examples: list[dict[str, str]], texts: list[str], options: Any
) -> np.ndarray:  # fmt: skip
    """Scores of the texts by transformers' own model, [texts, classes]."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import polyana
    from polyana.registry import Repository
    from polyana.storage import home_directory

    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / f"{fold}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    stage = {
        "kind": "classify", "base": str(SHARED / "stories260k" / "hf"), "loss": loss, "costs": COSTS, "context": 128,
        "data": [{"path": f"{fold}.jsonl"}], "held_out": 0, "adapter": "full", "save": {"every": "1 hour"},
        "track": {"histograms": None},
        "train": {"duration": f"{options.epochs} epochs", "batch": "16 sequences", "lr": options.lr, "warmup": "5%",
                  "precision": "fp32"},
    }  # fmt: skip
    recipe = WORK / f"{loss}-{fold}.yaml"
    recipe.write_text(json.dumps({"name": "credit", "seed": fold, "stages": {"customers": stage}}))
    summary = polyana.run_recipe(polyana.load_recipe(recipe))["customers"]
    repository = Repository(home_directory() / "hub", summary["run"])
    place = repository.snapshot(repository.resolve("main"))
    model = AutoModelForSequenceClassification.from_pretrained(place).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    assert [model.config.id2label[each] for each in range(len(NAMES))] == NAMES
    scores = []
    with torch.no_grad():
        for first in range(0, len(texts), 50):
            asked = tokenizer(texts[first : first + 50], return_tensors="pt", padding=True, truncation=True,
                              max_length=127)  # fmt: skip
            scores.append(model(input_ids=asked["input_ids"], attention_mask=asked["attention_mask"]).logits)
    return torch.cat(scores).numpy()


def half(values: np.ndarray) -> float:
    """Half of a 95 % interval of the mean over customers."""
    return 1.96 * math.sqrt(float(values.var(ddof=1)) / len(values))


if __name__ == "__main__":
    main()
