"""What models answer, kept batch by batch: a process that is killed loses the batch that it was at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyana.examples import Prompt, ask
from polyana.generation import draw_answers, load_for_generation
from polyana.storage import append_lines
from polyana.synthesis.config import SynthesizeConfig
from polyana.train import choose_precision

__all__ = ["Written", "seed_of", "write_answers"]


@dataclass(frozen=True, slots=True)
class Written:
    """An answer with where it comes from. revision: as the recipe names it. seed: of the batch that it was drawn in;
    number: which of the answers to its prompt. tokens: without the one that ends it. ended: by the model, and not by
    `max_tokens`."""

    prompt: str
    text: str
    revision: str
    number: int
    seed: int
    temperature: float
    tokens: int
    ended: bool


def seed_of(*what: Any) -> int:
    """A seed that follows from its arguments alone."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=6).digest())


def write_answers(
    config: SynthesizeConfig, revision: str, directory: Path, prompts: Sequence[Prompt], seed: int, kept: Path,
    show: Callable[[int, int], None],
) -> list[Written]:  # fmt: skip
    """What the model in `directory` answers, as many times as `answers` says; in the order of the prompts.

    `kept`: a file with a line for each batch, which is gone on from. The batches follow from the settings alone, and
    each has a seed of its own, so what is written does not depend on where it was interrupted.
    """
    size = max(1, config.batch // config.answers)
    batches = [prompts[first : first + size] for first in range(0, len(prompts), size)]
    done = _read(kept)
    show(len(done), len(batches))
    if len(done) < len(batches):
        model, tokenizer = load_for_generation(directory)
        model.to(choose_precision("auto").dtype)  # SmolLM2 on one busy core: 2.5 times as fast in bf16 as in fp32
        for number, batch in enumerate(batches):
            if number in done:
                continue
            drawing = seed_of(seed, revision, number)
            drawn = draw_answers(
                model, tokenizer, [ask(tokenizer, prompt.messages) for prompt in batch], config.answers, drawing,
                config.max_tokens, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p,
            )  # fmt: skip
            done[number] = [
                Written(
                    prompt.id, each.text, revision, place, drawing, config.temperature, each.tokens, each.ended
                )
                for prompt, answers in zip(batch, drawn, strict=True)
                for place, each in enumerate(answers)
            ]  # fmt: skip
            row = {"batch": number, "answers": [asdict(each) for each in done[number]]}
            append_lines(kept, [json.dumps(row, ensure_ascii=False)])
            show(len(done), len(batches))
    return [each for number in range(len(batches)) for each in done[number]]


def _read(path: Path) -> dict[int, list[Written]]:
    """The batches that are there whole."""
    found: dict[int, list[Written]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n"):
            with suppress(ValueError, KeyError, TypeError):  # a line that a crash has torn
                row = json.loads(line)
                found[row["batch"]] = [Written(**each) for each in row["answers"]]
    return found
