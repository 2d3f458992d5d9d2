"""What resuming needs, and nothing else: weights, optimizer, random numbers, position.

    state/step-00000100/    model.safetensors   the same file as in the registry (a hard link); of an adapter its
                                                adapter_model.safetensors
                            optimizer.safetensors  the optimizer's memory: each tensor as PARAMETER.NAME
                            shards/             that memory instead, where it is cut up among the ranks: torch's
                                                distributed checkpoint, written by all of them
                            optimizer.pt        what else it has, and torch's random state of each rank
                            state.json          the position, and each file's checksum

All of it is written while training goes on. A state appears by one rename, so it is whole or not there. The last two
are kept: should the newer one be damaged, the older one is used. Any strategy reads what any other has written,
whatever the number of ranks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from polyana.distributed import OptimizerState, Strategy
from polyana.errors import Damaged
from polyana.models import stored_weights
from polyana.storage import building, checksum_of, has_checksum, link_or_copy, read_json, write_json
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
    """What a state holds besides the weights. `content` goes into optimizer.pt, `tensors` into optimizer.safetensors,
    `shards` into shards/, which is whole when `written` is done.

    `arithmetic`: what must be the same on resuming for the run to be bit for bit the same.
    """

    position: Position
    arithmetic: dict[str, str]
    content: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    shards: dict[str, torch.Tensor]
    written: Future[Any] | None = None


class StateStore:
    """The states of one run. Rank 0 calls `write`, from whatever thread; all ranks together call the rest."""

    def __init__(self, directory: Path, strategy: Strategy) -> None:
        self._directory, self._strategy = directory, strategy
        self._pending: Future[Any] | None = None  # shards on their way

    def take(self, position: Position, optimizer: Optimizers, arithmetic: dict[str, str]) -> State:
        """What is to be saved now, the optimizer's tensors as they are: they must not change before they are read.

        Shards are on their way when this returns. Raises what went wrong with those of the state before.
        """
        self.wait()
        saved = optimizer.state_dict()
        saved["state"], shards = self._strategy.take_shards(saved["state"])
        saved["state"], tensors = _without_tensors(saved["state"])
        content = {"optimizer": saved, "random": self._strategy.world.gather(_random_state())}
        state = State(replace(position), arithmetic, content, tensors, shards)
        if shards:
            arriving = self._arriving(state)
            self._strategy.world.from_main(lambda: _make_anew(arriving))
            self._pending = state.written = self._strategy.write_shards(shards, arriving / "shards")
        return state

    def wait(self) -> None:
        """Return when this rank's shards are on the disk; raises what went wrong with them."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def write(
        self,
        state: State,
        bring_weights: Callable[[Path], str],
        write_tensors: Callable[[Path, Mapping[str, torch.Tensor]], str],
    ) -> None:
        """Write a state. `bring_weights(path)` puts model.safetensors at `path`, `write_tensors` writes a file of
        tensors; both give its checksum. Older states than two go.

        Its shards must be written by then. Done again after an error it comes to the same.
        """
        arriving = self._arriving(state)
        with building(self._directory / f"step-{state.position.step:08d}", replace=True) as directory:
            files = {"model.safetensors": bring_weights(directory / "model.safetensors")}
            if state.tensors:
                files["optimizer.safetensors"] = write_tensors(directory / "optimizer.safetensors", state.tensors)
            if state.shards:
                shutil.copytree(arriving / "shards", directory / "shards", copy_function=link_or_copy)
            with (directory / "optimizer.pt").open("wb") as stream:  # given a path, torch hides that a disk is full
                torch.save(state.content, stream)
            paths = {str(path.relative_to(directory)): path for path in _files(directory)}
            files = {name: files.get(name) or checksum_of(path) for name, path in paths.items()}
            about = {"position": asdict(state.position), "arithmetic": state.arithmetic, "files": files}
            write_json(directory / "state.json", about)
        if state.shards:
            shutil.rmtree(arriving)
        for outdated in self._saved()[:-_KEPT]:
            shutil.rmtree(outdated)

    def _arriving(self, state: State) -> Path:
        return self._directory / f".arriving-{state.position.step:08d}"

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
        _put_tensors(content["optimizer"]["state"], directory / "optimizer.safetensors")
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


def _without_tensors(state: OptimizerState) -> tuple[OptimizerState, dict[str, torch.Tensor]]:
    """An optimizer's state with None in place of its tensors; these, contiguous and on the CPU, as "PARAMETER.NAME"."""
    tensors = {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    kept = {
        index: {name: None if isinstance(value, torch.Tensor) else value for name, value in values.items()}
        for index, values in state.items()
    }
    return kept, tensors


def _put_tensors(state: OptimizerState, path: Path) -> None:
    """Undo `_without_tensors`. What is cut up has another file; earlier versions kept all in optimizer.pt."""
    if path.exists():
        with safe_open(path, framework="pt") as file:
            for place in file.keys():  # noqa: SIM118
                index, _, name = place.partition(".")
                state[int(index)][name] = file.get_tensor(place).clone()


def _make_anew(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()


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
        if not path.is_file() or not has_checksum(path, digest):
            raise Damaged(f"{path} is damaged: its checksum is not the one it was saved with")
    return dict(about)
