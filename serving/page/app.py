"""The page over HTTP: its files, its stream of events, its SQL box. It answers to nobody but the machine's own browser.

A name that some other page's owner lets point at this machine is no name of ours, so requests name the loopback as host;
and a statement comes from our own page alone, as the browser says by the origin.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from contract.errors import BraidError, InputError, QueryRefused
from serving.page.board import Board, Crowded, message
from serving.page.cookbook import Question
from serving.page.scope import DEFAULT_RANGE, RANGES, Scope
from serving.page.sql_box import Busy, Limits, SqlBox

STATIC = Path(__file__).parent / "static"
_OURS = ("127.0.0.1", "localhost", "::1")
_MOST_BODY_BYTES = 200_000
_QUIET_S = 15.0
"""After so long without a message a comment is sent, so that a connection that is gone is noticed."""
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page(
    board: Board, sql_box: SqlBox, cookbook: list[Question], watching: Callable[[], AbstractAsyncContextManager[None]]
) -> Starlette:
    """The application; whatever fills the board lives as long as it serves."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.board, app.state.sql_box = board, sql_box
        async with watching():
            yield
        board.close()

    about = {
        "ranges": [{"name": name, "text": one.text} for name, one in RANGES.items()],
        "default_range": DEFAULT_RANGE,
        "limits": asdict(Limits()),
        "questions": [{"title": one.title, "sql": one.sql} for one in cookbook],
    }
    routes = [
        Route("/stream", _stream),
        Route("/sql", _sql, methods=["POST"]),
        Route("/about", _fixed(msgspec.json.encode(about), "application/json")),
        *(Route(place, _file(file)) for place, file in _files()),
    ]
    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(_OwnHost)])


def _files() -> list[tuple[str, Path]]:
    found = [(f"/{file.relative_to(STATIC)}", file) for file in sorted(STATIC.rglob("*")) if file.suffix in _TYPES]
    return [("/", STATIC / "index.html"), *found]


class _OwnHost:
    """Refuses requests that name another host, and gives all answers their headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(sent: Message) -> None:
            if sent["type"] == "http.response.start":
                sent["headers"] = [*sent["headers"], *((k.lower().encode(), v.encode()) for k, v in _HEADERS.items())]
            await send(sent)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        # guard: the page answers under the loopback's names alone
        if not _is_ours(host):
            refusal = _refused(421, "host", f"this page is at 127.0.0.1, not at {host[:100]!r}")
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _is_ours(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in _OURS
    except ValueError:
        return False


def _is_from_our_page(request: Request) -> bool:
    """Browsers say which page sends a POST; who has no page, as curl, says nothing."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    return (origin is None or origin == f"http://{request.headers['host']}") and site == "same-origin"


async def _stream(request: Request) -> Response:
    """What is known and what becomes known of a scope: ?site= and ?range= as in the page's own address."""
    board: Board = request.app.state.board
    try:
        scope = Scope.of(request.query_params.get("site", ""), request.query_params.get("range", DEFAULT_RANGE))
    except InputError as error:
        return _refused(400, "scope", str(error))
    place = board.viewer(scope)
    try:
        viewer = place.__enter__()
    except Crowded:
        return _refused(503, "crowded", "as many pages, or sites and ranges, are open as one process serves")

    async def events() -> AsyncIterator[bytes]:
        try:
            yield message("scope", {"site": scope.site, "range": scope.range_name})
            while True:
                try:
                    async with asyncio.timeout(_QUIET_S):
                        text = await viewer.messages.get()
                except TimeoutError:
                    text = b": nothing new\n\n"
                if text is None:
                    return
                yield text
        finally:
            place.__exit__(None, None, None)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _sql(request: Request) -> Response:
    """{"sql": "select …"} as JSON, which no form of another page can send unasked."""
    is_json = request.headers.get("content-type", "").partition(";")[0] == "application/json"
    # guard: no other page asks
    if not (is_json and _is_from_our_page(request)):
        return _refused(403, "origin", "only this page itself asks here, and sends JSON")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY_BYTES:
            return _refused(413, "too_large", f"more than {_MOST_BODY_BYTES:,} bytes")
    box: SqlBox = request.app.state.sql_box
    try:
        statement = msgspec.json.decode(bytes(body), type=dict[str, str])["sql"]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return _refused(400, "body", 'not {"sql": "…"}')
    try:
        return _json(200, await run_in_threadpool(box.answer, statement))
    except QueryRefused as error:
        # What is wrong with a statement is an answer too, and no error of the page.
        return _json(200, {"refused": str(error)})
    except Busy:
        return _refused(429, "busy", "other statements run; try again when they have ended", {"Retry-After": "2"})
    except BraidError as error:
        return _refused(503, "database", str(error))


def _file(file: Path) -> Callable[[Request], Any]:
    content = file.read_bytes()
    return _fixed(content, f"{_TYPES[file.suffix]}; charset=utf-8")


def _fixed(content: bytes, media_type: str) -> Callable[[Request], Any]:
    """Always the same; a browser asks whether it has changed, and is told that it has not."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'

    async def answer(request: Request) -> Response:
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return answer


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def _refused(status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json(status, {"reason": reason, "detail": detail}, headers)
