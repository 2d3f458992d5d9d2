"""What the C library does with memory that was freed: kept for whoever asks next, or given back to the system.

glibc maps what is large afresh each time it is asked for, and gives it back at once; the kernel then clears every page
anew at its first touch. Where the same large arrays come and go, that is a good part of the time. Elsewhere than on
Linux with glibc nothing changes.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back", "keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


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
