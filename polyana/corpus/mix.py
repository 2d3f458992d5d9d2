"""How often a document of each domain is given to training, so that the domains are in balance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import Config, KeyPath

__all__ = ["Balance", "MixConfig", "balance", "copies_of"]


class MixConfig(Config):
    """Shares of the training text by domain."""

    weights: dict[str, float] = Field(
        {}, description="share of each domain, as `{books: 3, web: 1}`; those not named keep what they have"
    )
    temperature: float = Field(
        1.0,
        ge=1,
        description="without `weights`: sizes to the power 1/temperature, so that small domains count for more "
        "(Conneau et al. 2020, section 3.1, where 1/temperature is alpha)",
    )
    max_epochs: float = Field(
        4.0,
        gt=0,
        description="a document is given at most so often; up to 4 times does as well as new text "
        "(Muennighoff et al. 2023, section 5)",
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.weights and self.temperature != 1:
            yield ("temperature",), "`temperature` makes the weights from sizes; leave it or `weights` out"
        for name, weight in self.weights.items():
            if weight < 0:
                yield ("weights", name), f"`{name}: {weight:g}` is below 0; write 0 to leave the domain out"
        if self.weights and not sum(self.weights.values()) > 0:
            yield ("weights",), "all weights are 0, so there would be nothing to train on"


@dataclass(frozen=True)
class Balance:
    """Of one domain: bytes there are, its share asked for, how often each document is given, and the share it gets."""

    bytes: int
    asked: float
    epochs: float
    share: float

    def as_data(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "asked": self.asked, "epochs": self.epochs, "share": self.share}


def balance(config: MixConfig, sizes: dict[str, int]) -> dict[str, Balance]:
    """For domains of `sizes` bytes. The whole stays as large as it is, unless a domain reaches `max_epochs`.

    The share of an empty one goes to the others.
    """
    total = sum(sizes.values())
    if not total:
        return {name: Balance(0, 0.0, 1.0, 0.0) for name in sizes}
    if config.weights:
        unnamed = sum(size for name, size in sizes.items() if name not in config.weights)
        named = sum(weight for name, weight in config.weights.items() if name in sizes) or 1.0
        asked = {
            name: config.weights[name] / named * (1 - unnamed / total) if name in config.weights else size / total
            for name, size in sizes.items()
        }
    else:
        powers = {name: size ** (1 / config.temperature) for name, size in sizes.items()}
        asked = {name: power / sum(powers.values()) for name, power in powers.items()}
    there = sum(asked[name] for name, size in sizes.items() if size) or 1.0  # of an empty domain nothing can be given
    epochs = {
        name: min(config.max_epochs, asked[name] / there * total / size) if size else 0.0
        for name, size in sizes.items()
    }
    given = {name: epochs[name] * size for name, size in sizes.items()}
    whole = sum(given.values()) or 1.0
    return {name: Balance(size, asked[name], epochs[name], given[name] / whole) for name, size in sizes.items()}


def copies_of(epochs: NDArray[np.float64], lots: NDArray[np.float64]) -> NDArray[np.int64]:
    """How often each document is given: its epochs rounded down, or up where its lot in [0, 1) says so."""
    whole = np.floor(epochs)
    return (whole + (lots < epochs - whole)).astype(np.int64)
