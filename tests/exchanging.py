"""Pushes and pulls in a process of its own, which obeys HF_ENDPOINT from its first import on.

As a script it takes orders as JSON lines and answers with what came of them, so one process serves many tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hub_stand_in import TOKEN


def environment(address: str, place: Path, **more: str) -> dict[str, str]:
    """For a process that talks to the hub at `address`, and has nothing of the user's."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    return kept | {
        "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN, "HF_HOME": str(place / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]), "OMP_NUM_THREADS": "1",
    } | more  # fmt: skip


class Worker:
    """A process that pushes and pulls on order."""

    def __init__(self, address: str, place: Path, **more: str) -> None:
        self.errors = (place / "worker.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment(address, place, **more), cwd=place,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )  # fmt: skip

    def order(self, what: str, **settings) -> dict:
        """Begin; `answer` gives what came of it."""
        self.process.stdin.write(json.dumps({"do": what, **settings}, default=str) + "\n")
        self.process.stdin.flush()
        return self

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise AssertionError(self.errors.read())
        return json.loads(line)

    def push(self, repository, target, revision=None, **settings) -> dict:
        settings |= {"hub": repository.path.parent, "run": repository.run, "target": target, "revision": revision}
        return self.order("push", **settings).answer()

    def pull(self, hub, text, **settings) -> dict:
        return self.order("pull", hub=hub, text=text, **settings).answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.errors.close()


def main() -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from polyana.errors import PolyanaError
    from polyana.registry import Repository, parse_target, patience, pull, push

    patience._FIRST, patience._HURRIED = 0.05, 2.0
    for line in sys.stdin:
        order, said = json.loads(line), []
        what, hub = order.pop("do"), Path(order.pop("hub"))
        order = {"patience": 20.0, "say": said.append} | order
        try:
            if what == "push":
                done = push(Repository(hub, order.pop("run")), parse_target(order.pop("target")), **order)
                found = {"new": [commit.step for commit in done.new]}
            else:
                done = pull(hub, order.pop("text"), **order)
                found = {"new": [commit.step for commit in done.new], "commit": done.commit.id, "run": done.run}
            found |= {"refs": sorted(done.refs), "error": None}
        except PolyanaError as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(found | {"said": said}) + "\n")


if __name__ == "__main__":
    main()
