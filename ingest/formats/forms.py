"""A way to write a line, as a regular expression of named fields, that says where a line stops to be of it."""

from __future__ import annotations

import re
from functools import cached_property
from operator import itemgetter

from ingest.formats.logged import LineForm, Logged, Stop

_GROUPS = ("client", "time", "request", "status", "size", "ms", "seconds", "referrer", "user_agent", "host")
CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
DAY = r'[0-9]{2}/[^\s/\[\]"]{1,20}/[0-9]{4}'
SIZE = r"[0-9]{1,18}|-"


class Form(LineForm):
    """Fields in the order in which they stand: each one's name and its pattern, with what is before it.

    The patterns have groups of the names that Logged has. `ms` or `seconds` is the duration: of several numbers, which are
    -1 where a part did not come to be, their sum.
    """

    def __init__(self, *fields: tuple[str, str]) -> None:
        self._fields = fields
        compiled = re.compile("".join(pattern for _, pattern in fields), re.DOTALL)
        self._match = compiled.fullmatch
        # Group 0 stands for a field that the form does not have; it is taken away before.
        self._pick = itemgetter(*(compiled.groupindex.get(name, 0) for name in _GROUPS))

    def read(self, text: str) -> Logged | None:
        """What the line says, if it is of this form."""
        match = self._match(text)
        if match is None:
            return None
        client, time, request, status, size, ms, seconds, referrer, user_agent, host = self._pick((None, *match.groups()))
        duration_ms = None
        if ms is not None:
            duration_ms = float(ms) if ms != "-" else None
        elif seconds is not None:
            duration_ms = round(sum(max(float(part), 0.0) for part in seconds.split()) * 1000, 3)
        return Logged(
            client,
            time,
            request,
            int(status or 0),
            None if size is None or size == "-" else int(size),
            duration_ms,
            referrer,
            user_agent,
            None if host == "-" else host,
        )

    def stop(self, text: str) -> Stop:
        """Where a line that is not of this form stops to be."""
        column = 1
        for name, begun in self._begun:
            match = begun.match(text)
            if match is None:
                return Stop(name, column)
            column = match.end() + 1
        return Stop("end", column)

    @cached_property
    def _begun(self) -> list[tuple[str, re.Pattern[str]]]:
        """Each field's name, and a pattern of all up to it."""
        patterns = [pattern for _, pattern in self._fields]
        return [
            (name, re.compile("".join(patterns[: number + 1]), re.DOTALL)) for number, (name, _) in enumerate(self._fields)
        ]
