"""How a model writes when it is free to: repetition, variety, length, and whether it comes to an end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from polyana.config import KeyPath
from polyana.evaluate.answers import write_answers
from polyana.evaluate.items import Item, Scored
from polyana.evaluate.likelihood import Subject
from polyana.generation import GenerationConfig, as_question, seeded

__all__ = ["FreeTextConfig", "FreeTextTest"]

_REPEATED = 4  # words in a row (seq-rep-4, Welleck et al. 2020, section 4)


class FreeTextConfig(GenerationConfig):
    """What the model writes after prompts. `repetition`: share of a text's runs of 4 words that it has had before
    (seq-rep-4, Welleck et al. 2020); `distinct_1` to `distinct_3`: share of different runs of so many words among all
    of a text (Li et al. 2016), the mean over texts; `length` in tokens; `unfinished`: share without an end at
    `max_tokens`."""

    kind: Literal["generation"]
    prompts: list[str] = Field(
        [], description="what the texts begin with; default: the first words of what the run held out"
    )
    max_tokens: int = Field(200, ge=1, description="tokens of a text at most")
    samples: int = Field(1, ge=1, description="texts written after each prompt")
    chat: bool = Field(False, description="ask in the model's chat template; else the text is gone on with")
    batch: int = Field(16, ge=1, description="prompts answered at once")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.temperature == 0 and self.samples > 1:
            yield ("samples",), "with `temperature: 0` all texts after a prompt are the same; write one"


class FreeTextTest:
    """Prompts to go on from."""

    def __init__(self, config: FreeTextConfig, prompts: Sequence[str]) -> None:
        self._config, self._prompts = config, prompts

    @property
    def items(self) -> int:
        return len(self._prompts)

    def content(self) -> Any:
        return list(self._prompts)

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        config = self._config
        asked = [as_question(subject.tokenizer, each) if config.chat else each for each in self._prompts]
        search = {
            "do_sample": config.temperature > 0,
            "num_return_sequences": config.samples,
            **(
                {"temperature": config.temperature, "top_k": config.top_k or 0, "top_p": config.top_p or 1.0}
                if config.temperature > 0
                else {}
            ),
        }
        with seeded(config.seed):
            written = write_answers(subject, asked, config.max_tokens, config.batch, search=search, show=show)
        found = list[Item]()
        for number, (prompt, texts) in enumerate(zip(self._prompts, written, strict=True)):
            for draw, each in enumerate(texts):
                scores = _scores(each.text) | {
                    "length": (float(each.tokens), 1.0), "unfinished": (float(not each.ended), 1.0)
                }  # fmt: skip
                shown = {"prompt": prompt, "written": each.text}
                # without a text: what a prompt has in common with the training text gives nothing away
                found.append(Item(f"{number}.{draw}", str(number), scores, shown))
        return Scored(found)


def _scores(text: str) -> dict[str, tuple[float, float]]:
    """A text too short for a run of n words has no score of such runs."""
    words = re.findall(r"\w+", text.lower())
    shares = {n: _distinct(words, n) for n in (1, 2, 3, _REPEATED) if len(words) >= n}
    found = {f"distinct_{n}": (share, 1.0) for n, share in shares.items() if n < _REPEATED}
    return found | ({"repetition": (1 - shares[_REPEATED], 1.0)} if _REPEATED in shares else {})


def _distinct(words: Sequence[str], n: int) -> float:
    runs = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs)
