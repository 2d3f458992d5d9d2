"""The reference's log-probabilities of all answers, computed once, so that training needs no second model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from polyana.data import AnswerSequences, TokenData
from polyana.heap import keep_freed_memory
from polyana.models import without_adapter
from polyana.tasks.answers import EVAL_TOKENS
from polyana.tasks.preference import PreferenceConfig, load_reference, score_documents
from polyana.tracking import Console
from polyana.train import choose_precision

__all__ = ["REFERENCE_VERSION", "build_reference"]

REFERENCE_VERSION = 1

_KEPT_EVERY = 32  # batches, after which what is done is on the disk; guess: some seconds of work


def build_reference(
    config: PreferenceConfig, data: Path, base: Path, workshop: Path, directory: Path, console: Console
) -> None:
    """Write `data`'s files and reference.npz, the log-probability of each item's two texts in each split, [I, 2].

    They are computed in the precision that training computes in, by the same code. What is done is kept in `workshop`:
    a run that was stopped goes on there, and ends with the same numbers.
    """
    for file in data.iterdir():
        if file.name != "artifact.json":
            os.link(file, directory / file.name)
    precision = choose_precision(config.train.precision)
    workshop.mkdir(parents=True, exist_ok=True)
    work = {}
    for split in ("train", "eval"):
        sequences = AnswerSequences(TokenData(data).shards(split), config.sequence_length, 0)
        path = workshop / f"{split}.npy"
        if not path.exists():
            with path.with_suffix(".part").open("wb") as stream:
                np.save(stream, np.full((sequences.held, 2), np.nan, dtype=np.float32))
            path.with_suffix(".part").rename(path)
        work[split] = sequences, np.lib.format.open_memmap(path, mode="r+")
    left = {
        split: [items for items in sequences.in_order(EVAL_TOKENS) if np.isnan(known[items.start : items.stop]).any()]
        for split, (sequences, known) in work.items()
    }
    total = sum(map(len, left.values()))
    if total:
        model = precision.prepare(load_reference(config, TokenData(data), base, precision))
        keep_freed_memory()  # else every layer touches its memory anew: 1.7 for 1.3 s of 8,192 tokens (SmolLM2)
        with console.gauge("reference", total) as gauge:
            done = 0
            for split, (sequences, known) in work.items():

                def keep(items: range, found: list[float], known: np.memmap = known) -> None:
                    nonlocal done
                    known[items.start : items.stop] = np.array(found, dtype=np.float32).reshape(-1, 2)
                    done += 1
                    if done % _KEPT_EVERY == 0:
                        known.flush()
                    gauge.show(done, f"{done:,} of {total:,} batches")

                with without_adapter(model):
                    score_documents(model, sequences, left[split], precision, keep)
                known.flush()
    np.savez(directory / "reference.npz", train=work["train"][1], eval=work["eval"][1])
