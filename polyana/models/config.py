"""What a recipe says about a model that is trained from scratch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from polyana.config import Config, KeyPath

__all__ = ["ModelConfig"]


class ModelConfig(Config):
    """A decoder-only transformer by preset: what is saved is a plain transformers model of that architecture."""

    architecture: Literal["gpt2", "llama"] = Field(
        "gpt2",
        description="gpt2: learned positions, LayerNorm, GELU; llama: rotary positions, RMSNorm, SwiGLU",
    )
    layers: int = Field(4, ge=1, description="transformer blocks")
    width: int = Field(256, ge=1, description="size of the residual stream")
    heads: int = Field(4, ge=1, description="attention heads")
    context: int = Field(256, ge=2, description="tokens the model looks at, and the length of a training sequence")
    feed_forward: int | None = Field(
        None,
        ge=1,
        description="inner size of the MLP; default 4 x width (gpt2), 8/3 x width up to a multiple of 64 (llama)",
    )
    key_value_heads: int | None = Field(None, ge=1, description="llama: grouped-query attention; default as heads")
    dropout: float = Field(0.0, ge=0, lt=1, description="gpt2: on embeddings, attention and residuals")
    tie_embeddings: bool = Field(True, description="the output layer shares the input embeddings")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.width % self.heads:
            lower = self.width - self.width % self.heads
            near = f"{lower} or {lower + self.heads}" if lower else str(self.heads)
            yield ("width",), f"`width: {self.width}` is not a multiple of `heads: {self.heads}`; try {near}"
        elif self.architecture == "llama" and (self.width // self.heads) % 2:
            yield (
                ("heads",),
                f"llama's rotary positions need an even size per head; {self.width} / {self.heads} is odd",
            )
        if self.key_value_heads is not None:
            if self.architecture == "gpt2":
                yield (
                    ("key_value_heads",),
                    "gpt2 has no grouped-query attention; leave it out or write `architecture: llama`",
                )
            elif self.heads % self.key_value_heads:
                yield (
                    ("key_value_heads",),
                    f"`heads: {self.heads}` is not a multiple of `key_value_heads: {self.key_value_heads}`",
                )
        if self.dropout and self.architecture == "llama":
            yield ("dropout",), "llama has no dropout; leave it out or write `architecture: gpt2`"
