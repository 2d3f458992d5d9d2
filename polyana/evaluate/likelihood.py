"""How likely a model finds texts, many at once: packed one behind the other, only what counts reaches the head.

Shapes: N tokens of all texts of a batch, R rows that something is predicted from, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyana.models import head_weight, hidden_states, load_base, longest_text, put_adapter
from polyana.train import PrecisionWish, choose_precision

__all__ = ["Subject", "Wanted", "beginning_of", "log_likelihoods", "pair_of_ids", "token_log_likelihoods"]

_BATCH_TOKENS = 8192  # read at once: bounds memory; guess
_TRUNK = 16  # tokens that texts begin with alike, from which on they are read once; guess
_ROWS = 512  # of logits at once, as in losses/cross_entropy.py


class Subject:
    """A saved model that is measured, with its tokenizer; loaded when it is first asked for.

    `directory`: its files; `base`: the directory of the model below, where it is an adapter. `hub`, `repository`,
    `commit`: how Hugging Face tools find it, where they can. It computes as in training: many texts at once.
    """

    def __init__(
        self, directory: Path, base: Path | None, precision: PrecisionWish, hub: Path, repository: str, commit: str
    ) -> None:
        self.directory, self.base = directory, base
        self.hub, self.repository, self.commit = hub, repository, commit
        self.precision = choose_precision(precision)

    @cached_property
    def model(self) -> Any:
        model = load_base(self.base or self.directory)
        if self.base is not None:
            put_adapter(model, self.directory)
        return self.precision.prepare(model.eval())

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.directory)

    @property
    def longest(self) -> int:
        """Tokens that it reads at most."""
        return longest_text(self.model)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tokens from place `first` on, given those before them; `first` is at least 1."""

    ids: Sequence[int]
    first: int


def beginning_of(tokenizer: Any) -> int:
    """The token that a text is begun with, so that its first word is predicted too: its beginning mark, or where it has
    none the mark that ends the text before it."""
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    assert token is not None
    return int(token)


def pair_of_ids(tokenizer: Any, context: str, answer: str) -> Wanted:
    """The answer's tokens behind the context's, as lm-eval makes them: both are encoded together and cut where the
    context alone would end; a space at the context's end belongs to the answer."""
    stripped = context.rstrip()
    answer, context = context[len(stripped) :] + answer, stripped
    if not context:
        ids = tokenizer.encode(answer, add_special_tokens=False)
        return Wanted([beginning_of(tokenizer), *ids], 1)
    whole, before = tokenizer.encode(context + answer), tokenizer.encode(context)
    return Wanted(whole, len(before))


def log_likelihoods(
    subject: Subject, wanted: Sequence[Wanted], show: Callable[[int], None] = lambda _: None
) -> NDArray[np.float64]:
    """The sum of log p over the wanted tokens of each text, in nats; else as `token_log_likelihoods`."""
    return np.array([log_p.sum() for log_p in token_log_likelihoods(subject, wanted, show)])


def token_log_likelihoods(
    subject: Subject, wanted: Sequence[Wanted], show: Callable[[int], None] = lambda _: None
) -> list[NDArray[np.float64]]:
    """log p of each wanted token of each text, in nats.

    No text may have more than `longest` + 1 tokens. What several texts begin with before the wanted tokens, as answers
    to one question do, is read once. `show` is told how many texts are done.
    """
    found = [np.zeros(max(len(each.ids) - each.first, 0)) for each in wanted]
    by_input: dict[_Input, list[int]] = {}
    for number, each in enumerate(wanted):
        if len(found[number]):
            by_input.setdefault((tuple(each.ids[:-1]), each.first), []).append(number)
    done = 0
    with torch.no_grad(), subject.precision.autocast():
        for batch in _batches(_units(list(by_input))):
            done += _score(subject, batch, by_input, wanted, found)
            show(done)
    return found


_Input = tuple[tuple[int, ...], int]
"""A text without its last token, and the place from which on something is predicted."""


