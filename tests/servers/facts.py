"""What servers write otherwise than their clients know it: each fact says exactly how it changes what is counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from tests.servers.counted import View
from tests.servers.inside.exchange import Answer
from tests.servers.inside.requests import Request

NOT_KNOWN = -1
"""A size that no client can know."""
_NO_BODY = frozenset({204, 304})
_LEAST_ERROR = 400
_CHUNKS = "an answer in chunks"
_ABSOLUTE = re.compile(r"[a-z]+://[^/]*")

Change = Callable[[View, Request, Answer], View | None]
"""Of the view that a client expects, with its request and answer, the one that is counted, or None if there is none."""


@dataclass(frozen=True)
class Fact:
    """`text` says what the server writes, for people."""

    text: str
    change: Change


def _pages(change: Callable[[str], str]) -> Change:
    return lambda view, request, answer: replace(view, page=change(view.page))


def _sizes(of: Callable[[Request, Answer], int]) -> Change:
    """Of answers that can have a body: of others Braid takes no size."""

    def change(view: View, request: Request, answer: Answer) -> View:
        has_body = request.method != "HEAD" and answer.status not in _NO_BODY
        return replace(view, bytes_sent=of(request, answer)) if has_body else view

    return change


def _readers(change: Callable[[str], str | None]) -> Change:
    """Of referrer and user agent."""

    def changed(text: str | None) -> str | None:
        return None if text is None else change(text)

    return lambda view, request, answer: replace(view, referrer=changed(view.referrer), user_agent=changed(view.user_agent))


def _decoded(target: str) -> str:
    path, mark, query = target.partition("?")
    return unquote(path) + mark + query


def _hex(form: str) -> Callable[[str], str]:
    """A character that is not ASCII as the bytes of its UTF-8, each in this form."""
    return lambda text: "".join(it if it.isascii() else "".join(form % byte for byte in it.encode()) for it in text)


NO_READERS = Fact("neither referrer nor user agent", _readers(lambda text: None))
NO_SIZES = Fact("no sizes", _sizes(lambda request, answer: 0))
NO_SIZES_OF_ERRORS = Fact(
    "no size of an error", _sizes(lambda request, answer: answer.body_bytes if answer.status < _LEAST_ERROR else 0)
)
NO_SIZE_OF_CHUNKS = Fact(
    "no size where the length is not known before",
    _sizes(lambda request, answer: 0 if request.name == _CHUNKS else answer.body_bytes),
)
SIZES_WITH_FRAMES = Fact("sizes with the frames of chunks", _sizes(lambda request, answer: answer.sent_bytes))
SIZES_WITH_HEADERS = Fact("sizes with headers", _sizes(lambda request, answer: answer.head_bytes + answer.sent_bytes))
SIZES_OF_ITS_SERVER = Fact(
    "sizes with headers, as it got them from the server behind", _sizes(lambda request, answer: NOT_KNOWN)
)

# The order in which they are named is the order in which they are written: backslashes before what makes more of them.
BACKSLASHES = Fact(r"a backslash as \\ in referrer and user agent", _readers(lambda text: text.replace("\\", "\\\\")))
QUOTES = Fact(r"a quote as \" in referrer and user agent", _readers(lambda text: text.replace('"', r"\"")))
HEX_BACKSLASHES = Fact(r"a backslash as \x5C in referrer and user agent", _readers(lambda text: text.replace("\\", r"\x5C")))
HEX_QUOTES = Fact(r"a quote as \x22 in referrer and user agent", _readers(lambda text: text.replace('"', r"\x22")))
SMALL_HEX_BACKSLASHES = Fact(
    r"a backslash as \x5c in referrer and user agent", _readers(lambda text: text.replace("\\", r"\x5c"))
)
LATIN_1 = Fact("é in the user agent as Ã©", _readers(lambda text: text.encode().decode("latin-1")))
HEX = Fact(r"é in the user agent as \xc3\xa9", _readers(_hex(r"\x%02x")))
HEX_CAPITALS = Fact(r"é in the user agent as \xC3\xA9", _readers(_hex(r"\x%02X")))
LATIN_1_HEX = Fact(
    r"é in the user agent as \xc3\x83\xc2\xa9", _readers(lambda text: _hex(r"\x%02x")(text.encode().decode("latin-1")))
)

PATHS_ONLY = Fact("of an absolute target only the path", _pages(lambda page: _ABSOLUTE.sub("", page)))
DECODED_PATHS = Fact("paths decoded", _pages(_decoded))
NO_QUERIES = Fact("no queries", _pages(lambda page: page.partition("?")[0]))
EMPTY_QUERIES = Fact("of a query only its question mark", _pages(lambda page: re.sub(r"\?.*", "?", page)))
ONE_SLASH = Fact("//page as /page", _pages(lambda page: page[1:] if page.startswith("//") else page))
FOUR_SLASHES = Fact("//page as ////page", _pages(lambda page: f"//{page}" if page.startswith("//") else page))
FORWARDED = Fact(
    "as client whoever X-Forwarded-For names",
    lambda view, request, answer: replace(view, client=request.headers.get("X-Forwarded-For", view.client)),
)


def page_as(target: str, page: str, text: str) -> Fact:
    """One target that is written in a way of its own; `target` is as the facts before have left it."""
    return Fact(text, _pages(lambda it: page if it == target else it))


def cut_pages(length: int) -> Fact:
    """A target is cut, so that several pages may be one."""
    return Fact(f"paths and queries cut to {length} characters", _pages(lambda page: page[:length]))


def cut_readers(length: int) -> Fact:
    """Referrer and user agent are cut."""
    return Fact(f"referrer and user agent cut to {length} characters", _readers(lambda text: text[:length]))


def site_of_no_host(site: str) -> Fact:
    """The site of a request that names no host."""
    return Fact(
        f"{site} as host where the client named none",
        lambda view, request, answer: view if request.host else replace(view, site=site),
    )


def not_counted(text: str, *names: str) -> Fact:
    """Requests, by their names, whose lines tell of none or do not parse."""
    return Fact(text, lambda view, request, answer: None if request.name in names else view)


def counted_too(page: str, text: str) -> Fact:
    """OPTIONS *, which asks for no page, is written as if it did."""
    return Fact(text, lambda view, request, answer: view if request.is_page else replace(view, page=page))
