"""What a recipe says about a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from polyana.config import Config, KeyPath, StageReference

__all__ = ["END_OF_TEXT", "UNKNOWN", "TokenizerConfig"]

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "[UNK]"


class TokenizerConfig(Config):
    """Train a tokenizer on a corpus, or load one and report how it fits the corpus."""

    kind: Literal["tokenizer"]
    corpus: Annotated[str, StageReference(("corpus",))] = Field(description="the stage whose text it learns from")
    load: str | None = Field(
        None,
        description="a directory with tokenizer.json: use it, train nothing",
        json_schema_extra={"path": True},
    )
    algorithm: Literal["bpe", "whitespace_bpe"] = Field(
        "bpe",
        description="bpe works on bytes and knows every text; whitespace_bpe splits at spaces and has [UNK]",
    )
    vocab_size: int = Field(30_000, ge=1, description="tokens in the vocabulary, special ones and bytes included")
    min_frequency: int = Field(2, ge=1, description="pairs seen less often are not merged")
    special_tokens: list[str] = Field([END_OF_TEXT], description="the first one ends each document")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if not self.special_tokens:
            yield (
                ("special_tokens",),
                f"needs at least the token that ends a document, as `[{END_OF_TEXT!r}]`",
            )
        if len(set(self.special_tokens)) < len(self.special_tokens):
            yield ("special_tokens",), "names a token twice"
        if any(len(token) < 2 for token in self.special_tokens):
            yield ("special_tokens",), "has a token of one character; wherever a text has it, it would be that token"
        if self.load is None:
            # Beside the special tokens: all bytes; or [UNK], and one character within a word and at its end.
            least = (256 if self.algorithm == "bpe" else 3) + len(self.special_tokens)
            if self.vocab_size < least:
                yield (
                    ("vocab_size",),
                    f"`vocab_size: {self.vocab_size}` has no room for bytes and special tokens; at least {least}",
                )
            return
        for name in ("algorithm", "vocab_size", "min_frequency", "special_tokens"):
            if getattr(self, name) != type(self).model_fields[name].default:
                yield (
                    (name,),
                    f"`{name}` is for training a tokenizer; with `load:` it would do nothing, so leave it out",
                )
