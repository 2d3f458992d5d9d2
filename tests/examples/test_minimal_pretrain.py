"""Two doors to the same training: the flat example and the trainer take the same steps."""

import ast
import re
import subprocess
import sys
import textwrap

import pytest
from conftest import PROJECT, metrics_of, newest_run

EXAMPLE = PROJECT / "examples" / "minimal_pretrain.py"


def test_it_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 150


def test_its_losses_are_the_trainers(tmp_path, home, polyana):
    document = ast.get_docstring(ast.parse(EXAMPLE.read_text()))
    recipe = tmp_path / "minimal.yaml"
    recipe.write_text(textwrap.dedent(document[document.index("    name: minimal") :]))
    said = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True, timeout=300).stdout
    polyana("run", recipe)
    metrics = metrics_of(newest_run(home))
    theirs = {
        int(step): (float(loss), float(norm))
        for step, loss, norm in re.findall(r"step (\d+)  loss ([\d.]+)  .*grad_norm ([\d.]+)", said)
    }
    assert list(theirs) == list(range(1, 21))
    for step, (loss, norm) in theirs.items():
        assert metrics["train/loss"][step] == pytest.approx(loss, rel=2e-5), f"step {step}"
        assert metrics["train/grad_norm"][step] == pytest.approx(norm, rel=2e-3), f"step {step}"
    ((loss, bits),) = re.findall(r"eval  loss ([\d.]+)  bits_per_byte ([\d.]+)", said)
    assert metrics["eval/loss"][20] == pytest.approx(float(loss), rel=2e-5)
    assert metrics["eval/bits_per_byte"][20] == pytest.approx(float(bits), rel=2e-5)
