"""W3C Extended Log Format, as IIS and CloudFront write it: a line `#Fields: …` names the columns of those that follow.

Sources: https://www.w3.org/TR/WD-logfile.html, and what IIS and CloudFront document of their fields. Times are in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

from ingest.formats.logged import LineForm, Logged, Stop

_DIRECTIVE = "#Fields:"
_CACHED = 1 << 14
_NOT_SAID = frozenset({"", "-"})
_CLIENT, _DAY, _TIME, _METHOD, _STEM, _QUERY, _STATUS, _SIZE, _TAKEN, _REFERRER, _AGENT, _HOST = range(12)
_NAMES = (
    ("c-ip",),
    ("date",),
    ("time",),
    ("cs-method",),
    ("cs-uri-stem", "cs-uri"),
    ("cs-uri-query",),
    ("sc-status",),
    ("sc-bytes", "bytes"),
    ("time-taken",),
    ("cs(Referer)", "cs(Referrer)"),
    ("cs(User-Agent)",),
    ("x-host-header", "cs-host", "cs(Host)"),
)
_NEEDED = (_CLIENT, _DAY, _TIME, _METHOD, _STEM, _STATUS)


class W3cForm(LineForm):
    """Lines under the directive that came last; lines that begin with # are none of requests."""

    def __init__(self) -> None:
        self._columns: list[int | None] = [None] * len(_NAMES)
        self._count = 0
        self._separator: str | None = None
        self._reader_text: Callable[[str], str] = _with_blanks
        self.missing = [_NAMES[field][0] for field in _NEEDED]
        """The needed fields that the last directive lacks; all, if there was none."""

    def is_directive(self, text: str) -> bool:
        """Whether the line is about others; what it says holds from then on."""
        if text.startswith(_DIRECTIVE):
            names = text[len(_DIRECTIVE) :].split()
            self._count = len(names)
            self._columns = [next((names.index(name) for name in of if name in names), None) for of in _NAMES]
            self.missing = [_NAMES[field][0] for field in _NEEDED if self._columns[field] is None]
            # CloudFront separates values by tabs and writes what is odd in them as %xx; IIS writes + for a blank.
            is_cloudfront = "x-edge-location" in names
            self._separator = "\t" if is_cloudfront else None
            self._reader_text = _unquoted if is_cloudfront else _with_blanks
        return text.startswith("#")

    def read(self, text: str) -> Logged | None:
        """What the line says, if it has all columns and values where they are needed."""
        values = text.split(self._separator)
        if len(values) != self._count or self.missing:
            return None
        said = [None if place is None or values[place] in _NOT_SAID else values[place] for place in self._columns]
        client, day, time, method, stem, query, status, size, taken, referrer, agent, host = said
        if not (client and day and time and method and stem and status):
            return None
        target = f"{stem}?{query}" if query and "?" not in stem else stem
        try:
            return Logged(
                client,
                f"{day} {time} Z",
                f"{method} {target} HTTP/",
                int(status),
                int(size) if size else None,
                _duration_ms(taken) if taken else None,
                self._reader_text(referrer) if referrer else None,
                self._reader_text(agent) if agent else None,
                host,
            )
        except ValueError:
            return None

    def stop(self, text: str) -> Stop:
        """Where a line that is not of this form stops to be."""
        if self.missing:
            return Stop(f"#Fields with {self.missing[0]}", 1)
        values = text.split(self._separator)
        if len(values) != self._count:
            return Stop(f"value {min(len(values), self._count) + 1} of {self._count}", len(text) + 1)
        for field in _NEEDED:
            place = self._columns[field]
            if place is not None and values[place] in _NOT_SAID:
                return Stop(_NAMES[field][0], text.find(values[place]) + 1)
        return Stop("number", 1)


_unquoted = lru_cache(_CACHED)(unquote)


def _with_blanks(text: str) -> str:
    return text.replace("+", " ")


def _duration_ms(taken: str) -> float:
    """IIS writes milliseconds, without a point; CloudFront seconds."""
    return round(float(taken) * 1000, 3) if "." in taken else float(taken)
