"""The mill's tasks on a Ray cluster: the one that RAY_ADDRESS names, or one of this machine alone.

What travels is paths and small JSON; all machines see the same files under the same names, have the same Polyana
installed, and know nothing of each other.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from threading import current_thread, main_thread
from typing import Any

from polyana.corpus.executor import KILLED, Task, ray_address
from polyana.errors import PolyanaError

__all__ = ["RayCluster"]

_STORE = 80 * 10**6  # bytes of memory for what travels: little more than the least that Ray takes
_RETRIES = 3  # of a task whose process or machine died
_PATIENCE = 60.0  # seconds in which a file that another machine wrote is seen here: NFS remembers what is not there


class RayCluster:
    """A connection to it; `workers` tasks run at once."""

    def __init__(self, workers: int) -> None:
        """Raises PolyanaError where there is no Ray, or nobody answers."""
        try:
            import ray
        except ImportError:
            raise PolyanaError("`executor: ray` needs Ray; run: pip install 'polyana[ray]'") from None
        self._ray, self._workers = ray, workers
        self._address = ray_address()
        self._ours = not ray.is_initialized()
        if not self._ours:
            return
        self._on_end = signal.getsignal(signal.SIGTERM)  # Ray puts its own there
        # one of this machine alone is asked for by name: Ray would join any that it finds running here
        local = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _STORE}
        settings = local if self._address == "local" else {}
        _knock(self._address)
        try:
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR, **settings)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise PolyanaError(f"Ray does not begin at `{self._address}`: {error}") from None

    def run(self, tasks: Sequence[Task], missing: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(number, result) of each of the missing tasks, as they end. Raises what a task raised."""
        ray = self._ray
        run = ray.remote(num_cpus=1, max_retries=_RETRIES)(Task.run)
        running: dict[Any, int] = {}
        waiting = iter(missing)
        try:
            while True:
                while len(running) < self._workers and (number := next(waiting, None)) is not None:
                    running[run.remote(tasks[number])] = number
                if not running:
                    return
                ended, _ = ray.wait(list(running), num_returns=1)
                for reference in ended:
                    number = running.pop(reference)
                    result = ray.get(reference)
                    _await(tasks[number])
                    yield number, result
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FileNotFoundError) and self._address != "local":
                raise PolyanaError(_unseen("a machine of the Ray cluster", error.cause.filename)) from None
            raise error.cause from None if isinstance(error.cause, PolyanaError) else error
        except ray.exceptions.RayError as error:
            raise PolyanaError(f"{KILLED}. Ray says: {str(error).partition(chr(10))[0]}") from None
        finally:
            for reference in running:
                ray.cancel(reference)

    def close(self) -> None:
        """Leave it; its processes that worked for this one end."""
        if self._ours:
            self._ray.shutdown()
            if current_thread() is main_thread():
                signal.signal(signal.SIGTERM, self._on_end)


def _knock(address: str) -> None:
    """Raises PolyanaError where nobody listens: Ray itself would wait for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # `local` or `auto`, or nothing that Ray takes
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise PolyanaError(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from None


def _await(task: Task) -> None:
    """Raises PolyanaError where the note of a task that is done is not to be seen."""
    over = time.monotonic() + _PATIENCE
    while not task.done.exists():
        if time.monotonic() > over:
            raise PolyanaError(_unseen("this machine", str(task.done)))
        time.sleep(0.2)


def _unseen(who: str, path: str) -> str:
    return f"{who} does not see {path}: all machines of the Ray cluster need the same files under the same names"
