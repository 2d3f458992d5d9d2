"""Tensors that training lends to the thread that saves them: nobody waits while they are read.

Weights and the optimizer's memory change in one place, where a step updates them; between two updates lie a forward and
a backward pass. Whoever saves has that long to read them where they lie, without a copy (Mohan et al. 2021, CheckFreq,
section 4.1, copies meanwhile). Only when an update comes first is there a copy of what is not on the disk yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import torch

from polyana.models import copy_bytes

__all__ = ["Lent"]


class Lent:
    """Tensors to be read as they are now, for as long as it takes. `give_back` is what the reader calls when it needs
    some no longer, `take_back` what must be called before they change."""

    def __init__(self, tensors: Iterable[torch.Tensor], room: Callable[[], int]) -> None:
        """`tensors`: contiguous ones on the CPU. `room`: bytes of memory that copies may take."""
        self._room = room
        self._changed = threading.Condition()
        self._lent = {_place(tensor): tensor for tensor in tensors if tensor.numel()}
        self._copies: dict[tuple[int, int], torch.Tensor] = {}
        self._taken_back = False

    def copy(self, tensor: torch.Tensor, first: int, into: memoryview) -> None:
        """Fill `into` with the bytes that a tensor had when it was lent, from `first` on."""
        with self._changed:
            copy_bytes(self._copies.get(_place(tensor), tensor), first, into)

    def give_back(self, tensors: Iterable[torch.Tensor]) -> None:
        """They are not read again."""
        with self._changed:
            for tensor in tensors:
                self._lent.pop(_place(tensor), None)
                self._copies.pop(_place(tensor), None)
            self._changed.notify_all()

    def give_back_all(self) -> None:
        with self._changed:
            self._lent.clear()
            self._copies.clear()
            self._changed.notify_all()

    def take_back(self) -> None:
        """Return when all may change: at once when all are given back, else when the others are copied. Where memory
        has no room for that, waits until they are given back."""
        if self._taken_back:
            return
        with self._changed:
            if sum(tensor.nbytes for tensor in self._lent.values()) > self._room():
                self._changed.wait_for(lambda: not self._lent)
            self._copies = {place: tensor.clone() for place, tensor in self._lent.items()}
            self._taken_back = True


def _place(tensor: torch.Tensor) -> tuple[int, int]:
    """Where it lies; of those that begin together, as parts of one do, how far it goes."""
    return tensor.data_ptr(), tensor.nbytes
