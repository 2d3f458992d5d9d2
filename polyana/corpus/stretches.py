"""A part of a long text that stands for all of it."""

from __future__ import annotations

__all__ = ["stretches"]


def stretches(text: str, count: int, length: int) -> str:
    """All of a text, or of one longer than `count * length` characters so many stretches from its first to its last."""
    if len(text) <= count * length:
        return text
    step = (len(text) - length) / (count - 1)
    return " ".join(text[int(at * step) : int(at * step) + length] for at in range(count))
