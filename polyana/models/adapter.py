"""Small matrices beside a model's frozen ones, through peft and in peft's own files.

A linear layer of weight W [O, I] becomes W + s B A, with A [R, I] and B [O, R] to be learned (Hu et al. 2022, section
4.1). s is alpha / R; of rsLoRA alpha / sqrt(R) (Kalajdzievski 2023). DoRA learns the length of each of the sum's rows
besides (Liu et al. 2024, eq. 5). QLoRA keeps the layers in 4 bits (Dettmers et al. 2023, section 3).
"""

from __future__ import annotations

import copy
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn

from polyana.config import Config, KeyPath
from polyana.errors import Problem, UserError
from polyana.models.build import is_reward_model, longest_text, save_model, share, transformer_blocks
from polyana.models.fused import fuse
from polyana.storage import read_json, write_json

__all__ = [
    "AdapterConfig",
    "Merged",
    "adapter_problems",
    "attach_adapter",
    "bytes_of",
    "has_adapter",
    "import_peft",
    "load_adapted",
    "merge_adapter",
    "numbers_in",
    "put_adapter",
    "save_adapter",
    "save_adapter_settings",
    "stored_weights",
    "weights_file",
    "without_adapter",
]

_WEIGHTS, _SETTINGS = "adapter_model.safetensors", "adapter_config.json"  # peft's names
_PREFIX = "base_model.model."  # of every weight in peft's files
_RSLORA_ALPHA = 16  # Kalajdzievski 2023, section 4
_TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"}
_PROBE = 256  # tokens that a merged model is compared on; guess


class AdapterConfig(Config):
    """What is learned of a pretrained model: small matrices beside its own (LoRA and its kin), or all of it."""

    kind: Literal["lora", "dora", "rslora", "qlora", "full"] = Field(
        "lora",
        description="dora also learns the length of each row, for a slower step; rslora suits high ranks; qlora is "
        "lora over a base in 4 bits (needs bitsandbytes); full is no adapter: every weight is trained",
    )
    rank: int = Field(16, ge=1, description="inner size of the small matrices")
    alpha: int | None = Field(
        None, ge=1, description="they count alpha / rank times, in rslora alpha / sqrt(rank); default: twice the rank; "
        "16 in rslora",
    )  # fmt: skip
    dropout: float = Field(0.0, ge=0, lt=1, description="on what the small matrices read")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="the layers that have them: `all-linear`, or names, as [q_proj, v_proj]"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.kind == "full":
            for name in ("rank", "alpha", "dropout", "targets"):
                if getattr(self, name) != type(self).model_fields[name].get_default():
                    yield (name,), f"`{name}` belongs to an adapter; with `kind: full` it would do nothing"
        if self.kind == "qlora" and find_spec("bitsandbytes") is None:
            yield ("kind",), "qlora needs bitsandbytes; run: pip install 'polyana[4bit]'"
        if not self.targets:
            yield ("targets",), "`targets` names no layer; write `all-linear`, or names as [q_proj, v_proj]"

    @property
    def scaled_by(self) -> int:
        """alpha, whether written or not."""
        return self.alpha or (_RSLORA_ALPHA if self.kind == "rslora" else 2 * self.rank)


# Attaching


def adapter_problems(model: Any, config: AdapterConfig) -> Iterator[tuple[KeyPath, str]]:
    """What does not fit `model`, which may be on torch's meta device: (field, letter)."""
    if config.kind == "full":
        return
    layers = _linear_layers(model)
    names = sorted({name.rpartition(".")[2] for name in layers})
    chosen = _chosen(layers, config)
    for target in config.targets if isinstance(config.targets, list) else []:
        if not _chosen(layers, config.model_copy(update={"targets": [target]})):
            yield (
                ("targets",),
                f"no linear layer of this model's blocks is named `{target}`; there are {_listed(names)}",
            )
    if chosen:
        name = min(chosen, key=lambda name: min(_size(chosen[name])))
        inputs, outputs = _size(chosen[name])
        if config.rank > min(inputs, outputs):
            yield (
                ("rank",),
                f"`rank: {config.rank}` is larger than the matrix it stands beside: `{name}` has {inputs} inputs and "
                f"{outputs} outputs; write at most {min(inputs, outputs)}",
            )
    if config.kind == "qlora" and not all(isinstance(layer, nn.Linear) for layer in layers.values()):
        yield ("kind",), "qlora needs torch's linear layers, and this model (as GPT-2) has its own; write `lora`"


