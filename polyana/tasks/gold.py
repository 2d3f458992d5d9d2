"""Reward hacking watched: what training does not see is measured beside what it does.

At each evaluation the model answers held-out prompts. A proxy, what the preferences were made by, and gold, another
measure, score the answers; how far the model has moved from its reference is estimated on the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polyana.config import Config, KeyPath
from polyana.errors import UserError
from polyana.evaluate import (
    PATIENCE,
    Curve,
    Divergence,
    Look,
    beside_length,
    distinct_n,
    divergence,
    fit_curve,
    hacking,
    refusals,
    repetition,
)
from polyana.examples import (
    BadRow,
    PreferencesConfig,
    Prompt,
    PromptSource,
    ask,
    preferences_of,
    read_prompts,
    read_rows,
)
from polyana.generation import Drawn, draw_answers
from polyana.rewards import (
    Answered,
    HumanPartConfig,
    Reward,
    RewardParts,
    Scored,
    ScoreLedger,
    open_reward,
    part_problems,
)
from polyana.storage import checksum_of, read_json, write_file, write_json
from polyana.tasks.gold_page import Kept, gold_page
from polyana.train import Verdict

__all__ = ["GOLD_METRIC", "GOLD_VERSION", "GoldConfig", "GoldWatch", "HeldTo", "asked_in", "write_gold"]

GOLD_VERSION = 1

GOLD_METRIC = "gold/reward"
_PAGE = "gold.html"
_KEPT = "gold"
"""Of a run's directory, where answers and scores are kept."""
_FEWEST = 16  # prompts, below which the alarm's normal distribution is none; guess

Reference = Callable[[], AbstractContextManager[Any]]
WritingIn = Callable[[Any], AbstractContextManager[Any]]


class GoldConfig(Config):
    """What is measured beside the loss, which training never sees, and what is done when the two part."""

    reward: RewardParts = Field(
        min_length=1, description="the measure that counts: another reward, a judge, a check; `best` is picked by it"
    )
    proxy: RewardParts = Field(
        [],
        description="what the preferences were made by; default: the `reward` of the stage `synthesize` that the data "
        "come from",
    )
    prompts: list[PromptSource] = Field(
        min_length=1,
        description="what the model is asked, and nothing in the data asks: `[{path: prompts.jsonl}]`",
    )
    system: str | None = Field(None, description="what each conversation begins with")
    max_tokens: int = Field(64, ge=1, description="of an answer at most")
    batch: int = Field(16, ge=1, description="answers written at once; another size draws others")
    evaluations: int = Field(
        PATIENCE,
        ge=1,
        description="so many in a row that show a rising proxy and a falling gold, each beyond chance, ring the alarm",
    )
    stop_on_hacking: bool = Field(False, description="the alarm ends the training")

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from part_problems("reward", self.reward)
        yield from part_problems("proxy", self.proxy)
        few = [source.most for source in self.prompts]
        if all(few) and sum(map(int, filter(None, few))) < _FEWEST:
            yield ("prompts",), f"{sum(filter(None, few))} prompts tell nothing from chance; take {_FEWEST} or more"

    def measuring_identity(self) -> dict[str, Any]:
        """The settings that decide what is measured."""
        return {name: value for name, value in self.identity().items() if name != "prompts"}


@dataclass(frozen=True)
class HeldTo:
    """What a training is held to. directory: what `write_gold` wrote. proxy: its parts; wheres: the places of the parts
    of `reward` and `proxy` in the recipe; base: where relative paths start. How parts are asked, as at which address a
    judge is, may change while a run is stopped, so it does not stand in the directory."""

    directory: Path
    proxy: Sequence[Any]
    wheres: Mapping[str, Sequence[str]]
    base: Path


