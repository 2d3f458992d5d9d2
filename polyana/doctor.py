"""What this machine and this installation can do: every claim tried, every trouble with the command that mends it."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polyana.storage import free_bytes, show_bytes
from polyana.tracking import describe_environment

if TYPE_CHECKING:
    import torch

    from polyana.train.precision import PrecisionWish

__all__ = ["Finding", "as_json", "examine", "picture"]

_TRIAL = 0.5  # seconds that each format multiplies for


@dataclass(frozen=True)
class Finding:
    """One line. `note`: good to know, training works all the same; `broken`: it does not, or leaves a GPU unused.

    mend: what to type; when no command does it, what to do. source: where the trouble is described.
    """

    topic: str
    what: str
    found: str
    state: Literal["well", "note", "broken"] = "well"
    mend: str = ""
    source: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


def examine(home: Path) -> list[Finding]:
    """Everything, in the order it is shown in. Takes some seconds, most of them for the rates of matrix products."""
    packages = [*_versions(), *_clashes()]
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        mend = _pip("install --force-reinstall", "torch")
        return [*packages, Finding("versions", "torch", f"cannot be imported: {error}", "broken", mend)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on what does not work; the trials find that themselves
        machine = [*_devices(), *_processor(), *_room(home)]
        return [*machine, *_precisions(), *_attention(), *_compiler(), *packages, *_imports()]


# What is installed

_IMPORTED = {
    "torchvision": ("torchvision", "pytorch/vision#8985: operator torchvision::nms does not exist"),
    "torchaudio": ("torchaudio", "as pytorch/vision#8985: built for one release of torch"),
    "xformers": ("xformers.ops", "axolotl-ai-cloud/axolotl#2313: built for one release of torch"),
    "flash-attn": ("flash_attn", "Dao-AILab/flash-attention#1832: undefined symbol in flash_attn_2_cuda"),
    "bitsandbytes": ("bitsandbytes", "bitsandbytes' page on installation: one binary for each version of CUDA"),
    "torchao": ("torchao.float8", "torchao's table of the versions of torch that it fits"),
    "transformers": ("transformers.models.gpt2.modeling_gpt2", "what transformers imports in its turn"),
}
"""Packages that break with another torch, some of which transformers imports when they are there: module, source."""


def _versions() -> Iterator[Finding]:
    """What Polyana's own requirements say about what is installed."""
    versions = {"Python": platform.python_version()}
    for requirement, optional in _requirements("polyana"):
        installed = _installed(requirement.name)
        if installed is None and not optional:
            found = "is not installed"
        elif installed is not None and not requirement.specifier.contains(installed, prereleases=True):
            found = f"{installed}, but Polyana needs {requirement.specifier}"
        else:
            versions |= {requirement.name: installed} if installed and not optional else {}
            continue
        mend = _pip("install", f"{requirement.name}{requirement.specifier}")
        yield Finding("versions", requirement.name, found, "broken", mend, "pyproject.toml")
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding("versions", "fit", shown, numbers=versions)


def _clashes() -> Iterator[Finding]:
    """What installed packages require of those that Polyana stands on, where it is not so."""
    ours = {canonicalize_name(requirement.name): requirement for requirement, _ in _requirements("polyana")}
    seen = {canonicalize_name("polyana")}
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"] or "")
        if name in seen:  # of two on the path the first is the one that is imported
            continue
        seen.add(name)
        for requirement, optional in _requirements(name):
            installed = _installed(requirement.name)
            if optional or installed is None or canonicalize_name(requirement.name) not in ours:
                continue
            if not requirement.specifier.contains(installed, prereleases=True):
                found = f"{distribution.version} needs {requirement.name}{requirement.specifier}, not {installed}"
                mend = _pip("install", f"{name}{ours[name].specifier}") if name in ours else _pip("uninstall -y", name)
                state: Literal["note", "broken"] = "broken" if name in {*ours, *_IMPORTED} else "note"
                yield Finding("clashes", name, found, state, mend, f"what {name} says it requires")