def attach_adapter(model: Any, config: AdapterConfig, seed: int, dtype: torch.dtype = torch.float32) -> None:
    """Put a new adapter into `model`, in place, and freeze the rest; it computes the same as before until trained.

    `seed` decides A; B begins as zeros. `dtype`: what a base in 4 bits computes in. With `full` nothing is done. Raises
    UserError with all that `adapter_problems` finds.
    """
    if config.kind == "full":
        return
    if problems := [Problem("", f"adapter.{'.'.join(map(str, path))}: {what}") for path, what in
                    adapter_problems(model, config)]:  # fmt: skip
        raise UserError(problems)
    import_peft()
    from peft import LoraConfig

    layers = _linear_layers(model)
    chosen = _chosen(layers, config)
    transposed = any(not isinstance(layer, nn.Linear) for layer in chosen.values())  # GPT-2 keeps W^T
    if config.kind == "qlora":
        _quantise(model, layers, dtype)
    settings = LoraConfig(
        task_type="SEQ_CLS" if is_reward_model(model) else "CAUSAL_LM",
        modules_to_save=["score"] if is_reward_model(model) else None,  # trained whole, and saved with the adapter
        r=config.rank, lora_alpha=config.scaled_by, lora_dropout=config.dropout,
        target_modules=sorted({name.rpartition(".")[2] for name in chosen})
        if config.targets == "all-linear" else config.targets,
        use_rslora=config.kind == "rslora", use_dora=config.kind == "dora", fan_in_fan_out=transposed,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _inject(model, settings)


def numbers_in(parameter: torch.Tensor) -> int:
    """How many a parameter stands for: in 4 bits two are packed into a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def bytes_of(parameter: torch.Tensor) -> int:
    """Of memory, in training; the parameter may be on torch's meta device, where nothing is packed yet."""
    if not hasattr(parameter, "quant_state"):
        return 4 * parameter.numel()
    # Half a byte, for 64 numbers a scale in 8 bits, and for 256 of these one in 32 (Dettmers et al. 2023, section 3)
    return round(numbers_in(parameter) * (1 / 2 + 1 / 64 + 4 / (64 * 256)))


def has_adapter(model: Any) -> bool:
    """Whether an adapter has been attached or put into `model`."""
    return bool(getattr(model, "peft_config", None))


def _inject(model: Any, settings: Any) -> None:
    from peft import inject_adapter_in_model

    inject_adapter_in_model(settings, model)
    fuse(model)  # the adapter's dropout
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train(model.training)


def import_peft() -> None:
    """Import peft, quietly: it imports bitsandbytes where that is installed, which then warns that fast 4-bit products
    are missing on this processor."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    import peft  # noqa: F401  for the quiet


def _linear_layers(model: Any) -> dict[str, nn.Module]:
    """The linear layers of the blocks by name, without gates of a single number."""
    from transformers.pytorch_utils import Conv1D

    inside = {id(each) for block in transformer_blocks(model) for each in block.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D) and min(_size(module)) > 1
    }


def _chosen(layers: Mapping[str, nn.Module], config: AdapterConfig) -> dict[str, nn.Module]:
    """Those that a recipe's `targets` name, as peft reads names: whole, or the end after a dot."""
    if isinstance(config.targets, str):
        return dict(layers)
    return {
        name: layer for name, layer in layers.items() if any(f".{name}".endswith(f".{each}") for each in config.targets)
    }


def _size(layer: Any) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer, of torch or of GPT-2."""
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else (layer.nx, layer.nf)


def _quantise(model: Any, layers: Mapping[str, nn.Module], dtype: torch.dtype) -> None:
    """Exchange linear layers for ones in NF4 with scales in 8 bits (Dettmers et al. 2023, section 3), computed in
    `dtype`. They quantise when they are moved to their device. Not run on a GPU yet."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, layer in layers.items():
        inputs, outputs = _size(layer)
        with torch.device("meta"):
            exchanged = Linear4bit(inputs, outputs, compute_dtype=dtype, quant_type="nf4", bias=layer.bias is not None)
        # It would repack itself in evaluation for speed, and the next training step would have no gradient.
        exchanged.support_avx512bf16_for_cpu = False
        exchanged.weight = Params4bit(layer.weight.data, quant_type="nf4", module=exchanged)
        exchanged.bias = layer.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, exchanged.to(layer.weight.device))
    model.is_loaded_in_4bit = True  # where peft looks


