"""A tokenizer as the data path uses it: documents in, token ids out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from polyana.errors import PolyanaError
from polyana.storage import read_json
from polyana.tokenizer.fast import FastEncoder, Ids, encode_by_tokenizers

__all__ = ["TextTokenizer", "pieces"]

_PIECE = 1_000_000  # characters in a part of a long document; guess
_AT_ONCE = 16 * _PIECE  # characters given to the tokenizer at once: bounds its memory, keeps its threads busy; guess
_WORTH_LOADING = 2 * _PIECE  # characters that take tokenizers as long as loading the fast encoder does; measured


def pieces(text: str, limit: int = _PIECE) -> Iterator[str]:
    """`text` cut into parts of at most `limit` characters, where possible just before a space.

    BPE that splits at spaces first (GPT-2's pattern: a token never continues from a letter into a space) gives the same
    tokens for the parts as for the whole. A word longer than `limit` is cut where it stands.
    """
    start = 0
    while len(text) - start > limit:
        end = start + limit
        border = end
        while border > start and not (text[border].isspace() and not text[border - 1].isspace()):
            border -= 1
        end = border if border > start else end
        yield text[start:end]
        start = end
    yield text[start:]


class TextTokenizer:
    """The tokenizer in `directory` (tokenizer.json and tokenizer_config.json, as transformers saves them)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # A document that contains the letters "<|endoftext|>" must not end there.
        self._tokenizer.encode_special_tokens = True
        settings = read_json(directory / "tokenizer_config.json")
        end_of_text = self._id_of(settings, "eos_token")
        if end_of_text is None:
            raise PolyanaError(f"the tokenizer in {directory} names no eos_token, so documents could not be ended")
        self.end_of_text = end_of_text
        self.unknown = self._id_of(settings, "unk_token")

    def _id_of(self, settings: dict[str, object], name: str) -> int | None:
        token = settings.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        return self._tokenizer.token_to_id(str(text)) if text else None

    @property
    def vocab_size(self) -> int:
        """Rows an embedding needs: one more than the largest id."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def _fast(self) -> FastEncoder | None:
        return FastEncoder.of(self._tokenizer)

    def _loaded(self) -> FastEncoder | None:
        return self.__dict__.get("_fast")

    @property
    def engine(self) -> str:
        """The library that encodes by now, and its version. Whichever it is, the ids are those of tokenizers."""
        fast = self._loaded()
        return fast.name if fast is not None else f"tokenizers {version('tokenizers')}"

    def encode(self, texts: list[str]) -> list[NDArray[np.uint32]]:
        """Token ids of each text, without special tokens; on all cores (TOKENIZERS_PARALLELISM=false for one)."""
        ids, counts = self.encode_joined(texts)
        return np.split(ids, np.cumsum(counts)[:-1]) if texts else []

    def encode_joined(self, texts: list[str]) -> Ids:
        """As `encode`, but the ids of all texts one behind the other, and how many each has."""
        parts = [list(pieces(text)) for text in texts]
        batches = [(np.empty(0, np.uint32), np.empty(0, np.int64)), *self._batches(list(chain.from_iterable(parts)))]
        ids, counts = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        first = np.cumsum([0, *map(len, parts)])[:-1]
        return ids, np.add.reduceat(counts, first) if texts else counts

    def _batches(self, parts: list[str]) -> Iterator[Ids]:
        """The ids of the parts; a library is given only so much at once, as a token costs tokenizers 100 bytes."""
        fast = self._fast if sum(map(len, parts)) >= _WORTH_LOADING else self._loaded()
        batch: list[str] = []
        waiting = 0
        for number, part in enumerate(parts, 1):
            batch.append(part)
            waiting += len(part)
            if waiting >= _AT_ONCE or number == len(parts):
                yield fast.encode(batch) if fast is not None else encode_by_tokenizers(self._tokenizer, batch)
                batch, waiting = [], 0

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens shown."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def tokens(self, ids: list[int]) -> list[str]:
        """Each id as the text it stands for; parts of a character show as U+FFFD."""
        return [self.decode([identifier]) for identifier in ids]
