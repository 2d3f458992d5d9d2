"""What a training loses while its saves are evaluated and write on the same cores: `make bench-beside`.

The demo's training without an end, and beside it, in windows of some seconds in turn: nobody; `polyana evaluate`, each
time from the beginning; `polyana generate`. They are started as from another terminal, in a session of their own. Said
is by how much a step takes longer, the median of the windows against their neighbours' in which nobody was there, and
what a reader gets done. For comparison the same as it would be without stepping aside.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

SECONDS = 12.0
PLAINLY = (  # `polyana` that does not step aside
    "import sys; from polyana.tracking import aside; aside.step_aside = lambda home: None; "
    "from polyana.cli import main; main()"
)
RECIPE = Path(__file__).parents[2] / "recipes" / "presidents.yaml"
ENDLESS = {
    "train.duration": "100k steps", "train.batch": "8 sequences", "eval.every": "100k steps",
    "eval.tokens": "2k tokens", "sample.every": "100k steps", "save": "{every: 20 steps, keep: {best: 1, last: 1}}",
}  # fmt: skip


class Reader:
    """Commands one after the other, as from another terminal, until it is ended."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        loop = 'while :; do "$@" >/dev/null 2>&1 && echo done; done'
        self._process = subprocess.Popen(
            ["sh", "-c", loop, "sh", *command], env=environment, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def end(self) -> int:
        """How many were finished."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # whoever has stepped aside dies with it
        return self._process.communicate()[0].count("done")


def steps_in(metrics: Path, begin: float, end: float) -> list[float]:
    """Seconds of the steps that ended between two moments."""
    moments = []
    for line in metrics.read_text().splitlines():
        with suppress(ValueError):  # the last one may be half written
            row = json.loads(line)
            if "train/loss" in row and begin <= row["time"] <= end:
                moments.append(row["time"])
    return [later - earlier for earlier, later in pairwise(moments)]


def main() -> None:
    rounds = 3 if "--quick" in sys.argv else 8
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        home = place / "home"
        environment = os.environ | {"POLYANA_HOME": str(home)}
        polyana = [sys.executable, "-W", "ignore", "-m", "polyana"]
        settings = [word for name, value in ENDLESS.items() for word in ("--set", f"stages.pretrain.{name}={value}")]
        training = subprocess.Popen(
            [*polyana, "run", str(RECIPE), *settings], env=environment, cwd=place, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            compare(rounds, polyana, home, environment)
        finally:
            os.killpg(training.pid, signal.SIGKILL)
            training.wait()


def compare(rounds: int, polyana: list[str], home: Path, environment: dict[str, str]) -> None:
    while not list(home.glob("hub/models--*/refs/best")):
        time.sleep(0.2)
    (run,) = (home / "runs").iterdir()
    (metrics,) = (run / "metrics").iterdir()
    evaluate = ["evaluate", f"{run.name}@best", "--suite", "perplexity", "--again"]
    generate = ["generate", f"{run.name}@best", "The people", "--max-tokens", "200"]
    readers = {
        "evaluate": [*polyana, *evaluate], "generate": [*polyana, *generate],
        "evaluate, not aside": [*polyana[:-2], "-c", PLAINLY, *evaluate],
    }  # fmt: skip
    lost: dict[str, list[float]] = {name: [] for name in readers}
    finished = dict.fromkeys(readers, 0)

    def window(command: Sequence[str] | None) -> tuple[float, int]:
        reader = Reader(command, environment) if command else None
        time.sleep(1)  # it has begun
        begin = time.time()
        time.sleep(SECONDS)
        end, done = time.time(), reader.end() if reader else 0
        taken = steps_in(metrics, begin, end)
        time.sleep(1)
        return sum(taken) / max(len(taken), 1), done

    before = window(None)[0]
    for _ in range(rounds):
        for name, command in readers.items():
            seconds, done = window(command)
            after = window(None)[0]
            lost[name].append(seconds / ((before + after) / 2) - 1)
            finished[name] += done
            before = after
    for name, shares in lost.items():
        spread = f"{min(shares):+.1%} to {max(shares):+.1%}"
        print(f"beside `{name}`: a step takes {median(shares):+.1%} ({spread}); {finished[name]} were finished in "
              f"{rounds * (SECONDS + 1):.0f} s", flush=True)  # fmt: skip
    print(f"a step alone: {before:.3f} s")


main()