# Files


def weights_file(model: Any) -> str:
    """The file that a save of `model` keeps its trained weights in."""
    return _WEIGHTS if has_adapter(model) else "model.safetensors"


def stored_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of `model` under the names that they have in that file."""
    if not has_adapter(model):
        return dict(weights)
    from peft import get_peft_model_state_dict

    named = get_peft_model_state_dict(model, state_dict=dict(weights), save_embedding_layers=False)
    # peft leaves out the end of DoRA's names and reads both; transformers 5.23 reads the whole alone and would go on
    # with vectors that were never trained.
    ends = {name: ".weight" if name.endswith("lora_magnitude_vector") else "" for name in named}
    return {_PREFIX + name + ends[name]: tensor for name, tensor in named.items()}


def save_adapter(
    model: Any, directory: Path, base: str, revision: str | None, weights: Mapping[str, torch.Tensor]
) -> None:
    """adapter_config.json and adapter_model.safetensors, as peft reads them; `base` and `revision` are what
    transformers loads the model below it from."""
    save_adapter_settings(model, directory, base, revision)
    whole = {name: tensor.contiguous() for name, tensor in stored_weights(model, weights).items()}
    save_file(whole, directory / _WEIGHTS, metadata={"format": "pt"})
    share(directory / _WEIGHTS)


def save_adapter_settings(model: Any, directory: Path, base: str, revision: str | None) -> None:
    """adapter_config.json; see `save_adapter`."""
    settings = model.peft_config["default"].to_dict()
    more = {"base_model_name_or_path": base, "revision": revision, "inference_mode": True}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in (settings | more).items()}
    write_json(directory / _SETTINGS, plain)


def put_adapter(model: Any, directory: Path) -> None:
    """Put a saved adapter into `model`, in place, frozen. Raises UserError when it belongs to another base."""
    import_peft()
    from peft import LoraConfig, set_peft_model_state_dict
    from transformers import GenerationConfig

    weights = load_file(directory / _WEIGHTS)
    settings = LoraConfig.from_pretrained(directory)
    _check_fit(model, weights, settings.base_model_name_or_path, directory)
    _inject(model, settings)
    # peft looks for a layer that was trained whole, a reward model's head, without the prefix
    weights |= {each.removeprefix(_PREFIX): tensor for each, tensor in weights.items() if ".lora_" not in each}
    set_peft_model_state_dict(model, weights)
    model.requires_grad_(False)
    if (directory / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(directory)  # what ends a turn


def load_adapted(
    base: Path, adapter: Path, dtype: torch.dtype | Literal["auto"], bases: MutableMapping[Path, Any] | None = None
) -> Any:
    """The model in `base` with the adapter that was saved over it, as transformers has it; in evaluation.

    `bases`: models below that are there already; with those of one base its weights are in memory once, however many
    adapters they have. An adapter of a reward model or a classifier gives one, its head included. Raises UserError for
    an adapter of another base.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    if read_json(adapter / _SETTINGS)["task_type"] == "SEQ_CLS":
        rows = len(next(each for name, each in load_file(adapter / _WEIGHTS).items() if name.endswith("score.weight")))
        model = AutoModelForSequenceClassification.from_pretrained(base, dtype=dtype, num_labels=rows)
        model.config.pad_token_id = AutoTokenizer.from_pretrained(adapter).pad_token_id
    else:
        bases = {} if bases is None else bases
        if base not in bases:
            bases[base] = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        weights = (*bases[base].parameters(), *bases[base].buffers())
        model = copy.deepcopy(bases[base], {id(each): each for each in weights})  # all but them
    put_adapter(model, adapter)
    return model.eval()


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """While it lasts, the model in training computes as its base does; one that has no adapter as it is. What is
    trained and what is frozen stays so, which peft's own switch would change under the optimizer and DDP."""
    layers = _adapted_layers(model) if has_adapter(model) else []
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def _adapted_layers(model: Any) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _check_fit(model: Any, weights: Mapping[str, torch.Tensor], base: str | None, directory: Path) -> None:
    """Raises UserError when an adapter's weights have no place in `model`."""
    modules = dict(model.named_modules())
    for name, tensor in weights.items():
        place, _, part = name.removeprefix(_PREFIX).partition(".lora_")
        if not part:  # a layer that was trained whole
            continue
        layer = modules.get(place)
        inputs, outputs = _size(getattr(layer, "base_layer", layer)) if layer is not None else (0, 0)
        wanted = tensor.shape[1] if part.startswith("A") else tensor.shape[0]
        if wanted != (inputs if part.startswith("A") else outputs):
            found = f"has {inputs} inputs and {outputs} outputs here" if layer is not None else "is not in this model"
            raise UserError(
                f"the adapter in {directory} belongs to another base: it was trained on {base or 'a model not named'}, "
                f"and `{place}`, for which it has {tuple(tensor.shape)} numbers, {found}"
            )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# Merging


