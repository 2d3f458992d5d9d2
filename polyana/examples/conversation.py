"""A row of any form as a conversation: who says what, and which of it is learnt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from polyana.config import closest
from polyana.examples.config import ExampleSource

__all__ = [
    "BadRow",
    "Conversation",
    "PlainText",
    "conversation_of",
    "messages_of",
    "tools_of",
    "values_of",
    "weight_of",
]

ROLES = {
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "bot": "assistant", "model": "assistant", "function_call": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool",
    "system": "system", "developer": "developer",
}  # fmt: skip
"""What data sets call those who speak, and what chat templates call them."""

_OURS = ("role", "from", "content", "value", "weight", "train", "tool_calls")


class BadRow(Exception):
    """A row that cannot be learnt from. `reason` is what such rows are counted under, `detail` is of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        super().__init__(reason + detail)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages as chat templates take them; `weights[i]` is what a token of message i counts in the loss, 0 for all
    but the assistant's."""

    messages: list[dict[str, Any]]
    weights: list[float]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text of which every token is learnt but those of the `given` characters it begins with; no template is
    applied."""

    text: str
    weight: float = 1.0
    given: int = 0


def conversation_of(
    row: dict[str, Any], source: ExampleSource, turns: Literal["all", "last"] = "all"
) -> Conversation | PlainText:
    """What a row of `source` says. Raises BadRow.

    A message's own `weight` (as OpenAI's format has it) or `train: false` multiplies the row's weight, which
    multiplies the source's.
    """
    form, values = values_of(row, source)
    weight = weight_of(row, source)
    if form == "text":
        text = _text(values["text"], source.column("text"))
        if not text.strip():
            raise BadRow("the text is empty")
        return PlainText(text, weight)
    said = messages_of(_messages(values, form, source))
    messages = [message for message, _ in said]
    asked = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=0)
    weights = [
        weight * own if message["role"] == "assistant" and (turns == "all" or index > asked) else 0.0
        for index, (message, own) in enumerate(said)
    ]
    if not any(weights):
        raise BadRow("nothing is left to learn: every weight is 0")
    return Conversation(messages, weights, tools_of(values))


def messages_of(given: Iterable[Any]) -> list[tuple[dict[str, Any], float]]:
    """Messages as chat templates take them, each with its own weight, which end with the assistant. Raises BadRow."""
    said = [_message(number, message) for number, message in enumerate(given, 1)]
    _check_order([message for message, _ in said])
    return said


def values_of(row: dict[str, Any], source: ExampleSource) -> tuple[str, dict[str, Any]]:
    """The form of a row, and what it says by our names of columns. Raises BadRow where one is missing."""
    form = _form_of(row, source)
    needed, others = source.forms[form]
    values = {name: row[source.column(name)] for name in (*needed, *others) if source.column(name) in row}
    values = {name: value for name, value in values.items() if value is not None}
    for name in needed:
        if name not in values:
            raise BadRow(f"has no `{source.column(name)}`", f"; its columns are {_names(row)}")
    return form, values


def weight_of(row: dict[str, Any], source: ExampleSource) -> float:
    """What a row of the source counts. Raises BadRow."""
    return source.weight * _weight(row.get(source.columns["weight"]) if "weight" in source.columns else 1.0)


def _form_of(row: dict[str, Any], source: ExampleSource) -> str:
    if source.form != "auto":
        return source.form
    mapped = set(source.columns) - {"weight"}
    for form, (needed, others) in source.forms.items():
        if mapped <= {*needed, *others} and all(row.get(source.column(name)) is not None for name in needed):
            return form
    for name in (source.columns[name] for name in source.columns if source.columns[name] not in row):
        raise BadRow(f"has no `{name}`", closest(name, list(row)) or f"; its columns are {_names(row)}")
    raise BadRow("fits none of the forms", f": its columns are {_names(row)}; write `columns: {{{source.example}}}`")


def _names(row: dict[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in row) or "none"


def _messages(values: dict[str, Any], form: str, source: ExampleSource) -> Iterator[Any]:
    """The messages that a row of any form stands for, as they are written there."""
    if system := values.get("system"):
        yield {"role": "system", "content": system}
    if form in ("messages", "sharegpt"):
        name = source.forms[form][0][0]
        yield from _list(values[name], source.column(name))
    elif form == "alpaca":
        for pair in _list(values.get("history", []), source.column("history")):
            if not isinstance(pair, list) or len(pair) != 2:
                raise BadRow(f"`{source.column('history')}` is no list of pairs")
            yield from ({"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]})
        instruction, more = values["instruction"], values.get("input", "")
        instruction = _text(instruction, source.column("instruction"))
        more = _text(more, source.column("input"))
        yield {"role": "user", "content": "\n\n".join(part for part in (instruction, more) if part.strip())}
        yield {"role": "assistant", "content": _text(values["output"], source.column("output"))}
    else:
        prompt, completion = values["prompt"], values["completion"]
        if isinstance(prompt, list):  # messages, as trl has them: what the prompt holds is not learnt
            yield from ({**one, "train": False} if isinstance(one, dict) else one for one in prompt)
        else:
            yield {"role": "user", "content": _text(prompt, source.column("prompt"))}
        if isinstance(completion, list):
            yield from completion
        else:
            yield {"role": "assistant", "content": _text(completion, source.column("completion"))}


def _message(number: int, given: Any) -> tuple[dict[str, Any], float]:
    """One message as templates take it, and its own weight. `number` counts from 1."""
    at = f" (message {number})"
    if not isinstance(given, dict):
        raise BadRow("a message is no object with `role` and `content`", at)
    name = given.get("role", given.get("from"))
    if name is None:
        raise BadRow("a message has no `role`", at)
    if str(name) not in ROLES:
        raise BadRow(f"`{name}` is no role", f"{closest(str(name), list(ROLES))}{at}")
    message: dict[str, Any] = {key: value for key, value in given.items() if key not in _OURS and value is not None}
    message["role"] = ROLES[str(name)]
    content = _content(given.get("content", given.get("value")), at)
    calls = given.get("tool_calls")
    if name == "function_call":
        calls, content = [_json(content, "a call of a tool", at)], ""
    if calls:
        message["tool_calls"] = [_call(call, at) for call in (calls if isinstance(calls, list) else [calls])]
    message["content"] = content
    if message["role"] in ("user", "assistant") and not content.strip() and not calls:
        raise BadRow(f"the {message['role']} says nothing", at)
    own = _weight(given.get("weight", 1.0)) * (0.0 if given.get("train") is False else 1.0)
    if message["role"] != "assistant" and given.get("weight"):
        raise BadRow(f"a {message['role']}'s message has a weight; only what the assistant says is learnt", at)
    return message, own


def _content(content: Any, at: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRow("a message's content is no text", at)
    parts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            raise BadRow("a message holds more than text", at)
        parts.append(part["text"])
    return "".join(parts)


def _call(call: Any, at: str) -> dict[str, Any]:
    """A tool call as OpenAI writes it, its arguments as an object, as most templates want them."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow("a call of a tool has no `name`", at)
    arguments = function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _json(arguments or "{}", "the arguments of a tool's call", at)
    if not isinstance(arguments, dict):
        raise BadRow("the arguments of a tool's call are no object", at)
    more = {"id": call["id"]} if call.get("id") is not None else {}
    return {"type": "function", **more, "function": {"name": function["name"], "arguments": arguments}}


