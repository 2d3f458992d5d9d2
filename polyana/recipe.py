"""A recipe: one YAML file, one pipeline of named stages. Composes the configs that live beside their owners."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyana.config import KeyPath, Source, closest, dump_yaml, read_config, read_yaml, references_of
from polyana.corpus import ClassifierConfig, CorpusConfig, NgramsConfig, QualityConfig
from polyana.errors import Problem, UserError
from polyana.evaluate import EvaluateConfig
from polyana.storage import fingerprint
from polyana.synthesis import SynthesizeConfig
from polyana.tasks import ClassifyConfig, PreferenceConfig, PretrainConfig, RewardConfig, SftConfig, TranslateConfig
from polyana.tokenizer import TokenizerConfig

__all__ = ["KINDS", "Recipe", "StageConfig", "load_recipe"]

StageConfig = (
    ClassifierConfig
    | CorpusConfig
    | NgramsConfig
    | QualityConfig
    | TokenizerConfig
    | PretrainConfig
    | SftConfig
    | TranslateConfig
    | PreferenceConfig
    | RewardConfig
    | ClassifyConfig
    | EvaluateConfig
    | SynthesizeConfig
)

KINDS: dict[str, type[StageConfig]] = {
    "corpus": CorpusConfig,
    "ngrams": NgramsConfig,
    "quality": QualityConfig,
    "classifier": ClassifierConfig,
    "tokenizer": TokenizerConfig,
    "pretrain": PretrainConfig,
    "sft": SftConfig,
    "translate": TranslateConfig,
    "preference": PreferenceConfig,
    "reward": RewardConfig,
    "classify": ClassifyConfig,
    "evaluate": EvaluateConfig,
    "synthesize": SynthesizeConfig,
}
"""What a stage can be; the name stands in the recipe under `kind`."""

_NAME = re.compile(r"[A-Za-z0-9](?:[_.-]?[A-Za-z0-9])*_?")  # what a Hugging Face repository's name allows, and no "--"
_LONGEST_NAME = 36  # two of them, two hyphens and date and time fit into the 96 characters of a repository's name


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. `stages` are in the order they run in; `base` is where relative paths start."""

    name: str
    seed: int
    stages: dict[str, StageConfig]
    base: Path
    source: Source

    def where(self, stage: str, *path: str | int) -> str:
        """The file and line of a stage's setting, for messages."""
        return self.source.where(("stages", stage, *path))

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults included and paths absolute, as plain data that `load_recipe` reads back."""
        stages = {name: config.resolved(self.base) for name, config in self.stages.items()}
        return {"name": self.name, "seed": self.seed, "stages": stages}

    def as_yaml(self) -> str:
        return dump_yaml(self.resolved())

    def told(self, stage: str) -> str:
        """A stage and what it needs as YAML for people, without defaults and without where files lie."""
        stages = {name: self.stages[name].told() for name in self.needed_for(stage)}
        return dump_yaml({"name": self.name, "stages": stages})

    @property
    def hash(self) -> str:
        """Of all that decides what comes out; where files lie and how a run is watched do not."""
        stages = {name: config.identity() for name, config in self.stages.items()}
        return fingerprint([self.name, self.seed, stages])[:16]

    def needed_for(self, stage: str) -> list[str]:
        """The stage and all that it reads, in the order they run in. Raises UserError if there is no such stage."""
        if stage not in self.stages:
            raise UserError(_no_such_stage(stage, list(self.stages)))
        needed = {stage}
        for name in reversed(self.stages):
            if name in needed:
                needed |= _read_by(self.stages[name])
        return [name for name in self.stages if name in needed]

    def proxy_of(self, stage: str, config: PreferenceConfig) -> tuple[str, KeyPath, Sequence[Any]]:
        """(stage, setting, parts) of the reward that the preferences of a stage with `gold` were made by. Raises
        UserError where that is nowhere said."""
        if config.gold is not None and config.gold.proxy:
            return stage, ("gold", "proxy"), config.gold.proxy
        owner = next((each.stage for each in config.data if each.stage is not None), "")
        maker = self.stages.get(owner)
        if not isinstance(maker, SynthesizeConfig):
            what = "write `proxy`, what the preferences were made by; none of the data come from a `synthesize`"
            raise UserError(Problem(self.where(stage, "gold"), what))
        return owner, ("reward",), maker.reward


def load_recipe(path: Path | str, overrides: Iterable[str] = ()) -> Recipe:
    """Read and check a recipe; `overrides` as `stages.pretrain.train.lr=3e-4`.

    Raises UserError with every problem of the file, each with its line.
    """
    path = Path(path)
    source = read_yaml(path)
    for assignment in overrides:
        source.override(assignment)
    problems: list[Problem] = []
    name = _name(source, path, problems)
    seed = source.data.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        problems.append(Problem(source.where(("seed",)), f"`seed: {seed}` should be a whole number, 0 or more"))
        seed = 0
    for key in source.data:
        if key not in ("name", "seed", "stages"):
            near = closest(key, ["name", "seed", "stages"]) or "; known here: name, seed, stages"
            problems.append(Problem(source.where((key,)), f"unknown key `{key}`{near}"))
    stages = _read_stages(source, problems)
    _check_references(source, stages, problems)
    if problems:
        raise UserError(sorted(dict.fromkeys(problems), key=_line))  # an alias repeats what is wrong in its anchor
    return Recipe(name, seed, _in_order(stages), path.resolve().parent, source)


def _name(source: Source, path: Path, problems: list[Problem]) -> str:
    name = source.data.get("name", path.stem)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        problems.append(Problem(source.where(("name",)), f"`name: {name}`: {_name_rule()}"))
    return str(name)


def _name_rule() -> str:
    return (
        f"write letters, digits and single - _ . between them, at most {_LONGEST_NAME}: it becomes part of file names"
    )


def _read_stages(source: Source, problems: list[Problem]) -> dict[str, StageConfig]:
    """The stages that could be read; what is wrong with the others goes to `problems`."""
    listed = source.data.get("stages")
    if not isinstance(listed, dict) or not listed:
        problems.append(
            Problem(source.where(("stages",)), "`stages` is missing: name at least one stage with a `kind`")
        )
        return {}
    stages: dict[str, StageConfig] = {}
    for name, settings in listed.items():
        where: KeyPath = ("stages", name)
        if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            problems.append(Problem(source.where(where), f"stage `{name}`: {_name_rule()}"))
        kind = settings.get("kind") if isinstance(settings, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            given = f"`kind: {kind}` is not known" if kind else f"stage `{name}` needs a `kind`"
            near = closest(str(kind), list(KINDS)) if kind else ""
            problems.append(
                Problem(source.where((*where, "kind")), f"{given}{near or '; write one of: ' + ', '.join(KINDS)}")
            )
            continue
        config, wrong = read_config(KINDS[kind], settings, source, where)
        problems += wrong
        if config is not None:
            stages[name] = config
    return stages


def _check_references(source: Source, stages: dict[str, StageConfig], problems: list[Problem]) -> None:
    listed = source.data.get("stages")
    written = listed if isinstance(listed, dict) else {}
    known = len(problems)
    kinds = {name: str(settings.get("kind")) for name, settings in written.items() if isinstance(settings, dict)}
    for name, given in kinds.items():
        if given not in KINDS:
            continue
        for path, reference, needed in references_of(KINDS[given], written[name]):
            where = source.where(("stages", name, *path))
            if reference not in kinds:
                fitting = [other for other in kinds if kinds[other] in needed and other != name]
                problems.append(Problem(where, _no_such_stage(reference, fitting)))
            elif kinds[reference] in KINDS and kinds[reference] not in needed:  # an unknown kind was named before
                what = f"stage `{reference}` is of kind {kinds[reference]}; a {' or '.join(needed)} is needed"
                problems.append(Problem(where, what))
    if len(problems) == known:  # each names what it may
        problems += [
            Problem(source.where(("stages", name)), f"stage `{name}` waits for itself, by way of what it reads")
            for name in _in_circles(stages)
        ]
    for name, config in stages.items():
        corpus = stages.get(config.corpus) if isinstance(config, PretrainConfig) else None
        if isinstance(config, PretrainConfig) and isinstance(corpus, CorpusConfig) and corpus.eval == 0:
            for path in config.needs_held_out:
                what = f"`{'.'.join(map(str, path))}` needs held-out text, but `{config.corpus}` has `eval: 0`"
                problems.append(Problem(source.where(("stages", name, *path)), what))
        telling = config.telling if isinstance(config, CorpusConfig) else None
        classifier = stages.get(telling.model) if telling is not None and telling.model is not None else None
        if isinstance(config, CorpusConfig) and isinstance(classifier, ClassifierConfig):
            for path, what in config.unknown_domains(classifier.classes):
                problems.append(Problem(source.where(("stages", name, *path)), what))


def _in_circles(stages: dict[str, StageConfig]) -> list[str]:
    """The stages that cannot begin, for each waits for another of them."""
    waiting = {name: _read_by(config) & set(stages) for name, config in stages.items()}
    while ready := [name for name, needed in waiting.items() if not needed & set(waiting)]:
        for name in ready:
            del waiting[name]
    return list(waiting)


def _read_by(config: StageConfig) -> set[str]:
    """The stages that a stage reads."""
    return {reference for _, reference, _ in references_of(type(config), config.model_dump())}


def _no_such_stage(name: str, known: list[str]) -> str:
    return f"there is no stage `{name}`{closest(name, known) or '; stages that fit: ' + (', '.join(known) or 'none')}"


def _in_order(stages: dict[str, StageConfig]) -> dict[str, StageConfig]:
    """Stages so that each comes after what it reads; as written where that leaves a choice."""
    ordered: dict[str, StageConfig] = {}

    def add(name: str) -> None:
        if name not in ordered:
            for reference in sorted(_read_by(stages[name])):
                add(reference)
            ordered[name] = stages[name]

    for name in stages:
        add(name)
    return ordered


def _line(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where, 0)
