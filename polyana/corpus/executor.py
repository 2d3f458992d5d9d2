"""Where the mill's tasks run: in this process, in several on this machine, or on a Ray cluster.

A task is a function of a module and its arguments. It gives a small JSON value, and the files that it wrote; both are
noted in a file of the task's own, which is written last. A task whose note is there, and whose files are of the noted
sizes, is done and is not run again: a kill leaves no note, a power cut leaves files cut short.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyana.errors import PolyanaError

__all__ = ["Executor", "Task", "cores"]

Kind = Literal["local", "ray"]


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Task:
    """`function(*arguments)` gives (result, files); its note is `done`. Any process finds the function by its name."""

    done: Path
    function: Callable[..., tuple[Any, list[Path]]]
    arguments: tuple[Any, ...]

    def run(self) -> Any:
        result, files = self.function(*self.arguments)
        note = {"result": result, "files": {str(path): path.stat().st_size for path in files}}
        half_written = self.done.with_suffix(f".{os.getpid()}.tmp")
        half_written.write_text(json.dumps(note, ensure_ascii=False), encoding="utf-8")
        half_written.replace(self.done)
        return result

    def found(self) -> tuple[Any] | None:
        """The result of an earlier run, in a tuple; None if it has to be run."""
        try:
            note = json.loads(self.done.read_text(encoding="utf-8"))
            whole = all(Path(path).stat().st_size == size for path, size in note["files"].items())
        except (OSError, ValueError):
            return None
        return (note["result"],) if whole else None


class Executor:
    """Runs tasks, at most `workers` at once, and gives their results in the order of the tasks.

    The processes are made when there is first more than one task, and end with `close`.
    """

    def __init__(self, kind: Kind = "local", workers: int = 1) -> None:
        self._kind, self._workers = kind, workers
        self._pool: ProcessPoolExecutor | None = None

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
            yield from _on_ray(tasks, missing, self._workers)
        elif self._workers == 1 or len(missing) < 2:
            yield from ((number, tasks[number].run()) for number in missing)
        else:
            yield from self._in_processes(tasks, missing)

    def _in_processes(self, tasks: Sequence[Task], missing: list[int]) -> Iterator[tuple[int, Any]]:
        if self._pool is None:
            # spawned, not forked: the parent may have threads of torch, whose locks a fork would copy
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, context)
        running: dict[Future[Any], int] = {}
        waiting = iter(missing)
        try:
            while True:
                while len(running) < self._workers + 1 and (number := next(waiting, None)) is not None:
                    running[self._pool.submit(tasks[number].run)] = number
                if not running:
                    return
                ended, _ = wait(running, return_when=FIRST_EXCEPTION if len(running) == 1 else "FIRST_COMPLETED")
                for future in ended:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _on_ray(tasks: Sequence[Task], missing: list[int], workers: int) -> Iterator[tuple[int, Any]]:
    """On the cluster that RAY_ADDRESS names, or a local one; all its machines see the same files."""
    try:
        import ray
    except ImportError:
        raise PolyanaError("`executor: ray` needs Ray; run: pip install 'polyana[ray]'") from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        ray.init(address=address, num_cpus=None if address else workers, log_to_driver=False)
    run = ray.remote(num_cpus=1, max_retries=3)(Task.run)
    running = {run.remote(tasks[number]): number for number in missing}
    while running:
        ended, _ = ray.wait(list(running), num_returns=1)
        for reference in ended:
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            yield running.pop(reference), result
