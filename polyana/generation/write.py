"""What a model writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from polyana.config import Config, Every
from polyana.errors import UserError
from polyana.examples import question
from polyana.models import load_adapted, longest_text, writing
from polyana.storage import read_json

__all__ = [
    "GenerationConfig",
    "GrowingText",
    "SampleConfig",
    "as_question",
    "continue_ids",
    "ends_of",
    "generate",
    "load_for_generation",
    "load_in_turn",
    "seeded",
    "write_after",
]


class GenerationConfig(Config):
    """How the next token is chosen."""

    max_tokens: Annotated[int, Field(ge=1)] = Field(60, description="tokens to write at most")
    temperature: float = Field(0.8, ge=0, description="0 takes the likeliest token, higher is more varied")
    top_k: int | None = Field(50, ge=1, description="only among the so many likeliest; null for all")
    top_p: float | None = Field(None, gt=0, le=1, description="only among the likeliest that reach this share")
    seed: int = Field(0, ge=0, description="the same seed writes the same text")


class SampleConfig(GenerationConfig):
    """What the model is asked to write while it trains; once before, once at the end, and `every` so often."""

    every: Every | None = Field(None, description="as `100 steps`; default: only before and at the end")
    prompts: list[str] = Field(min_length=1, description="what the texts begin with")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of their own, so that sampling leaves a training run's untouched."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def as_question(tokenizer: Any, text: str) -> str | list[int]:
    """What a model is given for a person's words: a user's message in its chat template; the text where it has none."""
    if tokenizer.chat_template is None:
        return text
    return question(tokenizer, [{"role": "user", "content": text}])


class GrowingText:
    """What token ids say, as they come, in whole characters.

    Decoded are those alone that the newest text came with, and what follows them: what stands before tells nothing more
    about it, but for the space that a tokenizer puts between two words or drops at the beginning of a text. Only bytes
    that are tokens (`<0x0A>`) are read all at once, as many as stand together.

    `after`: the tokens of a text that they go on from. A tokenizer of SentencePiece's kind drops the space that a text
    begins with, which would be missing between the two.
    """

    def __init__(self, tokenizer: Any, after: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # what may still matter
        self._shown, self._told = "", 0  # of their text, and how many of them it came with
        before = self._decoded(last := list(after[-1:]))
        if not before.endswith("\ufffd"):  # else it is a part of a character
            self._ids, self._shown, self._told = last, before, len(last)

    def add(self, ids: Iterable[int]) -> str:
        """The text that is new with these; "" where a part of a character is missing."""
        self._ids.extend(ids)
        text = self._decoded(self._ids)
        if text.endswith("\ufffd"):
            return ""
        new, self._shown = text[len(self._shown) :], text
        if new and self._told and not all(map(self._is_byte, self._ids[self._told - 1 : self._told + 1])):
            self._ids = self._ids[self._told :]
            self._shown = self._decoded(self._ids)
        self._told = len(self._ids)
        return new

    def end(self) -> str:
        """What was held back."""
        return self._decoded(self._ids)[len(self._shown) :]

    def _is_byte(self, token: int) -> bool:
        return re.fullmatch("<0x[0-9A-F]{2}>", str(self._tokenizer.convert_ids_to_tokens(token))) is not None

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class _Stream:
    """Hands text on as it is written (what transformers calls a streamer)."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None], after: Sequence[int]) -> None:
        self._text, self._write = GrowingText(tokenizer, after), write
        self._is_prompt = True

    def put(self, ids: torch.Tensor) -> None:
        if self._is_prompt:
            self._is_prompt = False
        elif new := self._text.add(ids.reshape(-1).tolist()):
            self._write(new)

    def end(self) -> None:
        self._write(self._text.end())


class _Asking:
    """Asks after each token whether it shall be the last (what transformers calls a stopping criterion)."""

    def __init__(self, stop: Callable[[int], bool]) -> None:
        self._stop = stop

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002  as it is called
        return torch.tensor([self._stop(int(ids[0, -1]))], device=ids.device)


class _Looking:
    """Shows the scores, and leaves them as they are (what transformers calls a logits processor)."""

    def __init__(self, look: Callable[[torch.Tensor], None]) -> None:
        self._look = look

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002  as it is called
        self._look(scores[0])
        return scores


