"""Whole documents translated, many segments at once: greedy, beam search, minimum Bayes risk; a sliding context."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from polyana.config import Config, of_kind
from polyana.errors import UserError
from polyana.generation import ends_of, seeded, write_after
from polyana.models import longest_text, writing

__all__ = [
    "BeamConfig",
    "Decoding",
    "GreedyConfig",
    "MbrConfig",
    "Prompt",
    "Translated",
    "least_risk",
    "translate_documents",
]

_SHORTEST_ANSWER = 16  # tokens that may be written however short the source is; guess

Prompt = Callable[[Sequence[tuple[str, str]], str], list[int]]
"""(earlier segments with their translations, oldest first; the text to translate) -> the tokens a model is asked."""


class _DecodingConfig(Config):
    max_ratio: float = Field(  # guess: between languages that the tokenizer knows equally well it is 1 to 1.5
        3.0,
        gt=0,
        description="tokens written at most for each of the source; more where the tokenizer hardly knows the target",
    )
    batch: int = Field(16, ge=1, description="segments written at once")

    def search(self) -> dict[str, Any]:
        """What transformers' `generate` is told."""
        raise NotImplementedError  # each kind has its own


class GreedyConfig(_DecodingConfig):
    """The likeliest token, one after another."""

    kind: Literal["greedy"] = "greedy"

    def search(self) -> dict[str, Any]:
        return {"do_sample": False}


class BeamConfig(_DecodingConfig):
    """Beam search: the likeliest text among those that stay in sight."""

    kind: Literal["beam"] = "beam"
    beams: int = Field(4, ge=2, description="texts kept in sight at each token")
    length_penalty: float = Field(1.0, description="their log probability is divided by length to this power")

    def search(self) -> dict[str, Any]:
        return {"do_sample": False, "num_beams": self.beams, "length_penalty": self.length_penalty}


class MbrConfig(_DecodingConfig):
    """Minimum Bayes risk (Eikema and Aziz 2020): of several samples the one most like all the others, by chrF."""

    kind: Literal["mbr"] = "mbr"
    samples: int = Field(16, ge=2, description="texts drawn for each segment; time grows with them")
    temperature: float = Field(1.0, gt=0, description="higher is more varied")
    epsilon: float = Field(
        0.02, ge=0, lt=1, description="tokens less likely than this are never drawn (Freitag et al. 2023)"
    )
    seed: int = Field(0, ge=0, description="the same seed draws the same texts")

    def search(self) -> dict[str, Any]:
        return {
            "do_sample": True, "num_return_sequences": self.samples, "temperature": self.temperature, "top_k": 0,
            "epsilon_cutoff": self.epsilon,
        }  # fmt: skip


Decoding = Annotated[GreedyConfig | BeamConfig | MbrConfig, Field(discriminator="kind"), of_kind("greedy")]


@dataclass(frozen=True, slots=True)
class Translated:
    """What a model made of some documents."""

    texts: list[list[str]]
    """Each document's segments, translated; empty where there was nothing to translate."""
    answers: int
    unfinished: int
    """Of the answers, those cut off at `max_ratio` before the model ended them: many where it has not learned to."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A segment, or a part of one that is too long for the model."""

    document: int
    segment: int
    source: str
    limit: int
    """Tokens written at most."""


@dataclass(frozen=True, slots=True)
class _Question:
    piece: _Piece
    ids: list[int]


def translate_documents(
    model: Any,
    tokenizer: Any,
    documents: Sequence[Sequence[str]],
    prompt: Prompt,
    decoding: Decoding,
    context: int = 0,
) -> Translated:
    """Each segment's translation.

    Each segment is seen beside the `context` last ones of its document and what the model made of them; the oldest are
    left out where they and the answer would not fit into the model's context. A segment that does not fit alone is cut
    at the sentence end, or else the space, nearest to its middle, and its parts are translated one after another. With
    greedy decoding what is written does not depend on what stands beside it in a batch.
    """
    longest = longest_text(model)
    pieces = [
        [piece for number, source in enumerate(segments) if source.strip()
         for piece in _pieces(tokenizer, prompt, longest, decoding.max_ratio, _Piece(index, number, source.strip(), 0))]
        for index, segments in enumerate(documents)
    ]  # fmt: skip
    done: list[list[tuple[str, str]]] = [[] for _ in documents]
    # without context nothing waits for anything; else each document's next piece waits for its last one
    waves = (
        [[each[number] for each in pieces if number < len(each)] for number in range(max(map(len, pieces), default=0))]
        if context
        else [[piece for each in pieces for piece in each]]
    )
    unfinished = 0
    with torch.no_grad(), seeded(decoding.seed if isinstance(decoding, MbrConfig) else 0), writing(model):
        for wave in waves:
            questions = [
                _Question(piece, _ask(prompt, done[piece.document][-context:] if context else [], piece, longest))
                for piece in wave
            ]
            written: dict[_Piece, str] = {}
            for batch in _batches(questions, decoding.batch, longest):
                for question, (text, has_ended) in zip(batch, _write(model, tokenizer, batch, decoding), strict=True):
                    written[question.piece] = text
                    unfinished += not has_ended
            for piece in wave:
                done[piece.document].append((piece.source, written[piece]))
    translations = [[""] * len(segments) for segments in documents]
    for parts, answers in zip(pieces, done, strict=True):
        for piece, (_, text) in zip(parts, answers, strict=True):
            before = translations[piece.document][piece.segment]
            translations[piece.document][piece.segment] = f"{before} {text}".strip()
    return Translated(translations, sum(map(len, pieces)), unfinished)


