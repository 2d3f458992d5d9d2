"""The routes. Whatever takes long runs in a thread, so that answers of others go on meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from polyana.serve.engine import Engine, Order, Piece
from polyana.serve.pace import Pace
from polyana.serve.protocol import Answer, ChatRequest, Request, TextRequest, read_request
from polyana.serve.refused import Refused
from polyana.serve.saves import Saves
from polyana.web import Guard, TooLong, read_body

__all__ = ["ApiGuard", "make_app"]

_LARGEST_BODY = 16 << 20  # bytes: a million tokens and some; guess
_STREAM = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}


def make_app(saves: Saves, engine: Engine, guard: ApiGuard, pace: Pace, follow: bool) -> ASGIApp:
    """What answers. `follow`: whether names are looked up again while it runs."""
    answers = _Answers(saves, engine, pace, follow)
    routes = [
        Route("/v1/models", answers.models),
        Route("/v1/models/{name:path}", answers.model),
        Route("/v1/chat/completions", answers.chat, methods=["POST"]),
        Route("/v1/completions", answers.text, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        Refused: lambda _, error: error.response(),
        HTTPException: _unknown,
        Exception: _failed,
    }
    return guard.around(Starlette(routes=routes, exception_handlers=handlers, lifespan=answers.lifespan))


class ApiGuard(Guard):
    """Which requests of clients are answered: the token is their API key."""

    def refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        objection = self.objection(scope["method"], headers)
        if objection is not None:
            return Refused(403, objection).response()
        if not self.admits(headers):
            told = "the token is missing or wrong; send it as `Authorization: Bearer TOKEN`, a client's api_key"
            return Refused(401, told, code="invalid_api_key").response()
        return None


class _Answers:
    """One method a route."""

    def __init__(self, saves: Saves, engine: Engine, pace: Pace, follow: bool) -> None:
        self._saves, self._engine, self._pace, self._follow = saves, engine, pace, follow

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watching = [asyncio.create_task(self._pace.keep(self._engine))]
        if self._follow:
            watching.append(asyncio.create_task(self._saves.follow()))
        yield
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await asyncio.to_thread(self._engine.close)
        self._saves.close()

    async def models(self, _: Asked) -> Response:
        return JSONResponse({"object": "list", "data": [each.about() for each in self._saves.all()]})

    async def model(self, asked: Asked) -> Response:
        return JSONResponse(self._saves.find(asked.path_params["name"]).about())

    async def chat(self, asked: Asked) -> Response:
        return await self._complete(asked, ChatRequest)

    async def text(self, asked: Asked) -> Response:
        return await self._complete(asked, TextRequest)

    async def _complete(self, asked: Asked, kind: type[Request]) -> Response:
        try:
            body = await read_body(asked, _LARGEST_BODY)
        except TooLong:
            raise Refused(413, f"the request is longer than {_LARGEST_BODY:,} bytes") from None
        request = await asyncio.to_thread(read_request, kind, body)
        loaded = self._saves.take(request.model)
        try:
            texts = await asyncio.to_thread(request.texts, loaded)
            client = asked.client.host if asked.client else ""
            goes_on = kind is TextRequest
            writing = self._engine.begin(
                Order(loaded, texts, request.stops, client, goes_on=goes_on, likeliest=request.likeliest)
            )
        except BaseException:
            self._saves.give(loaded)
            raise

        def end() -> None:
            self._engine.end(writing)
            self._saves.give(loaded)

        answer = Answer(request, loaded, sum(len(ids) for ids, _ in texts[:: request.n or 1]))
        if request.stream:
            return _Events(_events(answer, writing), end)
        try:
            return await _unless_gone(asked, _whole(answer, writing, len(texts)))
        except asyncio.CancelledError:  # by uvicorn, whose patience is over
            raise Refused(503, "the server is ending", code="ending") from None
        finally:
            end()


class _Events(StreamingResponse):
    """Server-sent events. `end` is called when they have ended, or nobody wants them any more."""

    def __init__(self, events: AsyncIterator[bytes], end: Callable[[], None]) -> None:
        super().__init__(events, headers=_STREAM)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


async def _whole(answer: Answer, pieces: AsyncIterable[Piece], count: int) -> Response:
    whole = [Piece(number, "") for number in range(count)]
    async for piece in pieces:
        before = whole[piece.number]
        whole[piece.number] = replace(piece, text=before.text + piece.text, scored=before.scored + piece.scored)
    return JSONResponse(answer.whole(whole))


async def _events(answer: Answer, pieces: AsyncIterable[Piece]) -> AsyncIterator[bytes]:
    tokens, begun = 0, set[int]()
    try:
        async for piece in pieces:
            if piece.number not in begun:
                begun.add(piece.number)
                if first := answer.begin(piece.number):
                    yield _event(first)
            for chunk in answer.piece(piece):
                yield _event(chunk)
            tokens += piece.tokens
        if last := answer.usage(tokens):
            yield _event(last)
    except Refused as error:  # its status went out long ago
        yield _event(error.body())
        return
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n".encode("utf-8", "replace")


async def _unless_gone(asked: Asked, answering: Any) -> Response:
    """The response, unless its client goes away before; then it is given up."""
    work, gone = asyncio.ensure_future(answering), asyncio.ensure_future(_gone(asked))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()  # type: ignore[no-any-return]
        return Response(status_code=499)  # nobody reads it
    finally:
        for task in (work, gone):
            task.cancel()
        with suppress(asyncio.CancelledError, Refused):
            await work


async def _gone(asked: Asked) -> None:
    while (await asked.receive())["type"] != "http.disconnect":
        pass


def _failed(_: Asked, error: Exception) -> Response:
    traceback.print_exception(error, file=sys.stderr)
    return Refused(500, f"{type(error).__name__}: {error}", code="failed").response()


def _unknown(asked: Asked, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"there is nothing at {asked.method} {asked.url.path}"
    if error.status_code == 405:
        what = f"{asked.url.path} does not take {asked.method}"
    known = "; there is: GET /v1/models, POST /v1/chat/completions, POST /v1/completions"
    return Refused(error.status_code, what + known, code="unknown_url").response()
