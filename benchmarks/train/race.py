"""Races of Polyana's training against other libraries on this machine: `make bench-train [ARGS="--quick"]`.

Every contestant is a process of its own with the same number of threads; rival and ours alternate, several rounds in
one run. Compared are medians over all measured steps of all rounds. A race whose losses do not agree is lost.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from work import Course, prepare

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
WORK = PROJECT / ".polyana" / "bench-train"
PERFORMANCE = PROJECT / "docs" / "performance.md"
WARM = 1  # steps at the start of each process that are not counted

STEP_TOLERANCE = 0.03
"""Largest difference of a step's loss where both sides take the same steps. Seen between bf16 and fp32 products: below
0.01; a Trainer's block has no target for its last token, which is 1/1024 of a loss."""
HELD_OUT_TOLERANCE = 0.05
"""How much worse ours may predict held-out text after the race, in nats per token; guess: a tenth of a step's gain."""


@dataclass(frozen=True)
class Rival:
    """`target`: tokens per second, ours by the rival's. `same_steps`: its losses must be ours step by step."""

    bar: str
    environment: str
    script: str
    target: float
    says: str
    options: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    same_steps: bool = True
    memory_target: float | None = None


@dataclass(frozen=True)
class Race:
    """`steps`, `rounds`: measured ones; the second of each pair with --quick. slow: --quick runs it only when named.

    mfu_target: of Polyana alone, as a share of the GEMM rate. ours: settings of the recipe that only our side has.
    """

    course: Course
    rivals: list[Rival]
    steps: tuple[int, int]
    rounds: tuple[int, int]
    mfu_target: float | None = None
    ours: list[str] = field(default_factory=list)
    slow: bool = False


def _gpt2(layers: int, width: int, heads: int) -> dict[str, Any]:
    return {"architecture": "gpt2", "layers": layers, "width": width, "heads": heads}


def _tutorial_and_best(size: str) -> list[Rival]:
    return [
        Rival(f"a-{size}", "transformers", "rival_transformers.py", 6.0, "transformers Trainer, defaults",
              same_steps=False, memory_target=3.0),
        Rival(f"b-{size}", "transformers", "rival_transformers.py", 2.0, "transformers Trainer, bf16, compiled",
              ["best", "compile"]),
    ]  # fmt: skip


LLAMA = {
    "architecture": "llama", "layers": 6, "width": 256, "heads": 8, "feed_forward": 688, "tie_embeddings": False,
}  # fmt: skip
RACES = [
    Race(Course("blocks-7m", _gpt2(4, 192, 3), 30_000, 1024, 8, 5e-4), _tutorial_and_best("7m"), (8, 2), (3, 2)),
    Race(Course("blocks-30m", _gpt2(6, 384, 6), 30_000, 1024, 8, 5e-4), _tutorial_and_best("30m"), (6, 2), (3, 1),
         slow=True),
    # With 8 blocks a step the tutorial's script would need about 25 GB: estimated from the smaller ones.
    Race(Course("blocks-124m", _gpt2(12, 768, 12), 30_000, 1024, 2, 5e-4), _tutorial_and_best("124m"), (6, 2), (3, 1),
         slow=True),
    Race(Course("floor-124m", _gpt2(12, 768, 12), 30_000, 1024, 8, 5e-4), [], (4, 1), (3, 1), mfu_target=0.6),
    Race(
        Course("documents-30m", _gpt2(6, 384, 6), 50_257, 512, 3, 3e-4, documents=True, padded_batch=8),
        [
            Rival("c-padded", "trl", "rival_trl.py", 6.0, "trl SFTTrainer, padding", same_steps=False),
            Rival("c-bfd", "trl", "rival_trl.py", 3.0, "trl SFTTrainer, packing bfd", ["bfd"], same_steps=False),
        ],
        (12, 3), (3, 1),
    ),
    Race(
        Course("llama-7m", LLAMA, 4096, 256, 4, 1e-3),
        [
            Rival("d-llamafactory", "llamafactory", "rival_llamafactory.py", 2.0, "LLaMA-Factory pt, bf16, compiled",
                  ["bf16", "compile"],
                  {"DISABLE_VERSION_CHECK": "1", "PYTHONPATH": str(HERE / "stubs")}),
            Rival("d-litgpt", "litgpt", "rival_litgpt.py", 2.0, "litgpt pretrain, bf16, compiled", ["bf16"]),
        ],
        (16, 6), (3, 2), ours=["stages.pretrain.train.compile=true"],
    ),
]  # fmt: skip


