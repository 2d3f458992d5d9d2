"""What fine-tuning starts from where it is not the base as it came: one with more tokens, or a new model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from polyana.errors import UserError
from polyana.models import add_rows, build_model, check_saved_tokenizer, count_parameters, extend_vocabulary, save_model
from polyana.parallel import TagPrompt
from polyana.tasks.fine_tune import NEW_PIECES, FineTuneConfig
from polyana.tasks.translate_units import TranslateConfig
from polyana.tokenizer import END_OF_TEXT, learn_bpe, learn_more

__all__ = ["START_VERSION", "build_start", "start_identity"]

START_VERSION = 1


def start_identity(config: FineTuneConfig) -> dict[str, Any]:
    """The settings that decide what a stage starts from, beside its base and its text; {} where that is the base."""
    names = ["vocabulary"] if config.vocabulary.grows else []
    if isinstance(config, TranslateConfig) and config.model is not None:
        names = ["vocabulary", "model", "context", "languages", "prompt"]
    return {name: config.identity()[name] for name in names}


def build_start(
    config: FineTuneConfig, base: Path | None, texts: Callable[[], Iterable[str]], seed: int, directory: Path
) -> list[str]:
    """Write the model and its tokenizer as an ordinary Hugging Face directory; what the terminal is told.

    `base`: the directory of the model that grows; None for a new one. `texts`: what pieces are learned from.
    """
    if base is not None:
        return _grown(config, base, texts, directory)
    assert isinstance(config, TranslateConfig)
    return _new(config, texts(), seed, directory)


def _new(config: TranslateConfig, texts: Iterable[str], seed: int, directory: Path) -> list[str]:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    assert config.model is not None
    wanted = config.vocabulary
    end = [END_OF_TEXT, *wanted.special_tokens]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learn_bpe(texts, wanted.pieces or NEW_PIECES, 2, end), eos_token=END_OF_TEXT,
        extra_special_tokens=wanted.special_tokens, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    languages = (config.languages.source, config.languages.target)
    prompt = config.prompt
    tags = [prompt.tag.format(language=code) for code in languages] if isinstance(prompt, TagPrompt) else []
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in [*tags, *wanted.tokens]])
    shape = config.model.model_copy(update={"context": config.context})
    model = build_model(shape, len(tokenizer), tokenizer.eos_token_id, seed)
    save_model(model, directory, model.state_dict())
    tokenizer.save_pretrained(directory)
    check_saved_tokenizer(tokenizer, directory)
    return [f"a new model of {count_parameters(model):,} parameters; {len(tokenizer):,} tokens learned from the text"]


def _grown(config: FineTuneConfig, base: Path, texts: Callable[[], Iterable[str]], directory: Path) -> list[str]:
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wanted, lines = config.vocabulary, list[str]()
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if wanted.pieces:
        before = Tokenizer.from_file(str(base / "tokenizer.json"))
        try:
            after, made_of = learn_more(before, texts, wanted.pieces)
        except UserError as error:
            raise UserError(f"`vocabulary`: {error.problems[0].what}") from None
        add_rows(model, made_of)
        tokenizer.save_pretrained(directory)
        after.save(str(directory / "tokenizer.json"))
        tokenizer = AutoTokenizer.from_pretrained(directory)
        lines.append(f"{len(made_of):,} pieces learned from the text: {_gain(before, after, texts())}")
    named = extend_vocabulary(model, tokenizer, wanted.special_tokens)
    named += extend_vocabulary(model, tokenizer, wanted.tokens, special=False)
    if named:
        lines.append(f"{named:,} tokens added")
    save_model(model, directory, model.state_dict())
    tokenizer.save_pretrained(directory)
    check_saved_tokenizer(tokenizer, directory)
    return lines


def _gain(before: Any, after: Any, texts: Iterable[str]) -> str:
    """What the new pieces are worth, on the first texts."""
    some = [text for text, _ in zip(texts, range(_SOME), strict=False)]
    size = sum(len(text.encode()) for text in some)
    counts = [sum(len(one.ids) for one in each.encode_batch(some)) for each in (before, after)]
    return ", then ".join(f"{size / max(count, 1):.2f}" for count in counts) + " bytes per token"


_SOME = 10_000  # texts; guess
