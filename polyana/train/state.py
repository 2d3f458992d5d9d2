"""What resuming needs, and nothing else: weights, optimizer, random numbers, position.

    state/step-00000100/    model.safetensors   the same file as in the registry (a hard link)
                            optimizer.pt        the optimizer's memory and torch's random state
                            state.json          the position, and each file's SHA-256

A state appears by one rename, so it is whole or not there. The last two are kept: should the newer one be damaged, the
older one is used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model

from polyana.errors import Damaged
from polyana.storage import building, read_json, sha256_of, write_json
from polyana.train.optimizer import Optimizers

__all__ = ["Position", "StateStore"]

_KEPT = 2


@dataclass
class Position:
    """How far a run has come."""

    step: int = 0
    sequences: int = 0
    tokens: int = 0
    seconds: float = 0.0  # spent in training steps, over all attempts
    lowest_loss: float | None = None  # of eval/loss so far
    evaluations_since: int = 0  # evaluations after the one that gave it
    stopped_early: bool = False
    loss_scale: float | None = None  # of fp16
    clean_steps: int = 0  # since it changed, none of which overflowed


class StateStore:
    """The states of one run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(
        self,
        position: Position,
        link_weights: Callable[[Path], None],
        optimizer: Optimizers,
        arithmetic: dict[str, str],
    ) -> None:
        """Write a state; `link_weights(path)` puts model.safetensors at `path`. Older states than two go.

        `arithmetic`: what must be the same on resuming for the run to be bit for bit the same.
        """
        with building(self._directory / f"step-{position.step:08d}", replace=True) as directory:
            link_weights(directory / "model.safetensors")
            content = {"optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
            with (directory / "optimizer.pt").open("wb") as stream:  # given a path, torch hides that a disk is full
                torch.save(content, stream)
            files = {path.name: sha256_of(path) for path in sorted(directory.iterdir())}
            about = {"position": asdict(position), "arithmetic": arithmetic, "files": files}
            write_json(directory / "state.json", about)
        for outdated in self._saved()[:-_KEPT]:
            shutil.rmtree(outdated)

    def load(
        self,
        model: torch.nn.Module,
        optimizer: Optimizers,
        arithmetic: dict[str, str],
        warn: Callable[[str], None],
    ) -> Position | None:
        """Put the newest undamaged state into `model` and `optimizer`; None when the run never saved.

        Raises Damaged when states are there and none of them is whole.
        """
        saved = self._saved()
        for directory in reversed(saved):
            try:
                about = _checked(directory)
            except Damaged as damage:
                warn(f"{damage}; going back to the state before it")
                continue
            load_model(model, directory / "model.safetensors", device="cpu")
            content = torch.load(directory / "optimizer.pt", weights_only=True, map_location="cpu")
            optimizer.load_state_dict(content["optimizer"])
            torch.set_rng_state(content["random"])
            for name, now in arithmetic.items():
                if about["arithmetic"][name] != now:
                    warn(
                        f"this run was saved with {name} {about['arithmetic'][name]} and goes on with {now}: rounding "
                        "differs, so it will not be bit for bit what it would have been"
                    )
            return Position(**about["position"])
        if saved:
            raise Damaged(f"every saved state in {self._directory} is damaged; start again with --fresh")
        return None

    def _saved(self) -> list[Path]:
        """The states' directories, oldest first."""
        return sorted(self._directory.glob("step-*"))


def _checked(directory: Path) -> dict[str, Any]:
    """state.json, once every file has the checksum it gives. Raises Damaged."""
    if not (directory / "state.json").is_file():
        raise Damaged(f"{directory} is damaged: state.json is missing")
    about = read_json(directory / "state.json")
    for name, digest in about["files"].items():
        path = directory / name
        if not path.is_file() or sha256_of(path) != digest:
            raise Damaged(f"{path} is damaged: its checksum is not the one it was saved with")
    return dict(about)