def least_risk(candidates: Sequence[str]) -> str:
    """The candidate whose mean chrF against all of them is highest; the first of equals."""
    try:
        from sacrebleu.metrics import CHRF
    except ImportError:
        raise UserError("minimum Bayes risk needs sacrebleu: `pip install 'polyana[translate]'`") from None
    metric, counts = CHRF(), Counter(candidates)

    def likeness(candidate: str) -> float:
        scores = (count * metric.sentence_score(candidate, [other]).score for other, count in counts.items())
        return float(sum(scores))

    return max(counts, key=likeness)


def _pieces(tokenizer: Any, prompt: Prompt, longest: int, ratio: float, piece: _Piece) -> Iterator[_Piece]:
    """The piece, or the parts of it that fit into the model's context."""
    tokens = len(tokenizer.encode(piece.source, add_special_tokens=False))
    limit = max(_SHORTEST_ANSWER, math.ceil(ratio * tokens))
    asked = len(prompt([], piece.source))
    if asked + limit <= longest:
        yield _Piece(piece.document, piece.segment, piece.source, limit)
        return
    parts = _halves(piece.source)
    if not all(parts):
        raise UserError(
            f"the model's context of {longest} tokens is too short: what it is asked to translate `{piece.source}` "
            f"takes {asked}, and the answer up to {limit}; choose a model with a longer context"
        )
    for part in parts:
        yield from _pieces(tokenizer, prompt, longest, ratio, _Piece(piece.document, piece.segment, part, 0))


def _halves(text: str) -> tuple[str, str]:
    """Cut at a sentence end in the middle half of the text, else between words, else anywhere."""
    middle = len(text) / 2
    ends = [match.end() for match in re.finditer(r"[.!?…][»”\"')]*\s|[。！？]", text)]
    ends = [end for end in ends if abs(end - middle) <= middle / 2]
    borders = ends or [match.end() for match in re.finditer(r"\s+", text)] or [int(middle)]
    cut = min(borders, key=lambda border: abs(border - middle))
    return text[:cut].strip(), text[cut:].strip()


def _ask(prompt: Prompt, earlier: Sequence[tuple[str, str]], piece: _Piece, longest: int) -> list[int]:
    """The prompt with as many of the earlier pieces, the newest, as leave room for the answer."""
    for dropped in range(len(earlier)):
        ids = prompt(earlier[dropped:], piece.source)
        if len(ids) + piece.limit <= longest:
            return ids
    return prompt([], piece.source)


def _batches(questions: Sequence[_Question], size: int, longest: int) -> Iterator[list[_Question]]:
    """At most `size` questions of similar length, none of whose answers may run beyond the model's context."""
    batch: list[_Question] = []
    for question in sorted(questions, key=lambda each: (each.piece.limit, len(each.ids)), reverse=True):
        asked = max(len(each.ids) for each in [*batch, question])
        if batch and (len(batch) == size or asked + batch[0].piece.limit > longest):
            yield batch
            batch = []
        batch.append(question)
    if batch:
        yield batch


def _write(model: Any, tokenizer: Any, batch: Sequence[_Question], decoding: Decoding) -> list[tuple[str, bool]]:
    """One answer to each question, and whether the model ended it."""
    ends = ends_of(model, tokenizer)
    most = max(each.piece.limit for each in batch)
    written = write_after(model, tokenizer, [each.ids for each in batch], most, decoding.search())
    many = len(written) // len(batch)
    answers = []
    for number, each in enumerate(batch):
        drawn = [_answer(tokenizer, ids[: each.piece.limit], ends) for ids in written[number * many :][:many]]
        best = least_risk([text for text, _ in drawn]) if many > 1 else drawn[0][0]
        answers.append(next(answer for answer in drawn if answer[0] == best))
    return answers


def _answer(tokenizer: Any, ids: list[int], ends: Sequence[int]) -> tuple[str, bool]:
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    return str(tokenizer.decode(ids[:end], skip_special_tokens=True)).strip(), end is not None
