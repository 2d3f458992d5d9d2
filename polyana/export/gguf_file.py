"""A Hugging Face directory as one GGUF file, which llama.cpp, Ollama and LM Studio run: weights, tokenizer, template.

The weights are read and written a block of rows at a time, so that the memory this takes does not grow with the model
(what has to be turned over or ordered anew is read a matrix at a time).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from polyana.errors import UserError
from polyana.export.vocabulary import Vocabulary, vocabulary_of
from polyana.storage import flush_to_disk

__all__ = ["Kind", "Origin", "Written", "write_gguf"]

Kind = Literal["f32", "f16", "bf16", "q8_0"]
"""What matrices are written as; what has one dimension, and GPT-2's positions, stays in f32."""

_STORED: dict[torch.dtype, Kind] = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_FILE_TYPE = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # llama.cpp, llama.h: enum llama_ftype
_BLOCK = 64 << 20  # bytes of fp32 that are in memory at once; guess
_HALF_LARGEST = 65504.0
_Q8_ROW = 32  # numbers of a row that share a scale in q8_0; other rows become f16, as llama.cpp's converter has it


@dataclass(frozen=True)
class Origin:
    """What `general.*` tells of where the model comes from."""

    name: str
    licence: str | None = None


@dataclass(frozen=True)
class Written:
    """What a file holds. `remarks`: what other readers than llama.cpp lose of it, or it of the tokenizer."""

    architecture: str
    kind: Kind
    weights: int
    bytes: int
    chats: bool
    remarks: list[str]


@dataclass(frozen=True)
class _Tensor:
    """One matrix: what it is called there, its shape there, and its rows."""

    name: str
    shape: tuple[int, ...]
    rows: Callable[[int, int], torch.Tensor]
    kind: Kind
    whole: bool = False
    """Its rows cannot be had apart."""


@dataclass
class _Family:
    """What llama.cpp calls a model of this architecture. `describe` tells a GGUFWriter of it; the weights that it
    `changes`, by name, it has in another `order`; `extra` are those it has besides."""

    name: str
    describe: Callable[[Any], None]
    changes: Callable[[str], bool]
    order: Callable[[str, torch.Tensor], torch.Tensor]
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def write_gguf(directory: Path, file: Path, kind: Kind | None, origin: Origin) -> Written:
    """Write the model in `directory` (config.json, safetensors, tokenizer) as `file`; None for the precision it has.

    The file appears when it is whole. Raises UserError, and writes nothing, for what GGUF or llama.cpp cannot hold.
    """
    if not find_spec("gguf"):
        raise UserError("writing a GGUF file needs gguf; run: pip install 'polyana[gguf]'")
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(directory)
    stored = config.dtype or torch.float32
    kind = kind or _STORED.get(stored, "f32")
    family = _family_of(config)
    rows = config.vocab_size
    vocabulary = vocabulary_of(AutoTokenizer.from_pretrained(directory), rows, _stops(directory, config))
    half_written = file.with_name(f".{file.name}.part")
    try:
        weights = _write(directory, half_written, config, family, vocabulary, kind, origin)
        flush_to_disk(half_written)
        half_written.replace(file)
    except BaseException:
        half_written.unlink(missing_ok=True)
        raise
    flush_to_disk(file.parent)
    chats = vocabulary.chat_template is not None
    return Written(family.name, kind, weights, file.stat().st_size, chats, [*vocabulary.remarks, *family.remarks])


def _stops(directory: Path, config: Any) -> list[int]:
    """The tokens that end what the model writes."""
    from transformers import GenerationConfig

    try:
        stated = GenerationConfig.from_pretrained(directory).eos_token_id
    except OSError:
        stated = config.eos_token_id
    return stated if isinstance(stated, list) else [stated] if stated is not None else []


