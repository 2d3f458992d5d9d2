"""The routes. Whatever reads files runs in a thread, so that live events of others go on meanwhile."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from polyana.dashboard import export, files
from polyana.dashboard.errors import Refused, letter
from polyana.dashboard.generate import Writer
from polyana.dashboard.live import Live
from polyana.dashboard.reports import all_reports
from polyana.dashboard.runs import Catalogue
from polyana.dashboard.security import PageGuard, policy_of
from polyana.dashboard.series import draw_series
from polyana.dashboard.sharing import Shared
from polyana.errors import PolyanaError
from polyana.tracking import Index, flat
from polyana.web import TooLong, read_body

__all__ = ["STATIC", "make_app"]

STATIC = Path(__file__).parent / "static"
"""The page as `make ui` builds it from frontend/; in the wheel, not in git."""

_LARGEST_BODY = 1 << 20  # bytes; guess
_PATIENCE = 1.0  # seconds that a run's page waits for curves that were asked for before it; guess
_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Polyana</title>
<h1>The page is not built yet</h1>
<p>This is a git checkout. Build the page once with <code>make ui</code> (it needs Node and npm) and load this again; a
wheel has it built in. The server itself is well: <a href="/api/runs">/api/runs</a>.</p></html>"""
_STREAM = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
_RUN = "/api/runs/{name}"

T = TypeVar("T")


def make_app(home: Path, guard: PageGuard, static: Path = STATIC) -> ASGIApp:
    """The dashboard of a home. `static`: the directory of the built page."""
    answers = _Answers(home, static)
    routes = [
        Route("/api/runs", answers.runs),
        Route("/api/live", answers.live),
        Route("/api/series", answers.series, methods=["POST"]),
        Route("/api/diff", answers.diff),
        Route("/api/reports", answers.reports),
        Route(_RUN, answers.run),
        Route(_RUN, answers.note, methods=["PATCH"]),
        Route(f"{_RUN}/best", answers.best, methods=["POST"]),
        Route(f"{_RUN}/generate", answers.generate, methods=["POST"]),
        Route(f"{_RUN}/log", answers.log),
        Route(f"{_RUN}/recipe", answers.recipe),
        Route(f"{_RUN}/environment", answers.environment),
        Route(f"{_RUN}/samples", answers.samples),
        Route(f"{_RUN}/histograms", answers.histograms),
        Route(f"{_RUN}/texts", answers.texts),
        Route(f"{_RUN}/tables", answers.tables),
        Route(f"{_RUN}/images", answers.images),
        Route(f"{_RUN}/export.html", answers.export_html),
        Route(f"{_RUN}/metrics.csv", answers.export_csv),
        Route("/files/{name}/{path:path}", answers.file),
        Route("/reports/{stage}/{path:path}", answers.report),
        Route("/{path:path}", answers.page),
    ]
    handlers: dict[Any, Any] = {
        Refused: lambda _, error: letter(error.status, error.what),
        PolyanaError: lambda _, error: letter(409, str(error)),
        HTTPException: lambda _, error: letter(error.status_code, error.detail),
        sqlite3.Error: lambda _, error: letter(503, f"the index {home / 'index.sqlite'} cannot be used: {error}"),
        OSError: lambda _, error: letter(503, f"{error.filename or home}: {error.strerror or error}"),
    }
    return guard.around(Starlette(routes=routes, exception_handlers=handlers, lifespan=answers.lifespan))