def generate(
    model: Any,
    tokenizer: Any,
    prompt: str | list[int],
    config: GenerationConfig,
    write: Callable[[str], None] | None = None,
) -> str:
    """The text that follows `prompt`, a text or token ids; with `write` also piece by piece as it comes.

    Both must fit into the model's context: fewer tokens are written, at least half a context, for which the beginning
    of a longer prompt is left out.
    """
    ids = (tokenizer.encode(prompt) if isinstance(prompt, str) else prompt) or [tokenizer.eos_token_id]
    longest = longest_text(model)
    ids = ids[-(longest - min(config.max_tokens, longest // 2)) :]
    after = ids if isinstance(prompt, str) else ()
    text = GrowingText(tokenizer, after)
    return text.add(continue_ids(model, tokenizer, ids, config, write, after=after)) + text.end()


def continue_ids(
    model: Any,
    tokenizer: Any,
    ids: list[int],
    config: GenerationConfig,
    write: Callable[[str], None] | None = None,
    cache: Any = None,
    stop: Callable[[int], bool] | None = None,
    look: Callable[[torch.Tensor], None] | None = None,
    after: Sequence[int] = (),
) -> list[int]:
    """The tokens that follow `ids`, as many as the model's context has room for at most; with `write` also as text,
    piece by piece.

    `cache`: transformers' cache of what was computed for the first of `ids`; it grows by the others, and by all that is
    written but the last. `stop`: is told each token as soon as it is chosen, and says whether it is the last. `look`:
    sees the scores [V] that each is chosen by, before temperature, top_k and top_p. `after`: see `GrowingText`.
    """
    sampling: dict[str, Any] = {"do_sample": False}
    if config.temperature > 0:
        sampling = {
            "do_sample": True, "temperature": config.temperature, "top_k": config.top_k or 0,
            "top_p": config.top_p or 1.0,
        }  # fmt: skip
    from transformers import LogitsProcessorList, StoppingCriteriaList

    tokens = torch.tensor([ids], device=model.device)
    # inference mode would spoil weights that FSDP2 gathers meanwhile
    with torch.no_grad(), seeded(config.seed), writing(model):
        written = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=min(config.max_tokens, longest_text(model) - len(ids)),
            pad_token_id=tokenizer.eos_token_id,
            streamer=_Stream(tokenizer, write, after) if write else None,
            **({} if cache is None else {"past_key_values": cache}),
            **({} if stop is None else {"stopping_criteria": StoppingCriteriaList([_Asking(stop)])}),
            **({} if look is None else {"logits_processor": LogitsProcessorList([_Looking(look)])}),
            **sampling,
        )
    return written[0, len(ids) :].tolist()  # type: ignore[no-any-return]


def write_after(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    most: int,
    search: Mapping[str, Any],
    stops: Sequence[str] = (),
) -> list[list[int]]:
    """What is written after each of the prompts, all at once: at most `most` tokens, with what stands behind an end.

    `search`: what transformers' `generate` is told, as `{"do_sample": False}`; with several texts for a prompt they
    follow one another. A text is not gone on with when it has one of `stops` in it.
    """
    import transformers

    ends, width = ends_of(model, tokenizer), max(map(len, prompts))
    # padding stands at the left and is masked out: its token does not matter
    tokens = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    stopping = {"stop_strings": list(stops), "tokenizer": tokenizer} if stops else {}
    own, model.generation_config = model.generation_config, transformers.GenerationConfig()
    try:  # what its generation_config.json recommends for chat (min_p, suppressed tokens) has no place in an evaluation
        written: list[list[int]] = model.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=most,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
            **(dict(search) | stopping),
        )[:, width:].tolist()
    finally:
        model.generation_config = own
    return written


def ends_of(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the tokenizer's, and those of the model's generation_config.json."""
    stated = model.generation_config.eos_token_id
    ids = {tokenizer.eos_token_id, *(stated if isinstance(stated, list) else [stated])} - {None}
    return sorted(ids)


def load_for_generation(
    directory: Path, base: Path | None = None, bases: MutableMapping[Path, Any] | None = None
) -> tuple[Any, Any]:
    """(model, tokenizer) of a saved revision, ready to write; on the GPU if there is one (not run on a GPU yet).

    `base`: the directory of the model below, where the revision is an adapter; `bases`: see `load_adapted`. Raises
    UserError if it belongs to another, or the revision gives texts scores and writes none.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    told = read_json(directory / ("config.json" if base is None else "adapter_config.json"))
    if told.get("task_type") == "SEQ_CLS" or any("SequenceClass" in each for each in told.get("architectures") or ()):
        raise UserError("it is a classifier or a reward model, which gives texts scores and writes none")
    model = (
        AutoModelForCausalLM.from_pretrained(directory, dtype="auto")
        if base is None
        else load_adapted(base, directory, "auto", bases)
    )
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return model, AutoTokenizer.from_pretrained(directory)


def load_in_turn(saves: Iterable[tuple[Path, Path | None]]) -> Iterator[tuple[Any, Any]]:
    """As `load_for_generation`, each when the one before has written; adapters of one base share its weights."""
    bases: dict[Path, Any] = {}
    for directory, base in saves:
        yield load_for_generation(directory, base, bases)
