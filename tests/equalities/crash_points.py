"""Run a recipe, SIGKILL it at a chosen durable operation (the n-th fsync, rename or link), run it again, report.

    python crash_points.py RECIPE HOME first step count
        prints one JSON line for the undisturbed run, then one for each point: {"point", "killed", "curve", "weights"}

Not a test itself; test_resume.py runs it. One process imports torch once and forks a child for each run.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch

from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.tracking import Console, read_curves


def kill_at(point: int) -> None:
    count = 0

    def counted(original):
        def call(*arguments, **named):
            nonlocal count
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return call

    for name in ("fsync", "rename", "replace", "link", "unlink"):
        setattr(os, name, counted(getattr(os, name)))


def in_child(recipe: Path, home: Path, point: int | None) -> int:
    """The child's wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.environ["POLYANA_HOME"] = str(home)
    try:
        if point is not None:
            kill_at(point)
        with Path(os.devnull).open("w") as nothing:
            run_recipe(load_recipe(recipe), console=Console(nothing))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def result(home: Path) -> dict:
    runs = list((home / "runs").glob("*/run.json"))
    (curve,) = {json.dumps(read_curves(path.parent / "metrics")["train/loss"]) for path in runs}
    hub = next((home / "hub").iterdir())
    commit = json.loads((hub / "snapshots" / (hub / "refs" / "main").read_text() / "commit.json").read_text())
    commits = {path.parent.name for path in hub.glob("snapshots/*/commit.json")}
    used = {link.resolve() for link in hub.glob("snapshots/*/*") if link.is_symlink()}
    assert {path.read_text() for path in (hub / "refs").iterdir()} <= commits, "a ref names no commit"
    assert used == {path.resolve() for path in (hub / "blobs").iterdir()}, "blobs and links differ"
    assert len(runs) == 1, "a second run was begun"
    assert not list(hub.glob("refs/.*")), "a stray file among the refs"
    saved = [json.loads(path.read_text()) for path in hub.glob("snapshots/*/commit.json")]
    lowest = min(saved, key=lambda commit: commit["metrics"]["eval/loss"])
    assert (hub / "refs" / "best").read_text() == lowest["id"], "best is not the best"
    steps = sorted(commit["step"] for commit in saved)
    return {"curve": json.loads(curve), "weights": commit["files"]["model.safetensors"], "steps": steps,
            "commit": commit["id"]}  # fmt: skip


def main() -> None:
    recipe, home = Path(sys.argv[1]), Path(sys.argv[2])
    first, stride, count = map(int, sys.argv[3:6])
    torch.set_num_threads(1)
    assert in_child(recipe, home / "whole", None) == 0
    print(json.dumps({"point": 0, "killed": False} | result(home / "whole")), flush=True)
    for point in range(first, first + stride * count, stride):
        place = home / f"killed-{point}"
        status = in_child(recipe, place, point)
        killed = os.WIFSIGNALED(status)
        if not killed and status != 0:
            sys.exit(f"point {point}: failed without being killed")
        if killed and in_child(recipe, place, None) != 0:
            sys.exit(f"point {point}: the second run failed")
        print(json.dumps({"point": point, "killed": killed} | result(place)), flush=True)
        if not killed:
            return


main()
