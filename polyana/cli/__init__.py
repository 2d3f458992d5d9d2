"""The command line: thin doors to the same code that the Python API opens."""

from __future__ import annotations

import errno
import os
import sys

from polyana.cli import (  # noqa: F401  they add their commands
    chatting,
    evaluating,
    exporting,
    looking,
    models,
    serving,
    training,
    transfer,
    watching,
    writing,
)
from polyana.cli.doors import app, relative
from polyana.errors import PolyanaError
from polyana.storage import home_directory, is_disk_full

__all__ = ["app", "main"]


def main() -> None:
    """The `polyana` command."""
    # Nothing is fetched unless a recipe says so, and no library's bar tears ours apart.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except PolyanaError as error:
        from polyana.distributed import exit_code_of, is_main

        if is_main():
            sys.stderr.write(f"{error}\n")
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept\n")
        sys.exit(130)
    except Exception as error:
        full, system = is_disk_full(error), error if isinstance(error, OSError) else OSError()
        if not full and system.filename is None and system.strerror is None:
            raise
        # of two names the second is what was written
        place = system.filename2 or system.filename or relative(home_directory())
        advice = " Free some room and run this again; what was finished is kept" if full else ""
        sys.stderr.write(f"{place}: {system.strerror or os.strerror(errno.ENOSPC)}.{advice}\n")
        sys.exit(1)
