"""Going behind the trainings of this machine, for whatever else computes there: evaluating, writing, sending.

A low priority (nice) counts among the processes of one session alone where Linux groups them by it, as it does by
default (sched(7), "The autogroup feature"): what runs in another terminal has half of a core that a training wants,
whatever its own priority. So the session is given the priority, too; and a process that shares its session with the
user's shell does its work in a child with a session of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from polyana.errors import UserError
from polyana.storage import is_held

__all__ = ["is_training_here", "lower_priority", "step_aside", "wanted_priority"]

_LEAST = 19
_GROUP = Path("/proc/self/autogroup")
_PARENT_DIED = 1  # PR_SET_PDEATHSIG, prctl(2)


def step_aside(home: Path) -> None:
    """Give this process, and what it starts, the lowest priority; where a run of `home` is being trained, one thread,
    too: two that wait for each other cost a training more than one that works.

    `POLYANA_NICE` is another priority than the lowest (`wanted_priority`); with 0 nothing is done. To be called first
    of all, before torch is imported and while there is one thread. What comes after it may go on in a child, which
    signals reach and whose end is this process's end. Raises UserError where POLYANA_NICE is no priority.
    """
    if not (nice := wanted_priority()):
        return
    if is_training_here(home):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if _GROUP.exists() and os.getsid(0) != os.getpid():
        _go_on_in_a_child()
    lower_priority(nice)


def wanted_priority() -> int:
    """POLYANA_NICE, from 0 to 19; 19 where it is not set. Raises UserError where it is none of these."""
    written = os.environ.get("POLYANA_NICE") or str(_LEAST)
    if not written.isdecimal() or not 0 <= (nice := int(written)) <= _LEAST:
        raise UserError(f"POLYANA_NICE is `{written}`; it is a number from 0 to {_LEAST}, as POLYANA_NICE=10")
    return nice


def lower_priority(nice: int) -> None:
    """Give this process, and what it starts, a priority below the usual, from 1 to 19, or with 0 the usual one; its
    session, too, where it leads one."""
    if hasattr(os, "nice"):
        os.nice(nice)
    if _GROUP.exists() and os.getsid(0) == os.getpid():
        with suppress(OSError):  # where it may not be written
            _GROUP.write_text(str(nice))


def is_training_here(home: Path) -> bool:
    """Whether some run of `home` is being trained on this machine."""
    return any(is_held(lock) for lock in (home / "runs").glob("*/.lock"))


def _go_on_in_a_child() -> None:
    """Return in a child that leads a session; here pass signals on, and end as it ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent, child = os.getpid(), os.fork()
    if child:
        _wait_for(child)
    os.setsid()
    ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be said
        os.kill(os.getpid(), signal.SIGKILL)


def _wait_for(child: int) -> NoReturn:
    def pass_on(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def stop(_number: int, _frame: object) -> None:  # Ctrl-Z
        os.kill(child, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(child, signal.SIGCONT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGTSTP, stop)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
