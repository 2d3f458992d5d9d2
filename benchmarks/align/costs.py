"""What each way of aligning costs, and what it brings, on one small task: the table in docs/alignment.md.

    python benchmarks/align/costs.py [--seeds 3] [--base DIRECTORY] [--fresh]

Real stories by a model of 260,000 parameters; wanted are those that have a mother or a father in them, which a regular
expression finds. Every method starts from the same model and learns from the same prompts; of each learning rate in
RATES the one is taken that does best on prompts of their own, by the first seed. A seed is all that is drawn: the
answers that are judged or written, the order of learning, the stories held out. What was trained and measured is kept,
so the same command goes on where it was stopped, and with more seeds it adds them; `--fresh` begins anew.

Time is processor time of one thread, so that others on the machine do not count. The interval is one over seeds and
prompts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
WORK = PROJECT / ".polyana" / "bench-costs"
STORIES = PROJECT.parent / "shared" / "data" / "stories260k" / "hf"

NAMES = (
    "Lily", "Tom", "Ben", "Mia", "Sam", "Anna", "Max", "Sue", "Tim", "Lucy", "Jack", "Emma", "Leo", "Sara", "Bob",
    "Amy", "Joe", "Kate", "Billy", "Nina", "Dan", "Ella", "Fred", "Molly", "Jim", "Rose", "Peter", "Jane", "Luke",
    "Zoe", "Mark", "Ruby",
)  # fmt: skip
BEGINNINGS = (
    "had a big", "went to", "saw a red", "and the dog", "said to", "did not", "liked to", "was very", "found a little",
    "wanted to play with", "was in the", "had a new", "and a friend", "ran to the", "was sad because", "looked at",
)  # fmt: skip
WANTED = r"(?i)\b(mom|mommy|mum|mother|dad|daddy|father|papa)\b"
TOKENS = 60
ANSWERS = 4  # to a prompt, of which pairs and the best are made
TRAINED, TRIED = 256, 64  # of the 512 prompts; on the next the learning rate is chosen, and the rest is held out
DRAWS = 2  # stories of each held-out prompt
EPOCHS, BATCH = 4, 16
RATES = (3e-4, 1e-3, 3e-3)

LOSSES = {
    "DPO": {"kind": "dpo"}, "IPO": {"kind": "ipo"}, "KTO": {"kind": "kto"}, "ORPO": {"kind": "orpo"},
    "SimPO": {"kind": "simpo"},
}  # fmt: skip
METHODS = ("SFT", "rejection sampling", *LOSSES)


def main() -> None:
    """Train all, measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base", type=Path, default=STORIES, help="a small language model's directory")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--method", action="append", choices=METHODS, help="only this one")
    parser.add_argument("--fresh", action="store_true", help="forget what was trained before")
    options = parser.parse_args()
    os.environ["POLYANA_HOME"] = str(WORK / "home")
    sys.path.insert(0, str(PROJECT))
    import torch

    torch.set_num_threads(1)
    if options.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    prompts = [f"{name} {beginning}" for beginning, name in product(BEGINNINGS, NAMES)]
    order = np.random.default_rng(0).permutation(len(prompts))
    trained, tried, held = (
        [prompts[place] for place in order[part]]
        for part in (slice(TRAINED), slice(TRAINED, TRAINED + TRIED), slice(TRAINED + TRIED, None))
    )
    found: dict[str, list[dict[str, Any]]] = {}
    methods = options.method or METHODS
    rates = dict[str, float]()
    for seed in range(options.seeds):
        made = kept(f"data-{seed}", lambda seed=seed: write_data(options.base, trained, seed))
        before = kept(f"base-{seed}", lambda seed=seed: measure(options.base, options.base, held, seed))
        found.setdefault("the base", []).append(before | {"labels": []})
        best = kept(f"best-{seed}", lambda seed=seed: best_of(options.base, held, ANSWERS, seed))
        found.setdefault(f"the best of {ANSWERS}, when asked", []).append(best | {"labels": [ANSWERS]})
        for method in methods:
            print(f"seed {seed}: {method} ...", file=sys.stderr, flush=True)
            if method not in rates:
                rates[method] = best_rate(method, options, made, tried)
            row = tried_out(method, rates[method], seed, made, options.base, held, "held")
            found.setdefault(method, []).append(row | {"labels": made["labels"][method], "rate": rates[method]})
        print("\n".join(table(found)), flush=True)
    (WORK / "results.json").write_text(json.dumps(found, indent=1, default=str))


