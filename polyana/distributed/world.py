"""The processes that train together: who is among them, what they tell each other, how they end.

torchrun, or `launch`, starts each with RANK, WORLD_SIZE and LOCAL_RANK in its environment. Rank 0 is `main`: it alone
walks through a recipe, holds locks, writes files and talks to the user. The others wait until it sends for them
(`lead`). A process that nobody started so is a world of one, in which every function here does what it would do without
a world.

Two kinds of messages go between processes. Gradients and shards of weights go through the default group (nccl on GPUs,
not run on a GPU yet; gloo without). What the loop has to know goes through a gloo group of its own without a time
limit: rank 0 may tokenise a corpus, or wait for room on a disk, for hours. That nobody waits for a dead process is the
business of who started them: torch's elastic agent ends all when one ends.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from polyana.errors import Interrupted, PolyanaError, TrainingFailed

__all__ = ["VERDICT", "World", "backend", "exit_code_of", "is_main", "open_world"]

T = TypeVar("T")

VERDICT = "POLYANA_VERDICT"
"""Names the file in which rank 0 leaves the exit code of an ending that starting again would not change."""
_NO_LIMIT = timedelta(days=365)
_WORLDS = count()  # so that a second recipe in the same processes does not meet the first one's connections
_HOLD_STILL = 10.0  # seconds for the agent, which looks every 0.1 s, to find the process that died first; guess


@dataclass(frozen=True)
class World:
    """`rank` of `size` processes; `local_rank` counts the `local_size` on this machine. `restarts`: how often all were
    started again because one had died."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0
    control: dist.ProcessGroup | None = None

    @property
    def main(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value summed over all ranks, in float64."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def agree(self, now: float, signal: int | None) -> tuple[float, int | None]:
        """Rank 0's clock, and a stop signal if any rank has received one: what all may decide by alike."""
        now, received = self._reduce((now if self.main else 0.0, float(signal or 0)), dist.ReduceOp.MAX)
        return now, int(received) or None

    def _reduce(self, values: tuple[float, ...], operation: Any) -> tuple[float, ...]:
        if self.size == 1:
            return values
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers, operation, group=self.control)
        return tuple(numbers.tolist())

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, the only one to call it; the others wait as long as it takes.

        When it raises a PolyanaError there, the others leave what `lead` has sent them to do.
        """
        if self.main:
            made = make()
            self._tell((True, made))
            return made
        goes_on, made = self._hear()
        if not goes_on:
            raise _Ended(made)
        return made

    def lead(self, main: Callable[[], T], follow: Callable[[Any], None]) -> T:
        """What `main` gives, on all ranks. It runs on rank 0; the others run `follow(order)` for each `send(order)`.

        A rank that fails ends its process, after its error was written and before anybody else's; those that only
        lost the connection to it hold still until they are ended.
        """
        if self.size == 1:
            return main()
        if not self.main:
            return self._follow(follow)  # type: ignore[no-any-return]
        try:
            made = main()
        except PolyanaError:
            self._tell((False, None))
            raise
        except Exception as error:
            _hold_still_if_lost(error)
            raise
        self._tell((False, made))
        return made

    def send(self, order: Any) -> None:
        """Let the others begin what `lead` gave them to follow with; called on rank 0."""
        self._tell((True, order))

    def _follow(self, follow: Callable[[Any], None]) -> Any:
        try:
            while True:
                goes_on, what = self._hear()
                if not goes_on:
                    return what
                try:
                    follow(what)
                except _Ended as ended:
                    return ended.result
                except (Interrupted, TrainingFailed):
                    pass  # all ranks raise these together; rank 0 tells the user
        except KeyboardInterrupt:
            os._exit(130)
        except Exception as error:
            _hold_still_if_lost(error)
            told = str(error) if isinstance(error, PolyanaError) else traceback.format_exc()
            sys.stderr.write(f"process {self.rank + 1} of {self.size} failed:\n{told}\n")
            sys.stderr.flush()
            os._exit(1)  # waits for no thread and no connection

    def _tell(self, message: tuple[bool, Any]) -> None:
        if self.size > 1:
            dist.broadcast_object_list([message], src=0, group=self.control)

    def _hear(self) -> tuple[bool, Any]:
        messages: list[Any] = [None]
        dist.broadcast_object_list(messages, src=0, group=self.control)
        return messages[0]  # type: ignore[no-any-return]


class _Ended(Exception):
    """Rank 0 has come to its end while this rank waited for something else from it."""

    def __init__(self, result: Any) -> None:
        self.result = result
        super().__init__()


@contextmanager
def open_world() -> Iterator[World]:
    """The world that this process was started in; its connections are closed at the end of the block."""
    if "RANK" not in os.environ:
        try:
            yield World()
        finally:
            _close()  # a strategy of a world of one may have asked for a group
        return
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
    rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    if size > 1:
        # The agent's store outlives the processes and still holds the addresses of those that it started before.
        store = dist.PrefixStore(f"{restarts} {next(_WORLDS)}", _meeting_point())  # type: ignore[attr-defined]
        dist.init_process_group(backend(), store=store, rank=rank, world_size=size)
    control = dist.new_group(backend="gloo", timeout=_NO_LIMIT) if size > 1 else None
    try:
        yield World(rank, size, local_rank, local_size, restarts, control)
    except PolyanaError:  # which `lead` has told the others; after any other error they may be gone
        _close()
        raise
    _close()


def backend() -> str:
    """What carries tensors between processes."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


@cache
def _meeting_point() -> Any:
    """Where the processes find each other: once a process, whatever it runs."""
    store, _, _ = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    return store


def _close() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process is the one that talks to the user."""
    return os.environ.get("RANK", "0") == "0"


def exit_code_of(error: PolyanaError) -> int:
    """What this process ends with after `error`. Under `launch` 0: an agent starts a group that failed again, but the
    user's mistake, a loss that is not finite and a stop signal come to the same a second time."""
    verdict = os.environ.get(VERDICT)
    if verdict is None:
        return error.exit_code
    if is_main():
        Path(verdict).write_text(str(error.exit_code))
    return 0


def _hold_still_if_lost(error: Exception) -> None:
    """When `error` says that a connection to another rank was lost, wait to be ended by who started us: that rank's
    own error is the one to read."""
    if not isinstance(error, dist.DistError) and not any(word in str(error) for word in ("gloo", "NCCL")):
        return
    time.sleep(_HOLD_STILL)
    sys.stderr.write("lost the connection to another process, which has ended without a word\n")
    sys.stderr.flush()
    os._exit(1)
