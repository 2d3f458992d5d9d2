"""Pretrained models as ordinary directories: those that are learned on from, and those that are only asked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyana.config import KeyPath
from polyana.errors import Problem, UserError, blaming
from polyana.examples import example_inputs, with_stages
from polyana.models import (
    BASE_VERSION,
    BaseReference,
    base_inputs,
    convert_base,
    copy_model,
    licence_of_directory,
    merge_adapter,
    parse_base,
)
from polyana.parallel import ParallelText
from polyana.pipeline.parallel import parallel_step
from polyana.registry import Repository, find_repository
from polyana.rewards import Needs
from polyana.storage import Making, Step, fingerprints, read_json, write_json
from polyana.tasks import (
    START_VERSION,
    FineTuneConfig,
    SftConfig,
    TranslateConfig,
    build_start,
    learned_texts,
    start_identity,
)

if TYPE_CHECKING:
    from polyana.pipeline.pipeline import Pipeline


def base_step(pipeline: Pipeline, name: str, written: str, at: KeyPath = ("base",)) -> Step:
    """The model that `base: ...` of a stage names, or another setting at `at`, as an ordinary directory."""
    reference, where = parse_base(written), pipeline.recipe.where(name, *at)
    if reference.kind == "stage":
        trained, revision = pipeline.step(reference.name), reference.revision or "best"

        def fill_from_stage(directory: Path) -> None:
            pipeline.store.get(trained)
            run = pipeline.runs.of(trained.making)
            assert run is not None
            repository = Repository(pipeline.home / "hub", run.name)
            commit = repository.resolve(revision)
            below = pipeline.recipe.stages[reference.name]
            if "adapter_config.json" in commit.files:
                assert isinstance(below, FineTuneConfig)
                beneath = pipeline.store.get(start_step(pipeline, reference.name, below)).directory
                merge_adapter(beneath, repository.snapshot(commit), directory)
            else:
                for file in commit.files:
                    repository.link(commit, file, directory / file)
            write_json(directory / "base.json", {"licence": licence_of_directory(repository.snapshot(commit))})

        inputs: dict[str, Any] = {"stage": trained.making.fingerprint, "revision": revision}
        return pipeline.artifact("base", Making("base", BASE_VERSION, {}, inputs), fill_from_stage)
    if reference.kind == "run":
        return base_of_run_step(pipeline, reference, where)
    inputs = dict(base_inputs(reference, pipeline.recipe.base, pipeline.digests, lambda *_: where))

    def fill(directory: Path) -> None:
        with blaming(where):
            licence = convert_base(reference, inputs, pipeline.recipe.base, directory, pipeline.console)
        place = {"name": reference.name, "revision": inputs["commit"]} if reference.kind == "hub" else {}
        write_json(directory / "base.json", place | {"licence": licence})

    return pipeline.artifact("base", Making("base", BASE_VERSION, {}, inputs), fill)


def base_of_run_step(pipeline: Pipeline, reference: BaseReference, where: str) -> Step:
    """A model of the registry, whoever has trained it; an adapter becomes one with its base."""
    with blaming(where):
        repository = find_repository(pipeline.home / "hub", reference.name)
        commit = repository.resolve(reference.revision or ("best" if "best" in repository.refs() else "main"))
        beneath = _base_below(pipeline, repository) if "adapter_config.json" in commit.files else None
        if "adapter_config.json" in commit.files and beneath is None:
            merge = f"polyana models export {repository.run}@step-{commit.step} --to merged"
            what = f"`base: {reference}` is an adapter, and the base that it stands on is not here any more"
            raise UserError(f"{what}; `{merge}` makes them one model where it is")

    def fill(directory: Path) -> None:
        with blaming(where), repository.holding(commit):
            snapshot = repository.snapshot(commit)
            if beneath is not None:
                merge_adapter(beneath, snapshot, directory)
                write_json(directory / "base.json", {"licence": licence_of_directory(snapshot)})
            else:
                here = BaseReference("path", str(snapshot))
                convert_base(here, {}, pipeline.recipe.base, directory, pipeline.console)

    return pipeline.artifact("base", Making("base", BASE_VERSION, {}, {"commit": commit.id}), fill)


def _base_below(pipeline: Pipeline, repository: Repository) -> Path | None:
    """What a run began with; None where that is not here: it was deleted, or the run was pulled."""
    run = pipeline.runs.directory / repository.run
    if not (run / "run.json").is_file():
        return None
    found = pipeline.home / "stages" / str(read_json(run / "run.json").get("start"))
    return found if (found / "artifact.json").is_file() else None


def embedder_step(pipeline: Pipeline, name: str, place: int, written: str) -> Step:
    """The model that a corpus's step asks for vectors, as an ordinary directory."""
    return read_only_step(pipeline, name, written, ("steps", place, "model"), "embedder")


