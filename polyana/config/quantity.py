"""Values with units: `2 epochs`, `500 steps`, `2B tokens`, `32 sequences`, `30 minutes`, `20 GB`, `5%`.

Sizes are decimal (1 GB = 10^9 bytes) and binary when written so (1 GiB = 2^30 bytes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

__all__ = ["Batch", "Duration", "Every", "Portion", "Quantity", "SaveEvery", "Share", "Size", "Steps", "Tokens", "Wait"]

_MULTIPLIERS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}
_BYTES = {
    "bytes": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_EXAMPLES = {"sequences": "32 sequences", "epochs": "2 epochs", "steps": "500 steps", "saves": "5 saves",
             "tokens": "2B tokens", "minutes": "30 minutes", "GB": "20 GB", "%": "5%"}  # fmt: skip
_NUMBER = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*(.*)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount of something; `unit` is always the plural, the amount has its k, M, B, T multiplied in."""

    amount: float
    unit: str

    def __str__(self) -> str:
        unit = self.unit[:-1] if self.amount == 1 and self.unit.endswith("s") else self.unit
        amount = int(self.amount) if self.amount == int(self.amount) else self.amount
        return f"{amount}{'' if unit == '%' else ' '}{unit}"

    @property
    def seconds(self) -> float:
        return self.amount * _SECONDS[self.unit]

    @property
    def bytes(self) -> int:
        return round(self.amount * _BYTES[self.unit])


def parse_quantity(text: object, units: tuple[str, ...]) -> Quantity:
    """Read `text` as an amount of one of `units`. Raises ValueError with what to write instead."""
    if isinstance(text, Quantity):
        return text
    wanted = " or ".join(f"`{_EXAMPLES[unit]}`" for unit in units if unit in _EXAMPLES)
    match = _NUMBER.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f"`{text}` is not an amount with a unit; write {wanted}")
    amount, spelled = float(match[1].replace(",", "").replace("_", "")), match[2].replace(" ", "")
    if not spelled:
        raise ValueError(f"`{text}` has no unit; write {wanted}")
    spellings = {spelling: meaning for unit in units for spelling, meaning in _spellings(unit)}
    if spelled not in spellings:
        raise ValueError(f"`{text}`: the unit `{match[2]}` does not fit here; write {wanted}")
    factor, unit = spellings[spelled]
    return _positive(Quantity(amount * factor, unit), text)


def _spellings(unit: str) -> Iterator[tuple[str, tuple[float, str]]]:
    """Every way to write `unit`, with what the amount is multiplied by: `tokens`, `token`, `Btokens`, ..."""
    if unit in _BYTES:
        yield unit, (1.0, unit)
        return
    multipliers = _MULTIPLIERS if unit in ("steps", "tokens", "sequences") else {"": 1.0}
    for prefix, factor in multipliers.items():
        yield prefix + unit, (factor, unit)
        yield prefix + unit.removesuffix("s"), (factor, unit)


def _positive(quantity: Quantity, text: object) -> Quantity:
    if math.isinf(quantity.amount):
        raise ValueError(f"`{text}` is more than a number can hold")
    if quantity.amount < 0 or (quantity.amount == 0 and quantity.unit != "%"):
        raise ValueError(f"`{text}` should be more than nothing")
    if quantity.unit in ("steps", "saves", "sequences", "tokens") and quantity.amount != round(quantity.amount):
        raise ValueError(f"`{text}` should be a whole number of {quantity.unit}")
    return quantity


def _parser(*units: str) -> Callable[[object], Quantity]:
    return lambda text: parse_quantity(text, units)


def _share(text: Any) -> Any:
    if isinstance(text, str):
        try:
            return float(text.strip().removesuffix("%")) / 100 if text.strip().endswith("%") else float(text)
        except ValueError:
            raise ValueError(f"`{text}` is not a share; write `5%` or 0.05") from None
    return text


Duration = Annotated[Quantity, BeforeValidator(_parser("epochs", "steps", "tokens")), PlainSerializer(str)]
"""How long to train or warm up. Time is not offered: a run cut by the clock could not be repeated."""

Every = Annotated[Quantity, BeforeValidator(_parser("steps", "epochs", "tokens", *_SECONDS)), PlainSerializer(str)]
"""How often something is done during training."""

SaveEvery = Annotated[Quantity, BeforeValidator(_parser("saves", "steps")), PlainSerializer(str)]
"""How often something is done with saves."""

Portion = Annotated[Quantity, BeforeValidator(_parser("%", "steps", "epochs", "tokens")), PlainSerializer(str)]
"""A part of a training run: a length, or a share of the whole as `5%`."""

Wait = Annotated[Quantity, BeforeValidator(_parser(*_SECONDS)), PlainSerializer(str)]
"""Time by the clock."""

Steps = Annotated[Quantity, BeforeValidator(_parser("steps")), PlainSerializer(str)]
Tokens = Annotated[Quantity, BeforeValidator(_parser("tokens")), PlainSerializer(str)]
Batch = Annotated[Quantity, BeforeValidator(_parser("sequences", "tokens")), PlainSerializer(str)]
Size = Annotated[Quantity, BeforeValidator(_parser(*_BYTES)), PlainSerializer(str)]
"""Bytes of a memory or a disk."""

Share = Annotated[float, BeforeValidator(_share)]
"""A part of a whole, between 0 and 1; `5%` reads as 0.05."""
