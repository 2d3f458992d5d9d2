"""What a process holds in memory, and that what torch gives back is kept for the next step.

A training step asks for the same large tensors again and again. Measured on a step of a 22M GPT-2 (vocabulary 30,000,
4,096 tokens, two cores): 353,181 page faults, 2.8 s; with freed memory kept, 3 faults, 1.7 s.

Where texts differ in length, each step leaves holes that the next one's tensors do not fit into, and what is kept grows
(7M GPT-2, packing documents: 1.45 GB after the first step, 2.25 GB after 55). So now and then the holes are given back.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import torch

from polyana.heap import give_back, keep_freed_memory

__all__ = [
    "KeptMemory",
    "available_bytes",
    "forget_peak",
    "held_bytes",
    "peak_bytes",
    "shared_bytes",
    "system_memory",
]

_MOST_KEPT = 1.15  # as near as `polyana plan` promises to be


class KeptMemory:
    """Bounds what is kept: a step begins with at most `_MOST_KEPT` times what one needs that begins without holes;
    where more is held, the holes are given back first. Such a step takes a sixth longer (measured on the GPT-2 above,
    where one in nine does)."""

    def __init__(self, *, differing: bool) -> None:
        """`differing`: whether texts differ in length. The first two steps, in a heap without holes, then need less
        than any later one (5 to 16 % on an 8M GPT-2), so the third begins without them and says how much."""
        gc.collect()  # what was needed before training: a reference scored, a base converted. Models hold themselves
        give_back()
        self._keeps = keep_freed_memory()
        self._learning = 3 if differing else 2  # steps; the first one of a process finds no kernels made yet
        self._taken = 0
        self._needed = 0  # held after a step that began without holes
        self._held = self._grown = 0  # before this step; by how much more after any that began with holes
        self._trimmed = False  # before this step

    @property
    def most(self) -> int:
        """Bytes that training comes to, in time, where texts differ in length: the bound, and the new holes of the
        step that goes beyond it. 0 where nothing is kept."""
        return self._bound + self._grown

    @property
    def _bound(self) -> int:
        return round(_MOST_KEPT * self._needed)

    def before_step(self) -> None:
        if not self._keeps:
            return
        self._held = _status("VmRSS") or 0
        learned = self._taken >= self._learning
        self._trimmed = self._held > self._bound if learned else self._taken == 2
        if self._trimmed:
            give_back()

    def after_step(self) -> None:
        if not self._keeps:
            return
        held = _status("VmRSS") or 0
        self._taken += 1
        if self._taken <= self._learning or (self._trimmed and held > self._bound):
            self._needed = max(self._needed, held)
        elif not self._trimmed:
            self._grown = max(self._grown, held - self._held)


def held_bytes(device: torch.device) -> int:
    """What this process holds of `device`'s memory now: resident memory, or what torch has allocated of a GPU's (not
    run on a GPU yet)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS") or _largest_ever()


def shared_bytes(device: torch.device) -> int:
    """What of `held_bytes` other processes of this program hold together with this one: the libraries' files."""
    return 0 if device.type == "cuda" else _status("RssFile") or 0


def peak_bytes(device: torch.device) -> int:
    """The most that this process has held of it since `forget_peak`; on systems other than Linux since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") or _largest_ever()


def forget_peak(device: torch.device) -> None:
    """Let `peak_bytes` begin anew with what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # man proc(5): resets VmHWM


def available_bytes(device: torch.device) -> int:
    """What this process can still have of `device`'s memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return system_memory()[1]


def system_memory() -> tuple[int, int]:
    """Bytes of this machine, and what of them can still be had without swapping: of its container where that has less.
    On systems other than Linux nothing is taken to be in use."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        whole = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return whole, whole
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    total, free = ([int(lines[name].split()[0]) * 1024] for name in ("MemTotal", "MemAvailable"))
    for limit, used in (
        ("memory.max", "memory.current"),  # control groups of version 2, and of version 1
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        paths = [Path("/sys/fs/cgroup", name) for name in (limit, used)]
        if all(path.is_file() for path in paths):
            most, taken = (path.read_text().strip() for path in paths)
            if most.isdigit():
                total, free = [*total, int(most)], [*free, int(most) - int(taken)]
    return min(total), max(min(free), 0)


def _status(name: str) -> int | None:
    """A line of /proc/self/status in bytes."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    return int(status.read_text().split(f"{name}:")[1].split()[0]) * 1024


def _largest_ever() -> int:
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # getrusage(2): macOS counts bytes
