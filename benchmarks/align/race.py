"""Races of Polyana's alignment against trl's trainers on this machine: `make bench-align [ARGS="--quick"]`.

Each contestant is a process of its own with the same number of threads; trl and ours alternate. Compared are medians
over the measured steps of all rounds. Against trl's defaults, which compute the reference in every step, ours is
charged with the seconds that its reference took; against its best settings, which compute it before, neither is.

Beside each bar stands what is possible at most: if ours took no longer than its matrix products at the rate that this
machine reaches (`train/mfu`), and held no more than Python, torch and, in fp32, weights, gradients and AdamW's memory.
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
WARM = 3
"""Steps before the measured ones. In the third ours still begins with all freed memory given back, to learn how much it
needs (polyana/train/memory.py); what a step then touches anew takes a third of its time (SmolLM2, 1.2 to 3 s)."""
RACES = {
    "30m-dpo": ((2, 1), (8, 3)), "30m-kto": ((2, 1), (8, 3)), "30m-reward": ((4, 1), (8, 3)),
    "smollm2-dpo": ((2, 1), (4, 3)), "smollm2-kto": ((2, 1), (4, 3)), "smollm2-reward": ((4, 1), (8, 3)),
}  # fmt: skip
"""(Measured steps, rounds) with --quick, and of the whole."""
SLOW = ("smollm2-kto", "smollm2-reward")  # with --quick only where they are named
SPEED = {"defaults": 8.0, "best": 5.0}
MEMORY = 3.0
LOSS_TOLERANCE = {"30m": 0.02, "smollm2": 0.041}
"""How far losses of a step, 4 pairs in bf16 on both sides, may lie apart. 30m: one pair's z is off by 0.1 times the sum
of 200 rounding errors of about 2^-8. smollm2: as far as trl's own in bf16 from trl's own in fp32, which was 0.000,
0.034 and 0.041 in three steps; ours was off by 0.000, 0.006 and 0.072, and rounding moves the loss of the very same
weights, in training with fp32, by 0.023, 0.073 and 0.042."""
FP32_TOLERANCE = 1e-4
"""Of the same with `--fp32`: measured 2e-6."""


def main() -> int:
    """0 when every bar is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few steps; less than 10 minutes")
    parser.add_argument("--race", action="append", choices=list(RACES), help="only this one")
    parser.add_argument("--steps", type=int, help="measured ones, instead of what a race has")
    parser.add_argument("--fp32", action="store_true", help="both sides in fp32: are the losses equal?")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    options = parser.parse_args()
    os.environ["POLYANA_HOME"] = str(WORK / "home")
    sys.path.insert(0, str(PROJECT))
    from pairs import prepare

    bars, reports = [], {}
    for race in options.race or [race for race in RACES if not (options.quick and race in SLOW)]:
        size, _, method = race.partition("-")
        (quick_steps, quick_rounds), whole = RACES[race]
        steps, rounds = (quick_steps, quick_rounds) if options.quick else whole
        steps = WARM + (options.steps or steps)
        work = prepare(size, method, steps, WORK / race) | {"threads": options.threads, "race": race}
        if options.fp32:
            work |= {"fp32": True, "set": ["stages.align.train.precision=fp32"]}
        shutil.rmtree(WORK / "home", ignore_errors=True)  # so that our side computes the reference, too
        results: dict[str, list[dict[str, Any]]] = {"ours": [], "defaults": [], "best": []}
        for _ in range(rounds):
            for name, found in results.items():
                found.append(run(name, work))
                if name == "ours":
                    add_floors(found[-1], work["parameters"])
        reports[race] = results
        reached = judge(race, results, FP32_TOLERANCE if options.fp32 else LOSS_TOLERANCE[size])
        print("\n".join([*table(race, results), "", *(line for line, _ in reached)]), flush=True)
        bars += reached
    (WORK / "results.json").write_text(json.dumps(reports, indent=1))
    return 0 if all(passed for _, passed in bars) else 1