def _imports() -> Iterator[Finding]:
    """Packages with compiled parts that cannot be imported beside this torch."""
    ours = {requirement.name: requirement for requirement, _ in _requirements("polyana")}
    failed: list[str] = []
    for package, (module, source) in _IMPORTED.items():
        if _installed(package) is not None and (words := _import_fails(module)):
            found = f"{_installed(package)} beside torch {_installed('torch')} cannot be imported: {words}"
            mend = _pip("uninstall -y", package)  # Polyana does without it, so this always mends
            if package in ours:
                mend = _pip("install --force-reinstall", f"{package}{ours[package].specifier}")
                if failed:
                    found, mend = f"{found}; it may work once {', '.join(failed)} is mended", ""
            failed.append(package)
            yield Finding("clashes", package, found, "broken", mend, source)


def _import_fails(module: str) -> str:
    """What importing it ends with, in a process of its own, which it may take down; empty when it works."""
    command = [sys.executable, "-W", "ignore", "-c", f"import torch, {module}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode == 0:
        return ""
    return (process.stderr.strip().splitlines() or [f"ended with code {process.returncode}"])[-1]


def _requirements(package: str) -> Iterator[tuple[Requirement, bool]]:
    """(requirement, whether only an extra asks for it) of an installed package, for this system."""
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, lines):
        optional = "extra ==" in str(requirement.marker)
        here = optional or requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if here and canonicalize_name(requirement.name) != canonicalize_name(package):
            yield requirement, optional


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip(verb: str, package: str) -> str:
    return f"{shlex.quote(sys.executable)} -m pip {verb} {shlex.quote(package)}"


# The machine


def _devices() -> Iterator[Finding]:
    import torch

    from polyana.train import choose_precision

    nvidia = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    yield from _gpu_clash(nvidia, torch.version.cuda, torch.version.hip, torch.cuda.is_available(), torch.__version__)
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        found = f"{about.name}, compute capability {about.major}.{about.minor}, {show_bytes(about.total_memory)}"
        yield Finding("devices", f"cuda:{index}", found, numbers={"memory": about.total_memory})
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "Apple's GPU")
    chosen = choose_precision("auto")
    yield Finding("devices", "used", f"{chosen}", numbers={"device": chosen.device.type, "precision": chosen.format})


def _gpu_clash(nvidia: bool, cuda: str | None, hip: str | None, available: bool, version: str) -> Iterator[Finding]:
    """`nvidia`: whether the machine has NVIDIA's driver. cuda, hip: what torch was built for."""
    if not nvidia or available or hip is not None:
        return
    if cuda is None:
        found = f"this machine has an NVIDIA GPU, and torch {version} is the build for CPUs: the GPU is not used"
        plain = version.partition("+")[0]
        mend = _pip("install --force-reinstall", f"torch=={plain}")
        if sys.platform != "linux":  # where pip's torch is the build for CPUs
            mend = "the page Get started of PyTorch has the command for CUDA"
        yield Finding("devices", "cuda", found, "broken", mend, 'PyTorch, "Get started": builds differ by system')
    else:
        found = f"torch {version} is built for CUDA {cuda} and finds no GPU that it can use"
        mend = f"update NVIDIA's driver to one for CUDA {cuda} or newer; `nvidia-smi` says which it is for now"
        yield Finding("devices", "cuda", found, "broken", mend, 'NVIDIA, "CUDA Compatibility", driver versions')


