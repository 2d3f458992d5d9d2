"""TensorBoard's event files by tensorboardX, one `add_scalar` a number, as trainers write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contestant import Log, compete
from tensorboardX import SummaryWriter


def begin(directory: Path) -> tuple[Log, Callable[[], None]]:
    writer = SummaryWriter(str(directory / "run"))

    def log(step: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


if __name__ == "__main__":
    compete(begin)
