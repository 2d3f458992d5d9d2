"""The worked example of costs runs whole on a few texts: what it concludes takes minutes (docs/alignment.md)."""

import os
import re
import subprocess
import sys

from conftest import PROJECT


def test_three_ways_of_deciding_are_compared_and_what_is_kept_is_not_trained_again(shared_data, tmp_path):
    command = [sys.executable, PROJECT / "benchmarks" / "align" / "classify.py", "--case", "tumours", "--texts", "40",
               "--epochs", "1", "--work", tmp_path]  # fmt: skip
    environment = os.environ | {"POLYANA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rows = {line.split(" | ")[0].strip("| "): line for line in said.stdout.splitlines() if line.startswith("| ")}
    assert "tumours: 40 texts of 2 classes, 1 epochs" in said.stdout
    assert len(rows) == 5
    for way in ("cross_entropy", "cross_entropy, deciding by expected cost", "preference"):
        assert 0 <= float(re.search(r"\d\.\d+", rows[way])[0]) <= 10
    assert said.stderr.count("in 2 steps") == 4  # two losses, two folds, 20 texts of 16 a step
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[-6:] == said.stdout.splitlines()[-6:]
    assert "steps" not in again.stderr
