"""A judge: a language model behind an OpenAI-compatible address is asked how good an answer is."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from polyana.config import Config, KeyPath, Quantity
from polyana.errors import PolyanaError
from polyana.rewards.part import Answered, Part, PartConfig, Surroundings, Wait

__all__ = ["JudgeDown", "JudgePartConfig"]

TEMPLATE = """\
Judge how well the answer serves whoever asked: is it right, does it say what was asked for, and no more than that? Its
length is worth nothing in itself. First say in one sentence what is good or bad about it. Then write the score, a whole
number from {lowest} (useless) to {highest} (could not be better), on a line of its own, as "Score: 5".

Question:
{prompt}
{reference}
Answer:
{answer}
"""
"""Reasons come before the score, which makes it better (Zheng et al. 2023, section 3.4); judges love length (3.3)."""

_SCORE = r"(?i)score\s*(?:\([^()\n]*\))?\W{0,8}?(-?(?:\d+(?:\.\d+)?|\.\d+))(?!\.?\d|[-–]\d)"
"""Score: 7, Score: -3, **Score** (1-10): 7/10; of "Score: 1-10" it takes nothing."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds before the second try, doubled for each further one; guess
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # what may be otherwise a moment later


class JudgeDown(PolyanaError):
    """The judge did not answer, however often it was asked."""


class NoScore(ValueError):
    """The judge said something without a score in it."""


class Unfinished(PolyanaError):
    """Some answers of a batch could not be judged. scores: None for each of these; why: of the first of them."""

    def __init__(self, scores: list[float | None], why: Exception) -> None:
        super().__init__(str(why))
        self.scores, self.why = scores, why


