"""A reward made of named parts with weights, and the scores of each part, kept as they come."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from polyana.config import KeyPath, of_kind
from polyana.errors import PolyanaError, UserError, blaming
from polyana.rewards.human import HumanPartConfig
from polyana.rewards.judge import JudgeDown, JudgePartConfig, Unfinished
from polyana.rewards.learned import (
    ClassifierPartConfig,
    ImplicitPartConfig,
    RewardModelPartConfig,
    SimilarityPartConfig,
)
from polyana.rewards.part import Answered, Part, Surroundings
from polyana.rewards.text import LanguagePartConfig, LengthPartConfig, NumberPartConfig, RegexPartConfig
from polyana.storage import append_lines, fingerprint

__all__ = ["Reward", "RewardPart", "RewardParts", "ScoreLedger", "Scored", "Weighed", "open_reward", "part_problems"]

RewardPart = Annotated[
    RegexPartConfig
    | LengthPartConfig
    | LanguagePartConfig
    | NumberPartConfig
    | ClassifierPartConfig
    | SimilarityPartConfig
    | RewardModelPartConfig
    | ImplicitPartConfig
    | HumanPartConfig
    | JudgePartConfig,
    Field(discriminator="kind"),
    of_kind(""),
]
RewardParts = list[RewardPart]
"""What stands in a recipe: `[length, {kind: regex, pattern: sorry, weight: -2}]`."""

_SHOWN = 300  # characters of a prompt or an answer in a letter


@dataclass(frozen=True, slots=True)
class Weighed:
    """A part that is ready. seconds: an answer may take at most. identity: what its scores follow from, beside the
    answers. where: its place in the recipe."""

    name: str
    weight: float
    part: Part
    seconds: float = math.inf
    identity: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """reward: the sum of the parts' scores, each times its weight."""

    reward: float
    parts: dict[str, float]


class ScoreLedger:
    """What answers have scored, a line each, written as soon as it is known: a judge is paid once.

    DIRECTORY/PART-HASH.jsonl, HASH of all that the scores follow from. A line that a crash has torn is left out.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, weighed: Weighed) -> dict[str, float]:
        found: dict[str, float] = {}
        path = self._path(weighed)
        if path.exists():
            for line in path.read_text(encoding="utf-8").split("\n"):
                with suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    found[row["of"]] = float(row["score"])
        return found

    def add(self, weighed: Weighed, scores: Mapping[str, float]) -> None:
        if scores:
            lines = (json.dumps({"of": of, "score": score}) for of, score in scores.items())
            append_lines(self._path(weighed), lines)

    def _path(self, weighed: Weighed) -> Path:
        return self._directory / f"{weighed.name}-{weighed.identity[:16]}.jsonl"


class Reward:
    """Named parts with weights."""

    def __init__(self, parts: Sequence[Weighed]) -> None:
        self.parts = list(parts)

    def score(
        self,
        answers: Sequence[Answered],
        ledger: ScoreLedger | None = None,
        show: Callable[[str, int, int], None] = lambda *_: None,
    ) -> list[Scored]:
        """The score of each answer. `show(part, done, total)`.

        Raises PolyanaError for a part that fails, takes too long or gives what is no number, with the prompt and the
        answer that it was given; JudgeDown when a judge does not answer. What was scored until then is in the ledger.
        """
        names = [_key(each) for each in answers]
        columns = {weighed.name: self._column(weighed, answers, names, ledger, show) for weighed in self.parts}
        rows = []
        for name in names:
            parts = {part: column[name] for part, column in columns.items()}
            rows.append(Scored(sum(each.weight * parts[each.name] for each in self.parts), parts))
        return rows

    def _column(
        self, weighed: Weighed, answers: Sequence[Answered], names: Sequence[str], ledger: ScoreLedger | None,
        show: Callable[[str, int, int], None],
    ) -> dict[str, float]:  # fmt: skip
        known = ledger.read(weighed) if ledger is not None else {}
        missing = {name: answer for name, answer in zip(names, answers, strict=True) if name not in known}
        waiting, size = list(missing.items()), weighed.part.batch
        for first in range(0, len(waiting), size):
            batch = dict(waiting[first : first + size])
            try:
                found = dict(zip(batch, _scores(weighed, list(batch.values())), strict=True))
            except Unfinished as error:
                found = {name: each for name, each in zip(batch, error.scores, strict=True) if each is not None}
                if ledger is not None:
                    ledger.add(weighed, found)
                if not isinstance(error.why, JudgeDown):
                    missed = batch[next(name for name in batch if name not in found)]
                    raise PolyanaError(_letter(weighed, missed, _why(error.why))) from None
                kept = len(names) - len(waiting) + first + len(found)
                raise JudgeDown(
                    f"{_place(weighed)}{error}. {kept:,} of {len(names):,} answers are judged by `{weighed.name}`"
                    + (" and kept; the same command goes on from there" if ledger is not None else "")
                ) from None
            known |= found
            if ledger is not None:
                ledger.add(weighed, found)
            show(weighed.name, first + len(batch), len(waiting))
        return known


def open_reward(
    configs: Sequence[Any], models: Mapping[str, Mapping[str, Path]], count_tokens: Callable[[str], int],
    base: Path, fingerprints: Mapping[str, Mapping[str, Any]] | None = None, wheres: Sequence[str] = (),
) -> Reward:  # fmt: skip
    """The reward that a recipe describes. `models`: by the parts' names, the directory of each model that they name;
    `fingerprints`: what these were made of; `wheres`: the parts' places in the recipe. Raises UserError for a model
    that cannot be opened."""
    parts = []
    for config, where in zip(configs, wheres or [""] * len(configs), strict=True):
        surroundings = Surroundings(models.get(config.called, {}), count_tokens, base)
        content = [config.scoring_identity(), (fingerprints or {}).get(config.called, {})]
        with blaming(where), _opening(config.called):
            part = config.open(surroundings)
        parts.append(Weighed(config.called, config.weight, part, config.timeout.seconds, fingerprint(content), where))
    return Reward(parts)


@contextmanager
def _opening(called: str) -> Iterator[None]:
    """What a library raises where a model's files are torn or of another kind becomes a letter."""
    try:
        yield
    except (PolyanaError, ImportError):
        raise
    except Exception as error:
        raise UserError(
            f"the reward's part `{called}` cannot be opened: {type(error).__name__}: {error}; is its model whole?"
        ) from error