def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was found before under this name, or is made now."""
    path = WORK / "kept" / f"{name}.json"
    if not path.exists():
        made = make()
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".part").write_text(json.dumps(made))
        path.with_suffix(".part").rename(path)
    return dict(json.loads(path.read_text()))


def tried_out(
    method: str, rate: float, seed: int, made: dict[str, Any], base: Path, prompts: list[str], which: str
) -> dict[str, Any]:
    """Train, unless that was done; what it cost and what is found on these prompts."""
    name = f"{method.replace(' ', '_').lower()}-{rate:g}-{seed}"
    model = WORK / "models" / name
    cost = kept(f"{name}.cost", lambda: run(name, method, rate, seed, made, base, model))
    return cost | kept(f"{name}.{which}", lambda: measure(model, base, prompts, seed))


def best_rate(method: str, options: argparse.Namespace, made: dict[str, Any], tried: list[str]) -> float:
    """The learning rate of those that does best on prompts of their own, by the first seed."""
    if len(options.rates) == 1:
        return float(options.rates[0])
    found = {
        rate: float(tried_out(method, rate, 0, made, options.base, tried, "tried")["found"]) for rate in options.rates
    }
    print("  " + ", ".join(f"{rate:g}: {share:.1%}" for rate, share in found.items()), file=sys.stderr, flush=True)
    return max(found, key=lambda rate: found[rate])


def write_data(base: Path, prompts: list[str], seed: int) -> dict[str, Any]:
    """The stage `synthesize`, whose pairs and best answers the others learn from, and demonstrations for SFT."""
    import polyana

    place = WORK / f"data-{seed}"
    place.mkdir(exist_ok=True)
    (place / "prompts.jsonl").write_text("".join(json.dumps({"prompt": each}) + "\n" for each in prompts))
    stages = {"prefer": {
        "kind": "synthesize", "of": str(base), "prompts": [{"path": "prompts.jsonl"}], "answers": ANSWERS,
        "max_tokens": TOKENS, "batch": 64, "reward": [{"kind": "regex", "pattern": WANTED}],
        "pairs": {"rule": "best_worst"}, "best": {"most": 1, "min_reward": 1},
    }}  # fmt: skip
    (place / "data.yaml").write_text(json.dumps({"name": "costs", "seed": seed, "stages": stages}))
    recipe = polyana.load_recipe(place / "data.yaml")
    polyana.run_recipe(recipe)
    from polyana.pipeline import Pipeline
    from polyana.storage import home_directory
    from polyana.tracking import Console

    pipeline = Pipeline(recipe, home_directory(), Console())
    directory = pipeline.store.get(pipeline.step("prefer")).directory
    for name in ("pairs", "best"):
        shutil.copy(directory / f"{name}.jsonl", place / f"{name}.jsonl")
    report = json.loads((directory / "report.json").read_text())
    shown = demonstrations(base, prompts, seed)
    (place / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shown))
    pairs, judged, best = sum(report["pairs"].values()), report["answers"], report["best"]
    return {
        "labels": {"SFT": [len(shown)], "rejection sampling": [judged, best],
                   **{loss: [judged, pairs] for loss in LOSSES}, "KTO": [2 * pairs]},
        "items": {"SFT": len(shown), "rejection sampling": best, **dict.fromkeys(LOSSES, pairs), "KTO": 2 * pairs},
    }  # fmt: skip


def demonstrations(base: Path, prompts: list[str], seed: int) -> list[dict[str, str]]:
    """What somebody would write: to each prompt the first of 16 stories that is as wanted, if there is one. The model
    plays the writer, so that nothing but the wish is learned."""
    from polyana.generation import draw_answers, load_for_generation

    model, tokenizer = load_for_generation(base)
    asked = [tokenizer(each)["input_ids"] for each in prompts]
    rows = []
    for first in range(0, len(asked), 8):
        draws = draw_answers(model, tokenizer, asked[first : first + 8], 16, (seed + 1) * 10**6 + first, TOKENS)
        for prompt, drawn in zip(prompts[first:], draws, strict=False):
            good = next((each.text for each in drawn if re.search(WANTED, each.text)), None)
            if good is not None:
                rows.append({"prompt": prompt, "completion": good})
    return rows


def run(
    name: str, method: str, rate: float, seed: int, made: dict[str, Any], base: Path, model: Path
) -> dict[str, Any]:
    """Train in a process of its own, and lay the model there; seconds, with those of the reference, and what memory
    training adds, MB."""
    from polyana.registry import Repository
    from polyana.tracking import find_runs

    steps = math.ceil(EPOCHS * made["items"][method] / BATCH)
    train = {"batch": f"{BATCH} sequences", "lr": rate, "warmup": "10%", "precision": "fp32"}
    stage: dict[str, Any] = {
        "base": str(base), "template": "raw", "context": 128, "held_out": 0, "adapter": "full", "train": train,
        "save": {"every": "1 hour"}, "track": {"histograms": None},
    }  # fmt: skip
    if method in LOSSES:
        stage |= {"kind": "preference", "loss": LOSSES[method], "data": [{"path": "pairs.jsonl"}]}
    else:
        data = "shown.jsonl" if method == "SFT" else "best.jsonl"
        stage |= {"kind": "sft", "data": [{"path": data}], "train": train | {"packing": "none"}}
    recipe, home = WORK / f"data-{seed}" / f"{name}.yaml", WORK / "homes" / name
    for left in (model, home):  # of a run that was stopped
        shutil.rmtree(left, ignore_errors=True)
    recipe.write_text(json.dumps({"name": "costs", "seed": seed, "stages": {"align": stage}}))
    path, result = WORK / f"{name}.job.json", WORK / f"{name}.result.json"
    path.write_text(json.dumps({
        "recipe": str(recipe), "stage": "align", "steps": steps, "set": [], "threads": 1, "held_out": None,
        "result": str(result), "real_tokens": [0] * steps,
    }))  # fmt: skip
    environment = os.environ | {
        "POLYANA_HOME": str(home), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    log = WORK / f"{name}.log"
    with log.open("w") as stream:
        script = HERE.parent / "train" / "ours.py"
        code = subprocess.run(
            [sys.executable, script, path], env=environment, stdout=stream, stderr=stream, check=False
        )
    if code.returncode:
        raise SystemExit(f"{name} failed; the end of {log}:\n{log.read_text()[-3000:]}")
    trained = find_runs(home / "runs")[-1]
    repository = Repository(home / "hub", trained.name)
    commit = repository.resolve("main")
    model.mkdir(parents=True)
    for file in commit.files:
        repository.link(commit, file, model / file)
    shutil.rmtree(home)
    told = json.loads(result.read_text())
    seconds = sum(told["cpu_seconds"]) + told.get("all_reference_cpu_seconds", 0.0)
    return {"seconds": seconds, "memory": told["more_mb"]}


def measure(model: Path, base: Path, prompts: list[str], seed: int) -> dict[str, Any]:
    """Whether stories are as wanted, by prompt; how far the model has moved, and how it repeats itself."""
    from polyana.evaluate import distinct_n, divergence, repetition
    from polyana.generation import draw_answers, load_for_generation

    now, tokenizer = load_for_generation(model)
    first, _ = load_for_generation(base)
    asked = [tokenizer(each)["input_ids"] for each in prompts]
    drawn = draw_answers(now, tokenizer, asked, DRAWS, 7 + seed, TOKENS)

    class Reference:
        def __enter__(self) -> Any:
            return first

        def __exit__(self, *_: Any) -> None:
            return None

    moved = divergence(now, Reference, [(ids, each.ids) for ids, draws in zip(asked, drawn, strict=True)
                                        for each in draws])  # fmt: skip
    texts = [each.text for draws in drawn for each in draws]
    hits = np.array([[re.search(WANTED, each.text) is not None for each in draws] for draws in drawn], float)
    return {
        "found": float(hits.mean()), "by_prompt": hits.mean(1).tolist(),
        "kl": float(np.mean([each.kl for each in moved])), "repetition": repetition(texts),
        "distinct_2": distinct_n(texts, 2),
    }  # fmt: skip


def best_of(base: Path, prompts: list[str], n: int, seed: int) -> dict[str, Any]:
    """No training: of n stories the best is given."""
    from polyana.evaluate import kl_of_best_of
    from polyana.generation import draw_answers, load_for_generation

    model, tokenizer = load_for_generation(base)
    asked = [tokenizer(each)["input_ids"] for each in prompts]
    drawn = draw_answers(model, tokenizer, asked, n, 7 + seed, TOKENS)
    hits = [float(any(re.search(WANTED, each.text) for each in draws)) for draws in drawn]
    return {"found": float(np.mean(hits)), "by_prompt": hits, "kl": kl_of_best_of(n)}


def interval(by_prompt_SP: list[list[float]]) -> float:
    """Half of a 95 % interval of the mean over S seeds and P prompts: both are samples, and their variances are added
    (Owen 2007), with Satterthwaite's (1946) degrees of freedom, for three seeds know little of how seeds differ."""
    from scipy.stats import t

    table_SP = np.array(by_prompt_SP)
    parts = [
        (float(np.var(means, ddof=1)) / len(means), len(means) - 1)
        for means in (table_SP.mean(0), table_SP.mean(1))
        if len(means) > 1
    ]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / less for part, less in parts) if variance else 1
    return float(t.ppf(0.975, freedom)) * math.sqrt(variance)


