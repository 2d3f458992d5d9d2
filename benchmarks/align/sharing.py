"""What computing a prompt once for both of its answers buys: the races' own work, with and without, alternating.

python benchmarks/align/sharing.py [--race 30m-reward ...] [--steps 6] [--rounds 2]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent.parent / ".polyana" / "bench-sharing"
RACES = ("30m-dpo", "30m-reward", "smollm2-dpo", "smollm2-reward")


def main() -> None:
    """Print a row for each race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--race", action="append", choices=RACES)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    os.environ["POLYANA_HOME"] = str(WORK / "home")
    sys.path.insert(0, str(HERE.parent.parent))
    from pairs import prepare

    from polyana.data import answers

    shared = answers._SHARED
    print("| | CPU seconds of a step, shared | each alone | times | losses differ by |\n|---|--:|--:|--:|--:|")
    for race in options.race or RACES:
        size, _, method = race.partition("-")
        work = prepare(size, method, options.steps, WORK / race)
        seconds: dict[int, list[float]] = {shared: [], sys.maxsize: []}
        losses: dict[int, list[float]] = {}
        for _ in range(options.rounds):
            for least, found in seconds.items():
                answers._SHARED = least
                steps, losses[least] = train(Path(work["recipe"]), options.steps)
                found.extend(steps[1:])
        with_it, without = (statistics.median(each) for each in seconds.values())
        off = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
        print(f"| {race} | {with_it:.2f} | {without:.2f} | {without / with_it:.2f} | {off:.4f} |", flush=True)
        shutil.rmtree(WORK / "home", ignore_errors=True)


def train(recipe: Path, steps: int) -> tuple[list[float], list[float]]:
    """CPU seconds and loss of each step."""
    import polyana
    from polyana.storage import home_directory
    from polyana.tracking import Console, Gauge, find_runs, read_curves

    found: list[float] = []
    began = 0.0

    class Clock(Gauge):
        def show(self, done: int, text: str) -> None:
            nonlocal began
            found.append(time.process_time() - began)
            super().show(done, text)
            began = time.process_time()

    class TimingConsole(Console):
        @contextmanager
        def gauge(self, label: str, total: int, start: int = 0) -> Iterator[Gauge]:
            nonlocal began
            began = time.process_time()
            if label == "align":
                yield Clock(self, label, total, None, start)
            else:
                with super().gauge(label, total, start) as gauge:
                    yield gauge

    with Path(os.devnull).open("w") as nowhere:
        recipe_ = polyana.load_recipe(recipe, [f"stages.align.train.duration={steps} steps"])
        polyana.run_recipe(recipe_, fresh=True, console=TimingConsole(nowhere))
    run = find_runs(home_directory() / "runs")[-1]
    return found, [value for _, value in read_curves(run.metrics)["train/loss"]]


if __name__ == "__main__":
    main()
