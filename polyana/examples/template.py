"""A conversation as the text a chat template makes of it, and where in it the assistant speaks.

What is learnt of a turn reaches from behind the generation prompt, where the model will begin to write, through the
token that ends the turn; without that token in the loss, generation would never stop (trl#5988). Most templates carry
no `{% generation %}` marks (trl#4879), and some write a turn otherwise once others follow (Qwen3 takes its thoughts
out), so the place is found by writing the conversation again with one thing changed and comparing the texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.errors import UserError
from polyana.examples.conversation import BadRow, Conversation, PlainText
from polyana.examples.named_templates import NAMED

__all__ = ["ChatTemplate", "Written", "question"]

_PROBES = ("⁂one‽", "‽two⁂")  # differ in their first and last character, so that texts part where they stand

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # what templates call them

_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")  # as transformers looks for it

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """What the template made of a conversation; `spans` are (first character, one behind the last, weight).

    `complete` is False where words of the assistant are not in the text (Llama 3.1 leaves out those beside a tool's
    call). Thoughts are not looked for: templates take them out on purpose.
    """

    text: str
    spans: list[tuple[int, int, float]]
    complete: bool = True


class ChatTemplate:
    """The tokenizer in `directory` with its own chat template, or with `chosen`: a name of ours, or a file of Jinja.

    `new_tokens` are what a template of ours needs and the tokenizer did not have; they are added behind its last id,
    and the model's embeddings have to grow by them. `end_of_turn` are the ids of what ends the assistant's turns: one,
    or several that always come together (Cohere's Command R7B).
    Raises UserError where there is no template, or it ends turns with no token of the tokenizer.
    """

    def __init__(self, directory: Path, chosen: str | None = None, base: Path | None = None) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        if not self.tokenizer.is_fast:
            raise UserError(f"the tokenizer in {directory} has no tokenizer.json, so places in a text are not known")
        bos = self.tokenizer.bos_token_id
        self._begin = [bos] if bos is not None and self.tokenizer("a")["input_ids"][0] == bos else []
        self.new_tokens: list[str] = []
        if chosen in NAMED:
            known = self.tokenizer.get_vocab()
            self.new_tokens = [token for token in NAMED[chosen].tokens if token not in known]
            self.tokenizer.add_special_tokens(
                {"additional_special_tokens": list(NAMED[chosen].tokens)}, replace_extra_special_tokens=False
            )
            self.tokenizer.chat_template = ("{{- bos_token }}" if self._begin else "") + NAMED[chosen].text
        elif chosen is not None:
            path = (base or Path()) / Path(chosen).expanduser()
            self.tokenizer.chat_template = path.read_text(encoding="utf-8")
        added = self.tokenizer.added_tokens_decoder.values()
        self._special = _any_of([str(token) for token in added if token.special] + self.tokenizer.all_special_tokens)
        self._end: str | None = None

    def save(self, directory: Path) -> None:
        """Write the tokenizer with this template and its new tokens, as transformers loads them."""
        self.tokenizer.save_pretrained(directory)

    @property
    def end_of_turn(self) -> list[int]:
        return [int(token) for token in self.tokenizer(self._end_mark, add_special_tokens=False)["input_ids"]]

    @property
    def _end_mark(self) -> str:
        """The special tokens, one behind the other, that the template writes behind what the assistant says."""
        if self._end is None:
            if self.tokenizer.chat_template is None:
                raise UserError(
                    "the base has no chat template; write `template: zephyr`, `alpaca` or `raw`, a file `mine.jinja`, "
                    "or with `adapter: full` also `chatml`, which adds two tokens; rows of the form `text` need none"
                )
            try:
                first, second = (
                    self._write([{"role": "user", "content": "a"}, {"role": "assistant", "content": probe}], None)
                    for probe in _PROBES
                )
            except BadRow as error:
                raise UserError(f"a question and its answer are too much for the chat template: {error}") from None
            closing = first[len(first) - _shared(first[::-1], second[::-1]) :]
            found = re.search(f"(?:{self._special.pattern})+", closing)
            if found is None:
                raise UserError(
                    f"the chat template writes no special token behind what the assistant says ({closing!r}), so that "
                    "generation would never stop; write `template: zephyr`, or let the template write `eos_token` there"
                )
            self._end = found[0]
        return self._end

    def write(self, conversation: Conversation) -> Written:
        """The text of a conversation and what of it is learnt. Raises BadRow where the template refuses it."""
        messages, tools = conversation.messages, conversation.tools
        end_mark = self._end_mark
        if _MARK.search(self.tokenizer.get_chat_template(None, tools)):
            return self._write_marked(conversation)
        text = self._write(messages, tools)
        for tool in tools or []:
            if str(tool.get("function", tool).get("name", "")) not in text:
                raise BadRow("the chat template does not write tools")
        spans = []
        for index, weight in enumerate(conversation.weights):
            if not weight:
                continue
            start, end = self._plain_turn(text, messages, tools, index, end_mark) or self._turn(
                text, messages, tools, index, end_mark
            )
            for call in messages[index].get("tool_calls", []):
                if call["function"]["name"] not in text[start:end]:
                    raise BadRow("the chat template does not write calls of tools")
            spans.append((start, end, weight))
        return Written(text, spans, _complete(messages, text))

    def encode(self, written: list[Written]) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.float32]]]:
        """Token ids and the weight of each in the loss. A token that stands across a border is learnt; the first of all
        never is, as nothing comes before it to be continued."""
        if not written:
            return
        batch = self.tokenizer([one.text for one in written], add_special_tokens=False, return_offsets_mapping=True)
        for one, ids, places in zip(written, batch["input_ids"], batch["offset_mapping"], strict=True):
            first, behind = np.asarray(places, dtype=np.int64).reshape(-1, 2).T
            weights = np.zeros(len(ids), dtype=np.float32)
            for start, end, weight in one.spans:
                weights[(first < end) & (np.maximum(behind, first + 1) > start)] = weight
            weights[:1] = 0.0
            yield np.asarray(ids, dtype=np.uint32), weights

    def encode_text(self, text: PlainText) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """As `encode`, for a text that no template is applied to: all that is not given, and its end, are learnt."""
        if self.tokenizer.eos_token_id is None:
            raise UserError("the base's tokenizer names no eos_token, so texts could not be ended")
        plain = {"add_special_tokens": False, "split_special_tokens": True}
        written = self.tokenizer(text.text, return_offsets_mapping=True, **plain)
        tokens = np.asarray([*self._begin, *written["input_ids"], self.tokenizer.eos_token_id], dtype=np.uint32)
        weights = np.full(len(tokens), text.weight, dtype=np.float32)
        given = sum(behind <= text.given for _, behind in written["offset_mapping"]) if text.given else 0
        weights[: max(len(self._begin) + given, 1)] = 0.0
        return tokens, weights

    def opening(self, text: str) -> list[int]:
        """The ids of a text to be gone on with, as `encode_text` writes what is given."""
        return [*self._begin, *self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]]

    def has_special(self, text: str) -> bool:
        """Whether a message says what the tokenizer reads as a special token, as transformers lets it."""
        return self._special.search(text) is not None

    def _write(self, messages: list[Message], tools: Any, *, prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(messages, tools, tokenize=False, add_generation_prompt=prompt)
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise BadRow("the chat template refuses it", f": {error}") from None

    def _write_marked(self, conversation: Conversation) -> Written:
        """By the template's own marks; a turn's end that stands right behind its mark is learnt with it."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        messages, tools = conversation.messages, conversation.tools
        try:
            texts, marks = render_jinja_template(
                [messages],
                tools,
                chat_template=self.tokenizer.get_chat_template(None, tools),
                return_assistant_tokens_mask=True,
                **self.tokenizer.special_tokens_map,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise BadRow("the chat template refuses it", f": {error}") from None
        text = str(texts[0])
        own = [weight for message, weight in zip(messages, conversation.weights, strict=True)
               if message["role"] == "assistant"]  # fmt: skip
        if len(set(own)) == 1:
            own = own[:1] * len(marks[0])
        if len(own) != len(marks[0]):
            raise BadRow("the chat template does not mark each of the assistant's turns once, so weights cannot differ")
        spans = []
        for (start, end), weight in zip(marks[0], own, strict=True):
            last = [found.end() for found in self._special.finditer(text, start, end)][-1:]
            ended = last and _past_space(text, last[0]) >= end
            behind = None if ended else self._special.match(text, _past_space(text, end))
            spans.append((start, behind.end() if behind else end, weight))
        return Written(text, [span for span in spans if span[2]], _complete(messages, text))

    def _plain_turn(
        self, text: str, messages: list[Message], tools: Any, index: int, end_mark: str
    ) -> tuple[int, int] | None:
        """Where turn `index` is, if behind the generation prompt stands what was said, and the token that ends it."""
        start = len(prompt := self._write(messages[:index], tools, prompt=True))
        if not text.startswith(prompt):
            return None
        content = messages[index]["content"]
        for said in (content, content.strip()):
            at = _past_space(text, start + len(said))
            if text.startswith(said, start) and text.startswith(end_mark, at):
                return start, at + len(end_mark)
        return None

    def _turn(self, text: str, messages: list[Message], tools: Any, index: int, end_mark: str) -> tuple[int, int]:
        """Where turn `index` is in `text`, found by changing what is said in it and in its neighbours."""
        own = self._changed(text, messages, tools, index)
        if own is None:
            raise BadRow("it cannot be told where the assistant speaks in what the chat template writes")
        first, behind = own
        following = self._changed(text, messages, tools, index + 1) if index + 1 < len(messages) else None
        closing = text[behind : following[0] if following else len(text)]
        found = re.search(re.escape(end_mark), closing) or self._special.search(closing)
        if found is None:
            raise BadRow("the chat template writes no special token behind what the assistant says")
        return self._begin_of(text, messages, tools, index, first), behind + found.end()

    def _begin_of(self, text: str, messages: list[Message], tools: Any, index: int, first: int) -> int:
        """Where a turn begins whose words begin at `first`: behind the generation prompt, where that can be found."""
        prompt = self._write(messages[:index], tools, prompt=True)
        if text.startswith(prompt):
            return min(len(prompt), first)
        before = self._changed(text, messages, tools, index - 1)
        asked = self._changed(prompt, messages[:index], tools, index - 1, prompt=True)
        if before is not None and asked is not None:
            header = prompt[asked[1] :]
            same = _shared(header, text[before[1] : first])
            if same < len(header):  # it goes on, as with an empty thought; what both have ends with a whole token
                ends = [found.end() for found in self._special.finditer(header, 0, same)]
                same = max([*ends, header.rfind("\n", 0, same) + 1])
            return before[1] + same if same else first
        return first

    def _changed(
        self, text: str, messages: list[Message], tools: Any, index: int, *, prompt: bool = False
    ) -> tuple[int, int] | None:
        """What part of `text` changes with what message `index` says: (first character, one behind the last)."""
        places = []
        for change in (_say, _think, _call_with):
            versions = [version for probe in _PROBES if (version := change(messages[index], probe))]
            if not versions:
                continue
            try:
                first, second = (
                    self._write([*messages[:index], version, *messages[index + 1 :]], tools, prompt=prompt)
                    for version in versions
                )
            except BadRow:
                continue
            if first != second:
                start = _shared(text, first, second)
                places.append((start, max(len(text) - _shared(text[::-1], first[::-1], second[::-1]), start)))
        return (min(place[0] for place in places), max(place[1] for place in places)) if places else None


def question(tokenizer: Any, messages: list[Message]) -> list[int]:
    """The ids of a conversation up to where the assistant begins to speak.

    A space that stands before the answer is left out: in training it is a part of the answer's first token.
    """
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True).rstrip(" ")
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _complete(messages: list[Message], text: str) -> bool:
    said = (message["content"] for message in messages if message["role"] == "assistant")
    return all(words.rpartition("</think>")[2].strip() in text for words in said)


def _say(message: Message, probe: str) -> Message | None:
    """The message with other words."""
    return None if message.get("tool_calls") and not message["content"] else {**message, "content": probe}


def _think(message: Message, probe: str) -> Message | None:
    """The message with other thoughts."""
    names = [name for name in _THOUGHTS if message.get(name)]
    return {**message, **dict.fromkeys(names, probe)} if names else None


def _call_with(message: Message, probe: str) -> Message | None:
    """The message with other arguments in its last call of a tool."""
    if not (calls := message.get("tool_calls")):
        return None
    call = {**calls[-1], "function": {**calls[-1]["function"], "arguments": {probe: probe}}}
    return {**message, "tool_calls": [*calls[:-1], call]}


def _shared(*texts: str) -> int:
    """How many characters all begin with."""
    first, last = min(texts), max(texts)  # between which the others lie
    return next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))


def _past_space(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at


def _any_of(tokens: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(token) for token in sorted(set(tokens), key=len, reverse=True)) or "(?!)")
