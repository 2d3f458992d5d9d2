"""Saving by a thread of its own, while training goes on.

    training   ... step 100 | evaluate, lend the weights | forward, backward | take them back | update | ...
    this               write and hash the weights, commit, write the state, move `best`, let go of what `keep` lets go

One save is made at a time, in this order, so a state for resuming never names a commit that is not there, and what
resumes from a state that was never finished resumes from the one before. Each thing that is done is on the disk before
the next one begins, and done again after an error it comes to the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from polyana.errors import UserError
from polyana.models import names_to_store, weights_file, weights_to_store, write_tensors
from polyana.registry import Commit, KeepConfig, Repository, apply_retention, bytes_of_commits
from polyana.storage import checksum_of, flush_to_disk, retry_when_full, show_bytes, wait_for_room
from polyana.tracking import RunDirectory
from polyana.train.lending import Lent
from polyana.train.memory import available_bytes
from polyana.train.state import State, StateStore
from polyana.train.task import Task

__all__ = ["Save", "Saved", "Saving"]

_PAUSE = 5.0  # seconds between two looks whether there is room within `keep: total`; guess
_SHARE = 0.5  # of the memory that is available, for copies of what training cannot wait for; guess


@dataclass(frozen=True)
class Save:
    """What is to be saved. `weights`: whole tensors by the model's names, which must not change before they are taken
    back; `flush` puts the metrics until now on the disk."""

    message: str
    epoch: float
    metrics: dict[str, float]
    weights: Mapping[str, torch.Tensor]
    state: State
    flush: Callable[[], None]


@dataclass(frozen=True)
class Saved:
    """A save that is whole. `seconds`: from its beginning; `best`: of all saves."""

    commit: Commit
    best: Commit
    seconds: float


class Saving:
    """Makes the saves of one run, on rank 0."""

    def __init__(
        self,
        task: Task,
        run: RunDirectory,
        repository: Repository,
        states: StateStore,
        keep: KeepConfig,
        recipe_hash: str,
        saved: Callable[[int], object],
        say: Callable[[str], None],
        describe: Callable[[Path, int, int, float, Mapping[str, float]], None] | None = None,
    ) -> None:
        """`saved` is told the newest step of which there is a whole save. `describe` adds to a save's directory what is
        told of it: (directory, step, tokens, epoch, metrics)."""
        self._describe = describe
        self._task, self._run, self._repository, self._states = task, run, repository, states
        self._keep, self._recipe_hash, self._saved, self._say = keep, recipe_hash, saved, say
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._pending: Future[Saved] | None = None
        self._lent = Lent((), lambda: 0)
        self._settings: dict[str, tuple[str, bytes]] = {}  # a save's files that are always the same: checksum, content
        self._names: dict[str, str] | None = None  # of the weights in a save, and in the model
        self.paused = False
        """Whether it waits for room on the disk."""

    def begin(self, save: Save) -> None:
        """Begin a save, after the one before it. Until `take_back` no weight and no memory of the optimizer changes."""
        assert self._pending is None, "the save before is not waited for"
        began = time.perf_counter()
        if not self._settings:
            self._settings = self._read_settings()
        if self._names is not None:
            stored = {name: save.weights[own] for name, own in self._names.items()}
        else:
            stored = weights_to_store(self._task.model, save.weights)
            self._names = names_to_store(save.weights, stored)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in stored.items()}
        device = torch.device("cpu")
        room = lambda: int(_SHARE * available_bytes(device))  # noqa: E731
        self._lent = Lent([*weights.values(), *save.state.tensors.values()], room)
        self._pending = self._thread.submit(self._make, save, weights, self._lent, began)

    def take_back(self) -> None:
        """Return when weights and the optimizer's memory may change."""
        self._lent.take_back()

    @property
    def finished(self) -> bool:
        """Whether `wait` has something to tell and does so at once."""
        return self._pending is not None and self._pending.done()

    def wait(self) -> Saved | None:
        """The save on its way once it is whole; None if there is none. Raises what went wrong with it."""
        pending, self._pending = self._pending, None
        return pending.result() if pending is not None else None

    def close(self) -> None:
        """Return when nothing is on its way any more."""
        self._thread.shutdown()

    def settle(self) -> Commit:
        """Move `best`, let go of what `keep` does not want; the best commit."""
        with self._repository.changing():
            commits = self._repository.commits()
            ranking = self._repository.ranking(self._task.best_by)
            if ranking != self._repository.ranking():  # whoever lists, picks and deletes saves goes by it, too
                self._repository.rank_by(ranking)
            best = (ranking.sort(commits) or commits[-1:])[0]
            if self._repository.refs().get("best") != best.id:
                self._repository.set_ref("best", best.id)
            apply_retention(self._repository, self._keep, self._task.best_by)
            newest = self._repository.resolve("main").step
        self._saved(newest)
        return best

    def check_total(self, weights: int) -> None:
        """Raises UserError where `keep: total` could never hold what must stay beside a save that is being made."""
        if letter := self._keep.too_little(weights):
            raise UserError(letter)

    def make_room(self, weights: int, state: int) -> None:
        """Return when a save of so many bytes fits: within `keep: total`, and on the disk. First goes what has to go
        once the save is made; what `keep` protects never does."""

        def free() -> None:
            self._let_go(weights)

        total, told = self._keep.total, False
        while total is not None and (taken := self._let_go(weights)) + weights > total.bytes:
            if not told:
                self._say(
                    f"paused: the saves take {show_bytes(taken)}, another one needs {show_bytes(weights)}, and "
                    f"`keep: {{total: {total}}}` allows no more. What is left is the newest and the best, tagged, "
                    "pushed or being read: delete a tag (`polyana models tag NAME TAG --delete`) or a save that was "
                    "pushed (`polyana models rm NAME@step-N --force`), and this goes on"
                )
                told = True
            time.sleep(_PAUSE)
        wait_for_room(self._run.path, weights + state, self._say, free)

    def _let_go(self, weights: int) -> int:
        """Let go of what `keep` does not want beside another commit of so many bytes; the bytes of those that stay."""
        repository = self._repository
        for gone in apply_retention(repository, self._keep, self._task.best_by, coming=1, needed=weights):
            self._say(f"  step {gone.step:>6}  deleted to make room for the next save")
        return bytes_of_commits(repository.commits(), repository.blob_sizes())

    # In the thread

    def _make(self, save: Save, weights: dict[str, torch.Tensor], lent: Lent, began: float) -> Saved:
        def make_room() -> None:
            self.paused = True
            self._let_go(sum(tensor.nbytes for tensor in weights.values()))

        def write(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
            return write_tensors(path, tensors, lent.copy)

        def write_commit() -> Commit:
            commit = self._commit(save, weights, write)
            lent.give_back(weights.values())
            return commit

        def write_state() -> Commit:
            save.flush()
            self._states.write(save.state, bring_weights, write)
            lent.give_back(save.state.tensors.values())
            return self.settle()

        def bring_weights(target: Path) -> str:
            name = weights_file(self._task.model)
            self._repository.link(commit, name, target)
            return commit.files[name]

        try:
            commit = retry_when_full(write_commit, self._run.path, self._say, make_room)
            if save.state.written is not None:
                save.state.written.result()  # what went wrong is not tried again: other ranks would have to write too
            best = retry_when_full(write_state, self._run.path, self._say, make_room)
            return Saved(commit, best, time.perf_counter() - began)
        finally:
            lent.give_back_all()  # whatever went wrong, training must come to hear of it
            self.paused = False

    def _commit(
        self,
        save: Save,
        weights: dict[str, torch.Tensor],
        write: Callable[[Path, Mapping[str, torch.Tensor]], str],
    ) -> Commit:
        position = save.state.position
        arriving = self._repository.arriving(position.step)
        name = weights_file(self._task.model)
        known = {name: write(arriving / name, weights)}
        for name, (digest, content) in self._settings.items():
            if not self._repository.bring(digest, arriving / name):
                (arriving / name).write_bytes(content)
                flush_to_disk(arriving / name)
            known[name] = digest
        if self._describe is not None:
            self._describe(arriving, position.step, position.tokens, save.epoch, save.metrics)
        return self._repository.commit(
            arriving, position.step, position.tokens, save.epoch, save.message, save.metrics, self._recipe_hash,
            self._run.environment_hash(), known,
        )  # fmt: skip

    def _read_settings(self) -> dict[str, tuple[str, bytes]]:
        with tempfile.TemporaryDirectory() as place:
            self._task.save_settings(Path(place))
            return {path.name: (checksum_of(path), path.read_bytes()) for path in sorted(Path(place).iterdir())}