LABELS = {
    "the base": "none", "SFT": "{} written answers", "rejection sampling": "{} answers judged, {} used",
    **dict.fromkeys(LOSSES, "{} answers judged, {} pairs used"), "KTO": "{} thumbs",
}  # fmt: skip


def table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """As Markdown; of labels, seconds and memory the medians over the seeds."""
    lines = [
        "| | as wanted | each seed | KL, nats | repetition | CPU seconds | memory | labels | lr |",
        "|---|--:|---|--:|--:|--:|--:|---|--:|",
    ]
    for name, rows in found.items():

        def middle(key: str, form: str, rows: list[dict[str, Any]] = rows) -> str:
            return form.format(statistics.median(row[key] for row in rows)) if key in rows[0] else ""

        labels = [f"{round(statistics.median(each)):,}" for each in zip(*(row["labels"] for row in rows), strict=True)]
        cells = [
            f"{np.mean([row['found'] for row in rows]):.1%} ± {interval([row['by_prompt'] for row in rows]):.1%}",
            ", ".join(f"{row['found']:.0%}" for row in rows), middle("kl", "{:.1f}"), middle("repetition", "{:.3f}"),
            middle("seconds", "{:.1f}"), middle("memory", "{:.0f} MB"),
            LABELS.get(name, "{} judged an answer").format(*labels), middle("rate", "{:g}"),
        ]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
