"""Memory that torch gives back is kept for the next step.

A training step asks for the same large tensors again and again. glibc maps anything above 32 MB afresh each time and
gives it back to the system at once; the kernel then clears every page anew at its first touch. Measured on a step of a
22M GPT-2 (vocabulary 30,000, 4,096 tokens, two cores): 353,181 page faults, 2.8 s; with memory kept, 3 faults, 1.7 s.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Tell the C library of this process to hand freed memory out again instead of returning it to the system.

    Whether it could: only glibc has these settings (mallopt(3)); elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
