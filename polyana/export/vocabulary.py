"""A tokenizer as llama.cpp reads it from a GGUF file, or a letter saying what it could not.

llama.cpp knows ways to cut text by name, so what a tokenizer.json describes has to be one of them. Two are known here:
byte-level BPE, of which `tokenizer.ggml.pre` names how text is split before its merges, and SentencePiece's, which
merges by the score of what comes out. Whatever would be cut otherwise there is refused, or told where only rare texts
are: a model that is given other tokens than it has learned from writes gibberish (unsloth#3899, ollama#6823).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from polyana.errors import UserError

__all__ = ["Vocabulary", "vocabulary_of"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # llama.cpp, llama.h: enum llama_token_type

_GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES = _GPT2 | {"use_regex": False}
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def _split(pattern: str) -> dict[str, Any]:
    rule = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [rule, _BYTES]}


_SPLITTING = {
    # llama.cpp, llama-vocab.cpp: the regular expressions by `tokenizer.ggml.pre`
    "gpt-2": _GPT2,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT2]},
    "llama-bpe": _split(_LLAMA3),
    "qwen2": _split(_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")),
}
_WHOLE_WORDS_FIRST = ("llama-bpe",)
"""Those for which llama.cpp takes a word that is a token before any merge, as `ignore_merges` asks."""

_OVER = {"trim_offsets"}  # settings that move places in the text and no token


@dataclass
class Vocabulary:
    """What `tokenizer.ggml.*` says. `remarks`: where llama.cpp will cut rare texts otherwise."""

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str] | None
    scores: list[float] | None
    ids: dict[str, int]
    """bos, eos, unknown, padding, eot, eom, where there are such."""
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    chat_template: str | list[dict[str, str]] | None
    remarks: list[str] = field(default_factory=list)


def vocabulary_of(tokenizer: Any, rows: int, stops: list[int]) -> Vocabulary:
    """What a transformers tokenizer is in a GGUF file, for a model with embeddings for `rows` tokens that stops behind
    each of `stops`. Raises UserError with all that llama.cpp could not do."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    problems = list(_problems_of(model, state["added_tokens"]))
    if problems:
        raise UserError("\n".join(_letter(each) for each in problems))
    names = [f"[PAD{number}]" for number in range(rows)]  # as llama.cpp's converter names rows without a token
    types = [UNUSED] * rows
    for token, number in model["vocab"].items():
        names[number], types[number] = token, NORMAL
    sentencepiece, remarks = bool(model["byte_fallback"]), list[str]()
    for token in state["added_tokens"]:
        names[token["id"]], types[token["id"]] = token["content"], CONTROL if token["special"] else USER_DEFINED
    if sentencepiece:
        space, remarks = _space_prefix(state)
        scores = _scores(model, names)
        for number, name in enumerate(names):
            if re.fullmatch("<0x[0-9A-F]{2}>", name):
                types[number] = BYTE
        if model["unk_token"] is not None:
            types[model["vocab"][model["unk_token"]]] = UNKNOWN
        pre, merges = "default", None
    else:
        pre, space, scores = _splitting(state), False, None
        merges = [" ".join(pair) for pair in model["merges"]]
    begin, end = _put_around(tokenizer)
    ids = _ids(tokenizer, stops)
    if left := sorted(set(stops) - set(ids.values())):
        remarks.append(
            f"generation also ends behind {', '.join(repr(names[each]) for each in left)}, for which GGUF has no place"
        )
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = [{"name": name, "template": text} for name, text in template.items()]
    return Vocabulary(
        "llama" if sentencepiece else "gpt2", pre, names, types, merges, scores, ids, begin, end, space, template,
        remarks,
    )  # fmt: skip


def _letter(what: str) -> str:
    return (
        f"{what}; llama.cpp knows no such tokenizer, so it would give the model other tokens than it has learned from"
    )


def _problems_of(model: Mapping[str, Any], added: list[dict[str, Any]]) -> Iterator[str]:
    if model["type"] != "BPE":
        yield f"its tokenizer is {model['type']}, and only BPE can be written into a GGUF file"
        return
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        mark = model.get("end_of_word_suffix") or model.get("continuing_subword_prefix")
        yield f"its tokenizer marks places in words by `{mark}` (`algorithm: whitespace_bpe` does; `bpe` does not)"
    if model.get("dropout"):
        yield "its tokenizer drops merges at random (BPE dropout)"
    for token in added:
        for setting in ("lstrip", "rstrip", "single_word"):
            if token[setting]:
                yield f"its token {token['content']!r} is looked for with `{setting}`"


