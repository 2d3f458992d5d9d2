"""What torch keeps of matrix products is bounded, in a process that has imported polyana and nothing else."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import polyana, os, torch
from polyana.heap import give_back

def held():
    give_back()
    return int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) // 1024

torch.set_num_threads(1)
right = torch.zeros(64, 64, dtype=torch.bfloat16)
for rows in range(1, 33):
    torch.zeros(rows, 64, dtype=torch.bfloat16) @ right
before = held()
for rows in range(33, 833):
    torch.zeros(rows, 64, dtype=torch.bfloat16) @ right
print(held() - before, os.environ["LRU_CACHE_CAPACITY"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_800_shapes_of_products_leave_few_kernels_behind() -> None:
    def grown(**environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        megabytes, told = done.stdout.split()
        return int(megabytes), told

    plain = {name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name}
    few, told = grown(**plain)
    assert few < 60
    assert told == "16"
    many, told = grown(**plain, ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024", LRU_CACHE_CAPACITY="1024")  # as torch has it
    assert told == "1024"  # the user's word counts
    assert few <= many
