"""Times as servers write them, in UTC as events have them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from contract.errors import InputError
from contract.event_time import BadTime
from ingest.formats.months import month_number

_CACHED = 1 << 17
_CLOCK = r"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_ZONE = r"(?: ?([+-][0-9]{2}(?:[:-]?[0-9]{2})?|[A-Za-z]{1,5}))?"
# `29/Nov/2026:03:14:40 +0000`, and with a blank before the time.
_DAY_FIRST = re.compile(rf"([0-9]{{2}})/([^\s/]+)/([0-9]{{4}})[: ]{_CLOCK}{_ZONE}")
_YEAR_FIRST = re.compile(rf"([0-9]{{4}})[-/]([0-9]{{2}})[-/]([0-9]{{2}})[Tt ]{_CLOCK}{_ZONE}")
# C's asctime, `Sun Nov 29 02:58:42 2026`, and Tornado's `261129 02:57:37`.
_ASCTIME = re.compile(rf"[A-Za-z]{{3}} ([A-Za-z]{{3}}) +([0-9]{{1,2}}) {_CLOCK} ([0-9]{{4}})")
_COMPACT = re.compile(rf"([0-9]{{2}})([0-9]{{2}})([0-9]{{2}}) {_CLOCK}")
_SECONDS_DIGITS = 10
_SUBSECONDS = (13, 16, 19)
# Squid gives each part its sign: `-03-30` is three hours and a half west, `+00-30` half an hour.
_OFFSET = re.compile(r"(-(?=[0-9]{2}-)|[+](?=00-)|[+-](?![0-9]{2}-))([0-9]{2})(?:([:-]?)([0-9]{2}))?")
_UTC_NAMES = frozenset({"Z", "z", "UTC", "GMT"})
# Nowhere is a clock so many minutes off; but in hundredths of an hour these are quarters.
_HUNDREDTHS = frozenset({25, 50, 75})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def zone_of(name: str) -> tzinfo:
    """The zone of LOG_ZONE=: a name such as Europe/Berlin, or an offset; InputError of anything else."""
    if name in _UTC_NAMES:
        return UTC
    try:
        return _offset(name, hundredths=False) if name[:1] in "+-" else ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise InputError(f"LOG_ZONE={name!r} is no zone such as Europe/Berlin, UTC or +02:00") from None


def is_in_hundredths(text: str) -> bool:
    """Whether a time's offset can only be in hundredths of an hour, as Paste's TransLogger writes it: +0575 in Nepal."""
    match = re.search(r"[+-][0-9]{2}([0-9]{2})$", text)
    return match is not None and int(match[1]) in _HUNDREDTHS


class Times:
    """Times of one log. `zone` is that of times that name none, `hundredths` says how offsets are written."""

    def __init__(self, zone: tzinfo | None = None, hundredths: bool = False) -> None:
        self._zone, self.hundredths = zone, hundredths
        self._whole: Callable[[str], str] = lru_cache(_CACHED)(self._utc)

    def utc(self, text: str) -> str:
        """RFC 3339 in UTC, at most microseconds, further digits cut; BadTime if there is no such time."""
        if len(text) in _SUBSECONDS and text.isdecimal():
            text = f"{text[:_SECONDS_DIGITS]}.{text[_SECONDS_DIGITS:]}"
        second, point, rest = text.partition("." if "." in text else ",")
        if not point:
            return self._whole(text)
        zone = rest.lstrip("0123456789")
        whole = self._whole(second + zone)
        fraction = rest[: len(rest) - len(zone)][:6].ljust(6, "0")
        if fraction == "000000":
            return whole
        return f"{whole[:-1]}.{fraction.removesuffix('000')}Z"

    def _utc(self, text: str) -> str:
        try:
            return f"{self._moment(text).astimezone(UTC).isoformat()[:19]}Z"
        except (ValueError, OverflowError) as error:
            raise error if isinstance(error, BadTime) else BadTime("is no date or time that exists") from None

    def _moment(self, text: str) -> datetime:
        if match := _DAY_FIRST.fullmatch(text):
            day, month, year, *clock, zone = match.groups()
            return self._of(int(year), month_number(month), int(day), clock, zone)
        if match := _YEAR_FIRST.fullmatch(text):
            year, month, day, *clock, zone = match.groups()
            return self._of(int(year), int(month), int(day), clock, zone)
        if match := _ASCTIME.fullmatch(text):
            month, day, *clock, year = match.groups()
            return self._of(int(year), month_number(month), int(day), clock, None)
        if match := _COMPACT.fullmatch(text):
            year, month, day, *clock = match.groups()
            return self._of(2000 + int(year), int(month), int(day), clock, None)
        # Of seconds since 1970 from 2001 to 2286.
        if len(text) == _SECONDS_DIGITS and text.isascii() and text.isdecimal():
            return _EPOCH + timedelta(seconds=int(text))
        raise BadTime("has no form that is known")

    def _of(self, year: int, month: int, day: int, clock: list[str], zone: str | None) -> datetime:
        moment = datetime(year, month, day, *map(int, clock))
        return moment.replace(tzinfo=self._tzinfo(zone, moment))

    def _tzinfo(self, zone: str | None, moment: datetime) -> tzinfo:
        if zone in _UTC_NAMES:
            return UTC
        if zone and zone[0] in "+-":
            return _offset(zone, self.hundredths)
        if self._zone is None:
            raise BadTime(f"has {'a zone that many places call ' + zone if zone else 'no zone'}; LOG_ZONE= says which it is")
        if zone and zone != self._zone.tzname(moment):
            raise BadTime(f"is of zone {zone}, and LOG_ZONE= had {self._zone.tzname(moment)} then")
        return self._zone


def _offset(text: str, hundredths: bool) -> timezone:
    match = _OFFSET.fullmatch(text)
    if match is None:
        raise ValueError
    hours, minutes = int(match[2]), int(match[4] or 0)
    if hundredths:
        minutes = minutes * 60 // 100
    elif minutes in _HUNDREDTHS or minutes >= 60:
        raise BadTime(f"has the offset {text}, as in hundredths of an hour; LOG_FORMAT=translogger reads it so")
    east = timedelta(hours=hours, minutes=minutes)
    return timezone(-east if "-" in (match[1], match[3]) else east)