def _splitting(state: Mapping[str, Any]) -> str:
    """The name of how byte-level BPE splits text before its merges. Raises UserError."""
    given = _without(state["pre_tokenizer"], _OVER)
    found = next((name for name, rule in _SPLITTING.items() if rule == given), None)
    if found is None:
        raise UserError(_letter(f"its tokenizer splits text by a rule of its own: {json.dumps(given)[:300]}"))
    if state["normalizer"] is not None:
        raise UserError(_letter(f"its tokenizer changes text before it cuts it ({state['normalizer']['type']})"))
    if bool(state["model"]["ignore_merges"]) != (found in _WHOLE_WORDS_FIRST):
        raise UserError(_letter(f"its tokenizer splits as `{found}`, but with `ignore_merges` the other way"))
    return found


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(each, keys) for key, each in value.items() if key not in keys}
    return [_without(each, keys) for each in value] if isinstance(value, list) else value


def _space_prefix(state: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether a text begins with a space of its own; and what llama.cpp does otherwise. Raises UserError.

    llama.cpp puts one before a text and behind each special token, as the normalizer `Prepend` does.
    """
    normal, before = state["normalizer"], state["pre_tokenizer"]
    steps = normal["normalizers"] if normal and normal["type"] == "Sequence" else [normal] if normal else []
    replaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if before is None and steps == [{"type": "Prepend", "prepend": "▁"}, replaces]:
        return True, []
    if before is None and steps == [replaces]:
        return False, []
    if before and before["type"] == "Metaspace" and before["replacement"] == "▁" and not before["split"] and not steps:
        scheme = before["prepend_scheme"]
        if scheme == "never":
            return False, []
        where = " and those behind a special token" if scheme == "first" else ""
        return True, [f"llama.cpp cuts texts that begin with a space{where} otherwise than this tokenizer"]
    raise UserError(_letter(f"its tokenizer changes text before it cuts it: {json.dumps([normal, before])[:300]}"))


def _scores(model: Mapping[str, Any], names: list[str]) -> list[float]:
    """For each token minus the rank of the merges that make it. Raises UserError where merging by scores alone, each
    two neighbours that make a token together, would not do the same."""
    ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
    vocab, made = model["vocab"], dict[str, list[int]]()
    for (left, right), rank in ranks.items():
        made.setdefault(left + right, []).append(rank)
    last = -1
    for token, its in sorted(made.items(), key=lambda each: each[1][0]):
        if its[0] <= last or its[-1] - its[0] != len(its) - 1:
            raise UserError(_letter(f"its tokenizer makes {token!r} of several pairs of different rank"))
        last = its[-1]
    special = re.compile("<0x[0-9A-F]{2}>|<.*>")
    for token in vocab:
        if special.fullmatch(token):
            continue
        for cut in range(1, len(token)):
            pair = token[:cut], token[cut:]
            if pair not in ranks and pair[0] in vocab and pair[1] in vocab:
                raise UserError(_letter(f"its tokenizer does not merge {pair[0]!r} and {pair[1]!r} into {token!r}"))
    return [-float(made[name][0] + 1) if name in made else 0.0 for name in names]


def _put_around(tokenizer: Any) -> tuple[bool, bool]:
    """Whether a beginning and an end are put around a text."""
    ids = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    before = len(ids) > len(plain) and ids[0] == tokenizer.bos_token_id and ids[0] != plain[0]
    rest = ids[before:]
    return before, len(rest) > len(plain) and rest[-1] == tokenizer.eos_token_id


def _ids(tokenizer: Any, stops: list[int]) -> dict[str, int]:
    """The special tokens by what llama.cpp calls them; it ends an answer behind eos, eot and eom."""
    found = {
        "bos": tokenizer.bos_token_id, "unknown": tokenizer.unk_token_id, "padding": tokenizer.pad_token_id,
        "eos": tokenizer.eos_token_id,
    }  # fmt: skip
    if found["eos"] is None or (stops and found["eos"] not in stops):
        found["eos"] = stops[0] if stops else None
    others = [stop for stop in stops if stop != found["eos"]]
    found |= dict(zip(("eot", "eom"), others, strict=False))
    return {name: int(number) for name, number in found.items() if number is not None}
