"""What learning the costs of mistakes brings, on real data whose mistakes are not equally dear.

    python benchmarks/align/classify.py [--case income] [--folds 2] [--seeds 1]

Every text is held out once; on the rest the same small model, which had only read stories, learns by `loss: preference`
and by `cross_entropy`. What is saved is loaded and tested by transformers alone, and three ways of deciding are
compared: cross entropy's likeliest class; its least expected cost (Elkan 2001), which has to know the costs when it is
decided; and the highest score of what learned by preferences. The differences are paired, text by text; where there are
several seeds, a text's costs are their means. Scores are kept, so the same command goes on where it was stopped;
`--fresh` begins anew. Minutes on two cores.

income     who earns more than 50,000? Adult (Kohavi 1996; ../shared/data), without sex, race and origin. To overlook
           one costs 5, a needless offer 1
questions  eight of the 77 intents of a bank's clients (Casanueva et al. 2020): four mean that money is gone or a card
           is in other hands, four only sound so. To take the first for the second costs 10
tumours    569 of them, each measure by the tenth it falls in (Street et al. 1993; in scikit-learn). To overlook a
           malignant one costs 10
credit     who will not pay a loan back? German credit (Hofmann 1994), with its own costs, 5 and 1
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
WORK = PROJECT / ".polyana" / "bench-classify"
SHARED = PROJECT.parent / "shared" / "data"

Case = tuple[list[str], list[str], dict[str, dict[str, float]]]
"""Texts, the class of each, and what mistakes cost, as in a recipe."""

DECIDED = "cross_entropy, deciding by expected cost"
URGENT = ("card_payment_not_recognised", "cash_withdrawal_not_recognised", "compromised_card",
          "direct_debit_payment_not_recognised")  # fmt: skip
EVERYDAY = ("card_payment_fee_charged", "extra_charge_on_statement", "reverted_card_payment?",
            "transaction_charged_twice")  # fmt: skip


def main() -> None:
    """Train, test, print a table a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="only this one")
    parser.add_argument("--fresh", action="store_true", help="forget what was trained before")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=WORK, help="where files are kept")
    parser.add_argument("--texts", type=int, help="only so many of each case")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="default: what suits the case")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--base", default=str(SHARED / "stories260k" / "hf"))
    parser.add_argument("--precision", default="fp32", help="`auto` for a large base")
    parser.add_argument("--adapter", default="full", help="`lora` for a large base")
    options = parser.parse_args()
    os.environ.setdefault("POLYANA_HOME", str(options.work))
    sys.path.insert(0, str(PROJECT))
    import torch

    torch.set_num_threads(1)
    if options.fresh:
        shutil.rmtree(options.work, ignore_errors=True)
    for name in options.case or CASES:
        make, epochs = CASES[name]
        compare(name, make(), options.epochs or epochs, options)


def income() -> Case:
    with (SHARED / "tabular_adult_german" / "adult.csv").open(encoding="utf-8") as stream:
        rows = [{name: value.strip() for name, value in row.items()} for row in csv.DictReader(stream)]
    rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))[:4000]]
    told = ("workclass", "education", "marital-status", "occupation", "relationship", "capital-gain")
    texts = [
        f"{row['age']} years, {row['hours-per-week']} hours, " + ", ".join(row[name] for name in told) for row in rows
    ]
    labels = ["more" if row["income-per-year"].startswith(">") else "less" for row in rows]
    return texts, labels, {"more": {"less": 5}}


def questions() -> Case:
    rows = []
    for name in ("train", "test"):
        with (SHARED / "banking77" / f"{name}.csv").open(encoding="utf-8") as stream:
            rows += [row for row in csv.DictReader(stream) if row["category"] in URGENT + EVERYDAY]
    costs = {right: dict.fromkeys(EVERYDAY, 10.0) for right in URGENT}
    return [row["text"].strip() for row in rows], [row["category"] for row in rows], costs


def tumours() -> Case:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    tenths = [np.searchsorted(np.quantile(column, np.arange(0.1, 1, 0.1)), column) for column in data.data.T]
    measures = [str(name).removeprefix("mean ") for name in data.feature_names[:10]]
    texts = [
        ", ".join(
            f"{measure} {row[place]} {row[place + 10]} {row[place + 20]}" for place, measure in enumerate(measures)
        )
        for row in np.stack(tenths, 1)
    ]
    return texts, [str(data.target_names[each]) for each in data.target], {"malignant": {"benign": 10}}