def _expression(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"`{text}` is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"`{text}` should have one group, the number")
    return text


class ScaleConfig(Config):
    """The scores that a judge may give."""

    lowest: float = Field(1.0, description="becomes 0")
    highest: float = Field(10.0, description="becomes 1")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.highest <= self.lowest:
            yield ("highest",), f"`highest: {self.highest:g}` should be more than `lowest: {self.lowest:g}`"


class JudgePartConfig(PartConfig):
    """What a language model says of an answer, asked over an OpenAI-compatible address; between 0 and 1."""

    kind: Literal["judge"]
    url: str = Field(description="the address that ends in `/v1`, as `http://127.0.0.1:8000/v1`")
    model: str = Field(description="the model that is asked there")
    template: str = Field(
        TEMPLATE, description="what it is asked, with {prompt}, {answer}, {reference}, {lowest} and {highest} in it"
    )
    score: Annotated[str, AfterValidator(_expression)] = Field(
        _SCORE, description="a regular expression whose group is the score; the last match counts"
    )
    scale: ScaleConfig = ScaleConfig()
    max_tokens: int = Field(200, ge=1, description="tokens that it may write")
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token")
    key: str = Field(
        "OPENAI_API_KEY", description="the environment variable that holds the key; without it none is sent"
    )
    parallel: int = Field(
        4, ge=1, description="answers that are judged at the same time", json_schema_extra={"watching": True}
    )
    timeout: Wait = Field(
        Quantity(60, "seconds"),
        description="for one reply, as `60 seconds`",
        json_schema_extra={"watching": True},
    )
    retries: int = Field(
        5,
        ge=0,
        description="how often it is asked again when it does not answer, with waits that double from half a second",
        json_schema_extra={"watching": True},
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if not re.match(r"https?://[^/]+", self.url):
            yield ("url",), f"`url: {self.url}` is no address; write `http://HOST:PORT/v1`"
        if "{answer}" not in self.template:
            yield ("template",), "has no `{answer}` in it, so the judge would not see what it judges"

    def identity(self) -> dict[str, Any]:
        """Who serves the model makes no difference, the model does."""
        return {name: value for name, value in super().identity().items() if name not in ("url", "key")}

    def open(self, surroundings: Surroundings) -> Part:  # noqa: ARG002
        return _Judge(self)


class _Judge:
    watched = False  # it has a time-out of its own, for each reply

    def __init__(self, config: JudgePartConfig) -> None:
        import httpx2

        self._config, self._score = config, re.compile(config.score)
        self.batch = config.parallel
        key = os.environ.get(config.key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(timeout=config.timeout.seconds, headers=headers)

    def score(self, answers: Sequence[Answered]) -> list[float]:
        """Raises Unfinished with the scores that there are: they are paid for."""
        with ThreadPoolExecutor(self._config.parallel) as pool:
            found = list(pool.map(self._outcome, answers))
        failed = [each for each in found if isinstance(each, Exception)]
        if failed:
            raise Unfinished([None if isinstance(each, Exception) else each for each in found], failed[0])
        return [each for each in found if not isinstance(each, Exception)]

    def _outcome(self, answered: Answered) -> float | JudgeDown | NoScore:
        try:
            return self._judged(answered)
        except (JudgeDown, NoScore) as error:
            return error

    def _judged(self, answered: Answered) -> float:
        """The score of one answer. Raises JudgeDown, or NoScore when it gives none twice."""
        said = ""
        for _ in range(2):
            said = self._ask(self._question(answered))
            found = self._score.findall(said)
            if found:
                return self._scaled(found[-1])
        raise NoScore(
            f"the judge gave no score: {' '.join(said.split())[:200]!r}; mend `template`, or `score`, which reads it"
        )

    def _scaled(self, given: str) -> float:
        low, high = self._config.scale.lowest, self._config.scale.highest
        try:
            score = float(given)
        except ValueError:
            raise NoScore(f"`score` finds `{given}` in what the judge says, which is no number; mend it") from None
        if not low <= score <= high:
            raise NoScore(
                f"the judge gave {score:g}, which is not from {low:g} to {high:g}; mend `scale` or `template`"
            )
        return (score - low) / (high - low)

    def _question(self, answered: Answered) -> str:
        fields = {
            "prompt": answered.conversation, "answer": answered.answer, "lowest": f"{self._config.scale.lowest:g}",
            "highest": f"{self._config.scale.highest:g}",
            "reference": f"\nA good answer, to compare with:\n{answered.reference}\n" if answered.reference else "",
        }  # fmt: skip
        # not str.format: an answer, or a template with JSON in it, may hold braces of its own
        names = "|".join(fields)
        return re.sub(rf"\{{({names})\}}", lambda match: fields[match[1]], self._config.template)

    def _ask(self, question: str) -> str:
        import httpx2

        config = self._config
        asked = {
            "model": config.model, "messages": [{"role": "user", "content": question}],
            "max_tokens": config.max_tokens, "temperature": config.temperature,
        }  # fmt: skip
        why = ""
        for attempt in range(config.retries + 1):
            wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
            try:
                reply = self._client.post(f"{config.url.rstrip('/')}/chat/completions", json=asked)
            except httpx2.TimeoutException:
                why = f"no reply within {config.timeout}"
            except httpx2.TransportError as error:
                why = str(error) or type(error).__name__
            else:
                if reply.status_code == 200:
                    said = _said(reply)
                    if said is not None:
                        return said
                    why = f"a reply that is no chat completion: {reply.text[:120]!r}"
                else:
                    why = f"status {reply.status_code}: {' '.join(reply.text.split())[:160]}".removesuffix(": ")
                    if reply.status_code not in _AGAIN:
                        raise JudgeDown(
                            f"the judge at {config.url} refuses to answer: {why}{_key_advice(reply, config)}"
                        )
                    wait = _asked_to_wait(reply.headers, wait)
            if attempt < config.retries:
                time.sleep(wait)
        raise JudgeDown(
            f"the judge at {config.url} did not answer, asked {config.retries + 1} times; the last time: {why}"
        )


def _key_advice(reply: Any, config: JudgePartConfig) -> str:
    if reply.status_code not in (401, 403):
        return ""
    unset = "" if os.environ.get(config.key) else ", which is not set"
    return f"; the key is read from the environment variable {config.key}{unset}"


def _said(reply: Any) -> str | None:
    """What the model wrote; None for a reply of another form."""
    try:
        content = reply.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _asked_to_wait(headers: Mapping[str, str], otherwise: float) -> float:
    """What the server's `Retry-After` says, seconds or a date (RFC 9110, section 10.2.3), within reason."""
    said = headers.get("retry-after", "")
    try:
        wait = float(said) if said[:1].isdecimal() else parsedate_to_datetime(said).timestamp() - time.time()
    except (ValueError, OverflowError):
        return otherwise
    return min(max(wait, 0.0), _LONGEST_WAIT)