def _write(
    directory: Path, file: Path, config: Any, family: _Family, vocabulary: Vocabulary, kind: Kind, origin: Origin
) -> int:
    """Write all of it; how many weights."""
    import gguf

    logging.getLogger("gguf").setLevel(logging.WARNING)
    tensors = list(_tensors(directory, config, family, kind))
    writer = gguf.GGUFWriter(file, family.name)
    try:
        writer.add_type("model")
        writer.add_name(origin.name)
        if origin.licence:
            writer.add_license(origin.licence)
        writer.add_file_type(_FILE_TYPE[kind])
        if kind == "q8_0":
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        family.describe(writer)
        _add_vocabulary(writer, vocabulary)
        for tensor in tensors:
            form = gguf.GGMLQuantizationType[tensor.kind.upper()]
            shape = gguf.quant_shape_to_byte_shape(tensor.shape, form)
            size = math.prod(shape)
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), size, form)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        (stream,) = writer.fout
        writer.write_padding(stream, stream.tell())
        for tensor in tensors:
            written = sum(stream.write(block) for block in _blocks(tensor))
            writer.write_padding(stream, written)
    finally:
        writer.close()
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    add = {
        "bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "unknown": writer.add_unk_token_id,
        "padding": writer.add_pad_token_id, "eot": writer.add_eot_token_id, "eom": writer.add_eom_token_id,
    }  # fmt: skip
    for name, number in vocabulary.ids.items():
        add[name](number)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


# Weights


def _tensors(directory: Path, config: Any, family: _Family, kind: Kind) -> Iterator[_Tensor]:
    """All tensors of the safetensors files, as llama.cpp names them. Raises UserError for one that it has not."""
    import gguf
    from safetensors import safe_open

    names = gguf.get_tensor_name_map(_architecture(family.name), config.num_hidden_layers)
    for path in sorted(directory.glob("*.safetensors")):
        stored: Any = safe_open(path, "pt")
        for name in sorted(stored.keys()):
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            found = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if found is None:
                raise UserError(
                    f"llama.cpp's `{family.name}` has no place for `{name}`, so the model cannot be written"
                )
            part, whole = stored.get_slice(name), family.changes(name)
            shape = tuple(part.get_shape())
            if whole:
                shape = tuple(family.order(name, torch.empty(shape, device="meta")).shape)
            form = kind if len(shape) > 1 and found != "position_embd.weight" else "f32"
            if form == "q8_0" and shape[-1] % _Q8_ROW:
                form = "f16"

            def rows(begin: int, end: int, part: Any = part, name: str = name, whole: bool = whole) -> torch.Tensor:
                block: torch.Tensor = family.order(name, part[:]) if whole else part[begin:end]
                return block

            yield _Tensor(found, shape, rows, form, whole)
    for name, tensor in family.extra.items():

        def all_of_it(begin: int, end: int, tensor: torch.Tensor = tensor) -> torch.Tensor:
            return tensor[begin:end]

        yield _Tensor(name, tuple(tensor.shape), all_of_it, "f32")


def _architecture(name: str) -> Any:
    import gguf

    return next(each for each, known in gguf.MODEL_ARCH_NAMES.items() if known == name)


def _blocks(tensor: _Tensor) -> Iterator[bytes]:
    rows, width = tensor.shape[0], math.prod(tensor.shape[1:])
    step = rows if tensor.whole else max(1, _BLOCK // (4 * max(width, 1)))
    for begin in range(0, rows, step):
        yield _encoded(tensor.rows(begin, min(begin + step, rows)), tensor.kind, tensor.name).tobytes()


def _encoded(weights: torch.Tensor, kind: Kind, name: str) -> NDArray[Any]:
    """Numbers as the file holds them; bf16 as its bytes. Raises UserError for what f16 cannot hold."""
    import gguf

    if not bool(torch.isfinite(weights).all()):
        raise UserError(f"NaN or infinite numbers stand in `{name}`")
    if kind == "bf16":
        return weights.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    if kind == "f16":
        largest = float(weights.abs().max()) if weights.numel() else 0.0
        if largest > _HALF_LARGEST:
            raise UserError(f"`{name}` holds {largest:.3g}, and f16 ends at 65504; write --dtype bf16 or f32")
        return weights.to(torch.float16).contiguous().numpy()
    numbers: NDArray[Any] = weights.to(torch.float32).contiguous().numpy()
    return gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.Q8_0) if kind == "q8_0" else numbers


