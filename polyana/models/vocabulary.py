"""More tokens for a pretrained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["extend_vocabulary"]


def extend_vocabulary(model: Any, tokenizer: Any, tokens: Sequence[str], *, special: bool = True) -> int:
    """Add `tokens` to a transformers tokenizer and rows for them to its model; how many were new.

    `special`: marks of a format, which ordinary text never becomes; else words, found wherever a text has them. A new
    row is the mean of the rows of the tokens that its text was made of before, in the input embeddings and in an output
    layer of its own, so that the model begins by taking the new token for about what it has always read there. Rows
    beyond the tokenizer's last id (some models are padded to a round size) are used before the matrices grow.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    if not new:
        return 0
    pieces = {token: tokenizer(token, add_special_tokens=False)["input_ids"] for token in new}
    added = [AddedToken(token, special=special, normalized=False) for token in new]
    tokenizer.add_tokens(added, special_tokens=special)
    embeddings = model.get_input_embeddings()
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > embeddings.weight.shape[0]:
        model.resize_token_embeddings(needed, mean_resizing=False)
    matrices = {
        id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    with torch.no_grad():
        for weight_VD in matrices.values():
            for token, ids in pieces.items():
                weight_VD[tokenizer.convert_tokens_to_ids(token)] = weight_VD[ids].mean(0)
    return len(new)
