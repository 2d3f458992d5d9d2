"""The numbers that every side logs: 20 metrics at each step, as a training would. Standard library only."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

METRICS = ("train/loss", *(f"train/metric_{number:02d}" for number in range(1, 20)))


def rows(steps: int) -> Iterator[tuple[int, dict[str, float]]]:
    """(step, metric -> value) from step 1 on: falling curves with noise, float32 numbers as `tensor.item()` gives."""
    noise = random.Random(7).random
    single = struct.Struct("f")
    for step in range(1, steps + 1):
        level = 2 + 6 / (1 + step / 1000)
        yield step, {name: single.unpack(single.pack(level * (0.9 + 0.2 * noise())))[0] for name in METRICS}