def run(name: str, work: dict[str, Any]) -> dict[str, Any]:
    """What one process measured. Raises SystemExit with the end of its output when it fails."""
    path = WORK / "jobs" / f"{work['race']}-{name}.json"
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
        script = HERE.parent / "train" / "ours.py" if ours else HERE / "rival_trl.py"
        code = subprocess.run([python, script, path], env=environment, stdout=log, stderr=log, check=False).returncode
    for leftover in ("tmp", "home"):
        shutil.rmtree(WORK / leftover, ignore_errors=True)
    if code or not result.exists():
        raise SystemExit(f"{name} failed; the end of {log.name}:\n{Path(log.name).read_text()[-3000:]}")
    print(f"  {work['race']} {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(json.loads(result.read_text()))


def table(race: str, results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The figures of one race as Markdown."""
    lines = [f"\n### {race}\n", "| | tokens/s | per CPU second | peak memory | losses |", "|---|--:|--:|--:|---|"]
    for name, rounds in results.items():
        losses = " ".join(f"{loss:.4f}" for loss in rounds[0]["loss"])
        kinds = [False, True] if any(each.get("reference_seconds") for each in rounds) else [False]
        for charged in kinds:
            speed, by_cpu = (rate(rounds, each, charged) for each in ("seconds", "cpu_seconds"))
            says = f"{name}, with its reference" if charged else name
            lines.append(f"| {says} | {speed:,.0f} | {by_cpu:,.0f} | {memory(rounds):,.0f} MB | {losses} |")
    return lines


def judge(race: str, results: dict[str, list[dict[str, Any]]], tolerance: float) -> list[tuple[str, bool]]:
    """The bars, each with whether it is reached; none is where losses differ by more than `tolerance`."""
    ours, bars = results["ours"], []
    for name, target in SPEED.items():
        theirs = results[name]
        worst = max(abs(a - b) for a, b in zip(ours[0]["loss"], theirs[0]["loss"], strict=True))
        charged = name == "defaults"

        def ratio(seconds: str, charged: bool, theirs: list[dict[str, Any]] = theirs) -> float:
            return rate(ours, seconds, charged) / rate(theirs, seconds)

        more = f"  losses differ by {worst:.4f}; per CPU second {ratio('cpu_seconds', charged):.2f}"
        if any(each.get("reference_seconds") for each in ours):
            other = "not counted" if charged else "counted"
            more += f"; the reference {other} {ratio('seconds', not charged):.2f}"
        speed, size = ratio("seconds", charged), memory(theirs) / memory(ours)
        figures = {
            name: (speed, target, rate(ours, "floor_seconds", charged) / rate(theirs, "seconds")),
            f"{name}-memory": (size, MEMORY, memory(theirs) / ours[0]["floor_mb"]),
        }
        for what, (found, wanted, most) in figures.items():
            verdict = "DIFFERENT" if worst > tolerance else "PASS" if found >= wanted else "SHORT"
            line = f"BAR {race}-{what} ratio={found:.2f} target={wanted:.2f} {verdict}  at most {most:.1f}"
            bars.append((line + (more if what == name else ""), verdict == "PASS"))
    return bars


def add_floors(result: dict[str, Any], parameters: int) -> None:
    """To what ours measured: seconds of a step's matrix products alone, and of the reference's, which goes forward and
    not back, a third of them; MB of the process before its first step with gradients and AdamW's two moments."""
    floors = [share * seconds for share, seconds in zip(result["mfu"], result["seconds"], strict=True)]
    result["floor_seconds"] = floors
    if "reference_seconds" in result:
        result["reference_floor_seconds"] = statistics.median(floors) / 3
    result["floor_mb"] = result["peak_mb"] - result["more_mb"] + 12 * parameters / 2**20


def memory(rounds: list[dict[str, Any]]) -> float:
    """The peak, in MB."""
    return float(max(each["peak_mb"] for each in rounds))


def rate(rounds: list[dict[str, Any]], seconds: str, charged: bool = False) -> float:
    """Tokens by seconds: the median over all measured steps. `charged`: with a step's part of the reference."""
    steps = []
    for result in rounds:
        extra = result.get(f"reference_{seconds}", 0.0) if charged else 0.0
        steps += [tokens / (time + extra) for tokens, time in zip(result["tokens"], result[seconds], strict=True)][
            WARM:
        ]
    return statistics.median(steps)


if __name__ == "__main__":
    sys.exit(main())
