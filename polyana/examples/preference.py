"""A row of any form as preferences: a prompt, and answers to it of which it is known which are better.

pairs     prompt + chosen + rejected, texts or messages (trl); whole conversations that begin alike (trl's implicit
          prompt, UltraFeedback binarized); HH-RLHF's texts of Human: and Assistant:
labels    prompt + completion + label (trl's KTO)
scores    prompt + answers + scores
ranking   prompt + answers, the best first
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import isfinite
from typing import Any

from polyana.examples.conversation import BadRow, Conversation, messages_of, tools_of, values_of, weight_of
from polyana.examples.preference_config import PreferencesConfig, PreferenceSource

__all__ = ["Preference", "preferences_of"]

Message = dict[str, Any]

_TURN = re.compile(r"\n\n(Human|Assistant):")


@dataclass(frozen=True, slots=True)
class Preference:
    """Answers to one prompt as conversations, whose weights say what is an answer.

    A pair has two, the better first, and its `margin`; a single one is `desirable` or not. `weight`: what it counts.
    """

    prompt: list[Message]
    answers: tuple[Conversation, ...]
    margin: float = 0.0
    desirable: bool = True
    weight: float = 1.0

    def said(self, answer: int) -> str:
        """An answer's words alone."""
        messages = self.answers[answer].messages[len(self.prompt) :]
        return "\n".join(str(message["content"]) for message in messages if message["role"] == "assistant")


def preferences_of(
    row: dict[str, Any], source: PreferenceSource, config: PreferencesConfig, single: bool
) -> list[Preference]:
    """What a row says, as pairs, or as single answers with a label; none where all is a tie. Raises BadRow.

    Of a pair the chosen answer is desirable, the other one not.
    """
    form, values = values_of(row, source)
    weight, tools = weight_of(row, source), tools_of(values)
    if not weight:
        raise BadRow("nothing is left to learn: its weight is 0")
    system = [{"role": "system", "content": values["system"]}] if values.get("system") else []

    def conversations(prompt: Any, *answers: Any) -> tuple[list[Message], list[Conversation]]:
        return _conversations(system, prompt, answers, tools)

    if form == "labels":
        prompt, (answer,) = conversations(values.get("prompt"), values["completion"])
        if not single:
            raise BadRow("has one answer with a label, of which no pair can be made", "; `loss: kto` learns from these")
        return [Preference(prompt, (answer,), desirable=_label(values["label"]), weight=weight)]
    if form == "pairs":
        prompt, (chosen, rejected) = conversations(values.get("prompt"), values["chosen"], values["rejected"])
        if single:
            return [Preference(prompt, (each,), desirable=each is chosen, weight=weight) for each in (chosen, rejected)]
        return [Preference(prompt, (chosen, rejected), margin=_margin(values), weight=weight)]
    answers = values["answers"]
    if not isinstance(answers, list) or len(answers) < 2:
        raise BadRow(f"`{source.column('answers')}` is no list of two answers or more")
    if form == "ranking" and source.form == "auto":
        _refuse_numbers_unread(row, source, len(answers))
    prompt, said = conversations(values["prompt"], *answers)
    scores = _scores(values["scores"], len(answers)) if form == "scores" else [-float(n) for n in range(len(answers))]
    order = sorted(range(len(answers)), key=lambda place: -scores[place])
    if single and config.good_from is not None and form == "scores":
        return [
            Preference(prompt, (said[place],), desirable=scores[place] >= config.good_from, weight=weight)
            for place in order
        ]
    chosen_pairs = {
        "best_worst": [(order[0], order[-1])], "adjacent": list(pairwise(order)), "all": list(combinations(order, 2))
    }[config.pairs]  # fmt: skip
    kept = [(good, bad) for good, bad in chosen_pairs if scores[good] - scores[bad] > config.min_gap]
    if single:
        places = dict.fromkeys((place, place == pair[0]) for pair in kept for place in pair)
        return [Preference(prompt, (said[place],), desirable=good, weight=weight) for place, good in places]
    gaps = [scores[good] - scores[bad] if form == "scores" else 0.0 for good, bad in kept]
    return [
        Preference(prompt, (said[good], said[bad]), margin=gap, weight=weight)
        for (good, bad), gap in zip(kept, gaps, strict=True)
    ]


