"""Ten steps of learning from preferences stay the same ten losses.

After a change that is meant:  POLYANA_GOLDEN=write pytest tests/golden
"""

import io
import json
import os
from pathlib import Path

import pytest
from aligned import loss, write_recipe
from conftest import metrics_of, newest_run

from polyana.run import run_recipe
from polyana.tracking import Console

GOLDEN = Path(__file__).with_name("golden_alignment.json")
CASES = {"dpo": ("preference", [loss("dpo")]), "kto": ("preference", [loss("kto")]), "reward": ("reward", [])}


@pytest.mark.parametrize("case", CASES)
def test_ten_steps_are_the_ten_steps_they_were(case, tmp_path, home, load):
    kind, overrides = CASES[case]
    recipe = load(write_recipe(tmp_path, kind), *overrides, "stages.align.train.duration=10 steps")
    run_recipe(recipe, console=Console(io.StringIO()))
    losses = metrics_of(newest_run(home))["train/loss"]
    made = [round(losses[step], 5) for step in range(1, 11)]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("POLYANA_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(golden | {case: made}, indent=1) + "\n")
    else:
        # as in test_golden: another processor sums in another order
        assert made == pytest.approx(golden[case], rel=5e-3, abs=5e-4)
