"""What a recipe says about preferences that are made: who answers, how answers are scored and become pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from polyana.config import Config, KeyPath, Share, StageReference
from polyana.examples import PromptSource
from polyana.models import parse_base
from polyana.rewards import RewardParts, part_problems, stage_in

__all__ = ["CorruptConfig", "PairsConfig", "SynthesizeConfig"]

LANGUAGE_MODELS = ("pretrain", "sft", "translate", "preference")


class PairsConfig(Config):
    """Which answers to a prompt become pairs."""

    rule: Literal["best_worst", "margin"] = Field(
        "best_worst",
        description="`best_worst`: the answer with the highest reward against the one with the lowest; `margin`: every "
        "two that lie at least `min_gap` apart, the widest first",
    )
    min_gap: float = Field(
        0.0,
        ge=0,
        description="rewards that differ by no more than this are a tie and make no pair (with `margin`: by less)",
    )
    most: int = Field(4, ge=1, description="with `margin`: pairs of a prompt at most")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.rule == "margin" and not self.min_gap:
            yield ("min_gap",), "`rule: margin` needs one: how far apart rewards must lie, as `min_gap: 0.5`"
        if self.rule != "margin" and self.most != type(self).model_fields["most"].default:
            yield ("most",), "`most` belongs to `rule: margin`; best_worst makes one pair of a prompt"


Damage = Literal["shuffle", "facts", "truncate", "repeat", "language"]


class CorruptConfig(Config):
    """Good answers made bad, each the rejected one of a pair with what it was."""

    kinds: list[Damage] = Field(
        min_length=1,
        description="`shuffle`: its sentences in another order; `facts`: its numbers and names taken from other "
        "answers; `truncate`: broken off in mid-sentence; `repeat`: a sentence said over and over; `language`: an "
        "answer in another one, from `foreign`",
    )
    share: Share = Field(1.0, gt=0, le=1, description="of the prompts, those whose best answer is made bad")
    foreign: str | None = Field(
        None,
        description="a text in another language, a paragraph a line, which `language` takes answers from",
        json_schema_extra={"path": True},
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if ("language" in self.kinds) != (self.foreign is not None):
            yield ("foreign",), "`kinds: [language]` takes answers from a text in another language: `foreign: file.txt`"
        if len(set(self.kinds)) < len(self.kinds):
            yield ("kinds",), "names one of them twice"


class BestConfig(Config):
    """Which answers are examples to learn from: best of n, rejection sampling."""

    most: int = Field(1, ge=1, description="of each prompt so many, the best first")
    min_reward: float | None = Field(
        None, description="only those with such a reward or more, as `1` for what a check found right; default: any"
    )


class SynthesizeConfig(Config):
    """Preferences made by models: several answers to each prompt, scored, and pairs of them."""

    kind: Literal["synthesize"]
    of: Annotated[
        list[str],
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
        StageReference(LANGUAGE_MODELS, stage_in),
    ] = Field(
        min_length=1,
        description="who answers: one or more of a stage as `chat@best`, `hub:org/name@revision`, `package:NAME`, a "
        "directory as `./model`",
    )
    prompts: list[PromptSource] = Field(min_length=1, description="what is asked: `[{path: prompts.jsonl}]`")
    system: str | None = Field(None, description="what each conversation begins with")
    answers: int = Field(4, ge=1, description="to each prompt, from each of `of`")
    max_tokens: int = Field(128, ge=1, description="of an answer at most")
    temperature: float = Field(1.0, ge=0, description="1 is the model's own distribution, higher is more varied")
    top_k: int | None = Field(None, ge=1, description="only among the so many likeliest; null for all")
    top_p: float | None = Field(None, gt=0, le=1, description="only among the likeliest that reach this share")
    batch: int = Field(16, ge=1, description="answers written and kept at once; another size draws others")
    reward: RewardParts = Field(
        min_length=1, description="what an answer is worth: parts with weights, as `[{kind: length, weight: 0.1}]`"
    )
    pairs: PairsConfig = PairsConfig()
    best: BestConfig = BestConfig()
    corrupt: CorruptConfig | None = None

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        for place, written in enumerate(self.of):
            try:
                parse_base(written)
            except ValueError as error:
                yield ("of", place), str(error)
        if len(set(self.of)) < len(self.of):
            yield ("of",), "names one of them twice; write a larger `answers`"
        if self.temperature == 0 and self.answers > 1:
            yield ("answers",), "with `temperature: 0` all answers to a prompt are the same; write one"
        if len(self.of) * self.answers < 2 and self.corrupt is None:
            yield ("answers",), "one answer to a prompt makes no pair; write more, or `corrupt`"
        labels = [source.rows.label for source in self.prompts]
        for place, label in enumerate(labels):
            if label in labels[:place]:
                yield ("prompts", place), f"two of the prompts are called `{label}`; give one another `name: ...`"
        yield from part_problems("reward", self.reward)

    def identity(self) -> dict[str, Any]:
        """Of models their content counts."""
        return {name: value for name, value in super().identity().items() if name != "of"}

    def writing_identity(self) -> dict[str, Any]:
        """The settings that decide what is written."""
        names = ("system", "answers", "max_tokens", "temperature", "top_k", "top_p", "batch")
        return {name: getattr(self, name) for name in names}

    def resolved(self, base: Path) -> dict[str, Any]:
        places = [
            str(base / Path(parse_base(each).name).expanduser()) if parse_base(each).kind == "path" else each
            for each in self.of
        ]
        return super().resolved(base) | {"of": places}
