"""Byte-level BPE by gigatoken (extra `fast`): the ids that tokenizers gives, fifty times as fast, or not at all.

gigatoken 0.10 passes in silence over some of what a tokenizer.json may ask for, so only what is known to come out right
is given to it (`_for_gigatoken`), texts with characters that its newer Unicode tables take differently are not
(unfamiliar.py), and before its first use it has to give tokenizers' ids for texts that are hard.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections import defaultdict
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from polyana.tokenizer.unfamiliar import NUMERALS, unfamiliar

__all__ = ["FastEncoder", "Ids", "encode_by_tokenizers"]

_RENEW = 64 * 10**6
"""Characters after which gigatoken is loaded anew: 0.10 keeps each word that it has seen. Measured with a vocabulary of
30,000: 5 % slower than never, and at most 0.6 GB kept of words of random letters."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {_WORDS + r"\p{N}{1,3}" + _REST, _WORDS + r"\p{N}" + _REST}
"""Llama 3's and Qwen 2's patterns, compared with tokenizers on every character there is; as GPT-2's, which is what a
ByteLevel without a Split means."""

_HARD = [
    "", " ", "\n", "  a  \t\n b ", "\n\n\n", "\r\n\r\n  x\r", " " * 100, "\t\t\tif x:\n\n\n        return\n",
    "a\u00a0b\u3000 \u2028c\x85d", "\x00\x01\x1c\x1f\x7f", "\ufeff\u200b\u00ad\u2060", "\ufffd\ufffe\uffff",
    "e\u0301 \u00e9 \u1100\u1161\u11a8 \uac01 \u0344\u212b\u2126", "\u0600\u202eabc\u202c \u0645\u0631\u062d\u0628",
    "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308\U0001f1f7\U0001f1fa", "\ud7ff\ue000\U0010ffff",
    "中文字符，テスト。한국어 ไทย हिन्दी", "don't I'LL we'Ve 'tis 's'S ''d 'ſ x'll'll", "ǅ ʰ ª ſ ß İı ΑΣς",
    "1234567890 12 3.14 1,000,000 ٣٤ Ⅷ ½ ² 𝟙𝟚", "x1y22z333 a1b 0x7fFF 1e-9", "a" * 300, "ab" * 150 + "!" * 70,
    "def f(x: int) -> str:\n    return f'{x!r}' + \"\\n\"  # comment\n\n\nclass A(B):\n\tpass\n",
    "https://a.b/c?d=e&f#g%20 <p>&nbsp;</p>", "-- ... !!! ?! :-) $100 €5 a_b __init__ @x #y",
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. «Ёж» — № 5…",
    "Ġ Ċ ĉ ▁ ## </w> <unk> [UNK] <s></s> <|endoftext|><|im_start|>user\n<|im_end|>",
]  # fmt: skip

Ids = tuple[NDArray[np.uint32], NDArray[np.int64]]
"""The ids of some texts, one behind the other, and how many each text has."""


def encode_by_tokenizers(tokenizer: Tokenizer, texts: list[str]) -> Ids:
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    ids = np.fromiter(chain.from_iterable(found), dtype=np.uint32, count=sum(map(len, found)))
    return ids, np.fromiter(map(len, found), dtype=np.int64, count=len(found))