def _processor() -> Iterator[Finding]:
    import torch

    capabilities = torch.cpu.get_capabilities()
    names = {"AVX2": "avx2", "AVX512": "avx512_f", "AVX512-BF16": "avx512_bf16", "AVX512-FP16": "avx512_fp16",
             "AMX": "amx_tile", "NEON": "neon", "SVE": "sve", "Arm BF16": "bf16"}  # fmt: skip
    sets = {name: bool(capabilities[key]) for name, key in names.items() if key in capabilities}
    shown = ", ".join(name if has else f"no {name}" for name, has in sets.items())
    yield Finding("processor", str(describe_environment()["processor"]), shown, numbers=sets)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    yield _crowding(_cores(), torch.get_num_threads(), load)


def _cores() -> int:
    """Cores that this process may use: of the machine, of its affinity, of its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        most, period = quota.read_text().split()
        if most != "max":
            cores = min(cores, max(1, round(int(most) / int(period))))
    return cores


def _crowding(cores: int, threads: int, load: float) -> Finding:
    """Threads that wait for a core hold up all others at every barrier: with one busy neighbour on two cores training
    fell to a fifteenth (docs/log.md). `load`: the load average of the last minute."""
    numbers = {"cores": cores, "threads": threads, "load": load}
    found = f"{cores} cores, {threads} threads, load {load:.1f}"
    free = max(1, cores - round(load))
    if threads > free:
        mend = f"OMP_NUM_THREADS={free} polyana run RECIPE"
        found += ": crowded, each step waits for the slowest thread"
        return Finding("processor", "cores", found, "note", mend, "docs/log.md", numbers)
    return Finding("processor", "cores", found, numbers=numbers)


def _room(home: Path) -> Iterator[Finding]:
    """Memory, and the disk that the Polyana home is or will be on."""
    from polyana.train import system_memory

    total, free = system_memory()
    found = f"{show_bytes(free)} of {show_bytes(total)} free"
    yield Finding("room", "memory", found, numbers={"total": total, "free": free})
    free = free_bytes(home)
    yield Finding("room", "disk", f"{show_bytes(free)} free for {home}", numbers={"free": free})


# What works


def _precisions() -> Iterator[Finding]:
    """Each format on each device: a linear layer forward and backward, and the rate of its matrix product."""
    import torch

    from polyana.train import DeviceFacts, choose_precision, this_device

    chosen = choose_precision("auto")
    devices = [this_device()] if chosen.device.type == "cpu" else [this_device(), DeviceFacts("cpu")]
    wishes: tuple[PrecisionWish, ...] = ("fp32", "bf16", "fp16")
    for facts, wish in itertools.product(devices, wishes):
        precision = choose_precision(wish, facts)
        what = f"{wish} on {facts.kind}"
        try:
            layer = torch.nn.Linear(64, 64).to(precision.device)
            with precision.autocast():
                layer(torch.randn(8, 64, device=precision.device)).sum().backward()
            rate = _rate(precision.device, precision.dtype)
        except Exception as error:
            needed = wish == "fp32" or (wish, facts.kind) == (chosen.format, chosen.device.type)
            mend, source = ("write another `precision`", "") if needed else ("", "")
            if "no kernel image" in str(error):  # torch is not built for a GPU as old as this
                mend, source = "install torch's build for CUDA 12.6, as Get started says", "pytorch/pytorch#172352"
            state: Literal["note", "broken"] = "broken" if needed else "note"
            yield Finding("precisions", what, f"does not work: {_sentence(error)}", state, mend, source)
        else:
            yield Finding("precisions", what, f"works, {rate:,.3g} GFLOP/s", numbers={"gflops": rate})


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a square matrix product, over half a second; of a size that takes some milliseconds."""
    import torch

    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, lambda: None)

    def seconds(size: int, least: float) -> float:
        matrix = torch.randn(size, size, device=device).to(dtype)
        count, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < least or not count:
            matrix @ matrix
            wait()
            count += 1
        return passed / count

    size = 256
    seconds(size, 0.0)  # the first product of a process also starts threads and libraries
    while size < 8192 and seconds(size, 0.0) < 5e-3:
        size *= 2
    return 2 * size**3 / seconds(size, _TRIAL) / 1e9


