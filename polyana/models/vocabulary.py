"""More tokens for a pretrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["add_rows", "extend_vocabulary"]


def extend_vocabulary(model: Any, tokenizer: Any, tokens: Sequence[str], *, special: bool = True) -> int:
    """Add `tokens` to a transformers tokenizer and rows for them to its model, as `add_rows` does; how many were new.

    `special`: marks of a format, which ordinary text never becomes; else words, found wherever a text has them.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    pieces = [tokenizer(token, add_special_tokens=False)["input_ids"] for token in new]
    added = [AddedToken(token, special=special, normalized=False) for token in new]
    tokenizer.add_tokens(added, special_tokens=special)
    add_rows(model, dict(zip(tokenizer.convert_tokens_to_ids(new), pieces, strict=True)))
    return len(new)


def add_rows(model: Any, made_of: Mapping[int, Sequence[int]]) -> None:
    """Rows for new tokens, by id, each of which stands for several old ones.

    A new row is the mean of the old tokens' rows, in the input embeddings and in an output layer of its own, so that
    the model begins by taking the new token for about what it has always read there. Rows beyond the last id (some
    models are padded to a round size) are used before the matrices grow.
    """
    if not made_of:
        return
    if max(made_of) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(made_of) + 1, mean_resizing=False)
    matrices = {
        id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    with torch.no_grad():
        for weight_VD in matrices.values():
            for token, ids in made_of.items():
                weight_VD[token] = weight_VD[ids].mean(0)
