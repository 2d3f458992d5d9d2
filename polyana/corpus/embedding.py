"""What a document says, as a vector: the mean of a language model's last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCALE", "Embedder"]

SCALE = 30_000
"""The length of a vector whose numbers are whole: they fit 16 bits."""

_CHARACTERS = 20  # of a text that are looked at for each token; guess: five times what a token has on the average


class Embedder:
    """Hugging Face's model in `directory`, which reads the first `tokens` tokens of each text."""

    def __init__(self, directory: Path, tokens: int) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model: Any = AutoModel.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
        model.config.use_cache = False
        most = getattr(model.config, "max_position_embeddings", tokens)  # not all know an end
        self._tokens = min(tokens, self._tokenizer.model_max_length, most)
        self._model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int16]:
        """[texts, width], each as long as SCALE; zeros for a text without tokens.

        One text at a time and in one thread: what else is in a batch changes the last digits of a sum.
        """
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                means = [self._mean(text) for text in texts]
        finally:
            torch.set_num_threads(threads)
        vectors = np.array(means, np.float64).reshape(len(texts), self._model.config.hidden_size)
        lengths = np.sqrt((vectors**2).sum(1, keepdims=True))
        return np.rint(vectors * (SCALE / np.where(lengths, lengths, 1.0))).astype(np.int16)

    def _mean(self, text: str) -> NDArray[np.float64]:
        import torch

        begin = text[: self._tokens * _CHARACTERS].encode("utf-8", "replace").decode()  # half characters have no UTF-8
        tokens = self._tokenizer(begin, truncation=True, max_length=self._tokens, return_tensors="pt")
        if not tokens["input_ids"].numel():
            return np.zeros(self._model.config.hidden_size)
        tokens_1N = tokens["input_ids"].to(self._model.device)
        states_1ND = self._model(input_ids=tokens_1N, attention_mask=torch.ones_like(tokens_1N)).last_hidden_state
        return np.asarray(states_1ND[0].double().mean(0).cpu())