def _attention() -> Iterator[Finding]:
    """Each kind, forward and backward, on the device and in the format that `auto` chooses."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    from polyana.train import choose_precision

    chosen = choose_precision("auto")
    make = partial(torch.randn, device=chosen.device, dtype=chosen.dtype, requires_grad=True)

    def through(backend: SDPBackend) -> Any:
        with sdpa_kernel([backend]):
            return sdpa(heads, heads, heads, is_causal=True)

    def flex() -> Any:
        from torch.nn.attention.flex_attention import flex_attention

        return flex_attention(heads, heads, heads)

    def varlen() -> Any:
        from torch.nn.attention.varlen import varlen_attn

        ends = torch.tensor([0, 48, 128], dtype=torch.int32, device=chosen.device)
        return varlen_attn(rows, rows, rows, ends, ends, 80, 80)

    heads, rows = make(1, 2, 128, 64), make(128, 2, 64)
    kinds: dict[str, Callable[[], Any]] = {
        "sdpa": lambda: sdpa(heads, heads, heads, is_causal=True),
        "sdpa flash": partial(through, SDPBackend.FLASH_ATTENTION),
        "sdpa efficient": partial(through, SDPBackend.EFFICIENT_ATTENTION),
        "sdpa cudnn": partial(through, SDPBackend.CUDNN_ATTENTION),
        "sdpa math": partial(through, SDPBackend.MATH),
        "flex": flex,
        "varlen": varlen,
    }
    for what, attend in kinds.items():
        try:
            attend().float().sum().backward()
        except Exception as error:
            found = f"not in {chosen.format} on {chosen.device.type}: {_sentence(error)}"
            mend = _pip("install --force-reinstall", "torch") if what == "sdpa" else ""
            yield Finding("attention", what, found, "broken" if what == "sdpa" else "note", mend)
        else:
            yield Finding("attention", what, "works")


def _compiler() -> Iterator[Finding]:
    """What torch.compile needs on a CPU."""
    from polyana.models import CompilerMissing, try_compiler

    mend = (
        "apt-get install g++ python3-dev" if shutil.which("apt-get") else "install a C++ compiler and Python's headers"
    )
    if sys.platform == "darwin":
        mend = "xcode-select --install"
    try:
        yield Finding("compile", "C++", f"{try_compiler()} works, and so can torch.compile")
    except CompilerMissing as missing:
        yield Finding("compile", "C++", f"{missing}: torch.compile does not work on the CPU", "note", mend)


def _sentence(error: BaseException) -> str:
    """The first sentence of what an error says."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0].rstrip(".")


# What is shown


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings as plain data, and whether nothing is broken."""
    return {"well": _well(findings), "findings": [asdict(finding) for finding in findings]}


def picture(findings: list[Finding]) -> RenderableType:
    """A line for each finding; at the end what to do about those that are not well."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    colours = {"well": "green", "note": "yellow", "broken": "red"}
    marks = {"well": "", "note": "note", "broken": "broken"}
    topic = ""
    for each in findings:
        shown = each.topic if each.topic != topic else ""
        topic = each.topic
        table.add_row(Text(shown, "bold"), each.what, Text(marks[each.state], colours[each.state]), Text(each.found))
    ends: list[RenderableType] = []
    for state, heading in (("note", "could be better"), ("broken", "broken, mend with")):
        mends = {each.mend: each for each in findings if each.state == state and each.mend}  # each command once
        ends += [Text(f"\n{heading}", colours[state])] if mends else []
        for each in mends.values():
            source = f"  ({each.source})" if each.source else ""
            ends.append(Text(f"  {each.topic} {each.what}{source}\n    {each.mend}"))
    verdict = "\nall is well" if _well(findings) else ""
    return Group(table, *ends, *([Text(verdict, "green")] if verdict else []))


def _well(findings: list[Finding]) -> bool:
    return all(finding.state != "broken" for finding in findings)
