"""What a recipe says about the ablation: the same small model on raw and on cleaned text."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from polyana.config import Config, KeyPath, Quantity, Size, Tokens

__all__ = ["DROP_DUPLICATES", "EACH", "AblationConfig", "ReportConfig"]

EACH = "each"
DROP_DUPLICATES = "drop_duplicates"


class AblationConfig(Config):
    """Train the same small GPT-2 on raw and on cleaned text, for as many tokens, and compare them on held-out clean
    text: the default has 1.35 million parameters and takes some minutes on two cores."""

    tokens: Tokens = Field(Quantity(1e6, "tokens"), description="that each model learns from")
    seeds: int = Field(3, ge=2, description="models of each kind, with other initial weights and another order of text")
    leave_out: Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] = (
        Field([], description="steps that models are trained without, as `near_duplicates`, one at a time; or `each`")
    )
    held_out: Size = Field(
        Quantity(200, "KB"), description="of held-out clean text that is predicted, in equal shares of the sources"
    )
    vocab_size: int = Field(4096, ge=257, description="of the tokenizer, which learns from the cleaned text")
    layers: int = Field(4, ge=1, description="as in `pretrain.model`")
    width: int = Field(128, ge=1, description="as in `pretrain.model`")
    heads: int = Field(4, ge=1, description="as in `pretrain.model`")
    context: int = Field(128, ge=2, description="as in `pretrain.model`")
    batch: int = Field(8, ge=1, description="sequences that each step learns from")
    lr: float = Field(2e-3, gt=0, description="highest learning rate; it falls to 0")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("numba") is None:
            yield (), "copies of held-out text are found by numba; run: pip install 'polyana[mill]'"
        if self.width % self.heads:
            yield ("width",), f"`width: {self.width}` is not a multiple of `heads: {self.heads}`"
        if self.tokens.amount < 20 * self.batch * self.context:
            least = 20 * self.batch * self.context
            yield (
                ("tokens",),
                f"`tokens: {self.tokens}` are not 20 steps of {self.batch} sequences; write {least} tokens",
            )


def _settings(given: Any) -> Any:
    """`true` stands for all defaults."""
    return ({} if given else None) if isinstance(given, bool) else given


class ReportConfig(Config):
    """What is found out about the finished corpus; it changes nothing in it."""

    ablation: Annotated[AblationConfig | None, BeforeValidator(_settings)] = Field(
        None, description="`true`, or settings: what cleaning bought"
    )