def part_problems(name: str, parts: Sequence[Any]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with a list of parts as a whole; `name` is the setting's."""
    known = set[str]()
    for place, part in enumerate(parts):
        if part.called in known:
            yield (name, place), f"two parts are called `{part.called}`; give one of them another `name: ...`"
        known.add(part.called)
    if parts and not any(part.weight for part in parts):
        yield (name,), "every part has `weight: 0`, so all answers are worth the same"


def _scores(weighed: Weighed, batch: Sequence[Answered]) -> list[float]:
    try:
        return _checked(weighed, batch)
    except (PolyanaError, KeyboardInterrupt):
        raise
    except Exception as error:
        if len(batch) == 1:
            raise PolyanaError(_letter(weighed, batch[0], _why(error))) from error
        return [score for each in batch for score in _scores(weighed, [each])]  # which of them it is


def _checked(weighed: Weighed, batch: Sequence[Answered]) -> list[float]:
    limit = weighed.seconds * len(batch) if weighed.part.watched else math.inf
    with _deadline(limit):
        scores = [float(each) for each in weighed.part.score(batch)]
    if len(scores) != len(batch):
        raise ValueError(f"{len(scores)} scores for {len(batch)} answers")
    for answered, score in zip(batch, scores, strict=True):
        if not math.isfinite(score):
            why = f"its score is {score}, which is no finite number; a model that gives one is broken"
            raise PolyanaError(_letter(weighed, answered, why))
    return scores


class _TooSlow(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"it took more than its `timeout: {seconds:g} seconds`; allow more, or take a part that is quicker"
        )


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raises _TooSlow in the block, or behind it where nothing can break in: outside the main thread, or while compiled
    code runs."""
    began = time.monotonic()
    breaking_in = (
        math.isfinite(seconds)
        and hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
    )
    if breaking_in:

        def ring(*_: Any) -> None:
            raise _TooSlow(seconds)

        before = signal.signal(signal.SIGALRM, ring)
        left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)  # somebody else's alarm, which goes on afterwards
    try:
        yield
    finally:
        if breaking_in:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001) if left else 0)
            signal.signal(signal.SIGALRM, before)
    if time.monotonic() - began > seconds:
        raise _TooSlow(seconds)


def _letter(weighed: Weighed, answered: Answered, why: str) -> str:
    return (
        f"{_place(weighed)}the reward's part `{weighed.name}` cannot score an answer: {why}\n"
        f"  prompt  {_short(answered.prompt)}\n  answer  {_short(answered.answer)}"
    )


def _place(weighed: Weighed) -> str:
    return f"{weighed.where}  " if weighed.where else ""


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError | _TooSlow) else f"{type(error).__name__}: {error}"


def _short(text: str) -> str:
    return json.dumps(text[:_SHOWN] + ("..." if len(text) > _SHOWN else ""), ensure_ascii=False)


def _key(answered: Answered) -> str:
    return fingerprint([answered.messages, answered.answer, answered.reference])[:24]