class FastEncoder:
    """gigatoken in the place of a tokenizer of tokenizers, to which it leaves what it might take differently."""

    def __init__(self, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
        """`settings`: the tokenizer.json as gigatoken shall read it. Raises ImportError without gigatoken, ValueError
        or RuntimeError if it cannot."""
        self.name = f"gigatoken {version('gigatoken')}"
        self._tokenizer = tokenizer
        self._unsure = unfamiliar(NUMERALS if settings["added_tokens"] else frozenset())
        self._settings = json.dumps(settings)
        self._load()

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> FastEncoder | None:
        """One for `tokenizer`, which reads special tokens in a text as text; None if there is none for it."""
        saved = json.loads(tokenizer.to_str())
        settings = _for_gigatoken(saved)
        if settings is None:
            return None
        probe = _probe(saved)
        probing = _for_gigatoken(json.loads(probe.to_str()))
        assert probing is not None
        special = [token["content"] for token in saved["added_tokens"]]
        texts = [*_HARD, *special, f"a{' '.join(special)}b\n{''.join(special)}"]
        try:
            made, tried = cls(tokenizer, settings), cls(probe, probing)
        except (ImportError, ValueError, RuntimeError):
            return None
        return made if made._agrees(texts) and tried._agrees([*_HARD, *_borders()]) else None

    def _load(self) -> None:
        import gigatoken
        from gigatoken.gigatoken_rs import load_hf_json

        self._fast = gigatoken.Tokenizer(load_hf_json(self._settings))
        self._seen = 0

    def encode(self, texts: list[str]) -> Ids:
        unsure = [number for number, text in enumerate(texts) if self._unsure(text)]
        if not unsure:
            return self._encode(texts)
        sure = texts.copy()
        for number in unsure:
            sure[number] = ""
        ids, counts = self._encode(sure)
        others, their_counts = encode_by_tokenizers(self._tokenizer, [texts[number] for number in unsure])
        ids = np.insert(ids, np.repeat(np.cumsum(counts)[unsure], their_counts), others)
        counts[unsure] = their_counts
        return ids, counts

    def _encode(self, texts: list[str]) -> Ids:
        import awkward

        if self._seen > _RENEW:
            self._load()
        self._seen += sum(map(len, texts))
        # None: on all cores, but for processes that were forked, where threads would wait for ever
        one = os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("off", "false", "f", "no", "n", "0")
        rows = self._fast.encode_batch(texts, parallel=False if one else None)
        ids, counts = awkward.flatten(rows), awkward.num(rows)
        return awkward.to_numpy(ids).astype(np.uint32, copy=False), awkward.to_numpy(counts).astype(np.int64)

    def _agrees(self, texts: list[str]) -> bool:
        (ids, counts), (others, their_counts) = self.encode(texts), encode_by_tokenizers(self._tokenizer, texts)
        return np.array_equal(counts, their_counts) and np.array_equal(ids, others)


def _for_gigatoken(saved: dict[str, Any]) -> dict[str, Any] | None:
    """The tokenizer.json `saved` in a form that gigatoken takes as tokenizers does; None if there is no such form."""
    model, steps = saved["model"], _steps(saved["pre_tokenizer"])
    plain = (
        model["type"] == "BPE"
        and not any(
            model.get(name) for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
        )
        and all(letter in model["vocab"] for letter in pre_tokenizers.ByteLevel.alphabet())
        and _order_decides(model["merges"])
        and saved["normalizer"] in (None, {"type": "NFC"})
        # special ones are text in a text; others would have to be found in it
        and all(token["special"] for token in saved["added_tokens"])
    )
    if not plain or not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    apart: list[dict[str, Any]] = []
    match [step["type"] for step in steps], steps[-1]["use_regex"]:
        case ["ByteLevel"], True:
            pass
        case ["Split", "ByteLevel"], False:
            split = steps[0]
            if split["pattern"].get("Regex") not in _SPLITS or split["behavior"] != "Isolated" or split["invert"]:
                return None
        case ["Digits", "ByteLevel"], True if steps[0]["individual_digits"]:
            # cut out of the text before all else is what a digit is here, and an added token there
            named = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            apart = [{"id": model["vocab"][digit], "content": digit, **named} for digit in "0123456789"]
        case _:
            return None
    pre_tokenizer = steps[-1] if apart else saved["pre_tokenizer"]
    return {**saved, "pre_tokenizer": pre_tokenizer, "added_tokens": apart, "post_processor": None}


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    if pre_tokenizer is None:
        return []
    return list(pre_tokenizer["pretokenizers"]) if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]


def _order_decides(merges: list[list[str]]) -> bool:
    """Whether no two merges make the same token of parts that may overlap in a text, as ab+a and a+ba in aba.

    gigatoken then takes the first in the text, tokenizers the first in the list.
    """
    if len({left + right for left, right in merges}) == len(merges):
        return True
    parts: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for left, right in merges:
        lefts, rights = parts[left + right]
        lefts.add(left)
        rights.add(right)
    return not any(len(lefts) > 1 and lefts & rights for lefts, rights in parts.values())


_BESIDE = "aA1! "


def _borders() -> list[str]:
    """Two characters of each general category between letters, digits, signs, spaces and ends of lines."""
    kinds = defaultdict[str, list[str]](list)
    for code in (*range(0x3000), *range(0x10000, 0x10400)):
        kinds[unicodedata.category(chr(code))].append(chr(code))
    some = [character for kind in sorted(kinds) if kind != "Cs" for character in (kinds[kind][0], kinds[kind][-1])]
    return [f"a{c}a A{c}A 1{c}1 !{c}! {c}a{c} \n{c}\n {c}" for c in some]


def _probe(saved: dict[str, Any]) -> Tokenizer:
    """A tokenizer that cuts text as `saved` does and whose ids tell where: each pair of bytes that `_BESIDE` and
    `_borders` put side by side is one token within a word and two across a border."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    beside = [level.pre_tokenize_str(character)[0][0] for character in _BESIDE]
    pairs: dict[str, tuple[str, str]] = {}
    for text in _borders():
        for character in set(text):
            shown = level.pre_tokenize_str(character)[0][0]
            for other in beside:
                pairs.setdefault(other + shown[0], (other, shown[0]))
                pairs.setdefault(shown[-1] + other, (shown[-1], other))
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *pairs]
    model = models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=list(pairs.values()))
    own = {**saved, "model": json.loads(Tokenizer(model).to_str())["model"], "added_tokens": [], "post_processor": None}
    return Tokenizer.from_str(json.dumps(own))
