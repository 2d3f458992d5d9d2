"""What each way of aligning costs, and what it brings, on one small task: the table in docs/alignment.md.

    python benchmarks/align/costs.py [--seeds 3] [--base DIRECTORY]

Real stories by a model of 260,000 parameters; wanted are those that have a mother or a father in them, which a regular
expression finds. Every method starts from the same model and learns from the same prompts; of each learning rate in
RATES the one is taken that does best on prompts of their own. Minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
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
    options = parser.parse_args()
    os.environ["POLYANA_HOME"] = str(WORK / "home")
    sys.path.insert(0, str(PROJECT))
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    prompts = [f"{name} {beginning}" for beginning, name in product(BEGINNINGS, NAMES)]
    order = np.random.default_rng(0).permutation(len(prompts))
    trained, tried, held = (
        [prompts[place] for place in order[part]]
        for part in (slice(TRAINED), slice(TRAINED, TRAINED + TRIED), slice(TRAINED + TRIED, None))
    )
    made = write_data(options.base, trained)
    before = measure(options.base, options.base, held, None)
    rows = [("the base", before | made["base"])]
    rows.append((f"the best of {made['answers']}, when asked", best_of(options.base, held, made["answers"])))
    for method in options.method or METHODS:
        print(f"{method} ...", file=sys.stderr, flush=True)
        rate = options.rates[0] if len(options.rates) == 1 else best_rate(method, options, made, tried)
        runs = [run(method, rate, seed, made, options.base) for seed in range(options.seeds)]
        found = [measure(each["model"], options.base, held, seed) for seed, each in enumerate(runs)]
        rows.append((method, together(found) | cost(runs) | {"labels": made["labels"][method], "rate": rate}))
        print("\n".join(table(rows)), flush=True)
    (WORK / "results.json").write_text(json.dumps(rows, indent=1, default=str))


def best_rate(method: str, options: argparse.Namespace, made: dict[str, Any], tried: list[str]) -> float:
    """The learning rate of those that does best on prompts of their own, by the first seed."""

    def found(rate: float) -> float:
        model = run(method, rate, 0, made, options.base)["model"]
        return float(measure(model, options.base, tried, None)["found"])

    return max(options.rates, key=found)


def write_data(base: Path, prompts: list[str]) -> dict[str, Any]:
    """The stage `synthesize`, whose pairs and best answers the others learn from, and demonstrations for SFT."""
    import polyana

    (WORK / "prompts.jsonl").write_text("".join(json.dumps({"prompt": each}) + "\n" for each in prompts))
    stages = {"prefer": {
        "kind": "synthesize", "of": str(base), "prompts": [{"path": "prompts.jsonl"}], "answers": 4,
        "max_tokens": TOKENS, "batch": 64, "reward": [{"kind": "regex", "pattern": WANTED}],
        "pairs": {"rule": "best_worst"}, "best": {"most": 1, "min_reward": 1},
    }}  # fmt: skip
    (WORK / "data.yaml").write_text(json.dumps({"name": "costs", "stages": stages}))
    recipe = polyana.load_recipe(WORK / "data.yaml")
    polyana.run_recipe(recipe)
    from polyana.pipeline import Pipeline
    from polyana.storage import home_directory
    from polyana.tracking import Console

    place = Pipeline(recipe, home_directory(), Console()).step("prefer")
    directory = Pipeline(recipe, home_directory(), Console()).store.get(place).directory
    for name in ("pairs", "best"):
        shutil.copy(directory / f"{name}.jsonl", WORK / f"{name}.jsonl")
    report = json.loads((directory / "report.json").read_text())
    shown = demonstrations(base, prompts)
    (WORK / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shown))
    pairs, judged = sum(report["pairs"].values()), report["answers"]
    labels = {
        "SFT": f"{len(shown)} written answers",
        "rejection sampling": f"{judged:,} answers judged, {report['best']} used",
        **dict.fromkeys(LOSSES, f"{judged:,} answers judged, {pairs} pairs used"),
        "KTO": f"{2 * pairs} thumbs",
    }  # fmt: skip
    return {
        "labels": labels, "answers": 4, "base": {"labels": "none"},
        "items": {"SFT": len(shown), "rejection sampling": report["best"], **dict.fromkeys(LOSSES, pairs),
                  "KTO": 2 * pairs},
    }  # fmt: skip


def demonstrations(base: Path, prompts: list[str]) -> list[dict[str, str]]:
    """What somebody would write: to each prompt the first of 16 stories that is as wanted, if there is one. The model
    plays the writer, so that nothing but the wish is learned."""
    from polyana.generation import draw_answers, load_for_generation

    model, tokenizer = load_for_generation(base)
    asked = [tokenizer(each)["input_ids"] for each in prompts]
    rows = []
    for first in range(0, len(asked), 8):
        for prompt, drawn in zip(
            prompts[first:], draw_answers(model, tokenizer, asked[first : first + 8], 16, 10**6 + first, TOKENS),
            strict=False,
        ):  # fmt: skip
            good = next((each.text for each in drawn if re.search(WANTED, each.text)), None)
            if good is not None:
                rows.append({"prompt": prompt, "completion": good})
    return rows


def run(method: str, rate: float, seed: int, made: dict[str, Any], base: Path) -> dict[str, Any]:
    """Train in a process of its own; what it measured, and where the model lies."""
    from polyana.registry import Repository
    from polyana.tracking import find_runs

    name = f"{method.replace(' ', '_').lower()}-{rate:g}-{seed}"
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
    recipe, model = WORK / f"{name}.yaml", WORK / "models" / name
    if model.exists():  # when the rate was chosen
        return dict(json.loads((WORK / f"{name}.result.json").read_text())) | {"model": model}
    recipe.write_text(json.dumps({"name": "costs", "seed": seed, "stages": {"align": stage}}))
    path, result = WORK / f"{name}.job.json", WORK / f"{name}.result.json"
    home = WORK / "homes" / name
    threads = min(os.cpu_count() or 1, 2)
    path.write_text(json.dumps({
        "recipe": str(recipe), "stage": "align", "steps": steps, "set": [], "threads": threads, "held_out": None,
        "result": str(result), "real_tokens": [0] * steps,
    }))  # fmt: skip
    environment = os.environ | {
        "POLYANA_HOME": str(home), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": str(threads),
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
    return dict(json.loads(result.read_text())) | {"model": model}


def measure(model: Path, base: Path, prompts: list[str], seed: int | None) -> dict[str, Any]:
    """Whether stories are as wanted, by prompt; how far the model has moved, and how it repeats itself."""
    from polyana.evaluate import distinct_n, divergence, repetition
    from polyana.generation import draw_answers, load_for_generation

    now, tokenizer = load_for_generation(model)
    first, _ = load_for_generation(base)
    asked = [tokenizer(each)["input_ids"] for each in prompts]
    drawn = draw_answers(now, tokenizer, asked, DRAWS, 7 + (seed or 0), TOKENS)

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


def best_of(base: Path, prompts: list[str], n: int) -> dict[str, Any]:
    """No training: of n stories the best is given."""
    from polyana.evaluate import kl_of_best_of
    from polyana.generation import draw_answers, load_for_generation

    model, tokenizer = load_for_generation(base)
    asked = [tokenizer(each)["input_ids"] for each in prompts]
    drawn = draw_answers(model, tokenizer, asked, n, 7, TOKENS)
    hits = [float(any(re.search(WANTED, each.text) for each in draws)) for draws in drawn]
    return {"found": float(np.mean(hits)), "by_prompt": hits, "kl": kl_of_best_of(n), "labels": f"{n} judged an answer"}


def together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the seeds."""
    names = ("found", "kl", "repetition", "distinct_2")
    means: dict[str, Any] = {name: float(np.mean([each[name] for each in found])) for name in names}
    by_prompt = np.mean([each["by_prompt"] for each in found], axis=0).tolist()
    return means | {"by_prompt": by_prompt, "of_seeds": [each["found"] for each in found]}


