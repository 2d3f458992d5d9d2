"""What the process keeps of freed memory: kept, and given back when it is far more than a step needs."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from polyana.train.memory import KeptMemory, forget_peak, held_bytes, peak_bytes
device, kept = torch.device("cpu"), KeptMemory()
def step(megabytes):
    tensors = [torch.ones(1 << 18) for _ in range(megabytes)]  # 1 MiB each
    tensors.clear()
    freed = held_bytes(device)
    kept.after_step()
    print(freed >> 20, held_bytes(device) >> 20, peak_bytes(device) >> 20, kept.bound >> 20)
for megabytes in (10, 10, 400, 400, 400):
    step(megabytes)
forget_peak(device)
step(10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told what to keep")
def test_freed_memory_is_kept_within_a_bound():
    process = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    steps = [[int(word) for word in line.split()] for line in process.stdout.splitlines()]
    small, first, second, third = steps[1], steps[2], steps[3], steps[4]
    assert first[0] > small[0] + 380  # what was freed is still there
    assert first[0] > small[3]  # which is more than the bound,
    assert first[1] < small[1] + 60  # so it was given back
    assert second[0] == pytest.approx(second[1], abs=8)  # the step after needs as much again: now it is known
    assert third[1] > small[1] + 380
    assert steps[5][2] >= steps[5][1] > small[1] + 380
