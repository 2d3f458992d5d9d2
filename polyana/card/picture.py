"""Two curves as a PNG: small, without a library for pictures, and the same bytes for the same numbers."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from polyana.card.curves import Curve

__all__ = ["draw"]

_WIDTH, _HEIGHT, _LEFT, _BELOW, _MARGIN = 720, 360, 64, 32, 14
_COLOURS = bytes.fromhex("ffffffe2e2e25555559db8d9d1495b")  # ground, grid, letters, training, evaluation
_GROUND, _GRID, _LETTERS, _TRAIN, _EVAL = range(5)
_FONT = {  # rows of three pixels, the top one in the highest bits
    "0": 0o75557, "1": 0o26227, "2": 0o71747, "3": 0o71717, "4": 0o55711, "5": 0o74717, "6": 0o74757, "7": 0o71122,
    "8": 0o75757, "9": 0o75717, ".": 0o00002, "k": 0o45655, "M": 0o57755, "-": 0o00700, "e": 0o02747,
}  # fmt: skip


def draw(train: Curve, evaluation: Curve) -> bytes:
    """Training loss in blue, evaluation loss in red, by step. Not-finite losses are left out."""
    picture = np.zeros((_HEIGHT, _WIDTH), np.uint8)
    curves = [[point for point in curve if np.isfinite(point[1])] for curve in (train, evaluation)]
    losses = [loss for curve in curves for _, loss in curve] or [0.0]
    last = max([1, *(step for curve in curves for step, _ in curve)])
    low, high = min(losses), max(losses)
    high = high if high > low else low + 1.0
    right, bottom = _WIDTH - _MARGIN, _HEIGHT - _BELOW

    def place(step: float, loss: float) -> tuple[int, int]:
        x = _LEFT + (right - _LEFT) * step / last
        return round(x), round(_MARGIN + (bottom - _MARGIN) * (high - loss) / (high - low))

    for loss in _round_numbers(low, high):
        _, y = place(0, loss)
        picture[y, _LEFT:right] = _GRID
        _write(picture, f"{loss:.4g}", _LEFT - 6, y - 5)
    for step in map(round, _round_numbers(0, last, whole=True)):
        x, _ = place(step, low)
        picture[_MARGIN:bottom, min(x, right - 1)] = _GRID
        _write(picture, _short(step), min(x + 4 * len(_short(step)), _WIDTH - 4), bottom + 10)
    for curve, colour in zip(curves, (_TRAIN, _EVAL), strict=True):
        points = [place(*point) for point in curve]
        for (x, y), (to_x, to_y) in zip(points[:1] + points, points, strict=False):
            count = max(abs(to_x - x), abs(to_y - y), 1)
            xs, ys = np.linspace([x, y], [to_x, to_y], count + 1).round().astype(int).T
            for more in (0, 1):  # two pixels wide
                picture[np.minimum(ys + more, _HEIGHT - 1), np.minimum(xs, _WIDTH - 1)] = colour
    return _png(picture)


def _round_numbers(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Four to nine numbers that people count by, from `low` to `high`; `whole`: or fewer, without fractions."""
    least = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(least))
    apart = max(part * power for part in (1, 2, 5) if part * power <= least)
    apart = max(apart, 1.0) if whole else apart
    return [number * apart for number in range(math.ceil(low / apart), math.floor(high / apart) + 1)]


def _short(number: int) -> str:
    return f"{number / 1e6:.3g}M" if number >= 999_500 else f"{number / 1e3:.3g}k" if number >= 10**4 else str(number)


def _write(picture: NDArray[np.uint8], text: str, right: int, top: int) -> None:
    """Letters of 6 x 10 pixels that end at `right`."""
    for place, letter in enumerate(reversed(text)):
        bits = np.array([int(bit) for bit in f"{_FONT.get(letter, 0):015b}"], np.uint8).reshape(5, 3)
        large = np.kron(bits, np.ones((2, 2), np.uint8)) * _LETTERS
        x = right - 8 * place - 6
        if 0 <= x <= _WIDTH - 6 and 0 <= top <= _HEIGHT - 10:
            picture[top : top + 10, x : x + 6] |= large


def _png(picture: NDArray[np.uint8]) -> bytes:
    """A picture of numbers of colours (ISO 15948)."""
    height, width = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture], axis=1).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)), (b"PLTE", _COLOURS),
        (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""),
    )  # fmt: skip
    packed = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
              for name, data in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
