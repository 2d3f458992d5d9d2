"""What the process keeps of freed memory: kept, and given back when it is far more than a step needs."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from polyana.train.memory import KeptMemory, forget_peak, held_bytes, peak_bytes
device, kept = torch.device("cpu"), KeptMemory(differing=False)
def step(megabytes):
    kept.before_step()
    began = held_bytes(device)
    tensors = [torch.ones(1 << 18) for _ in range(megabytes)]  # 1 MiB each
    tensors.clear()
    freed = held_bytes(device)
    kept.after_step()
    print(began >> 20, freed >> 20, peak_bytes(device) >> 20, kept.most >> 20)
for megabytes in (10, 10, 10, 400, 400, 400):
    step(megabytes)
forget_peak(device)
step(10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told what to keep")
def test_freed_memory_is_kept_within_a_bound():
    process = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    steps = [[int(word) for word in line.split()] for line in process.stdout.splitlines()]
    small, first, second, third, after = steps[2:]
    assert first[1] > small[1] + 380  # what was freed is still there
    assert first[1] > small[3]  # which is more than the bound,
    assert second[0] < small[1] + 60  # so it was given back
    assert second[1] > small[1] + 380  # the step needs as much again: now it is known
    assert third[0] > small[1] + 380
    assert after[2] >= after[1] > small[1] + 380
    assert first[3] - small[3] == pytest.approx(first[1] - first[0], abs=2)  # the growth of a step with holes
