"""Several texts written at once, a token of each in turn.

One thread for each request that is being written, of which one computes at a time: after each token it lets the next
one have its turn. So nobody waits for the end of a long answer, and each text is written alone, by the code and with
the random numbers of `polyana generate`: the same settings give the same text, whatever else is asked meanwhile.
Computing for several texts in one batch would be faster; it would be another engine with the same `begin`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from polyana.generation import GenerationConfig, GrowingText, continue_ids
from polyana.serve.logprobs import Scored, score
from polyana.serve.queue import Line, Turns
from polyana.serve.refused import Refused
from polyana.serve.saves import Loaded
from polyana.serve.until import Until

__all__ = ["Engine", "Order", "Piece", "Writing"]

_AT_ONCE = 4  # requests that are written at once, each with a cache of its own; guess
_WAITING = 256  # requests that may wait beside them; guess
_PATIENCE = 20.0  # seconds that the end waits for a computation that has begun; guess


@dataclass(frozen=True)
class Order:
    """What is to be written: for each text the tokens that it goes on from, and its settings.

    `client`: who asks. `goes_on`: whether it is the end of a text that they begin, and not an answer. `likeliest`: how
    many tokens are told beside each one with how likely they were; None for none of it.
    """

    loaded: Loaded
    texts: Sequence[tuple[list[int], GenerationConfig]]
    stops: Sequence[str]
    client: str
    goes_on: bool = False
    likeliest: int | None = None


@dataclass(frozen=True)
class Piece:
    """What has been written of text `number` since the last one. The last of a text says why it ended (`stop` or
    `length`), and how many tokens it has, without the one that ended it. `scored`: the tokens since the last piece,
    where they are wanted."""

    number: int
    text: str
    finish: str | None = None
    tokens: int = 0
    scored: tuple[Scored, ...] = ()


class Writing:
    """An order on its way: its pieces, as they are written. `is_over`: nobody wants more of it."""

    def __init__(self, order: Order) -> None:
        self.order, self.is_over = order, False
        self._pieces: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Writing:
        return self

    async def __anext__(self) -> Piece:
        """Raises Refused where writing has failed."""
        piece = await self._pieces.get()
        if piece is None:
            raise StopAsyncIteration
        if isinstance(piece, Exception):
            raise piece
        return piece

    def tell(self, piece: Piece | Exception | None) -> None:
        """From any thread. None: that was all."""
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


class Engine:
    """`threads`: how many torch computes with; None leaves it to torch. It may be changed at any time."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self._line: Line[Writing] = Line(_WAITING)
        self._turns = Turns()
        self._under_way: set[Writing] = set()
        self._is_closing = False
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(_AT_ONCE)]
        for worker in self._workers:
            worker.start()

    def begin(self, order: Order) -> Writing:
        """Have something written; to be told its `end`. Raises Refused where too many wait already."""
        if self._is_closing:
            raise Refused(503, "the server is ending", code="ending")
        job = Writing(order)
        if not self._line.put(order.client, job):
            raise Refused(503, f"{_WAITING} requests wait already; try again in a moment", code="overloaded")
        return job

    def end(self, job: Writing) -> None:
        """Whoever asked has all, or wants no more: what is not written yet is left."""
        job.is_over = True
        self._line.drop(job.order.client, job)

    @property
    def is_busy(self) -> bool:
        """Whether something is being written."""
        return bool(self._under_way)

    def close(self) -> None:
        """Give up what is being written and what waits, and wait until nothing is computed any more."""
        self._is_closing = True
        for job in [*self._line.close(), *self._under_way]:
            job.tell(Refused(503, "the server is ending", code="ending"))
        for worker in self._workers:
            worker.join(_PATIENCE)

    def _work(self) -> None:
        while (job := self._line.take()) is not None:
            self._under_way.add(job)
            try:
                for number in range(len(job.order.texts)):
                    self._turns.take()
                    try:
                        if not (job.is_over or self._is_closing):
                            self._write(job, number)
                    finally:
                        self._turns.give()
                job.tell(None)
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                job.tell(Refused(500, f"writing has failed: {type(error).__name__}: {error}", code="failed"))
            finally:
                self._under_way.discard(job)

    def _write(self, job: Writing, number: int) -> None:
        loaded, (ids, settings) = job.order.loaded, job.order.texts[number]
        after, wanted = ids if job.order.goes_on else (), job.order.likeliest
        text, until = GrowingText(loaded.tokenizer, after), Until(job.order.stops)
        scores: list[torch.Tensor] = []  # of the token that comes next
        scored: list[Scored] = []  # what was not told yet

        def stop(token: int) -> bool:
            if wanted is not None and token not in loaded.ends:
                scored.append(score(scores[-1], token, wanted))
            scores.clear()
            if shown := until.add(text.add([token])):
                job.tell(Piece(number, shown, scored=tuple(scored)))
                scored.clear()
            self._let_others()
            return job.is_over or self._is_closing or until.found

        self._set_threads()
        look = None if wanted is None else scores.append
        written = continue_ids(loaded.model, loaded.tokenizer, ids, settings, stop=stop, look=look)
        ended = bool(written) and written[-1] in loaded.ends
        rest = until.add(text.end()) + until.rest()
        finish = "stop" if ended or until.found else "length"
        job.tell(Piece(number, rest, finish, len(written) - ended, tuple(scored)))

    def _let_others(self) -> None:
        """Between two tokens: let whoever waits have a turn, who may draw random numbers of their own."""
        if self._turns.is_wanted:
            state = torch.get_rng_state()
            on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
            self._turns.give()
            self._turns.take()
            torch.set_rng_state(state)
            if on_gpus:
                torch.cuda.set_rng_state_all(on_gpus)
        self._set_threads()

    def _set_threads(self) -> None:
        wanted = self.threads
        if wanted is not None and torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)  # of this thread of ours: each has its own
