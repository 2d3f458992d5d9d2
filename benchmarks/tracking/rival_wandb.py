"""W&B without a network: its service writes .wandb files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import wandb
from contestant import Log, compete


def begin(directory: Path) -> tuple[Log, Callable[[], None]]:
    run = wandb.init(mode="offline", dir=directory, project="race", settings=wandb.Settings(silent=True))
    return lambda step, row: run.log(row, step=step), run.finish


if __name__ == "__main__":
    compete(begin)
