"""What saves of stages score on suites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyana import scores
from polyana.errors import Problem, UserError, blaming
from polyana.evaluate import EvaluateConfig, stage_and_revision, suite_files
from polyana.pipeline.models import start_step
from polyana.registry import Repository
from polyana.storage import Making, Step
from polyana.tasks import FineTuneConfig

if TYPE_CHECKING:
    from polyana.pipeline.pipeline import Pipeline


def evaluation_step(pipeline: Pipeline, name: str, config: EvaluateConfig) -> Step:
    """What saves of stages score on suites; kept with the saves, too."""
    measured = [(pipeline.step(stage), stage, revision) for stage, revision in map(stage_and_revision, config.of)]
    files, problems = dict[str, Path](), list[Problem]()
    for index, suite in enumerate(config.suites):
        try:
            files |= {f"{index}/{inner}": path for inner, path in suite_files(suite, pipeline.recipe.base).items()}
        except UserError as error:
            where = pipeline.recipe.where(name, "suites", index)
            problems += [Problem(problem.where or where, problem.what) for problem in error.problems]
    if problems:
        raise UserError(problems)
    inputs: dict[str, Any] = {inner: pipeline.digests.of(path) for inner, path in files.items()}
    pipeline.digests.save()
    inputs["of"] = [[step.making.fingerprint, revision] for step, _, revision in measured]

    def fill(directory: Path) -> None:
        with blaming(pipeline.recipe.where(name)):
            saves = [_saved(pipeline, *each) for each in measured]
            told = scores.evaluate_all(
                saves, config.suites, pipeline.recipe.base, directory, pipeline.console, config.precision
            )
        pipeline.tell(told)

    return pipeline.artifact(name, Making("evaluate", scores.VERSION, config.identity(), inputs), fill)


def _saved(pipeline: Pipeline, trained: Step, stage: str, revision: str) -> scores.Saved:
    """A save of a stage of this recipe, which is trained now if it is not yet."""
    pipeline.store.get(trained)
    run, below = pipeline.runs.of(trained.making), pipeline.recipe.stages[stage]
    assert run is not None
    repository = Repository(pipeline.home / "hub", run.name)
    commit = repository.resolve(revision)

    def base() -> Path | None:
        if "adapter_config.json" not in commit.files:
            return None
        assert isinstance(below, FineTuneConfig)
        return Path(pipeline.store.get(start_step(pipeline, stage, below)).directory)

    return scores.Saved(pipeline.home, run, commit, repository.snapshot(commit), base)