class _Answers:
    """One method a route."""

    def __init__(self, home: Path, static: Path) -> None:
        # somebody else's runs, shared to be looked at, have their index elsewhere
        place = home if os.access(home, os.W_OK) else Path(tempfile.mkdtemp(prefix="polyana-"))
        self._catalogue = Catalogue(home, Index(place / "index.sqlite"))
        self._live, self._writer, self._static = Live(self._catalogue), Writer(self._catalogue), static
        self._shared = Shared(self._catalogue)
        self._ahead: asyncio.Future[None] | None = None
        self._drawing = 0  # answers with curves that are being made

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._writer.end()
        await asyncio.to_thread(self._catalogue.reader.stop)

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(self._catalogue.index.use, work)

    async def runs(self, request: Request) -> Response:
        """`read`: a run whose curves will be asked for next, so that the index begins with it; "": the newest ones."""
        await asyncio.to_thread(self._catalogue.look)
        read = request.query_params.get("read")
        if read is not None:
            self._ahead = asyncio.ensure_future(self._aside(lambda: self._catalogue.read_ahead(read)))
            self._ahead.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked again, it is told
        cursor = self._live.cursor()  # first: what changes meanwhile is told again rather than not at all
        return _json({"runs": self._catalogue.summaries(), "cursor": cursor, "troubles": self._catalogue.troubles()})

    async def live(self, request: Request) -> Response:
        cursor = request.headers.get("last-event-id") or request.query_params.get("cursor", "")
        return StreamingResponse(self._live.events(cursor), headers=_STREAM)

    async def series(self, request: Request) -> Response:
        text = await _text(request)
        body = _parsed(text)
        self._drawing += 1
        try:
            drawn, _ = await self._shared.get(text, lambda: draw_series(self._catalogue, body), lambda each: each[1])
        finally:
            self._drawing -= 1
        return Response(drawn, media_type="application/octet-stream")

    async def diff(self, request: Request) -> Response:
        runs = [self._catalogue.run(request.query_params.get(key, "")) for key in ("a", "b")]
        a, b = await self._aside(lambda: [flat(run.about().get("settings") or {}) for run in runs])
        keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
        return _json([{"key": key, "a": a.get(key), "b": b.get(key)} for key in keys])

    async def run(self, request: Request) -> Response:
        name, index, patience = _name(request), self._catalogue.index, time.monotonic() + _PATIENCE
        while (
            self._drawing and time.monotonic() < patience
        ):  # advice takes the interpreter from who draws a first chart
            await asyncio.sleep(_PATIENCE / 50)
        return _json(await self._shared.get(("run", name), lambda: index.use(lambda: self._catalogue.detail(name))))

    async def note(self, request: Request) -> Response:
        given = await _body(request)
        return _json(await self._aside(lambda: self._catalogue.note(_name(request), given)))

    async def best(self, request: Request) -> Response:
        body = await _body(request)
        step = body.get("step") if isinstance(body, dict) else None
        return _json(await self._aside(lambda: self._catalogue.move_best(_name(request), step)))

    async def generate(self, request: Request) -> Response:
        return StreamingResponse(self._writer.begin(_name(request), await _body(request)), headers=_STREAM)

    async def log(self, request: Request) -> Response:
        begin = request.query_params.get("from", "0")
        first = int(begin) if begin.isdigit() else 0
        return _json(await self._aside(lambda: files.read_log(self._catalogue, _name(request), first)))

    async def recipe(self, request: Request) -> Response:
        return PlainTextResponse(await self._aside(lambda: files.read_recipe(self._catalogue, _name(request))))

    async def environment(self, request: Request) -> Response:
        return _json(await self._aside(lambda: files.read_environment(self._catalogue, _name(request))))

    async def samples(self, request: Request) -> Response:
        return _json(await self._aside(lambda: files.read_samples(self._catalogue, _name(request))))

    async def histograms(self, request: Request) -> Response:
        histogram = request.query_params.get("name", "")
        return _json(await self._aside(lambda: self._catalogue.histograms(_name(request), histogram)))

    async def texts(self, request: Request) -> Response:
        return await self._records("text", request)

    async def tables(self, request: Request) -> Response:
        return await self._records("table", request)

    async def images(self, request: Request) -> Response:
        return await self._records("image", request)

    async def _records(self, kind: str, request: Request) -> Response:
        record = request.query_params.get("name", "")
        return _json(await self._aside(lambda: self._catalogue.records(_name(request), kind, record)))

    async def export_html(self, request: Request) -> Response:
        page = await self._aside(lambda: export.export_html(self._catalogue, _name(request)))
        headers = _attached(request, "html") | {"content-security-policy": files.SANDBOX_POLICY}
        return HTMLResponse(page, headers=headers)

    async def export_csv(self, request: Request) -> Response:
        lines = await self._aside(lambda: export.export_csv(self._catalogue, _name(request)))
        return StreamingResponse(lines, media_type="text/csv", headers=_attached(request, "csv"))

    async def file(self, request: Request) -> Response:
        path = request.path_params["path"]
        return await self._aside(lambda: files.run_file(self._catalogue, _name(request), path))

    async def report(self, request: Request) -> Response:
        stage, path = request.path_params["stage"], request.path_params["path"]
        return await self._aside(lambda: files.report(self._catalogue, stage, path))

    async def reports(self, _: Request) -> Response:
        return _json(await self._aside(lambda: all_reports(self._catalogue.home, self._catalogue.runs())))

    async def page(self, request: Request) -> Response:
        path = request.path_params["path"]
        found = (self._static / path).resolve()
        if found.is_relative_to(self._static.resolve()) and found.is_file():
            lasting = {"cache-control": "max-age=31536000, immutable"}  # its name carries a hash of its content
            kind, _ = mimetypes.guess_type(path)
            # Read here: the first chart waits for it, and each change of threads waits for one that reads metrics.
            return Response(
                found.read_bytes(), headers=lasting if path.startswith("assets/") else None, media_type=kind
            )
        if path.startswith(("api/", "files/", "reports/", "assets/")):
            raise Refused(404, f"there is nothing at /{path}")
        index = self._static / "index.html"  # any other address is a view of the page
        if not index.is_file():
            return HTMLResponse(_NOT_BUILT)
        page = index.read_bytes()
        return HTMLResponse(page, headers={"content-security-policy": policy_of(page)})


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _attached(request: Request, ending: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{_name(request)}.{ending}"'}


def _json(content: Any) -> Response:
    """As JSON; what is not finite is null."""
    return Response(msgspec.json.encode(content), media_type="application/json")


async def _body(request: Request) -> Any:
    """The request's JSON. Raises Refused when it is none, or too long."""
    return _parsed(await _text(request))


async def _text(request: Request) -> bytes:
    try:
        return await read_body(request, _LARGEST_BODY)
    except TooLong:
        raise Refused(413, "the request is too long") from None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, "the request should be JSON") from None
