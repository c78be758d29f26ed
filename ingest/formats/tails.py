"""What may stand behind a Common or Combined line, and the duration in it, if it is of a form that is known to have one."""

from __future__ import annotations

import re

QUOTED = r'[^"\\]*(?:\\.[^"\\]*)*'
_KNOWN = (
    # nginx with $request_time as the last field, maybe behind others in quotes; Rack's and Puma's duration.
    rf'(?: "{QUOTED}")*(?: (?P<nginx>[0-9]{{1,9}}\.[0-9]+))',
    # ingress-nginx: request length, time, proxy, alternative, upstream's address, length, time, status, and request's id.
    r" [0-9]+ (?P<ingress>[0-9]{1,9}\.[0-9]{3}) \[[^\]]*\] \[[^\]]*\] .*",
    # Traefik: number, router, server, and milliseconds.
    rf' [0-9]+ "{QUOTED}" "{QUOTED}" (?P<traefik_ms>[0-9]{{1,12}})ms',
    # HAProxy's CLF: port, milliseconds, frontend, backend, server, and five times, of which the last is of all.
    rf' [0-9]+ [0-9]{{3}} "{QUOTED}" "{QUOTED}" "{QUOTED}"(?: -?[0-9]+){{4}} \+?(?P<haproxy_ms>[0-9]{{1,12}}) .*',
    # nginx's documentation of its own times. What is in quotes may be of a header, which says whatever its client likes.
    rf'(?:[^"]|"{QUOTED}")* rt=(?P<rt>[0-9]{{1,9}}\.[0-9]{{3}})(?: .*)?',
)
_KNOWN_MATCH = re.compile("|".join(_KNOWN), re.DOTALL).fullmatch
_MICROSECONDS = re.compile(r" ([0-9]{1,15})")


def known_duration_ms(tail: str) -> float | None:
    """Milliseconds, if the rest of the line is of a known form; a number alone is of none, it may be anything."""
    match = _KNOWN_MATCH(tail)
    if match is None or match.lastgroup is None:
        return None
    number = float(match[match.lastgroup])
    return number if match.lastgroup.endswith("_ms") else round(number * 1000, 3)


def microseconds_ms(tail: str) -> float | None:
    """Milliseconds, if the rest of the line is the number that Apache writes for %D."""
    match = _MICROSECONDS.fullmatch(tail)
    return int(match[1]) / 1000 if match else None
