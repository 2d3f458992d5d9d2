"""A conversation with a model, in its own chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from polyana.errors import UserError
from polyana.examples import question
from polyana.generation.write import GenerationConfig, continue_ids
from polyana.models import longest_text

__all__ = ["Dialog"]

Message = dict[str, str]


class Dialog:
    """What was said, and the model that answers. What it has read stays in its cache, so that a turn costs what is new
    in it, not the whole conversation.

    Raises UserError for a tokenizer without a chat template.
    """

    def __init__(self, model: Any, tokenizer: Any, config: GenerationConfig, system: str | None = None) -> None:
        if tokenizer.chat_template is None:
            raise UserError(
                "it has no chat template, so it knows no turns; `polyana generate` goes on with a text. A stage of "
                "`kind: sft` teaches one to hold a dialog"
            )
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._said: list[Message] = []
        self._system: str | None = None
        self._cache: Any = None
        self._read: list[int] = []  # the tokens that the cache holds
        self._answers = 0
        self.system = system

    @property
    def messages(self) -> list[Message]:
        """All of it, as chats are written for training."""
        begin = [{"role": "system", "content": self._system}] if self._system else []
        return [*begin, *self._said]

    @property
    def system(self) -> str | None:
        return self._system

    @system.setter
    def system(self, text: str | None) -> None:
        """Raises UserError where the model's template knows no such message."""
        before, self._system = self._system, text or None
        try:
            self._ids([*self._said, {"role": "user", "content": "a"}] if not self._asks else self._said)
        except UserError:
            self._system = before
            raise

    @property
    def _asks(self) -> bool:
        return bool(self._said) and self._said[-1]["role"] == "user"

    def reset(self) -> None:
        """Forget all but the system's message."""
        self._said = []

    def undo(self) -> str | None:
        """Take the last question back, and its answer; the question, None where nothing was said."""
        asked = [place for place, message in enumerate(self._said) if message["role"] == "user"]
        if not asked:
            return None
        taken = self._said[asked[-1]]["content"]
        del self._said[asked[-1] :]
        return taken

    def say(self, text: str, write: Callable[[str], None] | None = None) -> str:
        """The model's answer; with `write` also piece by piece as it comes.

        One that is interrupted (KeyboardInterrupt is raised on) stays as far as it came. The oldest turns are left out
        of what the model is shown where its context has no room for them and an answer. Raises UserError, and forgets
        the question, if that alone is too long or the template refuses it.
        """
        self._said.append({"role": "user", "content": text})
        shown: list[str] = []

        def take(piece: str) -> None:
            shown.append(piece)
            if write is not None:
                write(piece)

        try:
            ids = self._fitting()
        except UserError:
            self._said.pop()
            raise
        try:
            return self._written(ids, take)
        except KeyboardInterrupt:
            self._cache, self._read = None, []
            raise
        finally:
            self._said.append({"role": "assistant", "content": "".join(shown).strip()})

    def save(self, path: Path) -> None:
        """Add the conversation to a file as a row that a stage of `kind: sft` can learn from."""
        with path.open("a", encoding="utf-8", errors="replace") as stream:
            stream.write(json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n")

    def _written(self, ids: list[int], write: Callable[[str], None]) -> str:
        self._answers += 1
        settings = self._config.model_copy(update={"seed": self._config.seed + self._answers - 1})
        self._keep_shared(ids)
        written = continue_ids(self._model, self._tokenizer, ids, settings, write, self._cache)
        self._read = [*ids, *written][:-1] if self._cache is not None else []
        return str(self._tokenizer.decode(written, skip_special_tokens=True))

    def _keep_shared(self, ids: list[int]) -> None:
        """Let the cache hold what `ids` begin with and it has; all but the last at most, which has to be computed."""
        from transformers.cache_utils import DynamicCache, DynamicLayer

        same = 0
        while same < min(len(ids) - 1, len(self._read)) and ids[same] == self._read[same]:
            same += 1
        if self._cache is not None and same:
            self._cache.crop(same - len(self._read))
            return
        self._cache, self._read = None, []
        if not getattr(self._model, "_is_stateful", False):  # a state, as Mamba's, knows no way back
            cache = DynamicCache(config=self._model.config)
            # nor does a window, which has let go of what left it
            self._cache = cache if all(type(layer) is DynamicLayer for layer in cache.layers) else None

    def _fitting(self) -> list[int]:
        """The tokens of the conversation, or of as much of its end as leaves room for an answer."""
        longest = longest_text(self._model)
        room = longest - min(self._config.max_tokens, longest // 2)
        asked = [place for place, message in enumerate(self._said) if message["role"] == "user"]
        for first in (0, *asked[1:]):
            if len(ids := self._ids(self._said[first:])) <= room:
                return ids
        raise UserError(f"that takes {len(ids):,} tokens, and the model's context has room for {room:,} and an answer")

    def _ids(self, said: list[Message]) -> list[int]:
        begin = [{"role": "system", "content": self._system}] if self._system else []
        try:
            return question(self._tokenizer, [*begin, *said])
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(f"the model's chat template refuses it: {error}") from None
