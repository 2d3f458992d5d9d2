"""What resuming needs, and nothing else: weights, optimizer, random numbers, position.

    state/step-00000100/    model.safetensors   the same file as in the registry (a hard link); of an adapter its
                                                adapter_model.safetensors
                            optimizer.pt        the optimizer's memory and torch's random state of each rank
                            shards/             that memory instead, where it is cut up among the ranks: torch's
                                                distributed checkpoint, written by all of them while training goes on
                            state.json          the position, and each file's SHA-256

A state appears by one rename, so it is whole or not there. The last two are kept: should the newer one be damaged, the
older one is used. Any strategy reads what any other has written, whatever the number of ranks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from polyana.distributed import Strategy
from polyana.errors import Damaged
from polyana.models import stored_weights
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


@dataclass
class State:
    """What a state holds besides the weights. `content` goes into optimizer.pt, `shards` into shards/.

    `arithmetic`: what must be the same on resuming for the run to be bit for bit the same.
    """

    position: Position
    arithmetic: dict[str, str]
    content: dict[str, Any]
    shards: dict[str, torch.Tensor]


class StateStore:
    """The states of one run. Rank 0 calls `write`; all ranks together call the rest."""

    def __init__(self, directory: Path, strategy: Strategy) -> None:
        self._directory, self._strategy = directory, strategy
        self._background = ThreadPoolExecutor(1)
        self._pending: Future[Any] | None = None

    def take(self, position: Position, optimizer: Optimizers, arithmetic: dict[str, str]) -> State:
        """What is to be saved now. The state before it is whole when this returns; raises what went wrong with it."""
        self.wait()
        saved = optimizer.state_dict()
        saved["state"], shards = self._strategy.take_shards(saved["state"])
        content = {"optimizer": saved, "random": self._strategy.world.gather(_random_state())}
        return State(replace(position), arithmetic, content, shards)

    def write(self, state: State, link_weights: Callable[[Path], None]) -> None:
        """Write a state; `link_weights(path)` puts model.safetensors at `path`. Older states than two go.

        Done again after an error it comes to the same. One with shards is whole only some time after `write_shards`.
        """
        if not state.shards:
            self._finish(state, link_weights)
            return
        arriving = self._arriving(state)
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir()
        link_weights(arriving / "model.safetensors")  # while the commit is sure to be there

    def write_shards(self, state: State) -> None:
        """Begin to write the shards of a state, after `write`."""
        if not state.shards:
            return
        arriving = self._arriving(state)
        written = self._strategy.write_shards(state.shards, arriving / "shards")
        self._pending = written
        if self._strategy.world.main:

            def finish() -> None:
                written.result()
                self._finish(state, (arriving / "model.safetensors").rename, arriving / "shards")
                arriving.rmdir()

            self._pending = self._background.submit(finish)

    def wait(self) -> None:
        """Return when the last state is whole on the disk; raises what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _arriving(self, state: State) -> Path:
        return self._directory / f".arriving-{state.position.step:08d}"

    def _finish(self, state: State, bring_weights: Callable[[Path], Any], shards: Path | None = None) -> None:
        with building(self._directory / f"step-{state.position.step:08d}", replace=True) as directory:
            bring_weights(directory / "model.safetensors")
            if shards is not None:
                shards.rename(directory / "shards")
            with (directory / "optimizer.pt").open("wb") as stream:  # given a path, torch hides that a disk is full
                torch.save(state.content, stream)
            files = {str(path.relative_to(directory)): sha256_of(path) for path in _files(directory)}
            about = {"position": asdict(state.position), "arithmetic": state.arithmetic, "files": files}
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
        found = self._strategy.world.from_main(lambda: self._newest(warn))
        if found is None:
            return None
        directory, about = found
        _load_weights(model, directory / "model.safetensors", self._strategy)
        content = torch.load(directory / "optimizer.pt", weights_only=True, map_location="cpu")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._strategy.put_shards(content["optimizer"]["state"], directory / "shards", parameters)
        optimizer.load_state_dict(content["optimizer"])
        rank = self._strategy.world.rank
        if rank < len(content["random"]):  # a rank that was not there keeps what it was seeded with
            _set_random_state(content["random"][rank])
        for name, now in arithmetic.items():
            before = about["arithmetic"].get(name, now)  # a state of an earlier version may not say
            if before != now:
                warn(
                    f"this run was saved with {name} {before} and goes on with {now}: rounding "
                    "differs, so it will not be bit for bit what it would have been"
                )
        return Position(**about["position"])

    def _newest(self, warn: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
        """The newest undamaged state's directory and state.json. What never became a state goes."""
        for leftover in (*self._directory.glob(".arriving-*"), *self._directory.glob(".half-*")):
            shutil.rmtree(leftover)
        saved = self._saved()
        for directory in reversed(saved):
            try:
                about = _checked(directory)
            except Damaged as damage:
                warn(f"{damage}; going back to the state before it")
                continue
            return directory, about
        if saved:
            raise Damaged(f"every saved state in {self._directory} is damaged; start again with --fresh")
        return None

    def _saved(self) -> list[Path]:
        """The states' directories, oldest first."""
        return sorted(self._directory.glob("step-*"))


def _load_weights(model: torch.nn.Module, path: Path, strategy: Strategy) -> None:
    """Every rank reads what it needs: what is trained. Of tied weights the file holds one name."""
    named = stored_weights(model, strategy.saved(model))
    with safe_open(path, framework="pt") as file, torch.no_grad():
        names = {name: named[name] for name in file.keys()}  # noqa: SIM118
        missing = {id(tensor) for tensor in named.values()} - {id(tensor) for tensor in names.values()}
        assert not missing, f"{path} does not hold all that is trained"
        for name, tensor in names.items():
            tensor.copy_(strategy.place(file.get_tensor(name), tensor))


def _random_state() -> dict[str, torch.Tensor]:
    """Of dropout, on the processor and on this rank's GPU."""
    gpu = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **gpu}


def _set_random_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


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