def credit() -> Case:
    with (SHARED / "tabular_adult_german" / "german.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    texts = [" ".join(value for name, value in row.items() if name != "credit") for row in rows]
    return texts, ["good" if row["credit"] == "1" else "bad" for row in rows], {"bad": {"good": 5}}


CASES: dict[str, tuple[Callable[[], Case], int]] = {
    "income": (income, 3), "questions": (questions, 10), "tumours": (tumours, 10), "credit": (credit, 4),
}  # fmt: skip


def compare(name: str, case: Case, epochs: int, options: Any) -> None:
    """Learn by both losses on all but each part, decide about that part, and print what it cost."""
    texts, labels, costs = case[0][: options.texts], case[1][: options.texts], case[2]
    classes = sorted(set(labels))
    right = np.array([classes.index(each) for each in labels])
    matrix_KK = np.array([[0.0 if a == b else costs.get(a, {}).get(b, 1.0) for b in classes] for a in classes])
    part = np.random.default_rng(0).permutation(len(texts)) % options.folds
    paid = {each: np.zeros((options.seeds, len(texts))) for each in ("cross_entropy", DECIDED, "preference")}
    hit = {each: np.zeros((options.seeds, len(texts))) for each in paid}
    for seed in range(options.seeds):
        for fold in range(options.folds):
            held, train = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
            examples = [{"text": texts[row], "label": labels[row]} for row in train]
            for loss in ("cross_entropy", "preference"):
                scores = learn(name, loss, seed, fold, examples, costs, [texts[row] for row in held], epochs, options)
                said = {loss: scores.argmax(1)}
                if loss == "cross_entropy":
                    shares = np.exp(scores - scores.max(1, keepdims=True))
                    said[DECIDED] = ((shares / shares.sum(1, keepdims=True)) @ matrix_KK).argmin(1)
                for way, found in said.items():
                    paid[way][seed, held], hit[way][seed, held] = matrix_KK[right[held], found], found == right[held]
    means = {way: rows.mean(0) for way, rows in paid.items()}
    print(f"\n{name}: {len(texts):,} texts of {len(classes)} classes, {epochs} epochs at {options.lr:g}\n")
    print("| | a text costs | less than cross entropy | less than expected cost | right |\n|---|--:|--:|--:|--:|")
    for way, costs_of in means.items():
        less = [
            "" if way == other else f"{(means[other] - costs_of).mean():.3f} ± {half(means[other] - costs_of):.3f}"
            for other in ("cross_entropy", DECIDED)
        ]
        print(f"| {way} | {costs_of.mean():.3f} ± {half(costs_of):.3f} | {' | '.join(less)} | {hit[way].mean():.1%} |")
    always = [matrix_KK[right, place].mean() for place in range(len(classes))]
    print(f"| always `{classes[int(np.argmin(always))]}` | {min(always):.3f} | | | |", flush=True)


def learn(
    name: str, loss: str, seed: int, fold: int, examples: list[dict[str, str]], costs: dict[str, dict[str, float]],
    texts: list[str], epochs: int, options: Any,
) -> np.ndarray:  # fmt: skip
    """Scores of the texts by transformers' own model, [texts, classes]."""
    how = "-".join(map(str, (epochs, options.lr, options.precision, options.adapter, Path(options.base).name)))
    kept = options.work / "kept" / f"{name}-{len(examples)}-{loss}-{seed}-{fold}-of-{options.folds}-{how}.npy"
    if kept.exists():
        return np.asarray(np.load(kept))
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import polyana
    from polyana.registry import Repository
    from polyana.storage import home_directory

    options.work.mkdir(parents=True, exist_ok=True)
    (options.work / f"{name}-{fold}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    stage = {
        "kind": "classify", "base": options.base, "loss": loss, "costs": costs, "context": 128,
        "data": [{"path": f"{name}-{fold}.jsonl"}], "held_out": 0, "adapter": options.adapter,
        "save": {"every": "1 hour"}, "track": {"histograms": None},
        "train": {"duration": f"{epochs} epochs", "batch": "16 sequences", "lr": options.lr, "warmup": "5%",
                  "precision": options.precision},
    }  # fmt: skip
    recipe = options.work / f"{name}-{loss}-{seed}-{fold}.yaml"
    recipe.write_text(json.dumps({"name": name, "seed": seed * 1000 + fold, "stages": {"classes": stage}}))
    summary = polyana.run_recipe(polyana.load_recipe(recipe))["classes"]
    repository = Repository(home_directory() / "hub", summary["run"])
    place = repository.snapshot(repository.resolve("main"))
    model = AutoModelForSequenceClassification.from_pretrained(place).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    classes = sorted({row["label"] for row in examples})
    assert [model.config.id2label[each] for each in range(len(classes))] == classes
    scores = []
    with torch.no_grad():
        for first in range(0, len(texts), 50):
            asked = tokenizer(texts[first : first + 50], return_tensors="pt", padding=True, truncation=True,
                              max_length=127)  # fmt: skip
            scores.append(model(input_ids=asked["input_ids"], attention_mask=asked["attention_mask"]).logits.float())
    kept.parent.mkdir(exist_ok=True)
    with (whole := kept.with_suffix(".part")).open("wb") as stream:
        np.save(stream, torch.cat(scores).numpy())
    whole.rename(kept)
    return torch.cat(scores).numpy()


def half(values: np.ndarray) -> float:
    """Half of a 95 % interval of the mean over texts."""
    return 1.96 * math.sqrt(float(values.var(ddof=1)) / len(values))


if __name__ == "__main__":
    main()
