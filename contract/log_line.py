"""Access-log lines of the usual form written as the wire form of their events, many at once, by compiled loops.

A line is of the usual form if it is plain ASCII without backslashes, in common or combined format with nothing missing, and
none of its texts, numbers and times needs a second look: each field is then where it must be, and within the limits of an
event. The loops write byte for byte what encode() writes of the event that ingest/access_log.py finds in the line; it alone
judges every other line.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import msgspec
import numpy as np

from contract.event import MAX_VALUE_BYTES
from contract.loops.log_line import MOST_ADDED_BYTES, ROWS, VISITOR, VISITOR_BYTES, write_events, write_visitors

_NOBODY = "0" * VISITOR_BYTES


class UsualLines:
    """Lines of one log. `visitor_id` gives a client's pseudonym of 32 ASCII characters, or None if that is no client."""

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

    def read(
        self, offset: int, block: bytes, last_day: int
    ) -> tuple[list[str | None], list[bytes], list[tuple[int, int, int]]]:
        """Visitor and event of each line of a block that begins at `offset` of the log: None and b"" of other forms.

        Of these lines also their number in the block, where they begin in it and where they end. A line of after `last_day`,
        in UTC and like 20150517, is of another form: it may be too far ahead.
        """
        lines = block.count(b"\n") + 1
        found = np.empty((ROWS, lines), np.int64)
        written = np.empty(len(block) + lines * (len(self._before) + MOST_ADDED_BYTES), np.uint8)
        text = np.frombuffer(block, np.uint8)
        size = write_events(text, offset, MAX_VALUE_BYTES, last_day, self._before, self._before_ends, found, written)
        first, after, client_end, _, value, value_end = found.tolist()
        visitor_id, characters = self._visitor_id, block.decode("latin-1")
        visitors = [visitor_id(characters[start:end]) for start, end in zip(first, client_end, strict=True)]
        others = [(number, first[number], after[number]) for number, visitor in enumerate(visitors) if visitor is None]
        for number, _, _ in others:
            value_end[number] = value[number]
        ids = "".join([visitor or _NOBODY for visitor in visitors]).encode()
        write_visitors(np.frombuffer(ids, np.uint8), found[VISITOR], written)
        events = written[:size].tobytes()
        return visitors, [events[start:end] for start, end in zip(value, value_end, strict=True)], others
