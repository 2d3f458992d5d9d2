"""Suites: what a model is asked in one go, by name or from a YAML file of several named tasks.

name: mine                          # default: the file's name
tasks:
  prose: {kind: perplexity, data: prose/*.txt}
  quiz: {kind: multiple_choice, data: quiz.jsonl}
  sums: {kind: gsm8k, data: gsm8k/test.jsonl, examples: gsm8k/train.jsonl, shots: 5}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from polyana.config import Config, Source, closest, read_config, read_yaml
from polyana.corpus import Document, SourceConfig, files_of
from polyana.data import TokenShards
from polyana.errors import PolyanaError, Problem, UserError
from polyana.evaluate.answers import ExactMatchConfig, ExactMatchTest, Gsm8kConfig, Gsm8kTest
from polyana.evaluate.choices import MultipleChoiceConfig, MultipleChoiceTest
from polyana.evaluate.documents import DocumentsTest, ExamplesTest, PerplexityConfig
from polyana.evaluate.free_text import FreeTextConfig, FreeTextTest
from polyana.evaluate.harness import LmEvalConfig, LmEvalTest
from polyana.evaluate.items import Scored
from polyana.evaluate.likelihood import Subject
from polyana.storage import fingerprint

__all__ = [
    "TASK_KINDS",
    "HeldOutExamples",
    "HeldOutText",
    "Suite",
    "Surroundings",
    "Test",
    "TranslationSuiteConfig",
    "check_suite",
    "read_suite",
    "suite_files",
]

_VERSION = 1  # raised by hand when the same suite scores the same model otherwise

_BEGINNINGS, _BEGINNING_WORDS = 50, 16  # of held-out documents, as prompts; guess


class TranslationSuiteConfig(Config):
    """What a model makes of texts, by BLEU and chrF++ (sacrebleu), asked as its training did."""

    kind: Literal["translation"]
    source: str | None = Field(
        None,
        description="a text, a line for each segment, blank lines between documents; default: what the run held out",
        json_schema_extra={"path": True},
    )
    target: str | None = Field(None, description="its translation, line by line", json_schema_extra={"path": True})
    limit: int | None = Field(None, ge=1, description="only the first so many segments")

    def problems(self) -> Any:
        if (self.source is None) != (self.target is None):
            yield (), "`source` and `target` are one text in two languages; write both, or neither"


TaskConfig = (
    PerplexityConfig | MultipleChoiceConfig | ExactMatchConfig | Gsm8kConfig | FreeTextConfig | TranslationSuiteConfig
    | LmEvalConfig
)  # fmt: skip

TASK_KINDS: dict[str, type[TaskConfig]] = {
    "perplexity": PerplexityConfig,
    "multiple_choice": MultipleChoiceConfig,
    "exact_match": ExactMatchConfig,
    "gsm8k": Gsm8kConfig,
    "generation": FreeTextConfig,
    "translation": TranslationSuiteConfig,
    "lm_eval": LmEvalConfig,
}
"""What a task of a suite can be; the name stands in its file under `kind`."""


class Test(Protocol):
    """What is asked, read and found right before any model is loaded."""

    @property
    def items(self) -> int:
        """How many there are, for the bar."""

    def content(self) -> Any:
        """All that decides what is asked, as plain data."""

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        """Each item's scores; `show` is told how many are done."""


class Surroundings(Protocol):
    """What a suite takes from the run whose model it measures."""

    def held_out(self) -> HeldOutText | HeldOutExamples:
        """What its training did not see. Raises UserError where nothing was held out."""

    def translation(self, config: TranslationSuiteConfig, base: Path) -> Test:
        """Raises UserError where the run has not learned to translate."""


@dataclass(frozen=True)
class HeldOutText:
    documents: Sequence[Document]


@dataclass(frozen=True)
class HeldOutExamples:
    shards: TokenShards
    decode: Callable[[list[int]], str]


