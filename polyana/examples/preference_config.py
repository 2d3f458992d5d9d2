"""What a recipe says about preferences to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from polyana.config import KeyPath, Share
from polyana.examples.config import ExampleSource, Forms, TemplateConfig, same_names

__all__ = ["PREFERENCE_FORMS", "PreferenceSource", "PreferencesConfig"]

PREFERENCE_FORMS: Forms = {
    "pairs": (("chosen", "rejected"), ("prompt", "system", "margin", "score_chosen", "score_rejected", "tools")),
    "labels": (("completion", "label"), ("prompt", "system", "tools")),
    "scores": (("prompt", "answers", "scores"), ("system", "tools")),
    "ranking": (("prompt", "answers"), ("system", "tools")),
}
"""Each form, the columns that it needs and those it may have: two answers of which one is better; an answer with a
thumb up or down; answers with numbers, the higher the better; answers from the best to the worst."""


class PreferenceSource(ExampleSource):
    """One place preferences come from: files, or a data set of the Hugging Face Hub."""

    forms: ClassVar[Forms] = PREFERENCE_FORMS
    learnt: ClassVar[str] = "pairs.jsonl"
    example: ClassVar[str] = "prompt: ..., chosen: ..., rejected: ..."

    form: Literal["auto", "pairs", "labels", "scores", "ranking"] = Field(  # type: ignore[assignment]  # other forms
        "auto", description="what a row is; auto goes by its columns"
    )
    columns: dict[str, str] = Field(
        {}, description="our column names and the data's: `{chosen: better, rejected: worse}`; `weight: column` too"
    )
    weight: float = Field(1.0, gt=0, description="what each of its items counts in the loss, beside other sources")


class PreferencesConfig(TemplateConfig):
    """Rows of many forms -> pairs of answers, or answers with a label -> tokens."""

    data: list[PreferenceSource] = Field(
        min_length=1, description="where the preferences come from: `[{path: pairs.jsonl}]`"
    )
    pairs: Literal["best_worst", "adjacent", "all"] = Field(
        "best_worst",
        description="which pairs a row of several answers with scores or ranks becomes: the best against the worst; "
        "each against the next; all",
    )
    min_gap: float = Field(
        0.0, ge=0, description="two answers whose scores differ by no more than this are a tie and make no pair"
    )
    good_from: float | None = Field(
        None,
        description="where single answers are learned (kto): the score from which on an answer is good; default: the "
        "best of a row is good and the worst bad",
    )
    truncate: Literal["right", "drop"] = Field(
        "right",
        description="an item with an answer that reaches beyond the context: `right` keeps its beginning, `drop` "
        "leaves it out; a prompt that fills the context is always left out",
    )
    max_bad: Share = Field(0.01, ge=0, le=1, description="the run stops when more of the rows than this are malformed")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        yield from same_names(self.data)
        for index, source in enumerate(self.data):
            if source.package is not None:
                yield ("data", index, "package"), "a package of text holds no preferences; write `path` or `hub`"