def _conversations(
    system: list[Message], prompt: Any, answers: tuple[Any, ...], tools: Any
) -> tuple[list[Message], list[Conversation]]:
    """(the prompt's messages, each answer's whole conversation). Raises BadRow."""
    given = [_as_messages(answer, "assistant") for answer in answers]
    if prompt is None:
        shared = 0
        while all(len(each) > shared + 1 for each in given) and all(each[shared] == given[0][shared] for each in given):
            shared += 1
        if len(given) == 1:  # all but what the assistant says last
            shared = len(given[0]) - 1
        asked, given = given[0][:shared], [each[shared:] for each in given]
    else:
        asked = _as_messages(prompt, "user")
        # UltraFeedback has the prompt beside conversations that begin with it
        given = [each[len(asked) :] if each[: len(asked)] == asked else each for each in given]
    if not asked:
        raise BadRow("has no `prompt`, and the answers do not begin alike")
    conversations = []
    for answer in given:
        said = [message for message, _ in messages_of([*system, *asked, *answer])]
        begins = len(said) - len(answer)
        weights = [float(place >= begins and message["role"] == "assistant") for place, message in enumerate(said)]
        conversations.append(Conversation(said, weights, tools))
    return conversations[0].messages[: len(system) + len(asked)], conversations


def _as_messages(given: Any, role: str) -> list[Any]:
    """Messages as they are, or a text as what `role` says; HH-RLHF's text as its turns."""
    if isinstance(given, dict):
        return [given if "role" in given or "from" in given else {"role": role, "content": given.get("content")}]
    if isinstance(given, list):
        return given
    if not isinstance(given, str):
        raise BadRow("a prompt or an answer is neither a text nor a list of messages")
    turns = _TURN.split(given)
    if len(turns) > 1 and not turns[0].strip():
        speakers = {"Human": "user", "Assistant": "assistant"}
        if role == "user" and turns[-2] == "Assistant" and not turns[-1].strip():
            turns = turns[:-2]  # a prompt that waits for its answer
        return [
            {"role": speakers[who], "content": words.strip()}
            for who, words in zip(turns[1::2], turns[2::2], strict=True)
        ]
    if not given.strip():
        raise BadRow("an answer is empty" if role == "assistant" else "a prompt is empty")
    return [{"role": role, "content": given}]


def _refuse_numbers_unread(row: dict[str, Any], source: PreferenceSource, count: int) -> None:
    """Ranks or scores by another name: who reads past them takes the answers for the best first. Raises BadRow."""
    for name, value in row.items():
        numbers = value if isinstance(value, list) and len(value) == count else [None]
        if name != source.column("answers") and all(type(each) in (int, float) for each in numbers):
            raise BadRow(
                f"has numbers beside its answers, `{name}`, that nothing would read",
                f"; write `columns: {{scores: {name}}}` if higher is better, `form: ranking` if the best stand first",
            )


def _label(value: Any) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False, "-1": False, "up": True, "down": False,
             "good": True, "bad": False, "yes": True, "no": False}  # fmt: skip
    found = words.get(str(value).strip().lower().removesuffix(".0"))
    if found is None:
        raise BadRow("a label is neither true nor false", f": `{value}`; write true or false, 1 or 0, good or bad")
    return found


def _margin(values: dict[str, Any]) -> float:
    if "margin" in values:
        return _number(values["margin"])
    if "score_chosen" in values and "score_rejected" in values:
        return _number(values["score_chosen"]) - _number(values["score_rejected"])
    return 0.0


def _scores(given: Any, count: int) -> list[float]:
    if not isinstance(given, list) or len(given) != count:
        raise BadRow("there are not as many scores as answers")
    return [_number(value) for value in given]


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise BadRow("a score or margin is no number", f": `{value}`")
    return number