def write_gold(
    config: GoldConfig, models: Mapping[str, Mapping[str, Mapping[str, Path]]], base: Path,
    trained: set[str], best_of: Mapping[str, float], directory: Path,
) -> list[str]:  # fmt: skip
    """Write prompts.jsonl and gold.json, what a watch asks and the models that score it; what is to be told.

    models: of `reward` and `proxy`, by part and setting, the directory, which lies beside the one that is written.
    trained: what is asked in training, as `asked_in` gives it. best_of: what is known of the proxy of the best of n
    answers, by n. Raises UserError for too few prompts.
    """
    prompts = read_prompts(config.prompts, config.system, base)
    if len(prompts) < _FEWEST:
        raise UserError(f"`gold` has {len(prompts)} prompts, which tell nothing from chance; take {_FEWEST} or more")
    lines = [json.dumps({"id": each.id, "messages": each.messages, "reference": each.reference}) for each in prompts]
    write_file(directory / "prompts.jsonl", "\n".join(lines) + "\n")
    places = {
        name: {"models": {part: {setting: place.name for setting, place in found.items()}
                          for part, found in models[name].items()}}
        for name in ("reward", "proxy")
    }  # fmt: skip
    write_json(directory / "gold.json", places | {"best_of": dict(best_of)})
    known = sum(_plain(prompt.messages[-1]["content"]) in trained for prompt in prompts)
    told = [f"gold is measured on {len(prompts):,} prompts"]
    if known:
        told.append(f"{known:,} of them are learnt from, too: what is measured there flatters the model")
    return told


def asked_in(config: PreferencesConfig, base: Path, single: bool) -> set[str]:
    """What the rows of preferences ask last, with a space for any white space. `single`: see `preferences_of`."""
    found = set[str]()
    for source in config.data:
        for row in read_rows(source, base):
            with suppress(BadRow):  # which is counted when items are made
                made = preferences_of(row.values, source, config, single)
                found |= {_plain(each.prompt[-1]["content"]) for each in made}
    return found


def _plain(text: str) -> str:
    return " ".join(text.split())


