"""One training run on disk.

HOME/runs/RUN/
    run.json            which recipe and stage, its fingerprint, how it ended
    recipe.yaml         the resolved recipe; `polyana run` repeats it
    environment.json    versions, hardware
    schedule.json       the learning rate from the first step to the last
    notes.json          tags, notes and group that the user has given it
    metrics/            see metrics.py
    samples/            what the model wrote, one JSON file a step
    translations/       what it made of the held-out text, one file a step (written by tasks/translate.py)
    gold.html          with `gold`: proxy and gold over the KL, and answers beside those of the base
    translations.html   the best of them beside the base's, the worst sentences first
    log.txt             what the terminal said
    sinks/              how far other trackers have been told (see sinks/forward.py)
    media/              pictures that the metrics name
    state/              what resuming needs (written by train/)
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyana.errors import Damaged, UserError
from polyana.storage import is_held, locked, read_json, sha256_of, write_file, write_json
from polyana.tracking.environment import describe_environment

__all__ = ["RunDirectory", "as_text", "find_run", "find_runs", "flat", "name_run"]


def name_run(recipe: str, stage: str, moment: float) -> str:
    """RECIPE-STAGE-YYYY-MM-DD_HH.MM.SS, in local time."""
    return f"{recipe}-{stage}-{time.strftime('%Y-%m-%d_%H.%M.%S', time.localtime(moment))}"


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run; the path's last part is the run's name."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def lock_path(self) -> Path:
        return self.path / ".lock"

    @classmethod
    def create(cls, runs: Path, recipe: str, stage: str, about: dict[str, Any]) -> RunDirectory:
        """A new run named by recipe, stage and the time now (a second later if that name is taken).

        `about` goes into run.json: the stage's fingerprint, its settings and its seed.
        """
        runs.mkdir(parents=True, exist_ok=True)
        moment = time.time()
        while True:
            path = runs / name_run(recipe, stage, moment)
            try:
                path.mkdir()
                break
            except FileExistsError:
                moment += 1
        run = cls(path)
        for part in ("metrics", "samples", "state"):
            (path / part).mkdir()
        write_json(path / "run.json", {"recipe": recipe, "stage": stage, "started": moment, **about})
        return run

    def describe(self, recipe_text: str) -> None:
        """Store what an attempt begins with: the resolved recipe and the environment."""
        write_file(self.path / "recipe.yaml", recipe_text)
        write_json(self.path / "environment.json", describe_environment())

    def environment_hash(self) -> str:
        """The SHA-256 of environment.json; empty when nothing describes this run."""
        path = self.path / "environment.json"
        return sha256_of(path) if path.exists() else ""

    def about(self) -> dict[str, Any]:
        return dict(read_json(self.path / "run.json"))

    def note(self, **more: Any) -> None:
        """Add to run.json."""
        write_json(self.path / "run.json", self.about() | more)

    def lock(self) -> Any:
        """Hold the run for this process; raises Busy when another one is training it."""
        return locked(self.lock_path, f"the run {self.name} is being trained by another process")

    def status(self) -> str:
        """training, finished, failed or interrupted."""
        if is_held(self.lock_path):
            return "training"
        return str(self.about().get("outcome", "interrupted"))

    def write_samples(self, step: int, samples: list[dict[str, str]]) -> None:
        write_json(self.path / "samples" / f"step-{step:08d}.json", samples)

    def read_samples(self) -> dict[int, list[dict[str, str]]]:
        """What the model wrote, by step."""
        paths = sorted((self.path / "samples").glob("step-*.json"))
        return {int(path.stem.removeprefix("step-")): read_json(path) for path in paths}


def as_text(sample: dict[str, str]) -> str:
    """A sample as people read it: an answer begins a line, what goes on from a text does not."""
    return sample["prompt"] + ("\n" if sample.get("form") == "chat" else "") + sample["text"]


def find_runs(runs: Path) -> list[RunDirectory]:
    """All runs below `runs`, oldest first; one whose run.json is damaged is left out."""
    found = []
    for path in runs.glob("*/run.json"):
        with suppress(Damaged):
            run = RunDirectory(path.parent)
            found.append((float(run.about()["started"]), run.name, run))
    return [run for _, _, run in sorted(found, key=lambda entry: entry[:2])]


def find_run(runs: Path, name: str) -> RunDirectory:
    """The run called `name`; or, where that is RECIPE-STAGE or another beginning of names, the newest of them.

    Raises UserError when there is none, or `name` may be several stages.
    """
    known = find_runs(runs)
    found = [run for run in known if run.name == name] or [run for run in known if run.name.startswith(name)]
    stages = sorted({"{recipe}-{stage}".format(**run.about()) for run in found})
    if len(stages) > 1 and name not in stages:
        raise UserError(f"`{name}` could be {' or '.join(stages)}; write one of them")
    fitting = [run for run in found if "{recipe}-{stage}".format(**run.about()) == name] or found
    if not fitting:
        here = f"runs here: {', '.join(run.name for run in known[-10:])}" if known else "there are none yet"
        raise UserError(f"there is no run `{name}` in {runs}; {here}")
    return fitting[-1]


def flat(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    rows: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            rows |= flat(value, f"{before}{key}.")
        else:
            rows[f"{before}{key}"] = value
    return rows
