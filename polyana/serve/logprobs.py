"""How likely each token was, as OpenAI's protocol tells it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Scored", "TokenTexts", "chat_logprobs", "score", "text_logprobs"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's tokens for single bytes
# GPT-2's letters for bytes: those that can be printed stand for themselves, the others for what follows 255
_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
_LETTERS = {chr(byte): byte for byte in _PRINTED} | {
    chr(256 + number): byte for number, byte in enumerate(sorted(set(range(256)) - set(_PRINTED)))
}


@dataclass(frozen=True)
class Scored:
    """A token, its log-probability (nats) and the likeliest ones in its place with theirs, the likeliest first.

    Of the model's own distribution, before temperature, top_k and top_p; a repetition penalty that the model's
    generation_config.json asks for is in it."""

    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...]


def score(scores_V: torch.Tensor, token: int, count: int) -> Scored:
    logprobs_V = torch.log_softmax(scores_V.float(), dim=-1)
    values, places = logprobs_V.topk(min(count, len(logprobs_V)))
    likeliest = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return Scored(token, float(logprobs_V[token]), likeliest)


class TokenTexts:
    """What single tokens are in a text, in bytes: one may be a part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {int(number): str(token) for number, token in tokenizer.added_tokens_decoder.items()}
        self._is_byte_level = '"ByteLevel"' in json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])

    def __call__(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode()
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:  # a row of the embeddings that no token has
            return b""
        if self._is_byte_level:
            return bytes(_LETTERS[letter] for letter in piece)
        found = _BYTE.fullmatch(piece)
        return bytes([int(found[1], 16)]) if found else str(piece).replace("\u2581", " ").encode()


def chat_logprobs(scored: Sequence[Scored], texts: TokenTexts) -> dict[str, Any]:
    """As a chat completion has them."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        text = texts(token)
        return {"token": text.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(text)}

    content = [
        entry(each.token, each.logprob) | {"top_logprobs": [entry(*other) for other in each.likeliest]}
        for each in scored
    ]
    return {"content": content, "refusal": None}


def text_logprobs(scored: Sequence[Scored], texts: TokenTexts, offset: int) -> dict[str, Any]:
    """As a completion has them. `offset`: characters of the text before them."""
    told: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for each in scored:
        text = texts(each.token).decode("utf-8", "replace")
        told["tokens"].append(text)
        told["token_logprobs"].append(each.logprob)
        likeliest = {texts(token).decode("utf-8", "replace"): logprob for token, logprob in reversed(each.likeliest)}
        told["top_logprobs"].append(dict(reversed(likeliest.items())))
        told["text_offset"].append(offset)
        offset += len(text)
    return told
