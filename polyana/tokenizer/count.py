"""How many tokens texts have, asked for in any process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyana.tokenizer.text_tokenizer import TextTokenizer

__all__ = ["TokenCounter"]


@dataclass
class TokenCounter:
    """Counts by the tokenizer in `directory`, which each process loads for itself."""

    directory: Path
    _tokenizer: TextTokenizer | None = field(default=None, repr=False)

    def __call__(self, texts: list[str]) -> NDArray[np.int64]:
        """Tokens of each text, without the end of text."""
        if self._tokenizer is None:
            self._tokenizer = TextTokenizer(self.directory)
        return self._tokenizer.encode_joined(texts)[1]

    def __getstate__(self) -> dict[str, object]:
        return {"directory": self.directory, "_tokenizer": None}
