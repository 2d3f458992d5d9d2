"""How often the alarm rings by chance, and how soon where it should: where PATIENCE comes from, in polyana/evaluate/
overoptimisation.py. Simulated runs: a minute."""

from __future__ import annotations

import numpy as np

from polyana.evaluate import Look, hacking

RUNS, EVALUATIONS, PROMPTS = 2000, 20, 48


def looks(draw: np.random.Generator, fall: float) -> list[Look]:
    """A run whose proxy rises by 0.3 of its spread at each evaluation. Gold stands still, or from the 8th on falls by
    `fall` of its spread at each; what is drawn anew at each evaluation is as large as what prompts differ by."""
    prompts = draw.normal(size=PROMPTS)
    made = []
    for number in range(EVALUATIONS):
        proxy = 0.3 * number + prompts + draw.normal(size=PROMPTS)
        gold = -fall * max(0, number - 7) + prompts + draw.normal(size=PROMPTS)
        made.append(Look(number, proxy, gold))
    return made


def first_ring(run: list[Look], patience: int) -> int | None:
    return next((n for n in range(1, len(run) + 1) if hacking(run[:n], patience)), None)


def main() -> None:
    for fall in (0.0, 0.1, 0.2, 0.4):
        draw = np.random.default_rng(0)
        runs = [looks(draw, fall) for _ in range(RUNS if not fall else RUNS // 10)]
        for patience in (1, 2, 3, 4):
            rung = [found for run in runs if (found := first_ring(run, patience))]
            late = f", on the average {np.mean(rung) - 8:.1f} evaluations after the turn" if fall and rung else ""
            print(f"fall {fall:.1f}  patience {patience}  rings in {len(rung) / len(runs):.1%} of the runs{late}")


if __name__ == "__main__":
    main()
