"""The table of formats by hardware, row by row, without the hardware; fp16's loss scale against torch's GradScaler."""

import random
from pathlib import Path

import pytest
import torch

from polyana.errors import UserError
from polyana.train import DeviceFacts, choose_precision, this_device
from polyana.train.loss_scale import first_scale, next_scale

V100 = DeviceFacts("cuda", capability=(7, 0))
T4 = DeviceFacts("cuda", capability=(7, 5))
P100 = DeviceFacts("cuda", capability=(6, 0))
A100 = DeviceFacts("cuda", capability=(8, 0))
RTX_4090 = DeviceFacts("cuda", capability=(8, 9), torchao=True)
H100 = DeviceFacts("cuda", capability=(9, 0), torchao=True)
B200 = DeviceFacts("cuda", capability=(10, 0))
MI300 = DeviceFacts("cuda", bf16=True)
M2 = DeviceFacts("mps", bf16=True)
OLD_MAC = DeviceFacts("mps")
EPYC = DeviceFacts("cpu", instructions=frozenset({"avx2", "avx512_f", "avx512_bf16"}))
XEON = DeviceFacts("cpu", instructions=frozenset({"avx2", "avx512_f", "amx_tile", "amx_bf16", "amx_fp16"}))
GRAVITON = DeviceFacts("cpu", instructions=frozenset({"neon", "bf16"}))
OLD_CPU = DeviceFacts("cpu", instructions=frozenset({"avx2"}))


@pytest.mark.parametrize(
    ("facts", "chosen", "tf32", "why"),
    [
        (P100, "fp32", False, "the GPU is older than compute capability 7.0: no tensor cores"),
        (V100, "fp16", False, "the GPU has compute capability 7.0: fp16 but no bf16"),
        (T4, "fp16", False, "the GPU has compute capability 7.5: fp16 but no bf16"),
        (A100, "bf16", True, "the GPU has compute capability 8.0: bf16 and TF32"),
        (RTX_4090, "bf16", True, "the GPU has compute capability 8.9: bf16 and TF32"),
        (H100, "bf16", True, "the GPU has compute capability 9.0: bf16 and TF32"),
        (B200, "bf16", True, "the GPU has compute capability 10.0: bf16 and TF32"),
        (MI300, "bf16", False, "the GPU has bf16, as torch says"),
        (M2, "bf16", False, "the GPU has bf16, as torch says"),
        (OLD_MAC, "fp32", False, "the GPU has no bf16 instructions"),
        (EPYC, "bf16", False, "the processor has AVX512-BF16"),
        (XEON, "bf16", False, "the processor has AMX-BF16"),
        (GRAVITON, "bf16", False, "the processor has Arm's BF16"),
        (OLD_CPU, "fp32", False, "the processor has no bf16 instructions"),
    ],
)
def test_auto(facts, chosen, tf32, why):
    precision = choose_precision("auto", facts)
    assert (precision.format, precision.tf32, precision.reason) == (chosen, tf32, why)
    assert precision.device.type == facts.kind


@pytest.mark.parametrize(
    ("wanted", "facts", "why"),
    [
        ("fp32", A100, "as the recipe says"),
        ("bf16", V100, "as the recipe says; slow, the GPU has no bf16 instructions"),
        ("bf16", OLD_CPU, "as the recipe says; slow, the processor has no bf16 instructions"),
        ("fp16", A100, "as the recipe says"),
        ("fp16", XEON, "as the recipe says"),
        ("fp16", EPYC, "as the recipe says; very slow, the processor has no fp16 instructions: "
         "a quarter of fp32's speed"),
        ("fp8", H100, "as the recipe says"),
        ("fp8", RTX_4090, "as the recipe says"),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_obeyed_and_what_is_slow_is_said(wanted, facts, why):
    precision = choose_precision(wanted, facts)
    assert (precision.format, precision.reason) == (wanted, why)
    assert precision.tf32 == (facts.capability is not None and facts.capability >= (8, 0) and wanted != "fp32")


def test_fp8_needs_the_hardware_and_torchao():
    with pytest.raises(UserError, match=r"8\.9 or newer .*; write `auto`, which is bf16 here"):
        choose_precision("fp8", A100)
    with pytest.raises(UserError, match="write `auto`, which is fp16 here"):
        choose_precision("fp8", V100)
    with pytest.raises(UserError, match="needs torchao: `pip install torchao`"):
        choose_precision("fp8", B200)


def test_the_facts_of_this_machine_are_those_of_proc_cpuinfo():
    cpuinfo = Path("/proc/cpuinfo").read_text().split() if this_device().kind == "cpu" else []
    if "flags" not in cpuinfo:
        pytest.skip("no x86 Linux")
    assert ("avx512_bf16" in this_device().instructions) == ("avx512_bf16" in cpuinfo)
    assert ("amx_bf16" in this_device().instructions) == ("amx_bf16" in cpuinfo)


@pytest.mark.parametrize("wanted", ["fp8", "bfloat16"])
def test_what_cannot_be_is_a_letter_with_the_line(wanted, tiny, polyana):
    if this_device().kind != "cpu":
        pytest.skip("fp8 may be possible here")
    tiny.write_text(tiny.read_text().replace("precision: fp32", f"precision: {wanted}").replace("gpt2, ", "llama, ")
                    .replace(", dropout: 0.1", ""))  # fmt: skip
    said = polyana("run", tiny, check=2).stderr
    assert f"{tiny}:14  `precision: {wanted}" in said
    tiny.write_text(tiny.read_text().replace("llama, ", "gpt2, "))
    assert f"{tiny}:14" in polyana("run", tiny, check=2).stderr


def test_the_loss_scale_moves_as_torchs_grad_scaler_does():
    """Oracle: GradScaler itself, given gradients that overflow now and then."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    chance = random.Random(1)
    scale, clean = 2.0**16, 0
    for step in range(9000):
        overflowed = chance.random() < (0.01 if step < 2000 else 0.0003)
        weight.grad = torch.full((1,), float("inf") if overflowed else 1.0)
        scaler.scale(torch.ones(1))
        scaler.step(optimizer)
        scaler.update()
        scale, clean = next_scale(scale, clean, overflowed)
        assert scale == scaler.get_scale(), step
    assert clean == scaler.state_dict()["_growth_tracker"]


def test_the_first_scale_is_grad_scalers_on_the_mean_loss():
    for tokens in (1, 4 * 32, 8192, 3 * 10**6):
        assert first_scale(tokens) * tokens == pytest.approx(torch.amp.GradScaler("cpu").get_scale(), rel=0.5)
