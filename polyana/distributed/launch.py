"""Starting several processes on this machine, through torch's elastic agent: what `torchrun --standalone` does.

The agent ends all processes when one fails, and starts them again as often as asked.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from polyana.distributed.world import VERDICT
from polyana.errors import UserError

__all__ = ["launch"]

_TIME_TO_SAVE = 600  # seconds from a stop signal to SIGKILL, for a save of what may be many gigabytes; guess


def launch(processes: int, restarts: int, arguments: Sequence[str]) -> int:
    """Run `python ARGUMENTS` in so many processes; the exit code to end with, after saying why if they did not."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    devices = torch.cuda.device_count()
    if devices and processes > devices:
        raise UserError(f"--processes {processes}: this machine has {devices} GPUs, and each process needs its own")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what happened is told below
    with TemporaryDirectory(prefix="polyana-") as scratch, _put_back():
        verdict = Path(scratch, "verdict")
        os.environ[VERDICT] = str(verdict)
        # Several processes with a thread for every core each would be slower than one.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, max_restarts=restarts,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
            logs_specs=DefaultLogsSpecs(log_dir=scratch), shutdown_timeout=_TIME_TO_SAVE,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except SignalException as stopped:
            return 128 + stopped.sigval
        except ChildFailedError as failed:
            return _tell(failed, processes)
        return int(verdict.read_text()) if verdict.exists() else 0


@contextmanager
def _put_back() -> Iterator[None]:
    """The environment, which the processes inherit, and the signal handlers, which the agent sets, as they were."""
    environment = dict(os.environ)
    handlers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        for name, handler in handlers.items():
            signal.signal(name, handler)


def _tell(failed: BaseException, processes: int) -> int:
    """Say what ended the processes, where it could not say so itself."""
    # Those that the agent ended after the first failure are among them, with SIGTERM.
    failures = getattr(failed, "failures", {})
    first = [rank for rank, failure in failures.items() if failure.exitcode != -signal.SIGTERM] or list(failures)
    for rank in first:
        failure = failures[rank]
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
            sys.stderr.write(
                f"process {rank + 1} of {processes} was ended by {name}{memory}; the others were stopped. What was "
                "saved is kept: the same command goes on from there, and --restarts N does so by itself\n"
            )
    return 1
