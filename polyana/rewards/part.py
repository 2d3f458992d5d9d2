"""What a part of a reward is: a config with a weight, and what scores answers by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BeforeValidator, Field, PlainSerializer

from polyana.config import Config, KeyPath, Quantity, parse_quantity
from polyana.models import parse_base

__all__ = ["Answered", "Needs", "Part", "PartConfig", "Surroundings", "Wait", "stage_in"]

Needs = Literal["stage", "embedder", "sequence_classifier", "causal"]
"""What a part wants of a model that it names: the files of a stage that has learnt to tell, a model that makes vectors,
one with a score for an output, a causal language model."""

Wait = Annotated[
    Quantity, BeforeValidator(lambda given: parse_quantity(given, ("seconds", "minutes"))), PlainSerializer(str)
]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer and what was asked. messages: as chat templates take them, the last one the user's. reference: an
    answer that is known to be right or good."""

    messages: list[dict[str, Any]]
    answer: str
    reference: str | None = None

    @property
    def prompt(self) -> str:
        """The last thing that was asked."""
        return str(self.messages[-1]["content"])

    @property
    def conversation(self) -> str:
        """All that was said before the answer: where that is more than the prompt, each message after its role."""
        if len(self.messages) == 1:
            return self.prompt
        return "\n\n".join(f"{each['role']}: {each['content']}" for each in self.messages)


@dataclass(frozen=True)
class Surroundings:
    """models: the directory of each model that the part names, by the setting's name. count_tokens: of a text, as the
    model that answers cuts it. base: where relative paths start."""

    models: Mapping[str, Path]
    count_tokens: Callable[[str], int]
    base: Path = Path()


class Part(Protocol):
    """Scores answers; an error that it raises is told beside the answer that it was raised at."""

    batch: int
    """Answers that are given to it at once."""
    watched: bool
    """Whether somebody else must see to it that it comes to an end."""

    def score(self, answers: Sequence[Answered]) -> Sequence[float]:
        """One finite number an answer."""


class PartConfig(Config):
    """What every part has."""

    kind: str
    name: str | None = Field(None, description="what its scores are called; default: its kind")
    weight: float = Field(1.0, description="its score counts so many times; less than 0 for what should not be")
    timeout: Wait = Field(
        Quantity(60, "seconds"),
        description="for one answer, as `60 seconds`; the run stops where it takes longer",
        json_schema_extra={"watching": True},
    )
    needs: ClassVar[Mapping[str, Needs]] = {}
    """The settings that name models."""

    @property
    def called(self) -> str:
        return self.name or self.kind

    def open(self, surroundings: Surroundings) -> Part:
        """Ready to score. Raises UserError for what its model cannot do."""
        raise NotImplementedError  # each kind has its own

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        for name, need in self.needs.items():
            if need == "stage":
                continue
            try:
                reference = parse_base(getattr(self, name))
            except ValueError as error:
                yield (name,), str(error)
                continue
            if need == "embedder" and reference.kind == "stage":
                yield (name,), f"`{getattr(self, name)}` is no path; write a directory as `./{getattr(self, name)}`"

    def identity(self) -> dict[str, Any]:
        """Of a model its content counts, not its place."""
        return {name: value for name, value in super().identity().items() if name not in self.needs}

    def scoring_identity(self) -> dict[str, Any]:
        """The settings that decide its own scores."""
        return {name: value for name, value in self.identity().items() if name not in ("name", "weight")}

    def resolved(self, base: Path) -> dict[str, Any]:
        found = super().resolved(base)
        for name, need in self.needs.items():
            if need != "stage" and parse_base(found[name]).kind == "path":
                found[name] = str(base / Path(found[name]).expanduser())
        return found


def stage_in(written: str) -> str | None:
    """The stage in what names a model; None where that is something else."""
    try:
        reference = parse_base(written)
    except ValueError:  # which `problems` tells
        return None
    return reference.name if reference.kind == "stage" else None