# Architectures


def _family_of(config: Any) -> _Family:
    """Raises UserError with all that llama.cpp's model of this name does otherwise."""
    known = {"llama": (_llama_problems, _llama), "gpt2": (_gpt2_problems, _gpt2)}
    if config.model_type not in known:
        raise UserError(
            f"models of type `{config.model_type}` cannot be written as GGUF here; only {' and '.join(known)} can"
        )
    problems_of, make = known[config.model_type]
    if problems := list(problems_of(config)):
        raise UserError("\n".join(f"{each}: llama.cpp's `{config.model_type}` computes otherwise" for each in problems))
    return make(config)


def _llama_problems(config: Any) -> Iterator[str]:
    if config.hidden_act not in ("silu", "swish"):
        yield f"`hidden_act: {config.hidden_act}` instead of silu"
    kind = config.rope_parameters.get("rope_type", "default")
    if kind not in ("default", "linear", "llama3"):
        yield f"positions stretched by `rope_type: {kind}`"
    if config.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
        yield "only a part of each head is turned by its position"


def _llama(config: Any) -> _Family:
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    rope = config.rope_parameters

    def describe(writer: Any) -> None:
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(heads)
        writer.add_head_count_kv(groups)
        writer.add_key_length(size)
        writer.add_value_length(size)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_dimension_count(size)
        if rope.get("rope_type") == "linear":
            import gguf

            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])

    def order(name: str, weight: torch.Tensor) -> torch.Tensor:
        """llama.cpp turns neighbouring numbers of a head by its position (Su et al. 2021, eq. 34), transformers those
        half a head apart, so the rows of q and k change places."""
        count = heads if ".q_proj." in name else groups
        return weight.reshape(count, 2, size // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)

    family = _Family("llama", describe, lambda name: ".q_proj." in name or ".k_proj." in name, order)
    if rope.get("rope_type", "default") != "default":
        family.remarks.append("llama.cpp reads its stretched positions; transformers' reader of GGUF loses them")
    if rope.get("rope_type") == "llama3":
        family.extra["rope_freqs.weight"] = _llama3_factors(config)
    return family


def _llama3_factors(config: Any) -> torch.Tensor:
    """What llama.cpp divides each frequency by (Llama 3.1)."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    size = config.head_dim
    plain = 1.0 / (config.rope_parameters["rope_theta"] ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    return plain / stretched  # type: ignore[no-any-return]


def _gpt2_problems(config: Any) -> Iterator[str]:
    if config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        yield f"`activation_function: {config.activation_function}` instead of gelu_new"
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        yield "attention that is scaled in another way than by the root of a head's size"
    if config.add_cross_attention:
        yield "cross-attention"


def _gpt2(config: Any) -> _Family:
    inner = config.n_inner or 4 * config.n_embd

    def describe(writer: Any) -> None:
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_block_count(config.n_layer)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)

    def is_turned(name: str) -> bool:
        """GPT-2 keeps its layers' matrices the other way round (transformers' Conv1D)."""
        return name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))

    family = _Family("gpt2", describe, is_turned, lambda _, weight: weight.T)
    lost = [
        name for name, differs in (("context", config.n_positions != 1024), ("inner size", inner != 4 * config.n_embd))
        if differs
    ]  # fmt: skip
    if lost:
        family.remarks.append(
            f"transformers' reader of GGUF loses GPT-2's {' and '.join(lost)}; give it `config=`, or name the file as "
            "`base:` of a recipe"
        )
    return family
