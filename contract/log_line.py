"""Access-log lines of the usual form written as the wire form of their events, many at once, by compiled loops.

A line is of the usual form if it is plain ASCII, in Common or Combined Log Format with nothing missing and quotes escaped,
asks for a path, and none of its texts, numbers and times needs a second look: each field is then where it must be, and
within the limits of an event. The loops write byte for byte what encode() writes of the event that ingest/formats finds in
the line; that alone judges every other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import NamedTuple

import msgspec
import numpy as np

from contract.event import MAX_VALUE_BYTES
from contract.loops.log_line import (
    DROPPED,
    LINE,
    LINE_END,
    MOST_ADDED_BYTES,
    MOST_ESCAPE_BYTES,
    OF_HEAD,
    OF_HEADERS,
    ROWS,
    VISITOR,
    VISITOR_BYTES,
    write_clients,
    write_events,
    write_visitors,
)

_NOBODY = "0" * VISITOR_BYTES


class UsualBlock(NamedTuple):
    """Visitor and event of each line, None and b"" of other forms; of these their number, where they begin and where they
    end.

    `sizes_of_head` and `sizes_of_headers` are how many sizes were left out, since no body was sent: as answers to HEAD, and
    as answers of another kind, whose sizes are then of their headers.
    """

    visitors: list[str | None]
    values: list[bytes]
    others: list[tuple[int, int, int]]
    sizes_of_head: int
    sizes_of_headers: int


class UsualLines:
    """Lines of one log. `visitor_id` gives the pseudonym of 32 ASCII characters of what stands before the time, or None."""

    def __init__(self, source: str, site: str, visitor_id: Callable[[str], str | None]) -> None:
        self._visitor_id = visitor_id
        before = (
            b'{"event_id":' + msgspec.json.encode(source + ":")[:-1],
            b'","event_time":"',
            b'","site":' + msgspec.json.encode(site) + b',"page":"',
            b'","visitor_id":"',
            b'","status":',
            b',"bytes_sent":',
            b',"duration_ms":',
            b',"referrer":"',
            b',"user_agent":"',
        )
        self._before = np.frombuffer(b"".join(before), np.uint8)
        self._before_ends = np.array([0, *accumulate(map(len, before))])

    def read(self, offset: int, block: bytes, last_day: int) -> UsualBlock:
        """What the lines of a block say that begins at `offset` of the log.

        A line of after `last_day`, in UTC and like 20150517, is of another form: it may be too far ahead.
        """
        lines = block.count(b"\n") + 1
        found = np.empty((ROWS, lines), np.int64)
        escapes = MOST_ESCAPE_BYTES * block.count(b"\\")
        written = np.empty(len(block) + escapes + lines * (len(self._before) + MOST_ADDED_BYTES), np.uint8)
        text = np.frombuffer(block, np.uint8)
        size = write_events(text, offset, MAX_VALUE_BYTES, last_day, self._before, self._before_ends, found, written)
        events = written[: size - 1]
        # Texts are taken apart and looked up as a whole: a turn of a loop of Python's takes longer than either.
        clients = np.empty(len(block) + lines, np.uint8)
        clients_size = write_clients(text, found, clients)
        visitors = list(map(self._visitor_id, clients[: clients_size - 1].tobytes().decode("ascii").split("\n")))
        known: Iterable[str] = filter(None, visitors)
        others = []
        if not all(visitors):
            numbers = [number for number, visitor in enumerate(visitors) if visitor is None]
            others = [(number, int(found[LINE, number]), int(found[LINE_END, number])) for number in numbers]
            found[DROPPED, numbers] = 0
            # Nothing that was in memory before may stay in the room for a visitor: it could be a line end.
            known = [visitor or _NOBODY for visitor in visitors]
        write_visitors(np.frombuffer("".join(known).encode(), np.uint8), found[VISITOR], written)
        values = events.tobytes().split(b"\n")
        for number, _, _ in others:
            values[number] = b""
        of_head, of_headers = (int(np.count_nonzero(found[DROPPED] == of)) for of in (OF_HEAD, OF_HEADERS))
        return UsualBlock(visitors, values, others, of_head, of_headers)
