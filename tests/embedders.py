"""Small models with random weights that turn text into vectors: texts of the same words lie close together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers


def write_embedder(directory: Path, texts: Sequence[str], architecture: str = "llama", seed: int = 1) -> Path:
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token="<?>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=2000, special_tokens=["<?>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    names = {"unk_token": "<?>"}
    if architecture == "bert":
        tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
        names |= {"cls_token": "<s>", "sep_token": "</s>"}
    else:
        names |= {"eos_token": "</s>"}
    sizes = {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 64, "vocab_size": 2000,
    }  # fmt: skip
    torch.manual_seed(seed)
    model: Any = AutoModel.from_config(AutoConfig.for_model(architecture, **sizes))
    model.save_pretrained(directory)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(directory)
    return directory