@dataclass(frozen=True)
class Merged:
    """dtype: what the merged model is stored in. off: by how much, at most, the logarithm of a next token's probability
    differs from the adapter's, over `_PROBE` tokens, or their reward does; rounding to dtype makes nearly all of it."""

    dtype: torch.dtype
    off: float


def merge_adapter(base: Path, adapter: Path, directory: Path, dtype: torch.dtype | None = None) -> Merged:
    """Write a model without an adapter that computes what `base` does with `adapter`, by default in the base's own
    precision.

    The sums are made in fp32 and rounded once. An adapter of `qlora` is added to the base as its files have it, not to
    its 4-bit form. Raises UserError when the adapter belongs to another base or has numbers that are not finite.
    """
    from transformers import AutoConfig

    dtype = dtype or getattr(AutoConfig.from_pretrained(base), "dtype", None) or torch.float32
    model = load_adapted(base, adapter, torch.float32)
    tokens = torch.arange(min(_PROBE, longest_text(model)))[None] * 31 % model.config.vocab_size

    def answer() -> torch.Tensor:
        logits = model(input_ids=tokens).logits
        return logits if is_reward_model(model) else logits.log_softmax(-1)  # type: ignore[no-any-return]

    with torch.no_grad():
        wanted = answer()
        names = {id(module): name for name, module in model.named_modules()}
        for layer in _adapted_layers(model):
            name = names[id(layer)]
            try:
                layer.merge(safe_merge=True)
            except ValueError as error:
                raise UserError(f"{adapter / _WEIGHTS}: `{name}`: {error}") from None
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
        if is_reward_model(model):
            model.score = model.score.modules_to_save["default"]
        del model.peft_config
        for each in model.parameters():
            each.copy_(each.to(dtype))
        off = float((answer() - wanted).abs().max())
    save_model(model.to(dtype), directory, model.state_dict())
    for path in (path for source in (base, adapter) for path in source.iterdir() if path.name in _TOKENIZER):
        shutil.copy(path, directory)
    return Merged(dtype, off)
