"""What a run has saved, for those who use it: NAME@REV -> its files, and the base that an adapter stands on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from polyana.errors import UserError
from polyana.models import fetch_model, model_commit
from polyana.pipeline import Pipeline, start_step
from polyana.recipe import load_recipe
from polyana.registry import Commit, find_repository
from polyana.scores import Saved
from polyana.storage import read_json
from polyana.tasks import FineTuneConfig
from polyana.tracking import Console, RunDirectory

__all__ = ["Revision", "find_revision", "held_revision"]

_TRIES = 10  # a save lives longer than it takes to hold it; guess


@dataclass(frozen=True)
class Revision:
    """One save of a run. `directory`: its files, whose checksums are right."""

    home: Path
    run: RunDirectory
    commit: Commit
    directory: Path

    def __str__(self) -> str:
        return f"{self.run.name}@step-{self.commit.step}"

    def saved(self, console: Console) -> Saved:
        """As those who measure it take it."""
        return Saved(self.home, self.run, self.commit, self.directory, lambda: self.base(console))

    def base(self, console: Console) -> Path | None:
        """The directory of the model that this adapter stands on, made again if it was deleted; None for a whole model.

        Raises UserError where it can no longer be made.
        """
        if "adapter_config.json" not in self.commit.files:
            return None
        recipe_path = self.run.path / "recipe.yaml"
        if not recipe_path.exists():  # it was pulled from elsewhere
            return self._base_by_name()
        found = self.home / "stages" / str(self.run.about()["start"])
        if (found / "artifact.json").exists():
            return found
        recipe, stage = load_recipe(recipe_path), self.run.about()["stage"]
        config = recipe.stages[stage]
        assert isinstance(config, FineTuneConfig)
        pipeline = Pipeline(recipe, self.home, console)
        step = start_step(pipeline, stage, config)
        if not found.name.endswith(step.making.fingerprint[:16]):
            raise UserError(f"the base that {self} stands on was deleted, and `{config.base}` is another model by now")
        made: Path = pipeline.store.get(step).directory
        return made

    def _base_by_name(self) -> Path:
        """The base that the adapter itself names: a directory here, or a model of the Hub."""
        settings = read_json(self.directory / "adapter_config.json")
        name, revision = str(settings.get("base_model_name_or_path")), str(settings.get("revision") or "main")
        if (Path(name) / "config.json").is_file():
            return Path(name)
        if Path(name).is_absolute():
            raise UserError(
                f"{self} is an adapter, and neither {self.run.path}, which says what base it stands on, nor that base "
                f"({name}) is here; where it was trained, `polyana models export {self} --to merged` makes them one"
            )
        return fetch_model(name, revision, model_commit(name, revision))


def find_revision(text: str, home: Path) -> Revision:
    """What RUN[@REV] names: @best, @main (which stands for no @), @step-500, a commit id. Raises UserError."""
    name, _, revision = text.partition("@")
    repository = find_repository(home / "hub", name)
    commit = repository.resolve(revision or "main")
    return Revision(home, RunDirectory(home / "runs" / repository.run), commit, repository.snapshot(commit))


@contextmanager
def held_revision(text: str, home: Path) -> Iterator[Revision]:
    """As `find_revision`; the save stays until the block ends, whatever a training that goes on wants to keep.

    A name that moves on, as @main, is looked up again where its save was deleted before it could be held.
    """
    name, _, revision = text.partition("@")
    repository = find_repository(home / "hub", name)
    with ExitStack() as held:
        for left in reversed(range(_TRIES)):
            commit = repository.resolve(revision or "main")
            try:
                held.enter_context(repository.holding(commit))
                break
            except UserError:
                if not left:
                    raise
        yield Revision(home, RunDirectory(home / "runs" / repository.run), commit, repository.snapshot(commit))
