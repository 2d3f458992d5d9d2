"""A language model's body under a head of one number, a reward, or of one a class, as transformers' models for sequence
classification have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from polyana.errors import UserError
from polyana.models.build import packs_texts
from polyana.models.fused import fuse
from polyana.models.load import load_base
from polyana.models.packed_attention import ATTENTION

__all__ = ["load_classifier", "load_reward_model", "outline_reward_model", "padding_token"]


def load_reward_model(directory: Path, seed: int, padding: int) -> Any:
    """The model in `directory` under a head of one number, in fp32, to be trained; a new head is drawn from `seed`.

    `padding`: the token that transformers passes over when it looks for a text's end. Raises UserError where
    transformers has no such model of its architecture.
    """
    return _load(directory, seed, padding, {"num_labels": 1})


def load_classifier(directory: Path, seed: int, padding: int, classes: Sequence[str]) -> Any:
    """The same under a head of one row a class."""
    names = dict(enumerate(classes))
    about = {"num_labels": len(classes), "id2label": names, "label2id": {name: place for place, name in names.items()}}
    return _load(directory, seed, padding, about)


def _load(directory: Path, seed: int, padding: int, head: dict[str, Any]) -> Any:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    packs = packs_texts(load_base(directory))  # tried there, on logits
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would warn that the head is new
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, found = AutoModelForSequenceClassification.from_pretrained(
                directory, dtype=torch.float32, local_files_only=True, output_loading_info=True, **head
            )
    except ValueError as error:
        words = str(error).strip().splitlines()[0]
        raise UserError(f"transformers has no reward model of this architecture: {words}") from None
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(set(found["missing_keys"]) - {"score.weight"}):
        raise UserError(f"the base has no weights for {', '.join(missing[:3])} of a reward model")
    fuse(model)
    if packs:
        model.set_attn_implementation(ATTENTION)
    model.config.pad_token_id = padding
    return model.train()


def outline_reward_model(directory: Path, rows: int = 1) -> Any:
    """The same without numbers; to be called under torch's meta device. `rows`: of the head."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(directory, num_labels=rows))


def padding_token(tokenizer: Any, ends: set[int]) -> int:
    """A token to pad with that ends no text, or transformers would score the token before the end: the tokenizer's own,
    else that for unknown words, else that for a text's beginning; where all end texts, the last of `ends`."""
    own = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    return next((int(token) for token in own if token is not None and token not in ends), max(ends))
