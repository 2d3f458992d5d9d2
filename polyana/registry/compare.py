"""Two commits side by side."""

from __future__ import annotations

from dataclasses import asdict
from math import sqrt
from pathlib import Path
from typing import Any

from polyana.registry.commit import Commit
from polyana.registry.difference import by_layer, settings_that_differ, weight_distances
from polyana.registry.repository import Repository
from polyana.storage import changes

__all__ = ["compare_commits"]

_SETTINGS = ("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json")


def compare_commits(one: tuple[Repository, Commit], other: tuple[Repository, Commit]) -> dict[str, Any]:
    """settings: file -> what differs, the recipes' among them; metrics: name -> (a, b); tensors, layers: how far their
    weights lie apart; relative: all of these as one vector. Neither commit goes away meanwhile."""
    with one[0].holding(one[1]) as first, other[0].holding(other[1]) as second:
        settings = settings_that_differ(first, second, _SETTINGS)
        if recipe := _recipes_that_differ(one, other):
            settings["recipe"] = recipe
        distances = list(weight_distances(_weights(first), _weights(second)))
    ours, theirs = one[1].metrics, other[1].metrics
    compared = [each for each in distances if not each.why]
    norm = sqrt(sum(each.norm**2 for each in compared))
    return {
        "settings": settings,
        "metrics": {name: (ours.get(name), theirs.get(name)) for name in ours | theirs},
        "tensors": [asdict(each) | {"relative": each.relative} for each in distances],
        "layers": [asdict(each) | {"relative": each.relative} for each in by_layer(distances)],
        "relative": sqrt(sum(each.difference**2 for each in compared)) / norm if norm else 0.0,
    }


def _weights(directory: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(directory.glob("*.safetensors"))}


def _recipes_that_differ(one: tuple[Repository, Commit], other: tuple[Repository, Commit]) -> list[str]:
    """What two runs' resolved recipes differ in; of a run that went on with another recipe only the last is there."""
    if one[1].recipe == other[1].recipe:
        return []
    paths = [repository.path.parent.parent / "runs" / repository.run / "recipe.yaml" for repository, _ in (one, other)]
    if one[0].run == other[0].run or not all(path.exists() for path in paths):
        return [f"was {one[1].recipe[:12]}, is {other[1].recipe[:12]}; what it says is not known any more"]
    from polyana.config import read_yaml

    before, after = (read_yaml(path).data for path in paths)
    return changes(before, after) or ["differs in what changes nothing that is learned"]
