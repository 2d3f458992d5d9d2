"""Learning a language from plain text: predict the next token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from polyana.config import KeyPath, StageReference
from polyana.data import TokenData
from polyana.models import ModelConfig, build_model
from polyana.tasks.language_model import LanguageModelTask, TrainingStageConfig, split_sequences
from polyana.tokenizer import TextTokenizer
from polyana.train import Precision

__all__ = ["VERSION", "PretrainConfig", "pretrain_task"]

VERSION = 1


class PretrainConfig(TrainingStageConfig):
    """Train a language model from scratch on a corpus."""

    kind: Literal["pretrain"]
    corpus: Annotated[str, StageReference(("corpus",))] = Field(description="the stage whose text is learned")
    tokenizer: Annotated[str, StageReference(("tokenizer",))] = Field(description="the stage that cuts it into tokens")
    model: ModelConfig = Field(default_factory=ModelConfig)

    @property
    def sequence_length(self) -> int:
        return self.model.context

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.train.precision == "fp8" and (self.model.architecture == "gpt2" or self.model.width % 16):
            what = "`precision: fp8` needs `architecture: llama` (GPT-2's layers are not torch's linear ones) and a "
            yield ("train", "precision"), f"{what}`width` that is a multiple of 16; or write bf16"
        layers, again = self.model.layers, self.train.checkpointing
        if not isinstance(again, bool | str) and again > layers:
            what = f"`checkpointing: {again}`, but the model has {layers} layers; write true for all of them"
            yield ("train", "checkpointing"), what


def pretrain_task(
    config: PretrainConfig, tokens: TokenData, tokenizer: TextTokenizer, seed: int, precision: Precision
) -> LanguageModelTask:
    """A new model, and blocks of a corpus. Raises PolyanaError when the corpus is shorter than a block."""
    from transformers import AutoTokenizer

    sequences, held_out = split_sequences(config, tokens, seed)
    whole = tokens.count("eval", "bytes"), tokens.count("eval", "tokens")
    size = whole[0] / whole[1] * held_out.tokens if held_out else None
    model = build_model(config.model, tokenizer.vocab_size, tokenizer.end_of_text, seed)
    words = AutoTokenizer.from_pretrained(tokenizer.directory)
    return LanguageModelTask(config, model, words, sequences, held_out, size, precision)
