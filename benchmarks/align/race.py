"""Races of Polyana's alignment against trl's trainers on this machine: `make bench-align [ARGS="--quick"]`.

Each contestant is a process of its own with the same number of threads; trl and ours alternate. Compared are medians
over the measured steps of all rounds. Against trl's defaults, which compute the reference in every step, ours is
charged with the seconds that its reference took; against its best settings, which compute it before, neither is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
WORK = PROJECT / ".polyana" / "bench-align"
WARM = 1  # steps before the measured ones
METHODS = ("dpo", "kto", "reward")
SPEED = {"defaults": 8.0, "best": 5.0}
MEMORY = 3.0
LOSS_TOLERANCE = 0.02
"""Of a step's loss, of 4 pairs in bf16 on both sides: one pair's z is off by 0.1 times the sum of 200 rounding errors
of about 2^-8."""


def main() -> int:
    """0 when every bar is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few steps; less than 10 minutes")
    parser.add_argument("--method", action="append", choices=METHODS, help="only this one")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    options = parser.parse_args()
    os.environ["POLYANA_HOME"] = str(WORK / "home")
    sys.path.insert(0, str(PROJECT))
    from pairs import prepare

    bars, reports = [], {}
    for method in options.method or METHODS:
        steps, rounds = WARM + (3 if options.quick else 8), 1 if options.quick else 3
        work = prepare(method, steps, WORK / method) | {"threads": options.threads}
        shutil.rmtree(WORK / "home")  # so that our side computes the reference, too
        results: dict[str, list[dict[str, Any]]] = {"ours": [], "defaults": [], "best": []}
        for _ in range(rounds):
            for name, found in results.items():
                found.append(run(name, work))
        reports[method] = results
        bars += judge(method, results)
    print()
    for line, _ in bars:
        print(line, flush=True)
    (WORK / "results.json").write_text(json.dumps(reports, indent=1))
    return 0 if all(reached for _, reached in bars) else 1


def run(name: str, work: dict[str, Any]) -> dict[str, Any]:
    """What one process measured. Raises SystemExit with the end of its output when it fails."""
    path = WORK / "jobs" / f"{work['method']}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result = path.with_suffix(".result.json")
    result.unlink(missing_ok=True)
    path.write_text(json.dumps(work | {"result": str(result), "options": [name]}))
    ours, threads = name == "ours", str(work["threads"])
    python = Path(sys.executable) if ours else PROJECT / ".venv-rivals" / "trl" / "bin" / "python"
    environment = os.environ | {
        "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(WORK / "datasets"), "PYTHONPATH": str(PROJECT),
        "TMPDIR": str(WORK / "tmp"),
    }  # fmt: skip
    (WORK / "tmp").mkdir(exist_ok=True)
    began = time.monotonic()
    with path.with_suffix(".log").open("w") as log:
        script = HERE / ("ours.py" if ours else "rival_trl.py")
        code = subprocess.run([python, script, path], env=environment, stdout=log, stderr=log, check=False).returncode
    for leftover in ("tmp", "home"):
        shutil.rmtree(WORK / leftover, ignore_errors=True)
    if code or not result.exists():
        raise SystemExit(f"{name} failed; the end of {log.name}:\n{Path(log.name).read_text()[-3000:]}")
    print(f"  {work['method']} {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(json.loads(result.read_text()))


def judge(method: str, results: dict[str, list[dict[str, Any]]]) -> list[tuple[str, bool]]:
    """The bars, each with whether it is reached; prints the figures they come from."""
    ours, bars = results["ours"], []
    print(f"\n### {method}\n\n| | tokens/s | per CPU second | peak memory | losses |\n|---|--:|--:|--:|---|")
    for name, rounds in results.items():
        losses = " ".join(f"{loss:.4f}" for loss in rounds[0]["loss"])
        memory = max(each["peak_mb"] for each in rounds)
        speed, by_cpu = rate(rounds, "seconds"), rate(rounds, "cpu_seconds")
        print(f"| {name} | {speed:,.0f} | {by_cpu:,.0f} | {memory:,.0f} MB | {losses} |")
    for name, target in SPEED.items():
        theirs = results[name]
        worst = max(abs(a - b) for a, b in zip(ours[0]["loss"], theirs[0]["loss"], strict=True))
        charged = name == "defaults"
        same = worst <= LOSS_TOLERANCE
        figures = {
            name: (rate(ours, "seconds", charged) / rate(theirs, "seconds"), target),
            f"{name}-memory": (
                max(each["peak_mb"] for each in theirs) / max(each["peak_mb"] for each in ours), MEMORY
            ),
        }  # fmt: skip
        for what, (ratio, wanted) in figures.items():
            verdict = "DIFFERENT" if not same else "PASS" if ratio >= wanted else "SHORT"
            more = f"  losses differ by {worst:.4f}"
            if what == name:
                by_cpu = rate(ours, "cpu_seconds") / rate(theirs, "cpu_seconds")
                more += f"  (per CPU second, the reference not charged, {by_cpu:.2f})"
            bars.append(
                (f"BAR {method}-{what} ratio={ratio:.2f} target={wanted:.2f} {verdict}{more}", verdict == "PASS")
            )
    return bars


def rate(rounds: list[dict[str, Any]], seconds: str, charged: bool = False) -> float:
    """Tokens by seconds: the median over all measured steps. `charged`: with a step's part of the reference."""
    steps = []
    for result in rounds:
        extra = result.get("reference_seconds", 0.0) / len(result["tokens"]) if charged else 0.0
        steps += [tokens / (time + extra) for tokens, time in zip(result["tokens"], result[seconds], strict=True)][
            WARM:
        ]
    return statistics.median(steps)


if __name__ == "__main__":
    sys.exit(main())
