"""What the C library does with memory that was freed: kept for whoever asks next, or given back to the system.

glibc maps what is large afresh each time it is asked for, and gives it back at once; the kernel then clears every page
anew at its first touch. Where the same large arrays come and go, that is a good part of the time. Elsewhere than on
Linux with glibc nothing changes.

And what torch keeps of bf16 products on a CPU: a kernel for every shape that it has met, twice, at 150 KB each.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["bound_kernels", "give_back", "keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc

_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "16"}
"""How many oneDNN keeps, and torch above it (ideep); both 1024 of their own. Where texts differ in length nearly every
step has shapes of its own: a 30M GPT-2 met 65 new ones a step, and held 38 MB more after each, up to 560 MB. A step's
own fit into 128. CPU seconds of five steps at (1024, 1024), (128, 128), (128, 8) and (64, 8): 2.04, 2.08, 1.91, 1.91;
the peak after eight steps: 1,440, 1,245, 1,245 and 1,164 MB."""


def bound_kernels() -> None:
    """Keep few kernels of matrix products, unless the environment says how many. Heeded before the first of them."""
    for name, most in _KERNELS.items():
        os.environ.setdefault(name, most)


def keep_freed_memory() -> bool:
    """Let this process hand freed memory out again instead of returning it. Whether it could (mallopt(3))."""
    mallopt = _function("mallopt")
    return bool(mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def give_back() -> None:
    """Return what is free now (malloc_trim(3))."""
    if trim := _function("malloc_trim"):
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
