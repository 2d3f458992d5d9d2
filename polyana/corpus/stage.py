"""What a recipe says about a corpus."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field

from polyana.config import Config, KeyPath, Share, Size, closest
from polyana.corpus.ablation import DROP_DUPLICATES, EACH, ReportConfig
from polyana.corpus.config import SourceConfig
from polyana.corpus.executor import cores, ray_address
from polyana.corpus.mix import MixConfig
from polyana.corpus.steps import (
    DomainsConfig,
    ExactDuplicates,
    Judging,
    LanguageConfig,
    SemanticDuplicates,
    Step,
    StepConfig,
    WordRule,
)
from polyana.corpus.steps.rules import published_languages

__all__ = ["CorpusConfig", "WorkConfig"]

# bytes of all processes, shared ones counted once, as pages, 10 million lines and one long text take them: measured
_FIRST = 10**9  # one process, which does everything
_LEADING = 400 * 10**6  # the one that leads several, and the one they are forked from
_NEXT = 460 * 10**6  # each of several


class WorkConfig(Config):
    """Where and with how much the mill works. It makes the same corpus wherever that is."""

    executor: Literal["local", "ray"] = Field(
        "local", description="processes of this machine, or a Ray cluster whose machines see the same files"
    )
    workers: int | Literal["auto"] = Field(
        "auto", description="processes; auto: as many as there are cores, on all machines"
    )
    memory: Size | None = Field(
        None, description="of all processes together, as `2 GB`, 1 GB at least: fewer of them work where it is short"
    )

    def processes(self) -> int:
        """How many work at once, at most."""
        wanted = self._cores() if self.workers == "auto" else self.workers
        return wanted if self.memory is None else max(1, min(wanted, (self.memory.bytes - _LEADING) // _NEXT))

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.memory is not None and self.memory.bytes < _FIRST:
            what = f"`memory: {self.memory}` is too little: one process may take {_FIRST // 10**9} GB"
            yield ("memory",), what

    def _cores(self) -> int:
        elsewhere = self.executor == "ray" and ray_address() != "local"
        return sys.maxsize if elsewhere else cores()  # how many a cluster has, it knows itself


class CorpusConfig(Config):
    """Raw files -> clean documents, split into train and eval, with a reason for every drop."""

    kind: Literal["corpus"]
    sources: list[SourceConfig] = Field(min_length=1, description="where the text comes from: `[{path: texts/}]`")
    eval: Share = Field(
        0.02, ge=0, lt=1, description="share of the documents held out for evaluation, by a hash of their id"
    )
    min_characters: int = Field(1, ge=1, description="shorter documents are dropped")
    drop_duplicates: bool = Field(True, description="of documents with the same text only the first is kept")
    language: str | list[str] | None = Field(
        None, description="of the text, as `en` or `[en, ru]`: whose words and numbers `steps` go by (extra `mill`)"
    )
    steps: list[Step] = Field([], description="what is done with documents, in this order")
    tokenizer: str | None = Field(
        None, description="directory of a tokenizer; the report says by it how many tokens each step took"
    )
    guard: Share = Field(
        0.9,
        gt=0,
        le=1,
        description="the run stops when a step takes more than this share of the documents or bytes of a source, "
        "language or domain",
    )
    mix: MixConfig | None = Field(None, description="shares of the domains in the training text")
    report: ReportConfig = Field(
        default_factory=ReportConfig,
        description="what is found out about the finished corpus",
        json_schema_extra={"watching": True},
    )
    work: WorkConfig = Field(
        default_factory=WorkConfig, description="where the work is done", json_schema_extra={"watching": True}
    )

    @property
    def all_steps(self) -> list[StepConfig]:
        """Those of the recipe, behind the one that `drop_duplicates` stands for."""
        return [*([ExactDuplicates()] if self.drop_duplicates else []), *self.steps]

    @property
    def languages(self) -> tuple[str, ...]:
        """As the recipe has them; a text whose language it does not say is of one language without a name."""
        if self.language is None:
            return ("",)
        return (self.language,) if isinstance(self.language, str) else tuple(self.language)

    @property
    def step_names(self) -> list[str]:
        """Of `all_steps`: `drop_duplicates`, then their kinds; the second of a kind is `exact_duplicates_2`."""
        names: list[str] = []
        for place, step in enumerate(self.all_steps):
            before = sum(each.kind == step.kind for each in self.steps[: place - self.drop_duplicates])
            again = f"_{before + 1}" if before else ""
            names.append(DROP_DUPLICATES if self.drop_duplicates and not place else f"{step.kind}{again}")
        return names

    def without(self, names: Iterable[str]) -> CorpusConfig:
        """The same corpus without some steps, by their names. No guard stops it: what a step takes may well be much
        where the one before it is missing."""
        left = [name for name in self.step_names if name not in set(names)]
        steps = [step for name, step in zip(self.step_names, self.all_steps, strict=True) if name in left]
        drops = DROP_DUPLICATES in left
        return self.model_copy(update={"steps": steps[drops:], "drop_duplicates": drops, "guard": 1.0})

    @property
    def judges(self) -> list[str]:
        """Stages that have learnt what steps judge by."""
        return [step.model for step in self.steps if isinstance(step, Judging) and step.model is not None]

    @property
    def embedders(self) -> dict[int, str]:
        """The models that turn documents into vectors, by the step's place in the recipe."""
        return {place: step.model for place, step in enumerate(self.steps) if isinstance(step, SemanticDuplicates)}

    @property
    def telling(self) -> DomainsConfig | None:
        """The step that tells domains apart."""
        return next((step for step in self.steps if isinstance(step, DomainsConfig)), None)

    def domains(self, told: Sequence[str]) -> tuple[str, ...]:
        """Names of all domains: of the sources, and `told`, which the step for it tells apart."""
        return tuple(dict.fromkeys([*(source.label for source in self.sources), *told]))

    def unknown_domains(self, told: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
        """Those that the mix speaks of and that are none."""
        known = self.domains(told)
        for name in self.mix.weights if self.mix else ():
            if name not in known:
                near = closest(name, known) or f"; there are {', '.join(known)}"
                yield ("mix", "weights", name), f"no source or domain is called `{name}`{near}"

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        labels: dict[str, int] = {}
        for index, source in enumerate(self.sources):
            if source.label in labels:
                yield (
                    ("sources", index),
                    f"two sources are called `{source.label}`; give one of them another `name: ...`, "
                    "or their documents could not be told apart",
                )
            labels[source.label] = index
        yield from self._step_problems()
        if self.telling is None or self.telling.model is None:  # what a model tells apart, the recipe's stages know
            yield from self.unknown_domains(self.telling.names({}) if self.telling else ())
        yield from self._ablation_problems()

    def _ablation_problems(self) -> Iterator[tuple[KeyPath, str]]:
        where: KeyPath = ("report", "ablation")
        if (ablation := self.report.ablation) is None:
            return
        if not self.eval:
            yield where, "what models learned is measured on held-out text; hold some out: `eval: 2%`"
        if not self.all_steps:
            yield where, "nothing is cleaned here, so there is nothing to compare; give `steps`"
        for name in ablation.leave_out:
            if name not in (EACH, *self.step_names):
                known = ", ".join([*self.step_names, EACH])
                yield (*where, "leave_out"), f"there is no step `{name}`{closest(name, self.step_names)}; write {known}"

    def _step_problems(self) -> Iterator[tuple[KeyPath, str]]:
        kinds = [step.kind for step in self.steps]
        for index, step in enumerate(self.steps):
            if isinstance(step, DomainsConfig) and step.kind in kinds[:index]:
                yield ("steps", index), "`domains` stands here twice; leave one out"
            if isinstance(step, LanguageConfig) and self.language is None:
                yield ("steps", index), "`language` keeps the corpus's languages; say which: `language: en`"
            if not step.counts_words:
                continue
            if step.kind in kinds[:index]:
                yield ("steps", index), f"`{step.kind}` stands here twice; leave one out"
            if find_spec("numba") is None or find_spec("spacy") is None:
                what = f"`{step.kind}` counts words with spaCy and numba; run: pip install 'polyana[mill]'"
                yield ("steps", index), what
            if self.language is None:
                yield ("steps", index), f"`{step.kind}` counts words; say of which language: `language: en`"
            elif isinstance(step, WordRule):
                yield from self._without_numbers(index, step)
        if self.language is not None and not self.steps:
            yield ("language",), "`language` is for `steps`, and there are none; leave it out"

    def _without_numbers(self, index: int, step: WordRule) -> Iterator[tuple[KeyPath, str]]:
        """Languages that nobody has published thresholds of a rule for."""
        for language in self.languages:
            if language not in published_languages() and (needed := step.needs()):
                known = ", ".join(published_languages())
                what = f"no numbers of `{step.kind}` are published for `{language}` (they are for {known})"
                yield ("steps", index), f"{what}; give it {', '.join(needed)}"

    def measuring(self, places: tuple[int, ...]) -> list[dict[str, Any]]:
        """What decides what these steps measure and edit: their settings but for thresholds."""
        steps = [self.all_steps[place] for place in places]
        return [{name: value for name, value in step.identity().items() if name not in step.deciding} for step in steps]
