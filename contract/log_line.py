"""Access-log lines of the usual form written as the wire form of their events, many at once, by compiled loops.

A line is of the usual form if it is plain ASCII, in Common or Combined Log Format with nothing missing and quotes escaped,
asks for a path, and none of its texts, numbers and times needs a second look: each field is then where it must be, and
within the limits of an event. The loops write byte for byte what encode() writes of the event that ingest/formats finds in
the line; that alone judges every other.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import msgspec
import numpy as np

from contract.event import MAX_VALUE_BYTES
from contract.loops.log_line import (
    DROPPED,
    MOST_ADDED_BYTES,
    MOST_ESCAPE_BYTES,
    OF_HEAD,
    OF_HEADERS,
    ROWS,
    VISITOR,
    VISITOR_BYTES,
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
        first, after, client_end, _, value, value_end, _ = found.tolist()
        visitor_id, characters = self._visitor_id, block.decode("latin-1")
        visitors = [visitor_id(characters[start:end]) for start, end in zip(first, client_end, strict=True)]
        others = [(number, first[number], after[number]) for number, visitor in enumerate(visitors) if visitor is None]
        for number, _, _ in others:
            value_end[number] = value[number]
            found[DROPPED, number] = 0
        ids = "".join([visitor or _NOBODY for visitor in visitors]).encode()
        write_visitors(np.frombuffer(ids, np.uint8), found[VISITOR], written)
        events = written[:size].tobytes()
        values = [events[start:end] for start, end in zip(value, value_end, strict=True)]
        of_head, of_headers = (int(np.count_nonzero(found[DROPPED] == of)) for of in (OF_HEAD, OF_HEADERS))
        return UsualBlock(visitors, values, others, of_head, of_headers)
