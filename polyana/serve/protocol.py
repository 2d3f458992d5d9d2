"""OpenAI's protocol: what is asked, and how it is answered.

Chat completions and completions as https://platform.openai.com/docs/api-reference has them. What is not listed here is
refused, unless it asks for nothing: a parameter that has no effect unnoticed would be a wrong answer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from jinja2 import TemplateError
from pydantic import Field, ValidationError
from pydantic_core import from_json

from polyana.config import Config, KeyPath
from polyana.examples import question
from polyana.generation import GenerationConfig
from polyana.serve.engine import Piece
from polyana.serve.logprobs import chat_logprobs, text_logprobs
from polyana.serve.refused import Refused
from polyana.serve.saves import Loaded

__all__ = ["Answer", "ChatRequest", "Request", "TextRequest", "read_request"]

_MOST = 2**31  # tokens; any bound that no context reaches
_UNLIMITED = 4096  # tokens written at most where neither the request nor the model sets a limit; guess

# What other servers do for these, this one does not: refused, unless with one of these values they ask for nothing.
_NEUTRAL: dict[str, Sequence[Any]] = {
    "audio": (None,), "best_of": (None, 1), "echo": (None, False), "frequency_penalty": (None, 0),
    "function_call": (None, "none"), "functions": (None, []), "logit_bias": (None, {}),
    "modalities": (None, ["text"]), "parallel_tool_calls": (None, True, False), "prediction": (None,),
    "presence_penalty": (None, 0), "reasoning_effort": (None, "none"), "response_format": (None, {"type": "text"}),
    "service_tier": (None, "auto", "default"), "store": (None, False), "suffix": (None, ""),
    "tool_choice": (None, "none"), "tools": (None, []), "verbosity": (None,),
    "web_search_options": (None,),
}  # fmt: skip
_LABELS = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "user"})  # no answer depends on them
_NEUTRAL_IN_MESSAGES: dict[str, Sequence[Any]] = {  # what OpenAI's client sends back with an answer
    "annotations": (None, []), "audio": (None,), "function_call": (None,), "refusal": (None,),
    "tool_calls": (None, []),
}  # fmt: skip

R = TypeVar("R", bound="Request")


class StreamOptions(Config):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class Request(Config):
    """What both kinds of request have."""

    path: ClassVar[str]
    usual_tokens: ClassVar[int | None]
    """Tokens written at most unless it is said; None: as many as there is room for."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=_MOST)] | None = None

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.stream_options is not None and not self.stream:
            yield ("stream_options",), "`stream_options` is for `stream: true`"
        if "" in self.stops:
            yield ("stop",), "`stop` has an empty text in it, which would stop everything"

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def most(self) -> int | None:
        """Tokens to write at most, where that is said."""
        return self.max_tokens

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def likeliest(self) -> int | None:
        """How many tokens are told beside each one with how likely they were; None for none of it."""
        raise NotImplementedError  # each kind has its own

    def prompts(self, loaded: Loaded) -> list[list[int]]:
        """The tokens that are to be gone on from. Raises Refused."""
        raise NotImplementedError  # each kind has its own

    def texts(self, loaded: Loaded) -> list[tuple[list[int], GenerationConfig]]:
        """For each choice what it goes on from, and its settings: `n` for each prompt, each with the next seed. Raises
        Refused."""
        seed = secrets.randbits(62) if self.seed is None else self.seed % 2**63
        temperature = 1.0 if self.temperature is None else self.temperature
        made: list[tuple[list[int], GenerationConfig]] = []
        for ids in self.prompts(loaded):
            room = loaded.context - len(ids)
            if room < 1:
                raise Refused(
                    400,
                    f"the model's context is {loaded.context:,} tokens, and the request has {len(ids):,} before an "
                    "answer could begin; shorten it",
                    param=self.path, code="context_length_exceeded",
                )  # fmt: skip
            for _ in range(self.n or 1):
                settings = GenerationConfig(
                    max_tokens=min(self.most or self.usual_tokens or _UNLIMITED, room),
                    temperature=0.0 if self.top_p == 0 else temperature,  # the likeliest alone
                    top_k=self.top_k or None, top_p=self.top_p or None, seed=(seed + len(made)) % 2**63,
                )  # fmt: skip
                made.append((ids, settings))
        return made


