"""What a recipe says about measuring what it has trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from polyana.config import Config, KeyPath, StageReference
from polyana.errors import UserError
from polyana.evaluate.suite import check_suite

__all__ = ["EvaluateConfig", "stage_and_revision"]


def stage_and_revision(written: str) -> tuple[str, str]:
    """`pretrain@step-500` in its two parts; `best` where nothing is said."""
    stage, _, revision = written.partition("@")
    return stage, revision or "best"


class EvaluateConfig(Config):
    """Measure what stages have trained, and say whether they differ by more than chance (docs/evaluation.md)."""

    kind: Literal["evaluate"]
    of: Annotated[
        list[str],
        StageReference(("pretrain", "sft", "translate", "preference"), lambda written: stage_and_revision(written)[0]),
    ] = Field(
        min_length=1,
        description="what is measured: `[pretrain@best, chat@step-500]`, `best` where nothing is said; all are asked "
        "what the first one's run held out, and each is compared with the first",
    )
    suites: list[str] = Field(
        min_length=1,
        description="`perplexity`, `generation`, `translation`, `lm-eval:TASKS`, or a suite's file `mine.yaml`",
    )
    precision: Literal["fp32", "bf16", "auto"] = Field("fp32", description="what is computed in")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        for name in ("of", "suites"):
            given = getattr(self, name)
            for index, each in enumerate(given):
                if each in given[:index]:
                    yield (name, index), f"`{each}` is named twice; leave one of them out"
        for index, each in enumerate(self.suites):
            try:
                check_suite(each)
            except UserError as error:
                yield from ((("suites", index), problem.what) for problem in error.problems)

    def identity(self) -> dict[str, Any]:
        """What is measured counts, and what suites hold; where they lie does not."""
        named = [each if not _is_file(each) else Path(each).name for each in self.suites]
        return {"suites": named, "precision": self.precision}

    def resolved(self, base: Path) -> dict[str, Any]:
        suites = [str(base / Path(each).expanduser()) if _is_file(each) else each for each in self.suites]
        return super().resolved(base) | {"suites": suites}


def _is_file(suite: str) -> bool:
    return suite.endswith((".yaml", ".yml"))
