"""Which device and number format to compute in, and why.

What a GPU's tensor cores multiply, by compute capability, is in NVIDIA's "CUDA C++ Programming Guide", chapter "Compute
Capabilities", and in the paper on each architecture:

    7.0, 7.5          fp16               "NVIDIA Tesla V100 GPU Architecture", section "Tensor Cores"
    8.0 to 8.7        + bf16, TF32       "NVIDIA A100 Tensor Core GPU Architecture", section "A100 Tensor Cores"
    8.9, 9.0 and on   + fp8              "NVIDIA Ada GPU Architecture", "NVIDIA H100 Tensor Core GPU Architecture"

bf16 has the range of fp32 and needs nothing else; fp16 needs a loss scale (train/loss_scale.py; NVIDIA's "Train With
Mixed Precision"). On CPUs: docs/log.md. Nothing here has been run on a GPU yet.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, TypeVar

import torch

from polyana.errors import UserError

__all__ = ["DeviceFacts", "Precision", "PrecisionWish", "choose_precision", "this_device"]

M = TypeVar("M", bound=torch.nn.Module)

PrecisionWish = Literal["auto", "bf16", "fp16", "fp32", "fp8"]

_TENSOR_CORES: tuple[tuple[tuple[int, int], frozenset[str]], ...] = (
    ((8, 9), frozenset({"fp16", "bf16", "tf32", "fp8"})),
    ((8, 0), frozenset({"fp16", "bf16", "tf32"})),
    ((7, 0), frozenset({"fp16"})),
    ((0, 0), frozenset()),
)
_INSTRUCTIONS = {
    "avx512_bf16": ("bf16", "AVX512-BF16"),
    "amx_bf16": ("bf16", "AMX-BF16"),
    "bf16": ("bf16", "Arm's BF16"),
    "avx512_fp16": ("fp16", "AVX512-FP16"),
    "amx_fp16": ("fp16", "AMX-FP16"),
}
"""torch.cpu.get_capabilities' names -> (format, name for people)."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp8": torch.bfloat16}


@dataclass(frozen=True)
class DeviceFacts:
    """What the choice follows from, so that every row of the table can be tried without the hardware.

    capability: of an NVIDIA GPU, as (8, 0). bf16: whether torch says that another maker's GPU computes in bf16.
    instructions: of a CPU, under the names of torch.cpu.get_capabilities.
    """

    kind: Literal["cuda", "mps", "cpu"]
    capability: tuple[int, int] | None = None
    bf16: bool = False
    instructions: frozenset[str] = frozenset()
    torchao: bool = False

    def formats(self) -> dict[str, str]:
        """What the hardware multiplies fast beside fp32 -> what it has for it."""
        if self.kind == "cpu":
            return dict(_INSTRUCTIONS[name] for name in _INSTRUCTIONS if name in self.instructions)
        if self.capability is None:
            return {"bf16": "bf16, as torch says"} if self.bf16 else {}
        found = next(formats for least, formats in _TENSOR_CORES if self.capability >= least)
        return dict.fromkeys(found, f"compute capability {self.capability[0]}.{self.capability[1]}")


@dataclass(frozen=True)
class Precision:
    """`dtype` is what matrix products are computed in; weights stay in fp32.

    tf32: whether fp32 products that are left use TF32. fp8: whether linear layers are computed in fp8, by torchao.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    tf32: bool = False
    fp8: bool = False

    @property
    def format(self) -> str:
        """Its name in a recipe."""
        return "fp8" if self.fp8 else {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[self.dtype]

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which torch computes matrix products in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def prepare(self, model: M) -> M:
        """The model on the device; in fp8 with its linear layers exchanged. Doing it again changes nothing more."""
        if self.tf32:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        if self.fp8:
            from torchao.float8 import convert_to_float8_training

            convert_to_float8_training(model, module_filter_fn=_fp8_fits)
        return model.to(self.device)

    def __str__(self) -> str:
        return f"{self.format} on {self.device.type}: {self.reason}"


def choose_precision(wanted: PrecisionWish, facts: DeviceFacts | None = None) -> Precision:
    """What to compute in on a device (default: this machine's), with the reason in one clause.

    Raises UserError when fp8 is wanted and the hardware or torchao is not there.
    """
    facts = facts or this_device()
    formats = facts.formats()
    what = "processor" if facts.kind == "cpu" else "GPU"
    if wanted == "auto":
        # fp16 only on GPUs: no processor has fp16 instructions that are worth a loss scale and has no bf16
        good = ("bf16", "fp16") if facts.kind == "cuda" else ("bf16",)
        chosen = next((name for name in good if name in formats), "fp32")
        has = f"has {formats[chosen]}" if chosen in formats else "has no bf16 instructions"
        if facts.capability is not None:
            has = f"has {formats[chosen]}: " if chosen in formats else "is older than compute capability 7.0: "
            has += {"bf16": "bf16 and TF32", "fp16": "fp16 but no bf16", "fp32": "no tensor cores"}[chosen]
        reason = f"the {what} {has}"
    else:
        chosen, reason = wanted, "as the recipe says"
        if wanted == "fp8":
            _check_fp8(facts, formats)
        elif wanted == "fp16" and facts.kind == "cpu" and "fp16" not in formats:
            # measured with AVX512-BF16 on two cores: 45 GFLOP/s in fp16, 780 in bf16, 150 to 186 in fp32
            reason += "; very slow, the processor has no fp16 instructions: a quarter of fp32's speed"
        elif wanted == "bf16" and "bf16" not in formats:
            reason += f"; slow, the {what} has no bf16 instructions"
    tf32 = "tf32" in formats and chosen != "fp32"
    return Precision(torch.device(facts.kind), _DTYPES[chosen], reason, tf32, fp8=chosen == "fp8")


def this_device() -> DeviceFacts:
    """The GPU if there is one, else the CPU."""
    torchao = find_spec("torchao") is not None
    if torch.cuda.is_available():
        if torch.version.hip is not None:  # AMD's GPUs number their capabilities in another way
            return DeviceFacts("cuda", bf16=torch.cuda.is_bf16_supported(including_emulation=False))
        return DeviceFacts("cuda", capability=torch.cuda.get_device_capability(), torchao=torchao)
    if torch.backends.mps.is_available():
        # Metal computes in bf16 from macOS 14 on; torch refuses it before (torch/amp/autocast_mode.py)
        return DeviceFacts("mps", bf16=torch.backends.mps.is_macos_or_newer(14, 0))
    capabilities = torch.cpu.get_capabilities()
    return DeviceFacts("cpu", instructions=frozenset(name for name, has in capabilities.items() if has is True))


def _check_fp8(facts: DeviceFacts, formats: dict[str, str]) -> None:
    if "fp8" not in formats:
        best = choose_precision("auto", facts).format
        raise UserError(
            "`precision: fp8` needs an NVIDIA GPU of compute capability 8.9 or newer (RTX 40, L40, H100); "
            f"write `auto`, which is {best} here"
        )
    if not facts.torchao:
        raise UserError("`precision: fp8` needs torchao: `pip install torchao`, or write `bf16`")


def _fp8_fits(module: torch.nn.Module, name: str) -> bool:
    """Whether a linear layer can be computed in fp8: cuBLAS wants multiples of 16; the head is not called."""
    from torchao.float8.float8_linear import Float8Linear

    return (
        isinstance(module, torch.nn.Linear)
        and not isinstance(module, Float8Linear)
        and name != "lm_head"
        and module.in_features % 16 == 0
        and module.out_features % 16 == 0
    )
