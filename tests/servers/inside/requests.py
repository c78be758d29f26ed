"""What every server is asked: one set of valid requests, each telling of something that servers write differently."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

HOST = "one.test"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
FROM = "https://example.org/from?x=1"
CHANGED = "Thu, 01 Jan 2026 00:00:00 GMT"
"""When the pages of all servers changed last."""
FIRST, SECOND, SIXTH = "127.0.0.1", "127.0.0.2", "::1"
"""The clients' addresses, which are all of this machine."""
SLOW = "a slow answer"
"""Takes 300 ms where there is something behind that makes it so."""
_FORM = b"name=value&other=%C3%A9"


@dataclass(frozen=True)
class Request:
    """One request; `name` says what is telling in it, and `alike` gathers those that go through one connection.

    Texts may hold bytes that are not ASCII as surrogates. `is_page` is False of what asks for no page.
    """

    name: str
    target: str = "/page.html"
    method: str = "GET"
    client: str = FIRST
    host: str | None = HOST
    referrer: str | None = None
    user_agent: str | None = BROWSER
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    protocol: str = "HTTP/1.1"
    alike: str = ""
    is_page: bool = True


REQUESTS = (
    Request("a page", "/"),
    Request("a query", "/page.html?q=1&r=a+b", referrer=FROM),
    Request("HEAD", method="HEAD"),
    Request("POST", "/form", "POST", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=_FORM),
    Request("not modified", headers={"If-Modified-Since": CHANGED}),
    Request("not found", "/missing.html"),
    Request("a redirect", "/old.html"),
    Request("an empty answer", "/empty.txt"),
    Request("a range", headers={"Range": "bytes=0-99"}),
    Request("an answer in chunks", "/chunks"),
    Request(SLOW, "/slow"),
    Request("an encoded é", "/caf%C3%A9.html"),
    Request("encoded quotes", "/a%22b%5Cc.html"),
    Request("an encoded blank", "/a%20b.html?x=%20y"),
    Request("an encoded percent sign", "/100%25.html"),
    Request("two slashes", "//page.html"),
    Request("an absolute target", f"http://{HOST}/page.html"),
    Request("a long target", "/page.html?long=" + "x" * 1_200),
    Request("quotes in the agent", user_agent='Agent/1.0 (a "quoted" word)'),
    Request("backslashes in the agent", user_agent=r"Agent/1.0 (C:\\dir\\)"),
    Request("é in the agent", user_agent="Agent/1.0 (café)"),
    Request("quotes in the referrer", referrer='https://example.org/?q="x y"'),
    Request("a backslash last in the referrer", referrer="https://example.org/dir\\"),
    Request("a referrer of 1,900", referrer="https://example.org/?" + "x" * 1_879),
    Request("a referrer of 3,000", referrer="https://example.org/?" + "x" * 2_979),
    Request("no agent", user_agent=None),
    Request("an empty agent", user_agent=""),
    Request("a user with a blank", headers={"Authorization": "Basic " + b64encode(b"ann lee:secret").decode()}),
    Request("X-Forwarded-For", headers={"X-Forwarded-For": "203.0.113.9"}),
    Request("another client", client=SECOND, referrer=FROM),
    Request("IPv6", client=SIXTH),
    Request("another host", host="two.test"),
    Request("a host with a port", host=f"{HOST}:8080"),
    Request("a host in capitals", host="TWO.Test"),
    Request("no host", host=None, protocol="HTTP/1.0"),
    Request("OPTIONS *", "*", "OPTIONS", is_page=False),
    Request("kept alive", "/page.html?kept=1", alike="kept"),
    Request("kept alive, not found", "/missing.html?kept=2", alike="kept"),
    Request("kept alive, last", "/page.html?kept=3", alike="kept"),
    Request("pipelined", "/page.html?piped=1", alike="piped"),
    Request("pipelined, HEAD", "/page.html?piped=2", "HEAD", alike="piped"),
    Request("pipelined, last", "/?piped=3", alike="piped"),
)
