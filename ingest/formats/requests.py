"""What was asked for: the request line as a server writes it, or that it is none."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)(.*)", re.DOTALL)
_METHOD = re.compile(r"[A-Za-z][A-Za-z_-]*")
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
# In place of a method that a server could not read; the others ask for no page: a tunnel, and HTTP/2's first bytes.
_NO_METHODS = frozenset({"UNKNOWN", "CONNECT", "PRI"})
# Jetty's own, of what it could not read, and of valid targets that it refuses: of pages, and nobody knows which.
_NO_TARGETS = frozenset({"/badMessage", "/badURI"})
_LEAST_ERROR = 400
_CACHED = 1 << 14
_BARE_PROTOCOL = re.compile(r"[0-9](\.[0-9])?")


class Request(NamedTuple):
    """`host` is that of an absolute target, `path` what comes after it, which is all of another target."""

    method: str
    target: str
    host: str | None
    path: str


@lru_cache(_CACHED)
def request_of(text: str) -> Request | None:
    """The request of a line like `GET / HTTP/1.1`; None if there is none, or one that is for no page.

    HTTP/0.9 has no protocol, and some servers leave it out, or write its number alone.
    """
    text = without_colours(text)
    method, _, rest = text.partition(" ")
    target, blank, protocol = rest.rpartition(" ")
    if not (blank and protocol.startswith("HTTP/")):
        # Without a protocol any two words would be a request.
        if not method.isupper():
            return None
        if not (blank and _BARE_PROTOCOL.fullmatch(protocol)):
            target = rest.rstrip()
    if not _METHOD.fullmatch(method) or method in _NO_METHODS:
        return None
    if target.startswith("/"):
        return Request(method, target, None, target)
    absolute = _ABSOLUTE.fullmatch(target)
    # Varnish and Squid write `OPTIONS *` with the host before it.
    if absolute is None or "*" in absolute[1]:
        return None
    path = absolute[2]
    return Request(method, target, absolute[1], path if path.startswith("/") else f"/{path}")


def without_colours(text: str) -> str:
    """A text without what colours it on a terminal."""
    return _COLOUR.sub("", text) if "\x1b" in text else text


def is_placeholder(request: Request, status: int, user_agent: str | None) -> bool:
    """Whether a server wrote it in place of what was asked for, which the line does not tell then."""
    return request.target in _NO_TARGETS and status >= _LEAST_ERROR and user_agent is None