def cost(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the seeds: seconds of training, with those of the reference, and the memory that training adds."""
    seconds = [sum(each["cpu_seconds"]) + each.get("all_reference_cpu_seconds", 0.0) for each in runs]
    return {"seconds": float(np.median(seconds)), "memory": float(np.median([each["more_mb"] for each in runs]))}


def interval(by_prompt: list[float], of_seeds: list[float]) -> float:
    """Half of a 95 % interval: prompts and seeds are both samples, and their variances are added (Owen 2007)."""
    variance = float(np.var(by_prompt, ddof=1)) / len(by_prompt)
    if len(of_seeds) > 1:
        variance += float(np.var(of_seeds, ddof=1)) / len(of_seeds)
    return 1.96 * math.sqrt(variance)


def table(rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """As Markdown."""
    lines = [
        "| | as wanted | KL, nats | repetition | CPU seconds | memory | labels | lr |",
        "|---|--:|--:|--:|--:|--:|---|--:|",
    ]
    for name, row in rows:
        seeds = row.get("of_seeds", [])
        cells = [
            f"{row['found']:.1%} ± {interval(row['by_prompt'], seeds):.1%}",
            f"{row['kl']:.1f}",
            f"{row['repetition']:.3f}" if "repetition" in row else "",
            f"{row['seconds']:.1f}" if "seconds" in row else "",
            f"{row['memory']:.0f} MB" if "memory" in row else "",
            row["labels"],
            f"{row['rate']:g}" if "rate" in row else "",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
