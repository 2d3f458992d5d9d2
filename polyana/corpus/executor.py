"""Where the mill's tasks run: in this process, in several on this machine, or on a Ray cluster.

A task is a function of a module and its arguments. It gives a small JSON value, and the files that it wrote; both are
noted in a file of the task's own, which is written last. A task whose note is there, and whose files have the noted
sizes and checksums, is done and is not run again: a kill leaves no note, a power cut leaves files cut short or empty.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from polyana.errors import PolyanaError
from polyana.heap import give_back, keep_freed_memory

if TYPE_CHECKING:
    from polyana.corpus.cluster import RayCluster

__all__ = ["KILLED", "Executor", "Task", "cores", "ray_address", "shared"]

Kind = Literal["local", "ray"]
T = TypeVar("T")


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ray_address() -> str:
    """Of the Ray cluster; `local` is one of this machine alone."""
    return os.environ.get("RAY_ADDRESS") or "local"


@dataclass
class _Shared:
    """What tasks of one function have left in this process for each other."""

    owner: Any = None
    things: dict[Any, Any] = field(default_factory=dict)


_SHARED = _Shared()


def shared(key: Any, make: Callable[[], T]) -> T:
    """What is made once in a process for all tasks of a function that ask for it, one after another.

    It is given back when another key or another function has its turn: tables and models are large.
    """
    if key not in _SHARED.things:
        _SHARED.things.clear()
        _SHARED.things[key] = make()
    found: T = _SHARED.things[key]
    return found


@dataclass(frozen=True)
class Task:
    """`function(*arguments)` gives (result, files); its note is `done`, and the files lie beside it or below.

    Any process finds the function by its name.
    """

    done: Path
    function: Callable[..., tuple[Any, list[Path]]]
    arguments: tuple[Any, ...]

    def run(self) -> Any:
        if _SHARED.owner is not self.function:
            _SHARED.owner, _SHARED.things = self.function, {}
        keep_freed_memory()  # each block asks for the same large arrays: a tenth of the filters' time
        result, files = self.function(*self.arguments)
        give_back()  # a process else keeps the most that it ever took, here 200 to 400 MB more
        place = self.done.parent
        noted = {path.relative_to(place).as_posix(): [path.stat().st_size, _checksum(path)] for path in files}
        note = json.dumps({"result": result, "files": noted}).encode()  # half characters, too
        half_written = self.done.with_suffix(f".{os.getpid()}.tmp")
        half_written.write_bytes(b"%08x " % zlib.crc32(note) + note)
        half_written.replace(self.done)
        return result

    def found(self) -> tuple[Any] | None:
        """The result of an earlier run, in a tuple; None if it has to be run."""
        try:
            crc, _, content = self.done.read_bytes().partition(b" ")
            if crc != b"%08x" % zlib.crc32(content):
                return None
            note = json.loads(content)
            files = [(self.done.parent / name, noted) for name, noted in note["files"].items()]
            whole = all(path.stat().st_size == size and _checksum(path) == crc for path, (size, crc) in files)
        except OSError:
            return None
        return (note["result"],) if whole else None


def _checksum(path: Path) -> int:
    """CRC-32, 7 GB/s: it finds what disks and power cuts do, not what somebody does on purpose."""
    value = 0
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            value = zlib.crc32(piece, value)
    return value


class Executor:
    """Runs tasks, at most `workers` at once, and gives their results in the order of the tasks.

    The processes are made when there is first more than one task, or one for Ray, and end with `close`.
    """

    def __init__(self, kind: Kind = "local", workers: int = 1, common: Sequence[str] = ()) -> None:
        """`common`: modules that all processes will load, and had better inherit."""
        self._kind, self._workers, self._common = kind, workers, list(common)
        self._pool: ProcessPoolExecutor | None = None
        self._cluster: RayCluster | None = None

    def run(self, tasks: Sequence[Task], done: Callable[[int, Any], None] = lambda _number, _result: None) -> list[Any]:
        """Results of all tasks; `done(number of the task, its result)` is called as each ends.

        Raises what a task raised, after which no other is begun.
        """
        results: dict[int, Any] = {}
        missing = []
        for number, task in enumerate(tasks):
            if found := task.found():
                results[number] = found[0]
                done(number, results[number])
            else:
                missing.append(number)
        for number, result in self._run(tasks, missing):
            results[number] = result
            done(number, result)
        return [results[number] for number in range(len(tasks))]

    def _run(self, tasks: Sequence[Task], missing: list[int]) -> Iterator[tuple[int, Any]]:
        if self._kind == "ray":
            if missing and self._cluster is None:
                from polyana.corpus.cluster import RayCluster

                self._cluster = RayCluster(self._workers)
            if self._cluster is not None:
                yield from self._cluster.run(tasks, missing)
        elif self._workers == 1 or len(missing) < 2:
            yield from ((number, tasks[number].run()) for number in missing)
        else:
            yield from self._in_processes(tasks, missing)

    def _in_processes(self, tasks: Sequence[Task], missing: list[int]) -> Iterator[tuple[int, Any]]:
        if self._pool is None:
            # not forked from here: this process may have threads of torch, whose locks a fork would copy
            method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
            context = multiprocessing.get_context(method)
            if method == "forkserver":
                context.set_forkserver_preload(self._common)
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=_end_with_parent)
        running: dict[Future[Any], int] = {}
        waiting = iter(missing)
        try:
            while True:
                while len(running) < self._workers + 1 and (number := next(waiting, None)) is not None:
                    running[self._pool.submit(tasks[number].run)] = number
                if not running:
                    return
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            self.close()  # the next run makes another
            raise PolyanaError(KILLED) from None
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


KILLED = (
    "a process of the mill was killed, by the system most likely, for want of memory. What was finished is kept: run "
    "this again, with fewer of them at once by `work: {workers: 1}` or `work: {memory: 4 GB}`"
)


def _end_with_parent() -> None:
    """In a process of the pool: never outlive the one that began it, or it would write what the next run writes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all; only the parent has something to say
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
