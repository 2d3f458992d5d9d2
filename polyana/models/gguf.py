"""Models in llama.cpp's GGUF files, read by transformers, which leaves out without a word what it does not know.

So what a file holds is counted and compared with what arrived: a model whose positions, scales or way to split text
were lost still writes something, only worse (transformers 5.23 loses SmolLM2's splitting, Llama 3.1's positions,
GPT-2's context and SentencePiece's space behind a special token).
"""

from __future__ import annotations

import copy
import io
import json
import math
import re
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from polyana.errors import UserError
from polyana.models.build import count_parameters

__all__ = ["read_gguf"]

_DIGIT_BY_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""`tokenizer.ggml.pre` of those that split off each digit, then split as GPT-2 does (llama.cpp, llama-vocab.cpp)."""

_AS_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling")
"""Those that split as GPT-2 does, which is what transformers falls back to."""

_USER_DEFINED = 4  # llama.cpp, llama.h: enum llama_token_type
_HALF = {"BF16": torch.bfloat16, "F16": torch.float16}


def read_gguf(file: Path) -> tuple[Any, Any, str | None]:
    """(model to be saved, tokenizer, licence if known). Raises UserError for a file that would not arrive whole."""
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    if not (find_spec("gguf") and find_spec("accelerate")):
        raise UserError("reading a GGUF file needs gguf and accelerate; run: pip install 'polyana[gguf]'")
    from gguf import GGUFReader

    logging.disable_progress_bar()
    place, name = file.parent, file.name
    try:
        header = GGUFReader(file)
        settings = {key: field.contents() for key, field in header.fields.items() if len(field.data) == 1}
        config = AutoConfig.from_pretrained(place, gguf_file=name)
        if config.model_type == "gpt2":  # of which transformers takes 1024 positions and 4 x width for granted
            config.n_positions = settings["gpt2.context_length"]
            config.n_inner = settings["gpt2.feed_forward_length"]
        with redirect_stderr(io.StringIO()):  # a bar that cannot be turned off otherwise
            loaded, found = AutoModelForCausalLM.from_pretrained(
                place, gguf_file=name, config=config, dtype=_precision(header), output_loading_info=True
            )
        tokenizer = PreTrainedTokenizerFast.from_pretrained(place, gguf_file=name)
    except Exception as error:  # whatever a foreign file makes the readers raise
        raise UserError(f"{file} cannot be read as GGUF: {type(error).__name__}: {error}") from None
    _check_whole(header, settings, loaded, found)
    _set_space_prefix(tokenizer, settings)
    _set_splitting(tokenizer, str(settings.get("tokenizer.ggml.pre", "default")), settings)
    _set_added_tokens(tokenizer, header)
    tokenizer.model_max_length = loaded.config.max_position_embeddings
    return _plain(loaded, settings), tokenizer, settings.get("general.license")


def _precision(header: Any) -> torch.dtype:
    """The half precision that holds every weight of the file exactly, else fp32."""
    kinds = {tensor.tensor_type.name for tensor in header.tensors} - {"F32"}
    if len(kinds) != 1 or not kinds <= set(_HALF):
        return torch.float32
    half = _HALF[kinds.pop()]
    full = [torch.from_numpy(np.array(tensor.data)) for tensor in header.tensors if tensor.tensor_type.name == "F32"]
    return half if all(torch.equal(weight.to(half).float(), weight) for weight in full) else torch.float32


def _check_whole(header: Any, settings: dict[str, Any], model: Any, found: dict[str, Any]) -> None:
    """Nothing that decides what the model computes was left out by transformers. Raises UserError."""
    if found["missing_keys"]:
        raise UserError(f"the file holds no weights for {', '.join(sorted(found['missing_keys'])[:3])}")
    held = sum(math.prod(map(int, tensor.shape)) for tensor in header.tensors)
    if held != count_parameters(model):
        extra = [tensor.name for tensor in header.tensors if tensor.name.startswith("rope_")]
        raise UserError(
            f"the file holds {held:,} weights, of which transformers takes {count_parameters(model):,}"
            + (f", without {', '.join(extra)}" if extra else "")
            + "; take the model's Hugging Face directory instead"
        )
    architecture = settings["general.architecture"]
    for key, value in settings.items():
        name = key.rpartition(".")[2]
        if not key.startswith(f"{architecture}.") or not re.search("scal|softcap|clamp|sliding_window", key):
            continue
        if value not in (1.0, 0, "none") and getattr(model.config, name, None) != value:
            raise UserError(
                f"transformers does not read `{key}: {value}` from a GGUF file; take the model's Hugging Face "
                "directory instead"
            )


def _set_space_prefix(tokenizer: Any, settings: dict[str, Any]) -> None:
    """Let SentencePiece's way put a space before a text, and behind each special token, as llama.cpp does;
    transformers puts it only before the first."""
    if settings.get("tokenizer.ggml.model") != "llama":
        return
    spaces: normalizers.Normalizer = normalizers.Replace(" ", "▁")
    if settings.get("tokenizer.ggml.add_space_prefix", True):
        spaces = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    tokenizer.backend_tokenizer.normalizer, tokenizer.backend_tokenizer.pre_tokenizer = spaces, None


def _set_splitting(tokenizer: Any, splitting: str, settings: dict[str, Any]) -> None:
    """Let the tokenizer split text before its merges as the file says. Raises UserError if nobody knows how."""
    backend = tokenizer.backend_tokenizer
    if settings.get("tokenizer.ggml.model") != "gpt2" or splitting in _AS_GPT2:
        return
    if splitting in _DIGIT_BY_DIGIT:
        digits, rest = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
    elif "Split(" not in repr(backend.pre_tokenizer):  # one that transformers knows has a pattern of its own
        raise UserError(
            f"the file's vocabulary splits text by the rule `{splitting}`, which is not known here; take the model's "
            "Hugging Face directory instead"
        )


def _set_added_tokens(tokenizer: Any, header: Any) -> None:
    """The tokens of the file that are found before all others, and no more: transformers leaves out words that are not
    in ASCII, and adds GPT-2's <|endoftext|>, with an id of no embedding, where the file has none."""
    names, types = (
        header.fields[f"tokenizer.ggml.{each}"].contents() if f"tokenizer.ggml.{each}" in header.fields else []
        for each in ("tokens", "token_type")
    )
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < len(names)]
    known, vocab = {token["id"] for token in state["added_tokens"]}, state["model"]["vocab"]
    spelled = {number: token for token, number in vocab.items()}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    for number, (name, kind) in enumerate(zip(names, types, strict=False)):
        if kind == _USER_DEFINED and number not in known:
            vocab.pop(spelled[number], None)
            vocab[name] = number
            state["added_tokens"].append({"id": number, "content": name, **plain})
    state["added_tokens"].sort(key=lambda token: token["id"])
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))


def _plain(loaded: Any, settings: dict[str, Any]) -> Any:
    """The same weights in a model that knows nothing of GGUF, for a GGUF one refuses to be saved."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(loaded.config)
    del config.quantization_config
    vars(config).pop("_model_name_or_path", None)  # the file's title, which is no place
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=loaded.dtype)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = loaded.generation_config
    turn_end = settings.get("tokenizer.ggml.eot_token_id")
    if turn_end is not None and turn_end != config.eos_token_id:  # as Llama 3: a text and a turn end differently
        model.generation_config.eos_token_id = [config.eos_token_id, turn_end]
    return model