def _check_order(messages: list[dict[str, Any]]) -> None:
    before = None
    for number, message in enumerate(messages, 1):
        role, at = message["role"], f" (message {number})"
        if role in ("system", "developer") and before not in (None, "system", "developer"):
            raise BadRow("a system message stands after the beginning", at)
        if role == "assistant" and before not in ("user", "tool"):
            raise BadRow(
                "two messages of the assistant in a row" if before == "assistant" else "the assistant speaks first", at
            )
        if role == "user" and before == "user":
            raise BadRow("two messages of the user in a row", at)
        if role == "tool" and before not in ("assistant", "tool"):
            raise BadRow("a tool answers without having been called", at)
        before = role
    if before is None:
        raise BadRow("there are no messages")
    if before != "assistant":
        raise BadRow(f"ends with the {before}; the assistant's answer is missing")


def tools_of(values: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The tools that a row describes. Raises BadRow."""
    given = values.get("tools") or []
    tools = [_json(tool, "a tool") if isinstance(tool, str) else tool for tool in _list(given, "tools")]
    if not all(isinstance(tool, dict) for tool in tools):
        raise BadRow("a tool is described by no object")
    return tools or None


def _list(value: Any, name: str) -> list[Any]:
    if isinstance(value, str):  # in CSV there are no lists
        value = _json(value, f"`{name}`")
    if not isinstance(value, list):
        raise BadRow(f"`{name}` is no list")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"`{name}` is no text")
    return value


def _json(text: str, what: str, at: str = "") -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(f"{what} is no JSON", at) from None


def _weight(value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = -1.0
    if not isfinite(weight) or weight < 0:
        raise BadRow("a weight is no number from 0 on", f": `{value}`")
    return weight
