"""Times of events: RFC 3339 as it is written by the libraries of many languages, and what is met in its place."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

_decode = msgspec.json.Decoder(datetime).decode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""Beyond that, in UTC, no year has four digits."""
# Events that come one after the other often have one time, in whole seconds.
_CACHED = 1 << 12
# Up to here a time has six digits of a second at most, if that.
_MICROSECONDS_END = len("YYYY-MM-DDThh:mm:ss.ffffff")
# Java leaves out seconds that are 0 and adds the zone's name; PostgreSQL leaves out minutes of an offset.
_KNOWN = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2})(?:(:[0-9]{2})(?:(\.[0-9]{1,6})[0-9]*)?)?"
    r"(?:([Zz])|([+-][0-9]{2})(?::?([0-9]{2}))?)(?:\[[A-Za-z0-9_+/-]+\])?"
)
_FORMS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"[0-9]+(\.[0-9]+)?", "is a number, as of seconds or milliseconds since 1970"),
        (r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "is a date without a time"),
        (r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?", "has no offset from UTC"),
        (r"[0-9-]{10}[Tt ][0-9:]{5,8}(\.[0-9]+)? .*", "has a blank before its offset"),
        (r"[0-9-]{10}[Tt ][0-9:]{8},.*", "has a comma before the fraction"),
        (r"[0-9-]{10}[Tt ][0-9:.]+[+-][0-9]{2}:?[0-9]{2}:?[0-9]{2}", "has an offset with seconds"),
        (r"[0-9]{8}T.*", "is without hyphens"),
        (r"[0-9]{4}-W[0-9]{2}.*", "has a week in place of a month"),
        (r"[0-9]+/([0-9]+|[^/]+)/[0-9]+.*", "has a date with slashes"),
        (r"[^0-9]{2,5},? .*", "begins with the name of a day or month"),
    )
)


class BadTime(ValueError):
    """A text is no time of an event; says which form it has, and quotes nothing of it."""


def time_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time with offset, further digits cut; BadTime of anything else."""
    try:
        # What a seventh digit would be is rounded there.
        moment = _decoded(text if not text[_MICROSECONDS_END:][:1].isdigit() else _usual(text))
    except ValueError:
        moment = _decoded(_usual(text))
    microseconds = (moment - _EPOCH) // _MICROSECOND
    if microseconds < 0:
        raise BadTime("is before 1970")
    return microseconds


@lru_cache(_CACHED)
def _decoded(text: str) -> datetime:
    try:
        moment = _decode(msgspec.json.encode(text))
        if moment.tzinfo is None:
            raise BadTime("has no offset from UTC")
        return moment
    except (msgspec.MsgspecError, OverflowError):
        raise BadTime("is no date or time that exists") from None


def _usual(text: str) -> str:
    """The time in the form that is most usual."""
    match = _KNOWN.fullmatch(text)
    if match is None:
        raise BadTime(next((what for form, what in _FORMS if form.fullmatch(text)), "has no form that is known"))
    day, minute, second, fraction, zulu, hours, minutes = match.groups()
    offset = "Z" if zulu else f"{hours}:{minutes or '00'}"
    return f"{day}T{minute}{second or ':00'}{fraction or ''}{offset}"