class Part(Config):
    type: Literal["text"]
    text: str


class Message(Config):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """As chat templates read it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": content} | ({"name": self.name} if self.name else {})


class ChatRequest(Request):
    """POST /v1/chat/completions"""

    path = "messages"
    usual_tokens = None

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=_MOST)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        if self.top_logprobs and not self.logprobs:
            yield ("top_logprobs",), "`top_logprobs` is for `logprobs: true`"
        if None is not self.max_tokens != self.max_completion_tokens is not None:
            yield ("max_tokens",), "`max_tokens` and `max_completion_tokens` are two names of one thing; write one"

    @property
    def most(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def likeliest(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def prompts(self, loaded: Loaded) -> list[list[int]]:
        if loaded.tokenizer.chat_template is None:
            raise Refused(
                400,
                f"{loaded.name} has no chat template, so it knows no turns; POST /v1/completions goes on with a text",
                param="model", code="no_chat_template",
            )  # fmt: skip
        try:
            return [question(loaded.tokenizer, [message.plain() for message in self.messages])]
        except (TemplateError, TypeError, ValueError) as error:
            raise Refused(400, f"the model's chat template refuses the messages: {error}", param="messages") from None


class TextRequest(Request):
    """POST /v1/completions"""

    path = "prompt"
    usual_tokens = 16  # OpenAI's

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def likeliest(self) -> int | None:
        return self.logprobs

    def prompts(self, loaded: Loaded) -> list[list[int]]:
        given = self.prompt if isinstance(self.prompt, list) else [self.prompt]
        if not given:
            raise Refused(400, "`prompt` is empty", param="prompt")
        if isinstance(given[0], int):
            given = [given]
        return [self._ids(each, loaded) for each in given]

    def _ids(self, prompt: str | list[int], loaded: Loaded) -> list[int]:
        ids = list(loaded.tokenizer.encode(prompt)) if isinstance(prompt, str) else prompt
        ids = ids or [loaded.tokenizer.eos_token_id]  # as `polyana generate` begins with nothing
        known = loaded.model.get_input_embeddings().num_embeddings
        wrong = next((each for each in ids if each is None or not 0 <= each < known), None)
        if wrong is not None or None in ids:
            raise Refused(400, f"{wrong} is no token of the model, which has {known:,}", param="prompt")
        return ids


def read_request(kind: type[R], body: bytes) -> R:
    """The request that a body is. Raises Refused, with all that is wrong in it."""
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refused(400, "the body should be an object of JSON: {...}")
    wrong: list[tuple[str, str]] = []
    asked = _without_neutral(given, kind, _NEUTRAL, "", wrong)
    messages = asked.get("messages")
    if isinstance(messages, list):
        asked["messages"] = [
            _without_neutral(each, Message, _NEUTRAL_IN_MESSAGES, f"messages.{place}.", wrong)
            if isinstance(each, dict) else each
            for place, each in enumerate(messages)
        ]  # fmt: skip
    try:
        request = kind.model_validate(asked)
    except ValidationError as error:
        wrong += [_letter(detail["loc"], str(detail["msg"]), str(detail["type"])) for detail in error.errors()]
    else:
        wrong += [(".".join(map(str, where)), what) for where, what in request.problems()]
        if not wrong:
            return request
    told = dict.fromkeys(what for _, what in wrong)
    unknown = "unsupported_parameter" if any("not supported" in what for what in told) else None
    raise Refused(400, "; ".join(told), param=wrong[0][0], code=unknown)


def _without_neutral(
    given: Mapping[str, Any], kind: type[Config], neutral: Mapping[str, Sequence[Any]], where: str,
    wrong: list[tuple[str, str]],
) -> dict[str, Any]:  # fmt: skip
    """What `kind` knows of it; the rest asks for nothing, or is wrong."""
    kept = {}
    for name, value in given.items():
        if name in kind.model_fields:
            kept[name] = value
        elif name in neutral:
            if not any(value == each and type(value) in (type(each), float, int) for each in neutral[name]):
                wrong.append((where + name, f"`{where}{name}` is not supported here; leave it out"))
        elif where or name not in _LABELS:
            wrong.append((where + name, f"`{where}{name}` is not known; known are: {', '.join(kind.model_fields)}"))
    return kept


def _letter(location: Sequence[str | int], message: str, kind: str) -> tuple[str, str]:
    """(parameter, what is wrong)."""
    # pydantic names the member of a union, too
    path = [str(part) for part in location if not isinstance(part, str) or (part.isidentifier() and part not in _TYPES)]
    where = ".".join(path)
    if kind == "missing":
        return where, f"`{where}` is missing"
    return where, f"`{where}`: {message[:1].lower()}{message[1:]}"


_TYPES = frozenset({"str", "int", "float", "bool"})


class Answer:
    """How one request is answered. `prompt_tokens`: of all its prompts, each once."""

    def __init__(self, request: Request, loaded: Loaded, prompt_tokens: int) -> None:
        self._is_chat = isinstance(request, ChatRequest)
        self._request, self._prompt_tokens = request, prompt_tokens
        self._token_texts = loaded.token_texts
        self._offsets: dict[int, int] = {}  # characters of each choice so far
        kind = "chat.completion" if self._is_chat else "text_completion"
        self._head: dict[str, Any] = {
            "id": f"{'chatcmpl' if self._is_chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": f"{kind}.chunk" if self._is_chat and request.stream else kind,
            "created": int(time.time()),
            "model": loaded.name,
            "system_fingerprint": loaded.save.commit.id,
        }

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Everything at once; `pieces`: one of each choice."""
        choices = []
        for piece in pieces:
            message = {"role": "assistant", "content": piece.text, "refusal": None}
            choices.append(self._choice(piece, {"message": message} if self._is_chat else {"text": piece.text}))
        return self._head | {"choices": choices, "usage": self._usage(sum(piece.tokens for piece in pieces))}

    def begin(self, number: int) -> dict[str, Any] | None:
        """What comes before the first piece of a choice."""
        return self._chunk(Piece(number, ""), {"role": "assistant", "content": ""}) if self._is_chat else None

    def piece(self, piece: Piece) -> list[dict[str, Any]]:
        """What has come of a choice since the last one."""
        if not self._is_chat:
            return [self._chunk(piece, {"text": piece.text})] if piece.text or piece.finish else []
        chunks = []
        if piece.text or piece.scored:
            chunks.append(self._chunk(replace(piece, finish=None), {"content": piece.text}))
        if piece.finish:
            chunks.append(self._chunk(replace(piece, scored=()), {}))
        return chunks

    def usage(self, tokens: int) -> dict[str, Any] | None:
        """What comes last, where it is wanted."""
        if not self._request.wants_usage:
            return None
        return self._head | {"choices": [], "usage": self._usage(tokens)}

    def _chunk(self, piece: Piece, said: dict[str, Any]) -> dict[str, Any]:
        usage = {"usage": None} if self._request.wants_usage else {}
        return self._head | {"choices": [self._choice(piece, {"delta": said} if self._is_chat else said)]} | usage

    def _choice(self, piece: Piece, said: dict[str, Any]) -> dict[str, Any]:
        logprobs = None
        if self._request.likeliest is not None and (piece.scored or piece.finish):
            offset = self._offsets.get(piece.number, 0)
            self._offsets[piece.number] = offset + len(piece.text)
            logprobs = (
                chat_logprobs(piece.scored, self._token_texts)
                if self._is_chat
                else text_logprobs(piece.scored, self._token_texts, offset)
            )
        return {"index": piece.number, "finish_reason": piece.finish, "logprobs": logprobs} | said

    def _usage(self, tokens: int) -> dict[str, int]:
        asked = self._prompt_tokens
        return {"prompt_tokens": asked, "completion_tokens": tokens, "total_tokens": asked + tokens}
