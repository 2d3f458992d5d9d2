"""What a model is asked, and what it should answer: the same words in training and in translating."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from polyana.errors import UserError
from polyana.parallel.config import ChatPrompt, TagPrompt
from polyana.parallel.units import Unit

__all__ = ["chat", "language_name", "lesson", "tagged"]


def chat(
    prompt: ChatPrompt, direction: tuple[str, str], context: Sequence[tuple[str, str]], source: str
) -> list[dict[str, str]]:
    """The messages a model is asked with; its answer, the translation, comes after them.

    `context` are the sentences before with their translations, oldest first: turns in which the assistant has answered.
    """
    messages = [{"role": "system", "content": prompt.system}] if prompt.system is not None else []
    one, other = (language_name(code) for code in direction)
    for text, answer in [*context, (source, None)]:
        asked = prompt.instruction.format(text=text, source_language=one, target_language=other)
        messages.append({"role": "user", "content": asked})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
    return messages


def lesson(prompt: ChatPrompt, unit: Unit) -> tuple[list[dict[str, str]], list[float]]:
    """The conversation that teaches a unit, and what each message counts in the loss: its own translation only."""
    messages = chat(prompt, unit.direction, unit.context, unit.source)
    return [*messages, {"role": "assistant", "content": unit.target}], [0.0] * len(messages) + [1.0]


def tagged(prompt: TagPrompt, direction: tuple[str, str], context: Sequence[tuple[str, str]], source: str) -> str:
    """The text that a translation and the end of the text follow: `<en> One.\\n<ru> Раз.\\n<en> Two.\\n<ru> `."""
    one, other = (prompt.tag.format(language=code) for code in direction)
    before = "".join(f"{one} {text}\n{other} {answer}\n" for text, answer in context)
    return f"{before}{one} {source}\n{other} "


@cache
def language_name(code: str) -> str:
    """`ru` -> Russian, `pt_BR` -> Portuguese (Brazil). Raises UserError for a code that is none."""
    try:
        from babel import Locale, UnknownLocaleError
    except ImportError:
        raise UserError("names of languages need babel; run: pip install 'polyana[translate]'") from None
    try:
        name: str | None = Locale.parse(code.replace("-", "_")).get_display_name("en")
    except (UnknownLocaleError, ValueError):
        name = None
    if not name:
        raise UserError(f"`{code}` is no code of a language; write one as `en`, `ru`, `pt_BR`")
    return name
