"""Several answers to each of many prompts, drawn at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polyana.generation.write import ends_of, seeded, write_after
from polyana.models import longest_text, writing

__all__ = ["Drawn", "draw_answers"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """asked: the prompt, as much of it as there was room for. ids: what was written, with the token that ended it.
    ended: by the model, and not by the limit."""

    asked: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    ended: bool

    @property
    def tokens(self) -> int:
        """Without the one that ended it."""
        return len(self.ids) - self.ended


def draw_answers(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], count: int, seed: int, max_tokens: int,
    *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
) -> list[list[Drawn]]:  # fmt: skip
    """`count` answers to each prompt of token ids, all in one batch; the same seed and batch give the same ones.

    With the defaults they are drawn from the model's own distribution, so means over them estimate its. Of a prompt
    that leaves too little room the beginning is left out.
    """
    longest = longest_text(model)
    most = min(max_tokens, longest // 2)
    asked = [list(ids)[-(longest - most) :] or [tokenizer.eos_token_id] for ids in prompts]
    search: dict[str, Any] = {"do_sample": False, "num_return_sequences": count}
    if temperature > 0:
        search |= {"do_sample": True, "temperature": temperature, "top_k": top_k or 0, "top_p": top_p or 1.0}
    ends = ends_of(model, tokenizer)
    with torch.no_grad(), seeded(seed), writing(model):
        written = write_after(model, tokenizer, asked, most, search)
    drawn = []
    for number, ids in enumerate(written):
        end = next((place for place, token in enumerate(ids) if token in ends), None)
        text = str(tokenizer.decode(ids[:end], skip_special_tokens=True)).strip()
        said = tuple(ids if end is None else ids[: end + 1])
        drawn.append(Drawn(tuple(asked[number // count]), said, text, end is not None))
    return [drawn[number * count : (number + 1) * count] for number in range(len(asked))]
