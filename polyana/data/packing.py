"""Putting texts of different lengths into sequences so that little room is left over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_fit"]


def best_fit(lengths: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The sequence that each text goes into, numbered from 0: best-fit decreasing (Johnson 1974; for language models
    Ding et al. 2024, "Fewer truncations improve language modeling").

    `lengths`: at most `capacity` each. The longest text comes first and goes where it leaves the least room.
    """
    bins = np.empty(len(lengths), dtype=np.int64)
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # sequences by the room they have left
    rooms = opened = 0  # bit r of `rooms`: there is a sequence with room for r tokens
    order = np.argsort(-lengths, kind="stable")
    for text, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            place = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, place = capacity, opened
            opened += 1
        bins[text] = place
        with_room[room - length].append(place)
        rooms |= 1 << (room - length)
    return bins
