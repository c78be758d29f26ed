"""Access logs in Common and Combined Log Format: a line is an Event or None, never an exception.

Apache and nginx write them. nginx may append quoted fields and, last, `$request_time` in seconds, which becomes duration_ms.
Sources: Apache mod_log_config, nginx ngx_http_log_module.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from contract.event import MAX_VALUE_BYTES, Event

if TYPE_CHECKING:
    from contract.log_line import UsualLines

_QUOTED = r'[^"\\]*(?:\\.[^"\\]*)*'
# The user agent is the last counted field; a line that was cut inside it still states everything that is counted.
#
# The work grows as the line does. What comes next in the pattern cannot begin with a character that a repeat gives back; for
# this, white space at the end is taken away before. Only `.*?` tries again, at each `[time] "`: an attempt takes quotes in
# turn, another that begins inside of it must begin at a quote that closes for it; so no character is read in more than two.
# (Possessive repeats would say so themselves, but Python 3.11.2 matches nested ones wrongly.)
_LINE = re.compile(
    r"(\S{1,253}) \S+ .*?\[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\] "
    rf'"[A-Za-z][A-Za-z_-]* ({_QUOTED})" ([0-9]{{3}}) ([0-9]{{1,18}}|-)'
    rf'(?: "({_QUOTED})" "({_QUOTED})(?:"(?: "{_QUOTED}")*(?: ([0-9]{{1,9}}\.[0-9]+|-))?)?)?'
)
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_NUMBERS_AND_DOTS = re.compile(r"[0-9.]+")
_MONTHS = {
    name: number
    for number, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)
}
_CACHED = 1 << 17


class AccessLog:
    """Parser of one log. Client addresses become keyed pseudonyms, so no address leaves this object."""

    def __init__(self, source: str, site: str, visitor_key: str) -> None:
        self._source, self._site, self._key = source, site, visitor_key.encode()
        self._visitor_id = lru_cache(_CACHED)(self.pseudonym)

    @cached_property
    def usual_lines(self) -> UsualLines:
        """What reads lines of the usual form many at once, as event() and encode() do."""
        from contract.log_line import UsualLines  # takes a second: short logs and other verbs do without

        return UsualLines(self._source, self._site, self._visitor_id)

    def event(self, offset: int, line: bytes) -> Event | None:
        """The event of the line at a byte offset; its id is source + offset, so a file read again counts nothing twice."""
        if len(line) > MAX_VALUE_BYTES:
            return None  # only its beginning may be here, so what it says is not known
        # Bytes that are not UTF-8 become \xhh, as both servers write them themselves.
        match = _LINE.fullmatch(line.decode("utf-8", "backslashreplace").rstrip())
        if match is None:
            return None
        client, time, request, status, size, referrer, user_agent, seconds = match.groups()
        visitor_id, event_time, page = self._visitor_id(client), _utc(time), _target(request)
        if visitor_id is None or event_time is None or page is None:
            return None
        return Event(
            event_id=f"{self._source}:{offset}",
            event_time=event_time,
            site=self._site,
            page=page,
            visitor_id=visitor_id,
            status=int(status),
            bytes_sent=0 if size == "-" else int(size),
            duration_ms=None if seconds is None or seconds == "-" else round(float(seconds) * 1000, 3),
            referrer=None if referrer == "-" else referrer,
            user_agent=None if user_agent == "-" else user_agent,
        )

    def pseudonym(self, client: str) -> str | None:
        """HMAC-SHA256 of the client's address or host name, cut to 32 hex digits; None if it is neither."""
        if ":" in client or _NUMBERS_AND_DOTS.fullmatch(client):
            try:
                client = str(ip_address(client))
            except ValueError:
                return None
        elif not _HOST_NAME.fullmatch(client):
            return None
        return hmac.new(self._key, client.encode(), hashlib.sha256).hexdigest()[:32]


@lru_cache(_CACHED)
def _utc(time: str) -> str | None:
    """RFC 3339 in UTC of a time like `17/May/2015:10:05:03 +0000`; None if there is no such time."""
    try:
        east = timedelta(hours=int(time[22:24]), minutes=int(time[24:26]))
        zone = timezone(east if time[21] == "+" else -east)
        day, month, year = int(time[:2]), _MONTHS[time[3:6]], int(time[7:11])
        moment = datetime(year, month, day, int(time[12:14]), int(time[15:17]), int(time[18:20]), tzinfo=zone)
        return moment.astimezone(UTC).isoformat()[:19] + "Z"
    except (ValueError, OverflowError, KeyError):
        return None


def _target(request: str) -> str | None:
    """The target as it stands, of a request without its method: `target PROTOCOL`, or HTTP/0.9's `target`; None if blank."""
    target, space, protocol = request.rpartition(" ")
    if not (space and protocol.startswith("HTTP/")):
        target = request
    return target if target and not target.isspace() else None