@dataclass(frozen=True)
class Suite:
    """`tasks` by name; of a suite that is one kind of task its name is "". `hash`: of all that decides the scores but
    the model."""

    name: str
    tasks: Mapping[str, Test]
    configs: Mapping[str, TaskConfig]

    @property
    def of_run(self) -> bool:
        """Whether any of its questions are what the run held out."""
        return any(_asks_held_out(config) for config in self.configs.values())

    @property
    def hash(self) -> str:
        asked = {name: [self.configs[name].identity(), test.content()] for name, test in self.tasks.items()}
        return fingerprint([_VERSION, asked])

    def called(self, task: str, metric: str) -> str:
        """A metric's name among all of the suite's."""
        return f"{task}.{metric}" if task else metric


def check_suite(written: str, where: str = "") -> None:
    """Raises UserError for what is neither the name of a suite nor a file's, or needs settings that only a file has."""
    if not written.endswith((".yaml", ".yml")):
        _plain(written, {}, where)


def read_suite(
    written: str, base: Path, around: Surroundings, more: Mapping[str, Any] | None = None, where: str = ""
) -> Suite:
    """`perplexity`, `generation`, `translation`, `gsm8k`, `lm-eval:TASK,TASK`, or a file `mine.yaml`, relative to
    `base`.

    `more`: settings of a suite that is no file. Raises UserError with every problem, before anything is measured.
    """
    if written.endswith((".yaml", ".yml")):
        return _of_file(base / Path(written).expanduser(), around)
    more = more or {}
    config = _plain(written, more, where)
    try:
        name = f"{written} ({', '.join(map(_said, more.items()))})" if more else written
        return Suite(name, {"": _test(config, base, around)}, {"": config})
    except UserError as error:
        raise UserError([Problem(problem.where or where, problem.what) for problem in error.problems]) from None


def _plain(written: str, more: Mapping[str, Any], where: str) -> TaskConfig:
    """The one task of a suite that is no file."""
    kind, _, tasks = written.partition(":")
    settings: dict[str, Any] = {"kind": kind.replace("-", "_"), **more}
    if kind == "lm-eval":
        settings["tasks"] = [name for name in tasks.split(",") if name]
    elif tasks or settings["kind"] not in TASK_KINDS:
        names = ["perplexity", "generation", "translation", "gsm8k", "lm-eval:TASKS", "FILE.yaml"]
        near = closest(written, names) or f"; write one of {', '.join(names)}"
        raise UserError(Problem(where, f"`{written}` is no suite{near}"))
    config, problems = read_config(
        TASK_KINDS[settings["kind"]], settings, Source(where or f"--suite {written}", {}), ()
    )
    if config is None or problems:
        raise UserError(problems)
    return config


def _said(setting: tuple[str, Any]) -> str:
    name, value = setting
    return f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"


def suite_files(written: str, base: Path) -> dict[str, Path]:
    """(name, path) of the file that a suite is and of every file that its tasks read, for their hashes; nothing for one
    that is no file. Raises UserError for what is wrong in it, and for files that are not there."""
    if not written.endswith((".yaml", ".yml")):
        return {}
    path = base / Path(written).expanduser()
    _, source, configs = _read(path)
    found, problems = {path.name: path}, list[Problem]()
    for task, config in configs.items():
        for name, field in type(config).model_fields.items():
            marked = isinstance(field.json_schema_extra, dict) and "path" in field.json_schema_extra
            given = getattr(config, name) if marked else None
            for each in given if isinstance(given, list) else [given] if given else []:
                try:
                    found |= {f"{task}.{name}/{inner}": file for inner, file in _files(each, path.parent)}
                except UserError as error:
                    where = source.where(("tasks", task, name))
                    problems += [Problem(problem.where or where, problem.what) for problem in error.problems]
    if problems:
        raise UserError(problems)
    return found


def _files(given: str, base: Path) -> list[tuple[str, Path]]:
    """The files that a setting names; of a directory of lm-eval's tasks all."""
    place = base / Path(given).expanduser()
    if place.is_dir():
        return [(str(each.relative_to(place)), each) for each in sorted(place.rglob("*")) if each.is_file()]
    return files_of(SourceConfig(path=given), base)