def main() -> int:
    """0 when every bar is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps; about 10 minutes")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--race", action="append", choices=[race.course.name for race in RACES], help="only this one")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    parser.add_argument("--lock", type=Path, help="a lock file to hold while a contestant runs, on a shared machine")
    options = parser.parse_args()
    usual = [race.course.name for race in RACES if not (options.quick and race.slow)]
    chosen = [race for race in RACES if race.course.name in (options.race or usual)]
    reports, bars = [], []
    for race in chosen:
        report = run_race(race, options)
        reports.append(report)
        bars += report["bars"]
        print("\n".join(tables(report)), flush=True)
        if options.write:
            write_table(report)
    print()
    for bar in bars:
        print(bar_line(bar), flush=True)
    (WORK / "results.json").write_text(json.dumps(reports, indent=1))
    return 0 if all(bar["verdict"] == "PASS" for bar in bars) else 1


# One race


def run_race(race: Race, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of a race, and what came of them."""
    course, quick = race.course, options.quick
    rounds, steps = race.rounds[quick], race.steps[quick] + WARM
    place = WORK / course.name
    print(f"\n{course.name}: preparing", file=sys.stderr, flush=True)
    work = prepare(course, steps, WORK / "home", place) | {"steps": steps, "threads": options.threads}
    results: dict[str, list[dict[str, Any]]] = {}
    rates = [gemm_rate(options)]
    for number in range(rounds):
        result = run_contestant("ours", Path(sys.executable), "ours.py", work | {"set": race.ours}, {}, options)
        results.setdefault("ours", []).append(result)
        for rival in race.rivals:
            job = work | {"options": rival.options}
            python = PROJECT / ".venv-rivals" / rival.environment / "bin" / "python"
            result = run_contestant(rival.bar, python, rival.script, job, rival.variables, options)
            results.setdefault(rival.bar, []).append(result)
        rates.append(gemm_rate(options))
        print(f"{course.name}: round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return judge(race, work, results, rates)


def run_contestant(
    name: str, python: Path, script: str, job: dict[str, Any], variables: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """What one process measured. Raises SystemExit with the end of its output when it fails."""
    path = WORK / "jobs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = path.with_suffix(".result.json")
    result.unlink(missing_ok=True)
    path.write_text(json.dumps(job | {"result": str(result)}))
    threads = str(options.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(WORK / "datasets"), "PYTHONPATH": str(PROJECT),
        "POLYANA_HOME": str(WORK / "home"), "TORCHINDUCTOR_CACHE_DIR": str(WORK / "inductor"),
        "TMPDIR": str(WORK / "tmp"), **variables,
    }  # fmt: skip
    (WORK / "tmp").mkdir(exist_ok=True)
    began = time.monotonic()
    with held(options.lock), path.with_suffix(".log").open("w") as log:
        code = subprocess.run(
            [python, HERE / script, path], env=environment, cwd=path.parent, stdout=log, stderr=log, check=False
        ).returncode
    for leftover in ("tmp", "home/runs", "home/hub"):
        shutil.rmtree(WORK / leftover, ignore_errors=True)
    if code or not result.exists():
        raise SystemExit(f"{name} failed; the end of {log.name}:\n{Path(log.name).read_text()[-3000:]}")
    print(f"  {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(json.loads(result.read_text()))


@contextmanager
def held(lock: Path | None) -> Iterator[None]:
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def gemm_rate(options: argparse.Namespace) -> float:
    """Floating point operations per second of a bf16 matrix product, 4096 x 1024 x 4096: the median of 25."""
    torch.set_num_threads(options.threads)
    a, b = torch.randn(4096, 1024, dtype=torch.bfloat16), torch.randn(1024, 4096, dtype=torch.bfloat16)
    seconds = []
    with held(options.lock):
        for _ in range(30):
            began = time.perf_counter()
            a @ b
            seconds.append(time.perf_counter() - began)
    return 2 * 4096 * 1024 * 4096 / statistics.median(seconds[5:])


# What came of it


def judge(
    race: Race, work: dict[str, Any], results: dict[str, list[dict[str, Any]]], rates: list[float]
) -> dict[str, Any]:
    """Figures and bars. `rates`: of matrix products; the best counts, for a busy moment would flatter everybody."""
    gemm = max(rates)
    says = {"ours": "Polyana"} | {rival.bar: rival.says for rival in race.rivals}
    figures = {name: figures_of(rounds, work["flops_per_token"], gemm) for name, rounds in results.items()}
    ours = figures["ours"]
    bars = []
    for rival in race.rivals:
        theirs = figures[rival.bar]
        why = disagreement(rival, ours, theirs)
        ratio = ours["tokens_per_second"] / theirs["tokens_per_second"]
        by_cpu = ours["tokens_per_cpu_second"] / theirs["tokens_per_cpu_second"]
        bars.append(bar_of(rival.bar, ratio, rival.target, why) | {"by_cpu": by_cpu})
        if rival.memory_target is not None:
            ratio = theirs["peak_mb"] / ours["peak_mb"]
            bars.append(bar_of(f"{rival.bar}-memory", ratio, rival.memory_target, why))
    if race.mfu_target is not None:
        bars.append(bar_of(f"{race.course.name}-mfu", ours["mfu"], race.mfu_target, ""))
    return {
        "course": race.course.name, "parameters": work["parameters"], "flops_per_token": work["flops_per_token"],
        "gemm": gemm, "worst_gemm": min(rates), "says": says, "figures": figures, "bars": bars,
    }  # fmt: skip


def figures_of(rounds: list[dict[str, Any]], flops_per_token: float, gemm: float) -> dict[str, Any]:
    """Medians over the measured steps of all rounds; the curve of the first round."""
    steps = [
        (tokens, wall, cpu)
        for result in rounds
        for tokens, wall, cpu in list(zip(result["tokens"], result["seconds"], result["cpu_seconds"], strict=True))[
            WARM:
        ]
    ]
    speed = statistics.median(tokens / wall for tokens, wall, _ in steps)
    return {
        "tokens_per_second": speed,
        "tokens_per_cpu_second": statistics.median(tokens / cpu for tokens, _, cpu in steps),
        "peak_mb": max(result["peak_mb"] for result in rounds), "mfu": speed * flops_per_token / gemm,
        "loss": rounds[0]["loss"], "tokens": rounds[0]["tokens"], "held_out": rounds[0]["held_out"],
        "steps": len(steps), "load": max(result["load"] for result in rounds),
    }  # fmt: skip


def disagreement(rival: Rival, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Why the two did not learn the same; empty when they did."""
    if rival.same_steps:
        worst = max(abs(a - b) for a, b in zip(ours["loss"], theirs["loss"], strict=True))
        if worst > STEP_TOLERANCE:
            return f"losses differ by {worst:.3f}, more than {STEP_TOLERANCE}"
    if theirs["held_out"] is not None and ours["held_out"] > theirs["held_out"] + HELD_OUT_TOLERANCE:
        return f"held-out loss {ours['held_out']:.3f}, theirs {theirs['held_out']:.3f}"
    return ""


def bar_of(name: str, ratio: float, target: float, why: str) -> dict[str, Any]:
    verdict = "DIFFERENT" if why else "PASS" if ratio >= target else "SHORT"
    return {"name": name, "ratio": ratio, "target": target, "verdict": verdict, "why": why}


def bar_line(bar: dict[str, Any]) -> str:
    why = f"  {bar['why']}" if bar["why"] else ""
    by_cpu = f"  (per CPU second {bar['by_cpu']:.2f})" if "by_cpu" in bar else ""  # steadier where others compute, too
    return f"BAR {bar['name']} ratio={bar['ratio']:.2f} target={bar['target']:.2f} {bar['verdict']}{why}{by_cpu}"


# Tables


def tables(report: dict[str, Any]) -> list[str]:
    """The report of one race as Markdown."""
    figures, says = report["figures"], report["says"]
    lines = [
        f"\n### {report['course']}: {report['parameters'] / 1e6:.1f} M parameters\n",
        f"{report['flops_per_token'] / 1e6:.1f} MFLOP a token; matrix products ran at {report['gemm'] / 1e9:.0f} "
        f"GFLOP/s ({report['worst_gemm'] / 1e9:.0f} at worst), which would be "
        f"{report['gemm'] / report['flops_per_token']:,.0f} tokens/s.\n",
        "| | tokens/s | of the GEMM rate | per CPU second | peak memory | held-out loss | Polyana is |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, figure in figures.items():
        held_out = "" if figure["held_out"] is None else f"{figure['held_out']:.3f}"
        times = figures["ours"]["tokens_per_second"] / figure["tokens_per_second"]
        memory = figure["peak_mb"] / figures["ours"]["peak_mb"]
        faster = "" if name == "ours" else f"{times:.2f}x as fast in 1/{memory:.2f} of the memory"
        lines.append(
            f"| {says[name]} | {figure['tokens_per_second']:,.0f} | {figure['mfu']:.1%} "
            f"| {figure['tokens_per_cpu_second']:,.0f} | {figure['peak_mb']:,.0f} MB | {held_out} | {faster} |"
        )
    lines += ["", "| loss at step | " + " | ".join(says[name] for name in figures) + " |"]
    lines.append("|--:" * (len(figures) + 1) + "|")
    steps = len(figures["ours"]["loss"])
    for step in sorted({round(index * (steps - 1) / 7) for index in range(8)}):
        lines.append(
            f"| {step + 1} | " + " | ".join(f"{figure['loss'][step]:.4f}" for figure in figures.values()) + " |"
        )
    return lines


def write_table(report: dict[str, Any]) -> None:
    """Replace what stands between the race's markers in docs/performance.md. Raises SystemExit when they are gone."""
    git = ["git", "-C", str(PROJECT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run([*git, "status", "--porcelain", "polyana"], capture_output=True, text=True, check=True)
    stamp = commit.stdout.strip() + (" with changes" if changed.stdout.strip() else "")
    bars = ["", *(f"    {bar_line(bar)}" for bar in report["bars"])]
    load = max(figure["load"] for figure in report["figures"].values())
    when = f"\nAt {stamp}, {time.strftime('%Y-%m-%d')}; the machine's load was at most {load:.1f}.\n"
    begin, end = f"<!-- {report['course']} -->", f"<!-- end of {report['course']} -->"
    table = "\n".join([begin, *tables(report), *bars, when, end])
    place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    text, found = place.subn(lambda _: table, PERFORMANCE.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit(f"{PERFORMANCE} has no place {begin} ... {end}")
    PERFORMANCE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
