"""The site of all servers that have no files of their own: what it answers to a path, and the same as WSGI and ASGI."""

from __future__ import annotations

import time

LAST_CHANGED = "Thu, 01 Jan 2026 00:00:00 GMT"
PAGE = b"<!doctype html><title>A page</title>" + b"<p>text</p>" * 40
SLOW_S = 0.3
FORM, NOT_FOUND, MOVED = b"thank you\n", b"nothing here\n", b"it moved\n"
CHUNKS = (b"first " * 50, b"second " * 30, b"third")
_HTML = {"Content-Type": "text/html"}
_TEXT = {"Content-Type": "text/plain"}
_PAGES = frozenset({"/", "/page.html"})

Answer = tuple[int, dict[str, str], tuple[bytes, ...]]


def answer(method: str, path: str, not_modified: bool) -> Answer:
    """Status, headers and body; without a Content-Length if it goes in chunks."""
    if method == "POST" and path == "/form":
        return _whole(200, _TEXT, FORM)
    if path in _PAGES:
        return (
            (304, {"Last-Modified": LAST_CHANGED}, ())
            if not_modified
            else _whole(200, _HTML | {"Last-Modified": LAST_CHANGED}, PAGE)
        )
    if path == "/old.html":
        return _whole(302, _TEXT | {"Location": "/page.html"}, MOVED)
    if path == "/empty.txt":
        return 204, {}, ()
    if path == "/chunks":
        return 200, dict(_TEXT), CHUNKS
    if path == "/slow":
        time.sleep(SLOW_S)
        return _whole(200, _TEXT, FORM)
    return _whole(404, _TEXT, NOT_FOUND)


def wsgi(environ, start_response):
    """The site as a WSGI application."""
    status, headers, body = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], "HTTP_IF_MODIFIED_SINCE" in environ)
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(f"{status} Said", list(headers.items()))
    return () if environ["REQUEST_METHOD"] == "HEAD" else iter(body) if len(body) > 1 else list(body)


async def asgi(scope, receive, send):
    """The site as an ASGI application."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (message := await receive()).get("more_body"):
        assert message["type"] == "http.request"
    names = {name for name, _ in scope["headers"]}
    status, headers, body = answer(scope["method"], scope["path"], b"if-modified-since" in names)
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    parts = () if scope["method"] == "HEAD" else body
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _whole(status: int, headers: dict[str, str], body: bytes) -> Answer:
    return status, headers | {"Content-Length": str(len(body))}, (body,)