def read_only_step(pipeline: Pipeline, name: str, written: str, at: KeyPath, need: Needs) -> Step:
    """A model that is read and not learned on from, which the setting at `at` names."""
    where = pipeline.recipe.where(name, *at)
    try:
        reference = parse_base(written)
    except ValueError as error:
        raise UserError([Problem(where, str(error))]) from None
    if reference.kind in ("stage", "run") and need == "embedder":
        raise UserError([Problem(where, f"`{written}` is no path; write a directory as `./{written}`")])
    if reference.kind in ("stage", "run"):
        return base_step(pipeline, name, written, at)
    inputs = base_inputs(reference, pipeline.recipe.base, pipeline.digests, lambda *_: where, "model")

    def fill(directory: Path) -> None:
        with blaming(where):
            if need == "sequence_classifier":
                copy_model(reference, inputs, pipeline.recipe.base, directory)
            else:
                convert_base(reference, inputs, pipeline.recipe.base, directory, pipeline.console, "model")

    kind = "embedder" if need == "embedder" else "scorer"
    return pipeline.artifact(kind, Making(kind, BASE_VERSION, {}, inputs), fill)


def start_step(pipeline: Pipeline, name: str, config: FineTuneConfig) -> Step:
    """The model that a stage starts from, as an ordinary directory: its base, one with more tokens, a new one."""
    base, settings = base_step(pipeline, name, config.base) if config.base is not None else None, start_identity(config)
    if base is not None and not settings:
        return base
    inputs: dict[str, Any] = {"base": base.making.fingerprint} if base is not None else {"seed": pipeline.recipe.seed}
    text, made = None, dict[str, Step]()
    if base is None or config.vocabulary.pieces:
        if isinstance(config, TranslateConfig):
            text = parallel_step(pipeline, name, config)
            inputs["text"] = text.making.fingerprint
        elif isinstance(config, SftConfig):
            where, made = partial(pipeline.recipe.where, name), pipeline.making_data(config)
            inputs |= example_inputs(config, pipeline.recipe.base, pipeline.digests, where, fingerprints(made))
            settings |= {each: config.identity()[each] for each in ("data", "held_out")}

    def fill(directory: Path) -> None:
        below = pipeline.store.get(base).directory if base is not None else None
        found = with_stages(config, pipeline.directories(made))
        with blaming(pipeline.recipe.where(name)):
            told = build_start(config, below, partial(_texts, pipeline, found, text), pipeline.recipe.seed, directory)
        if below is not None:
            known = read_json(below / "base.json") if (below / "base.json").exists() else {}
            write_json(directory / "base.json", {"licence": known.get("licence")})
        pipeline.tell(told)

    return pipeline.artifact("start", Making("start", START_VERSION, settings, inputs), fill)


def _texts(pipeline: Pipeline, config: FineTuneConfig, text: Step | None) -> Iterable[str]:
    """What a stage is trained on, before it is tokens."""
    if text is not None:
        return ParallelText(pipeline.store.get(text).directory).texts("train")
    assert isinstance(config, SftConfig)
    return learned_texts(config, pipeline.recipe.base)
