"""The routes. Whatever reads files runs in a thread, so that live events of others go on meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from polyana.dashboard import export, files
from polyana.dashboard.errors import Refused, letter
from polyana.dashboard.generate import Writer
from polyana.dashboard.live import Live
from polyana.dashboard.runs import Catalogue, flat
from polyana.dashboard.security import Guard
from polyana.dashboard.series import draw_series
from polyana.errors import PolyanaError
from polyana.tracking import Index

__all__ = ["STATIC", "make_app"]

STATIC = Path(__file__).parent / "static"
"""The page as `make ui` builds it from frontend/; in the wheel, not in git."""

_LARGEST_BODY = 1 << 20  # bytes; guess
_NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Polyana</title>
<h1>The page is not built yet</h1>
<p>This is a git checkout. Build the page once with <code>make ui</code> (it needs Node and npm) and load this again; a
wheel has it built in. The server itself is well: <a href="/api/runs">/api/runs</a>.</p></html>"""
_STREAM = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}

T = TypeVar("T")


def make_app(home: Path, guard: Guard, static: Path = STATIC) -> ASGIApp:
    """The dashboard of a home."""
    catalogue = Catalogue(home, Index(home / "index.sqlite"))
    live, writer = Live(catalogue), Writer(catalogue)

    async def aside(work: Callable[[], T]) -> T:
        return await asyncio.to_thread(catalogue.index.use, work)

    async def runs(_: Request) -> Response:
        await asyncio.to_thread(catalogue.look)
        cursor = live.cursor()
        return _json({"runs": catalogue.summaries(), "cursor": cursor, "troubles": catalogue.troubles()})

    async def run(request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "PATCH":
            given = await _body(request)
            if not isinstance(given, dict):
                raise Refused(400, "tags, notes or group are wanted")
            return _json(await aside(lambda: catalogue.note(name, given)))
        return _json(await aside(lambda: catalogue.detail(name)))

    async def series(request: Request) -> Response:
        body = await _body(request)
        return Response(await asyncio.to_thread(draw_series, catalogue, body), media_type="application/octet-stream")

    async def events(request: Request) -> Response:
        cursor = request.query_params.get("cursor", request.headers.get("last-event-id", ""))
        return StreamingResponse(live.events(cursor), headers=_STREAM)

    async def generate(request: Request) -> Response:
        body = await _body(request)
        return StreamingResponse(writer.begin(request.path_params["name"], body), headers=_STREAM)

    async def best(request: Request) -> Response:
        body = await _body(request)
        step = body.get("step") if isinstance(body, dict) else None
        return _json(await aside(lambda: catalogue.move_best(request.path_params["name"], step)))

    async def diff(request: Request) -> Response:
        names = [request.query_params.get(key, "") for key in ("a", "b")]
        a, b = await aside(lambda: [flat(catalogue.run(name).about().get("settings", {})) for name in names])
        keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
        return _json([{"key": key, "a": a.get(key), "b": b.get(key)} for key in keys])

    def reading(read: Callable[[Request], Any], answer: Callable[[Any], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def route(request: Request) -> Response:
            return answer(await aside(lambda: read(request)))

        return route

    def of_run(read: Callable[..., Any], *queries: str) -> Callable[[Request], Any]:
        def work(request: Request) -> Any:
            asked = [request.query_params.get(query, "") for query in queries]
            return read(catalogue, request.path_params["name"], *asked)

        return work

    def log(request: Request) -> Any:
        begin = request.query_params.get("from", "0")
        return files.read_log(catalogue, request.path_params["name"], int(begin) if begin.isdigit() else 0)

    def records(kind: str) -> Callable[[Request], Any]:
        return lambda request: catalogue.records(
            request.path_params["name"], kind, request.query_params.get("name", "")
        )

    def attached(content: Any, kind: str, request: Request, ending: str) -> Response:
        headers = {"content-disposition": f'attachment; filename="{request.path_params["name"]}{ending}"'}
        if isinstance(content, str):
            headers["content-security-policy"] = files.SANDBOX_POLICY
            return Response(content, media_type=kind, headers=headers)
        return StreamingResponse(content, media_type=kind, headers=headers)

    async def whole(request: Request) -> Response:
        page = await aside(lambda: export.export_html(catalogue, request.path_params["name"]))
        return attached(page, "text/html", request, ".html")

    async def table(request: Request) -> Response:
        lines = await aside(lambda: export.export_csv(catalogue, request.path_params["name"]))
        return attached(lines, "text/csv", request, ".csv")

    async def page(request: Request) -> Response:
        path = request.path_params.get("path", "")
        found = (static / path).resolve()
        if path and found.is_relative_to(static.resolve()) and found.is_file():
            lasting = {"cache-control": "max-age=31536000, immutable"} if path.startswith("assets/") else {}
            return FileResponse(found, headers=lasting)
        if path.startswith(("api/", "files/", "reports/", "assets/")):
            raise Refused(404, f"there is nothing at /{path}")
        index = static / "index.html"  # any other address is a view of the page
        return FileResponse(index) if index.is_file() else HTMLResponse(_NOT_BUILT)

    base = "/api/runs/{name}"
    routes = [
        Route("/api/runs", runs),
        Route(base, run, methods=["GET", "PATCH"]),
        Route("/api/series", series, methods=["POST"]),
        Route("/api/live", events),
        Route("/api/diff", diff),
        Route(f"{base}/generate", generate, methods=["POST"]),
        Route(f"{base}/best", best, methods=["POST"]),
        Route(f"{base}/histograms", reading(of_run(Catalogue.histograms, "name"), _json)),
        Route(f"{base}/samples", reading(of_run(files.read_samples), _json)),
        Route(f"{base}/log", reading(log, _json)),
        Route(f"{base}/recipe", reading(of_run(files.read_recipe), PlainTextResponse)),
        Route(f"{base}/environment", reading(of_run(files.read_environment), _json)),
        *(Route(f"{base}/{kind}s", reading(records(kind), _json)) for kind in ("text", "table", "image")),
        Route(f"{base}/export.html", whole),
        Route(f"{base}/metrics.csv", table),
        Route("/files/{name}/{path:path}", reading(lambda r: files.run_file(catalogue, **r.path_params), lambda r: r)),
        Route("/reports/{name}/{stage}/{path:path}", reading(lambda r: files.report(catalogue, **r.path_params), lambda r: r)),
        Route("/", page),
        Route("/{path:path}", page),
    ]
    handlers: dict[Any, Any] = {
        Refused: lambda _, error: letter(error.status, error.what),
        PolyanaError: lambda _, error: letter(409, str(error)),
        HTTPException: lambda _, error: letter(error.status_code, error.detail),
        sqlite3.Error: lambda _, error: letter(503, f"the index {home / 'index.sqlite'} cannot be used: {error}"),
        OSError: lambda _, error: letter(503, f"{error.filename or home}: {error.strerror or error}"),
    }
    return guard.around(Starlette(routes=routes, exception_handlers=handlers))


def _json(content: Any) -> Response:
    """As JSON; what is not finite is null."""
    return Response(msgspec.json.encode(content), media_type="application/json")


async def _body(request: Request) -> Any:
    """The request's JSON. Raises Refused when it is none, or too long."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise Refused(413, "the request is too long")
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, "the request should be JSON") from None