def _of_file(path: Path, around: Surroundings) -> Suite:
    name, source, configs = _read(path)
    tests, problems = dict[str, Test](), list[Problem]()
    for task, config in configs.items():
        try:
            tests[task] = _test(config, path.parent, around)
        except PolyanaError as error:
            found = error.problems if isinstance(error, UserError) else [Problem("", str(error))]
            problems += [Problem(each.where or source.where(("tasks", task)), each.what) for each in found]
    if problems:
        raise UserError(problems)
    return Suite(name, tests, configs)


def _read(path: Path) -> tuple[str, Source, dict[str, TaskConfig]]:
    """The name of a suite's file, the file, and its tasks. Raises UserError with all that is wrong in it."""
    source = read_yaml(path)
    problems = [
        Problem(source.where((key,)), f"unknown key `{key}`{closest(key, ['name', 'tasks']) or '; known: name, tasks'}")
        for key in source.data
        if key not in ("name", "tasks")
    ]
    name = source.data.get("name", path.stem)
    if not isinstance(name, str) or not name:
        problems.append(Problem(source.where(("name",)), f"`name: {name}` should be text"))
    listed = source.data.get("tasks")
    if not isinstance(listed, dict) or not listed:
        what = "`tasks` is missing: name at least one with a `kind`"
        raise UserError([*problems, Problem(source.where(("tasks",)), what)])
    configs = dict[str, TaskConfig]()
    for task, settings in listed.items():
        kind = settings.get("kind") if isinstance(settings, dict) else None
        if not isinstance(kind, str) or kind not in TASK_KINDS:
            given = f"`kind: {kind}` is not known" if kind else f"task `{task}` needs a `kind`"
            near = closest(str(kind), list(TASK_KINDS)) if kind else ""
            what = f"{given}{near or '; write one of: ' + ', '.join(TASK_KINDS)}"
            problems.append(Problem(source.where(("tasks", task, "kind")), what))
            continue
        if "." in task:
            what = f"task `{task}`: a point parts a task's name from its metrics'; write another sign"
            problems.append(Problem(source.where(("tasks", task)), what))
        config, wrong = read_config(TASK_KINDS[kind], settings, source, ("tasks", task))
        problems += wrong
        if config is not None:
            configs[task] = config
    if problems:
        raise UserError(problems)
    return str(name), source, configs


def _test(config: TaskConfig, base: Path, around: Surroundings) -> Test:
    match config:
        case PerplexityConfig():
            if config.data:
                return DocumentsTest(config, list(config.documents(base)))
            held_out = around.held_out()
            if isinstance(held_out, HeldOutText):
                return DocumentsTest(config, held_out.documents)
            return ExamplesTest(config, held_out.shards, held_out.decode)
        case MultipleChoiceConfig():
            return MultipleChoiceTest(config, base)
        case ExactMatchConfig():
            return ExactMatchTest(config, base)
        case Gsm8kConfig():
            return Gsm8kTest(config, base)
        case FreeTextConfig():
            return FreeTextTest(config, config.prompts or _beginnings(around))
        case TranslationSuiteConfig():
            return around.translation(config, base)
        case LmEvalConfig():
            return LmEvalTest(config, base)


def _asks_held_out(config: TaskConfig) -> bool:
    match config:
        case PerplexityConfig():
            return not config.data
        case FreeTextConfig():
            return not config.prompts
        case TranslationSuiteConfig():
            return config.source is None
    return False


def _beginnings(around: Surroundings) -> list[str]:
    held_out = around.held_out()
    if not isinstance(held_out, HeldOutText):
        raise UserError(
            "the run was trained on examples and not on running text; say what to go on from: `prompts: [...]`"
        )
    words = (each.text.split(maxsplit=_BEGINNING_WORDS)[:_BEGINNING_WORDS] for each in held_out.documents)
    return [" ".join(each) for each in list(words)[:_BEGINNINGS] if each]
