"""Events of what lines say: every rule that holds whatever the format is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from contract.event import MAX_PAGE_LENGTH, Event
from contract.event_time import BadTime
from ingest.formats.clients import Pseudonyms, address_of, client_address, client_name, site_of
from ingest.formats.logged import Logged, Rejected
from ingest.formats.notes import Notes
from ingest.formats.requests import is_placeholder, request_of
from ingest.formats.times import Times

_CACHED = 1 << 17
_NO_BODY = frozenset({204, 304})
_FIELDS_BEHIND_A_HOST = 3
# What servers write in place of a header that was not sent, or that was empty.
_NONE = frozenset({"-", ""})
_FIRST_FIELDS = re.compile(r'("[^"]*"|[^\s,]+(?:, ?[^\s,]+)*)(?: (\S+))?(?: .*)?', re.DOTALL)
_NO_REQUEST = Rejected("not_a_request", "request", "no request for a page, or not for one that the line tells")
NO_CLIENT = Rejected("not_a_log_line", "client", "no client: neither an address nor a host's name")
_HOST_AS_CLIENT = Rejected(
    "not_a_log_line", "client", "the client is in a later field, the first is a host or of a prefix that is not known"
)


class Layout(Enum):
    """What stands before the time: the client alone or first, or a virtual host before or behind it."""

    CLIENT_FIRST = auto()
    HOST_FIRST = auto()
    HOST_SECOND = auto()


@dataclass(frozen=True)
class Rules:
    """How lines of a log are taken. `site` is that of all lines, or of those without a host if `host_is_site`.

    `paths` says that absolute targets are paths with the host before, as proxies write them; `with_port`, that each address
    has a port behind it.
    """

    site: str
    host_is_site: bool = False
    layout: Layout = Layout.CLIENT_FIRST
    paths: bool = False
    with_port: bool = False


Who = tuple[str | None, str, Rejected]
"""Visitor and site; without a visitor, why there is none."""


class _Known(dict[str, str | None]):
    """The visitor of each text before a time.

    All are forgotten at once where they are too many: to keep account of which was met last costs more than that.
    """

    def __init__(self, who: Callable[[str], Who]) -> None:
        self._who = who

    def __missing__(self, text: str) -> str | None:
        if len(self) >= _CACHED:
            self.clear()
        visitor = self[text] = self._who(text)[0]
        return visitor


class Events:
    """Makes the events of one log; counts what it leaves out into `notes`."""

    def __init__(self, rules: Rules, pseudonyms: Pseudonyms, times: Times, notes: Notes) -> None:
        self._rules, self._pseudonyms, self._notes = rules, pseudonyms, notes
        self._utc = times.utc
        self.who: Callable[[str], Who] = lru_cache(_CACHED)(self._who)
        self.visitor_id = _Known(self._who).__getitem__
        self._site = lru_cache(_CACHED)(self._site_of)

    def event(self, event_id: str, it: Logged) -> Event | Rejected:
        """The event of what a line says, or why it is none."""
        request, status, size = request_of(it.request), it.status, it.size or 0
        referrer = None if it.referrer in _NONE else it.referrer
        user_agent = None if it.user_agent in _NONE else it.user_agent
        if request is None or is_placeholder(request, status, user_agent):
            return _NO_REQUEST
        visitor, site, why_not = self.who(it.client)
        if visitor is None:
            return why_not
        try:
            time = self._utc(it.time)
        except BadTime as bad:
            return Rejected("bad_time", "time", f"the time {bad}")
        if size and (request.method == "HEAD" or status in _NO_BODY):
            if request.method == "HEAD":
                self._notes.sizes_of_head += 1
            else:
                self._notes.sizes_of_headers += 1
            size = 0
        if referrer is not None and len(referrer) > MAX_PAGE_LENGTH:
            referrer = self._cut(referrer)
        if user_agent is not None and len(user_agent) > MAX_PAGE_LENGTH:
            user_agent = self._cut(user_agent)
        if self._rules.host_is_site:
            host = it.host or (request.host if self._rules.paths else None)
            site = self._site(host) if host else site
        return Event(
            event_id=event_id,
            event_time=time,
            site=site,
            page=request.path if self._rules.paths else request.target,
            visitor_id=visitor,
            status=status,
            bytes_sent=size,
            duration_ms=it.duration_ms,
            referrer=referrer,
            user_agent=user_agent,
        )

    def _cut(self, text: str) -> str:
        self._notes.cut_texts += 1
        return text[:MAX_PAGE_LENGTH]

    def _who(self, text: str) -> Who:
        first, second = first_fields(text)
        client, host = (second, first) if self._rules.layout is Layout.HOST_FIRST else (first, second)
        site = self._rules.site
        if self._rules.host_is_site and self._rules.layout is not Layout.CLIENT_FIRST:
            site = self._site(host)
        if (address := client_address(client, self._rules.with_port)) is not None:
            return self._pseudonyms.of(address), site, NO_CLIENT
        if (name := client_name(client)) is None:
            return None, site, NO_CLIENT
        known = 1 if self._rules.layout is Layout.CLIENT_FIRST else 2
        if any(address_of(field) for field in text.split(" ")[known:]):
            return None, site, _HOST_AS_CLIENT
        return self._pseudonyms.of(name), site, NO_CLIENT

    def _site_of(self, host: str) -> str:
        return site_of(host) or self._rules.site


def first_fields(text: str) -> tuple[str, str]:
    """The first two fields of what stands before a time; a list of addresses is one, and so is a text in quotes."""
    if '"' not in text and "," not in text:
        first, _, rest = text.partition(" ")
        return first, rest.partition(" ")[0]
    match = _FIRST_FIELDS.fullmatch(text)
    return (match[1], match[2] or "") if match else ("", "")


def layout_of(texts: list[str]) -> Layout:
    """The layout that most of these have."""
    hosts_first = hosts_second = 0
    for text in texts:
        first, second = first_fields(text)
        if address_of(second):
            # Of two addresses the first is the client, but for one with a port before one without.
            hosts_first += address_of(first) is None or first.count(":") == 1
        elif (
            (client_address(first) or client_name(first))
            and not second.startswith("[")
            and ("." in second or ":" in second)
            and site_of(second)
        ):
            # Of two names: behind a host come client, identity and user, behind a client's host only a user.
            is_first = address_of(first) is None and text.count(" ") >= _FIELDS_BEHIND_A_HOST
            hosts_first, hosts_second = hosts_first + is_first, hosts_second + (not is_first)
    if 2 * hosts_first > len(texts):
        return Layout.HOST_FIRST
    return Layout.HOST_SECOND if 2 * hosts_second > len(texts) else Layout.CLIENT_FIRST
