"""Pieces of words learned from text: a vocabulary of its own, or more of them for one that is there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers

from polyana.errors import PolyanaError, UserError
from polyana.tokenizer.config import END_OF_TEXT
from polyana.tokenizer.text_tokenizer import pieces

__all__ = ["learn_bpe", "learn_more", "learn_whitespace_bpe"]

_WORD = 10_000  # characters; longer words are cut to learn from, for the trainer takes the square of a word's length
_AT_ONCE = 1000  # texts given to the tokenizer at once: keeps its threads busy; guess
_FIRST = 0x10000  # of the characters that stand for tokens: none from here on is a space or half a surrogate pair


def learn_bpe(texts: Iterable[str], vocab_size: int, min_frequency: int, special: Sequence[str]) -> Tokenizer:
    """Byte-level BPE as GPT-2's (Radford et al. 2019, section 2.2): every text has tokens, and comes back exactly.

    Raises PolyanaError where a special token is also learned from the text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _learn(tokenizer, texts, vocab_size, min_frequency, special, initial_alphabet=alphabet)


def learn_whitespace_bpe(
    texts: Iterable[str], vocab_size: int, min_frequency: int, special: Sequence[str], unknown: str
) -> Tokenizer:
    """BPE over the characters of what stands between spaces; characters that are rare become `unknown`, one of
    `special`. Raises as `learn_bpe`."""
    suffix = "</w>"
    tokenizer = Tokenizer(models.BPE(unk_token=unknown, end_of_word_suffix=suffix))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder(suffix=suffix)
    limit = (vocab_size - len(special)) // 2  # a character takes up to two places, within a word and at its end
    return _learn(tokenizer, texts, vocab_size, min_frequency, special, end_of_word_suffix=suffix, limit_alphabet=limit)


def _learn(
    tokenizer: Tokenizer, texts: Iterable[str], vocab_size: int, min_frequency: int, special: Sequence[str],
    **more: Any,
) -> Tokenizer:  # fmt: skip
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=list(special), show_progress=False, **more
    )
    tokenizer.train_from_iterator((part for text in texts for part in pieces(text, _WORD)), trainer)
    merged = {left + right for left, right in json.loads(tokenizer.to_str())["model"]["merges"]}
    for token in special:
        if token in merged:
            raise PolyanaError(
                f"the special token `{token}` is also learnt from the text, which could then not be told from it; "
                f"choose one that does not stand in the text, as `{END_OF_TEXT}`"
            )
    return tokenizer


def learn_more(
    tokenizer: Tokenizer, texts: Callable[[], Iterable[str]], count: int
) -> tuple[Tokenizer, dict[int, list[int]]]:
    """`tokenizer` with up to `count` more tokens, and for each of their ids those of the old tokens it is made of.

    BPE is gone on with where the merges of the tokenizer end: texts are cut by it, and pairs of its tokens that often
    stand together in a word are merged (Purason et al. 2025, "continued BPE training"). So each new token is really
    used, and text that none of them stands in keeps its tokens. Letters that the tokenizer writes as bytes come first.
    Fewer than `count` are found in short texts: a pair has to be seen twice. Raises UserError for a tokenizer that is
    not BPE.
    """
    saved = json.loads(tokenizer.to_str())
    model = saved["model"]
    if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        kind = model["type"] if model["type"] != "BPE" else "BPE with marks inside words"
        raise UserError(f"its tokenizer is {kind}, and only BPE can be gone on with; leave `pieces` out")
    # tokens that were added beside the merges take their place in the vocabulary, for their ids must stay
    for token in saved["added_tokens"]:
        model["vocab"].setdefault(token["content"], token["id"])
    made_of = _add_letters(tokenizer, texts(), count, model)
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    strings = {identifier: string for string, identifier in model["vocab"].items()}
    known: dict[int, int] = {}  # id -> the character that stands for it
    lines = [
        " ".join("".join(chr(known.setdefault(token, _FIRST + len(known))) for token in word) for word in words)
        for words in _words(tokenizer, texts(), saved)
    ]
    ids = list(known)
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=len(known) + count - len(made_of), min_frequency=2, show_progress=False)
    learned.train_from_iterator(lines, trainer)
    following = max(model["vocab"].values()) + 1
    for pair in json.loads(learned.to_str())["model"]["merges"]:
        parts = [[ids[ord(character) - _FIRST] for character in part] for part in pair]
        left, right = ("".join(strings[token] for token in part) for part in parts)
        model["merges"].append([left, right])
        if left + right not in model["vocab"]:
            model["vocab"][left + right] = following
            made_of[following] = [old for part in parts for token in part for old in made_of.get(token, [token])]
            following += 1
    return Tokenizer.from_str(json.dumps(saved)), made_of


def _add_letters(tokenizer: Tokenizer, texts: Iterable[str], count: int, model: dict[str, Any]) -> dict[int, list[int]]:
    """Put the letters of a script that SentencePiece's way knows only as bytes, or not at all, into the vocabulary."""
    whole, made_of = _no_text(tokenizer, model), dict[int, list[int]]()
    if not whole:
        return made_of
    following = max(model["vocab"].values()) + 1
    for letter, seen in Counter(letter for text in texts for letter in text).most_common():
        parts = [token for token in tokenizer.encode(letter, add_special_tokens=False).ids if token in whole]
        if parts and seen > 1 and letter not in model["vocab"] and len(made_of) < count:
            model["vocab"][letter] = following
            made_of[following] = parts
            following += 1
    return made_of


def _words(tokenizer: Tokenizer, texts: Iterable[str], saved: dict[str, Any]) -> Iterator[list[list[int]]]:
    """The words of each text that have several tokens, as their ids."""
    whole = _no_text(tokenizer, saved["model"]) | set(tokenizer.get_added_tokens_decoder())
    # SentencePiece's way knows no words before merging; there one begins with the mark of a space
    spaced = {token for string, token in saved["model"]["vocab"].items() if string.startswith("▁")}
    spaced = spaced if saved["pre_tokenizer"] is None else set()
    waiting: list[str] = []

    def cut() -> Iterator[list[list[int]]]:
        for encoding in tokenizer.encode_batch(waiting, add_special_tokens=False):
            yield [word for word in _grouped(encoding, whole, spaced) if len(word) > 1]

    for text in texts:
        waiting.extend(pieces(text, _WORD))
        if len(waiting) >= _AT_ONCE:
            yield from cut()
            waiting = []
    yield from cut()


def _no_text(tokenizer: Tokenizer, model: dict[str, Any]) -> set[int]:
    """Tokens that are no piece of text: the unknown one, and those that stand for a byte, made after merging."""
    names = {f"<0x{byte:02X}>" for byte in range(256)} if model.get("byte_fallback") else set()
    found = {tokenizer.token_to_id(name) for name in {*names, model.get("unk_token") or ""}}
    return {token for token in found if token is not None}


def _grouped(encoding: Encoding, whole: set[int], spaced: set[int]) -> Iterator[list[int]]:
    word: list[int] = []
    before: int | None = None
    for token, number in zip(encoding.ids, encoding.word_ids, strict=True):
        if token in whole or token in spaced or number != before:
            yield word
            word = []
        before = number
        if token not in whole:
            word.append(token)
    yield word