class GoldWatch:
    """Answers held-out prompts, and says what they are worth."""

    def __init__(
        self, config: GoldConfig, prompts: Sequence[Prompt], gold: Reward, proxy: Reward, seed: int,
        best_of: Mapping[int, float],
    ) -> None:  # fmt: skip
        self._best_of = best_of
        self._config, self._prompts, self._gold, self._proxy, self._seed = config, list(prompts), gold, proxy, seed
        self._first: _Answers | None = None
        self._last: list[Kept] = []

    @classmethod
    def open(cls, config: GoldConfig, held: HeldTo, tokenizer: Any, seed: int) -> GoldWatch:
        directory = held.directory
        rows = [json.loads(line) for line in (directory / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
        about = read_json(directory / "gold.json")

        def opened(name: str, parts: Sequence[Any]) -> Reward:
            places = about[name]["models"]
            models = {
                part: {setting: directory.parent / place for setting, place in found.items()}
                for part, found in places.items()
            }
            judged = {
                part.called: {path.name: checksum_of(path) for path in part.files(held.base)}
                for part in parts
                if isinstance(part, HumanPartConfig)
            }
            count = lambda text: len(tokenizer.encode(text, add_special_tokens=False))  # noqa: E731
            return open_reward(parts, models, count, held.base, places | judged, held.wheres[name])

        best_of = {int(n): float(value) for n, value in about.get("best_of", {}).items()}
        gold, proxy = opened("reward", config.reward), opened("proxy", held.proxy)
        return cls(config, [Prompt(**row) for row in rows], gold, proxy, seed, best_of)

    def look(
        self, model: Any, tokenizer: Any, reference: Reference, run: Path | None,
        writing_in: WritingIn = nullcontext,
    ) -> dict[str, float]:  # fmt: skip
        """Metrics of what the model answers now, beside what its reference does. `reference`: see `divergence`;
        `writing_in`: the precision that a model writes in, for speed. Scores are kept in `run` as they come, so that
        nobody is paid twice for an answer; without it the model only writes, along with one whose answers are scored.

        The same random numbers are drawn each time, so that less of a difference is chance.
        """
        if self._first is None:
            with reference() as other:
                self._first = self._write(other, tokenizer, writing_in)
        now = self._write(model, tokenizer, writing_in)
        moved = divergence(model, reference, [(each.asked, each.ids) for each in now.drawn])
        if run is None:
            return {}
        ledger = ScoreLedger(run / _KEPT / "scores")
        first = self._first = self._scored(self._first, ledger)
        now = self._scored(now, ledger)
        self._last = self._kept(first, now, moved)
        return self._metrics(first, now, moved)

    def keep(self, run: Path, step: int) -> None:
        """Write RUN/gold/step-N.jsonl: each prompt, what was answered, what that is worth; and gold.html as it is now,
        so that a peak is seen before it is passed."""
        if self._last:
            path = _place(run, step)
            path.parent.mkdir(exist_ok=True)
            lines = [json.dumps(each.as_row(), ensure_ascii=False) for each in self._last]
            write_file(path, ("\n".join(lines) + "\n").encode("utf-8", "replace"))
            self._tell(run, _read(run, step), None)

    def verdict(self, run: Path, step: int) -> Verdict | None:
        """What all looks up to this step say, where they say it for the first time."""
        looks = [_look(at, rows) for at, rows in _read(run, step)]
        found = hacking(looks, self._config.evaluations)
        if found is None or hacking(looks[:-1], self._config.evaluations) is not None:
            return None
        return Verdict("reward_hacking", str(found), self._config.stop_on_hacking)

    def conclude(self, run: Path, best: int) -> dict[str, Any]:
        """Write gold.html for the last time; for the summary forecast and alarm. `best`: the step of the best save."""
        kept = _read(run)
        return self._tell(run, kept, best) if kept else {}

    def _tell(self, run: Path, kept: Sequence[tuple[int, list[Kept]]], best: int | None) -> dict[str, Any]:
        """Write gold.html: proxy and gold over KL with the fitted curve, answers side by side. Without `best` those of
        the look with the highest gold are shown."""
        looks = [_look(at, rows) for at, rows in kept]
        if best is None:
            best = max(looks, key=lambda look: float(look.gold_P.mean())).step
        kl = [float(np.mean([row.kl for row in rows])) for _, rows in kept]
        curves = {
            name: fit_curve(kl, [float(getattr(look, f"{name}_P").mean()) for look in looks], "rl")
            for name in ("proxy", "gold")
        }
        alarms = [hacking(looks[: place + 1], self._config.evaluations) for place in range(len(looks))]
        alarm = next((each for each in alarms if each is not None), None)
        shown = next((rows for at, rows in kept if at == best), kept[-1][1])
        page = gold_page(run.name, looks, kl, curves, alarm, best, shown, self._best_of)
        write_file(run / _PAGE, page.encode("utf-8", "replace"))
        of_best = next((look for look in looks if look.step == best), looks[-1])
        return {
            "gold": {
                "before": float(np.mean([row.first_gold for row in shown])), "best": float(of_best.gold_P.mean()),
                "last": float(looks[-1].gold_P.mean()), "forecast": _forecast(curves["gold"], kl),
                "alarm": None if alarm is None else str(alarm),
            }
        }  # fmt: skip

    def _write(self, model: Any, tokenizer: Any, writing_in: WritingIn) -> _Answers:
        asked = [ask(tokenizer, prompt.messages) for prompt in self._prompts]
        drawn, size = list[Drawn](), self._config.batch
        for first in range(0, len(asked), size):
            batch = asked[first : first + size]
            with writing_in(model):
                answers = draw_answers(model, tokenizer, batch, 1, self._seed + first, self._config.max_tokens)
            drawn += [each for (each,) in answers]
        return _Answers(drawn)

    def _scored(self, answers: _Answers, ledger: ScoreLedger) -> _Answers:
        if answers.gold:
            return answers
        given = [
            Answered(prompt.messages, each.text, prompt.reference)
            for prompt, each in zip(self._prompts, answers.drawn, strict=True)
        ]
        return replace(answers, proxy=self._proxy.score(given, ledger), gold=self._gold.score(given, ledger))

    def _kept(self, first: _Answers, now: _Answers, moved: Sequence[Divergence]) -> list[Kept]:
        return [
            Kept(
                prompt=str(prompt.messages[-1]["content"]),
                answer=now.drawn[at].text,
                proxy=now.proxy[at].reward,
                gold=now.gold[at].reward,
                proxy_parts=now.proxy[at].parts,
                gold_parts=now.gold[at].parts,
                kl=moved[at].kl,
                tokens=now.drawn[at].tokens,
                first_answer=first.drawn[at].text,
                first_proxy=first.proxy[at].reward,
                first_gold=first.gold[at].reward,
            )
            for at, prompt in enumerate(self._prompts)
        ]

    def _metrics(self, first: _Answers, now: _Answers, moved: Sequence[Divergence]) -> dict[str, float]:
        texts = [each.text for each in now.drawn]
        lengths = np.array([each.tokens for each in (*first.drawn, *now.drawn)], np.float64)
        are_now = np.arange(len(lengths)) >= len(first.drawn)
        better = now.rewards("gold") - first.rewards("gold")
        at_length = {
            name: beside_length(np.concatenate([first.rewards(of), now.rewards(of)]), lengths, are_now)
            for name, of in (("reward", "gold"), ("proxy", "proxy"))
        }
        return {
            GOLD_METRIC: float(now.rewards("gold").mean()),
            "gold/proxy": float(now.rewards("proxy").mean()),
            "gold/kl": float(np.mean([each.kl for each in moved])),
            "gold/entropy": float(np.mean([each.entropy for each in moved])),
            "gold/length": float(lengths[are_now].mean()),
            "gold/reward_gain_at_length": at_length["reward"],
            "gold/proxy_gain_at_length": at_length["proxy"],
            "gold/wins": float((better > 0).mean()),
            "gold/ties": float((better == 0).mean()),
            "gold/repetition": repetition(texts),
            **{f"gold/distinct_{n}": distinct_n(texts, n) for n in (1, 2, 3)},
            "gold/refusals": refusals(texts),
            "gold/unfinished": float(np.mean([not each.ended for each in now.drawn])),
        }


@dataclass(frozen=True)
class _Answers:
    """A model's, one to each prompt. proxy, gold: empty until they are scored."""

    drawn: list[Drawn]
    proxy: Sequence[Scored] = ()
    gold: Sequence[Scored] = ()

    def rewards(self, name: str) -> NDArray[np.float64]:
        scores: Sequence[Scored] = getattr(self, name)
        return np.array([each.reward for each in scores], np.float64)


def _forecast(curve: Curve | None, kl: Sequence[float]) -> dict[str, float] | None:
    """Where gold would be highest by its curve; None where that is not known, or lies far beyond what was seen."""
    peak = curve.forecast(max(kl)) if curve is not None else None
    if curve is None or peak is None:
        return None
    return {"peak_kl": peak, "reward": curve.at(peak)}


def _look(step: int, rows: Sequence[Kept]) -> Look:
    return Look(step, np.array([row.proxy for row in rows]), np.array([row.gold for row in rows]))


def _read(run: Path, until: int | None = None) -> list[tuple[int, list[Kept]]]:
    """(step, what was answered) of every look up to a step."""
    found = []
    for path in sorted((run / _KEPT).glob("step-*.jsonl")):
        step = int(path.stem.removeprefix("step-"))
        if until is None or step <= until:
            with path.open(encoding="utf-8") as lines:
                found.append((step, [Kept(**json.loads(line)) for line in lines]))
    return found


def _place(run: Path, step: int) -> Path:
    return run / _KEPT / f"step-{step:08d}.jsonl"
