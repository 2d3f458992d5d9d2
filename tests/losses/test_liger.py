"""Liger's fused linear cross entropy, called as on GPUs, against ours: what it computes in Triton's interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from polyana.losses import liger

SCRIPT = Path(__file__).with_name("liger_interpreted.py")
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Precision of the products -> tolerance of gradients, as a share of their norm. With a z-loss ours rounds a slope to
bf16 twice, Liger once: 2^-9 each."""
SHAPES = [(1, 24, 65), (70, 32, 64), (37, 8, 130)]  # rows, width, vocabulary: chunks of Liger's of 1, 64 and 4 rows
Z_LOSSES = [0.0, 1e-4, 0.3]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    if find_spec("liger_kernel") is None or find_spec("triton") is None:
        pytest.skip("liger-kernel is not installed: it brings Triton, 1 GB; `make test-all` installs both")
    directory = tmp_path_factory.mktemp("liger")
    cases = {}
    for (rows, width, vocabulary), dtype, z_loss in product(SHAPES, DTYPES, Z_LOSSES):
        torch.manual_seed(rows)
        hidden, weight = torch.randn(rows, width), torch.randn(vocabulary, width) * 0.3
        targets = torch.randint(0, vocabulary, (rows,))
        cases[rows, width, vocabulary, dtype, z_loss] = hidden, weight, targets, dtype, z_loss
    torch.save(list(cases.values()), directory / "cases.pt")
    process = subprocess.run(
        [sys.executable, str(SCRIPT), str(directory / "cases.pt"), str(directory / "results.pt")],
        env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return dict(zip(cases, torch.load(directory / "results.pt"), strict=True))


@pytest.mark.parametrize("z_loss", Z_LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_liger_gives_our_sums_and_gradients(shape, dtype, z_loss, results):
    (total, added, *gradients), (our_total, our_added, *our_gradients) = results[*shape, dtype, z_loss]
    assert total.dtype == added.dtype == torch.float32
    sums = {torch.float32: 1e-6, torch.bfloat16: 2e-4}[dtype]  # ours recovers log Z from what is rounded to bf16
    torch.testing.assert_close(total, our_total, rtol=sums, atol=0)
    torch.testing.assert_close(added, our_added, rtol=2 * sums, atol=0)
    for gradient, ours in zip(gradients, our_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - ours).norm() <= DTYPES[dtype] * ours.norm()


def hidden(capability, requires_grad=True):
    """What `liger_fits` asks of a tensor."""
    return SimpleNamespace(is_cuda=capability is not None, device=capability, requires_grad=requires_grad)


@pytest.mark.parametrize(
    ("installed", "capability", "dtype", "requires_grad", "fits"),
    [
        (True, (8, 0), torch.bfloat16, True, True),
        (True, (9, 0), torch.float32, True, True),
        (False, (9, 0), torch.bfloat16, True, False),
        (True, None, torch.bfloat16, True, False),  # a CPU
        (True, (7, 5), torch.float32, True, False),
        (True, (9, 0), torch.float16, True, False),
        (True, (9, 0), torch.bfloat16, False, False),
    ],
)
def test_where_it_is_used(installed, capability, dtype, requires_grad, fits, monkeypatch):
    monkeypatch.setattr(liger, "_installed", lambda: installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: device)
    assert liger.liger_fits(hidden(capability, requires_grad), dtype) == fits
    with torch.no_grad():
        assert liger.liger_fits(hidden(capability, False), dtype) == (fits or not requires_grad)
