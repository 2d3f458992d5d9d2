"""A small model that is trained to compare texts: it is measured on each held-out document by itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from polyana.data import EvalSequences, TokenData
from polyana.models import build_model, hidden_states
from polyana.storage import read_json, write_json
from polyana.tasks.language_model import LanguageModelTask, split_sequences
from polyana.tasks.pretrain import PretrainConfig
from polyana.tokenizer import TextTokenizer
from polyana.train import Precision, SumOver

__all__ = ["HELD_OUT", "NATS", "ProxyTask", "proxy_task"]

HELD_OUT = "held_out.json"
"""Beside the shards: (id, domain, bytes) of each held-out document, in their order."""

NATS = "held_out.json"
"""In the run's directory: what each document costs the model, in nats, when it was measured last."""

_BATCH_TOKENS = 8192  # tokens measured at once: bounds memory; guess


def proxy_task(
    config: PretrainConfig, tokens: TokenData, tokenizer: TextTokenizer, seed: int, precision: Precision
) -> ProxyTask:
    """A new model, blocks of the training text, and the held-out documents. Raises PolyanaError when the training text
    is shorter than a block."""
    from transformers import AutoTokenizer

    sequences, _ = split_sequences(config, tokens, seed)
    held_out = EvalSequences(tokens.shards("eval"), config.sequence_length, "documents", None)
    model = build_model(config.model, tokenizer.vocab_size, tokenizer.end_of_text, seed)
    words = AutoTokenizer.from_pretrained(tokenizer.directory)
    about = read_json(tokens.directory / HELD_OUT)
    return ProxyTask(config, model, words, sequences, held_out, None, precision, about)


class ProxyTask(LanguageModelTask):
    """Cross entropy of the next token; bits per byte of each domain of the held-out text."""

    def __init__(self, *others: Any) -> None:
        """As LanguageModelTask; then (id, domain, bytes) of each held-out document."""
        *shared, about = others
        super().__init__(*shared)
        self._domains = np.array([domain for _, domain, _ in about])
        self._bytes = np.array([size for _, _, size in about], np.int64)
        self._nats = np.zeros(len(about))

    def evaluate(self, sum_over: SumOver) -> dict[str, float]:
        held_out = self._held_out
        assert held_out is not None

        def nats(numbers: range) -> list[float]:
            batch = held_out.batch(numbers).to(self.precision.device)
            hidden_ND = hidden_states(self.model, batch.tokens_N, batch.position_N, batch.lengths)
            found = [0.0] * len(self._bytes)
            for document in np.unique(batch.document_N.numpy(force=True)).tolist():
                its_N = batch.document_N == document
                found[document] = float(self._sums(hidden_ND[its_N], batch.targets_N[its_N])[0])
            return found

        self._nats = np.array(sum_over(held_out.batches(_BATCH_TOKENS), nats))
        metrics = {"eval/loss": float(self._nats.sum()) / held_out.tokens, "eval/bits_per_byte": self._bits()}
        return metrics | {f"eval/bits_per_byte/{name}": self._bits(name) for name in np.unique(self._domains).tolist()}

    def _bits(self, domain: str | None = None) -> float:
        mine = slice(None) if domain is None else self._domains == domain
        return float(self._nats[mine].sum() / math.log(2) / self._bytes[mine].sum())

    def keep_answers(self, run: Path, step: int) -> None:
        write_json(run / NATS, {"step": step, "nats": self._nats.tolist()})