def _units(inputs: Sequence[_Input]) -> list[list[_Input]]:
    """Inputs that go on from the same words together, for these are read once; the longest units first, so that memory
    runs out at once or never, and texts of equal length stand beside each other, which are one product."""
    by_context: dict[tuple[int, ...], list[_Input]] = {}
    for each in inputs:
        by_context.setdefault(each[0][: each[1]], []).append(each)
    units = []
    for context, found in by_context.items():
        units += [found] if len(context) >= _TRUNK and len(found) > 1 else [[each] for each in found]
    return sorted(units, key=lambda unit: (_size(unit), unit), reverse=True)


def _size(unit: Sequence[_Input]) -> int:
    """Tokens that are read."""
    shared = unit[0][1] * (len(unit) - 1)
    return sum(len(ids) for ids, _ in unit) - shared


def _batches(units: Sequence[list[_Input]]) -> Iterator[list[list[_Input]]]:
    batch: list[list[_Input]] = []
    size = 0
    for each in units:
        if batch and size + _size(each) > _BATCH_TOKENS:
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += _size(each)
    if batch:
        yield batch


def _score(
    subject: Subject,
    batch: Sequence[list[_Input]],
    by_input: dict[_Input, list[int]],
    wanted: Sequence[Wanted],
    found: list[NDArray[np.float64]],
) -> int:
    """Put into `found` what the texts with these inputs score; how many texts that were."""
    parts, after, positions = list[tuple[int, ...]](), list[int | None](), list[torch.Tensor]()
    rows, targets, texts = list[int](), list[int](), list[int]()
    start = 0

    def read(ids: tuple[int, ...], trunk: int | None, position: int) -> int:
        """Lay tokens behind the others; the row of the first."""
        nonlocal start
        parts.append(ids)
        after.append(trunk)
        positions.append(torch.arange(position, position + len(ids)))
        start += len(ids)
        return start - len(ids)

    for unit in batch:
        first = unit[0][1]
        trunk = len(parts) if len(unit) > 1 else None
        begin = read(unit[0][0][:first], None, 0) if trunk is not None else 0
        for ids, place in unit:
            if trunk is None:
                begin = read(ids, None, 0)
                of_text = list(range(begin + place - 1, begin + len(ids)))
            else:
                branch = read(ids[first:], trunk, first) if len(ids) > first else start
                of_text = [begin + first - 1, *range(branch, branch + len(ids) - first)]
            for number in by_input[ids, place]:
                rows += of_text
                targets += wanted[number].ids[place:]
                texts.append(number)
    device = subject.precision.device
    tokens_N = torch.tensor([token for ids in parts for token in ids], device=device)
    branches = after if any(trunk is not None for trunk in after) else ()
    hidden_ND = hidden_states(
        subject.model, tokens_N, torch.cat(positions).to(device), list(map(len, parts)), branches
    )  # fmt: skip
    weight_VD = head_weight(subject.model).to(subject.precision.dtype)
    log_p, at = _log_p(hidden_ND, weight_VD, rows, targets), 0
    for number in texts:
        found[number] = log_p[at : at + len(found[number])]
        at += len(found[number])
    return len(texts)


def _log_p(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, rows: Sequence[int], targets: Sequence[int]
) -> NDArray[np.float64]:
    """log p of each target from its row of states; softmax in fp32. A row that is asked several times is computed once
    where the asking stands together."""
    unique, place = np.unique(np.array(rows, np.int64), return_inverse=True)
    rows_R = torch.from_numpy(unique).to(hidden_ND.device)
    order = np.argsort(place, kind="stable")
    of_row, target_of = place[order], np.array(targets, np.int64)[order]
    found = np.empty(len(rows))
    for first in range(0, len(unique), _ROWS):
        logits_CV = (hidden_ND[rows_R[first : first + _ROWS]].to(weight_VD.dtype) @ weight_VD.T).float()
        log_z_C = logits_CV.logsumexp(1)
        low, high = np.searchsorted(of_row, [first, first + len(log_z_C)])
        at, token = torch.from_numpy(of_row[low:high] - first), torch.from_numpy(target_of[low:high])
        at, token = at.to(logits_CV.device), token.to(logits_CV.device)
        found[order[low:high]] = (logits_CV[at, token] - log_z_C[at]).double().cpu().numpy()
    return found
