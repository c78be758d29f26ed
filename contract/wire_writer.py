"""Columns of events written in the wire form, many at once: decode() reads the very same events from it.

Byte for byte it is what encode() writes of each event with its time in UTC. An event whose duration has more than three
decimals is left to encode() itself.
"""

from __future__ import annotations

from datetime import UTC
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.columns import integers, texts
from contract.event import EVENT_SCHEMA, FIELDS, Event, encode
from contract.loops.wire import FLOAT, TEXT, TIME
from contract.loops.wire_writer import MOST_ADDED_BYTES, MOST_ESCAPE_BYTES, write_records
from contract.wire import Field, fields_of

_SPACE, _QUOTE, _BACKSLASH = b' "\\'


def encode_all(events: pl.DataFrame) -> list[bytes]:
    """The wire form of each event; the frame has at least the event's own columns of EVENT_SCHEMA."""
    fields, (kinds, names, name_ends) = _form()
    shape = (len(fields), len(events))
    present, numbers, decimals = np.ones(shape, np.bool_), np.zeros(shape, np.int64), np.zeros(shape, np.float64)
    bounds = np.zeros((len(fields), len(events) + 1), np.int64)
    contents: list[NDArray[np.uint8]] = []
    content_bytes = 0
    for number, field in enumerate(fields):
        column = events[field.name]
        if column.null_count():
            present[number] = column.is_not_null().to_numpy()
        if field.kind == TEXT:
            content, ends = texts(column)
            # Of a slice the content is that of the whole column.
            contents.append(content[ends[0] : ends[-1]])
            bounds[number] = ends - ends[0] + content_bytes
            content_bytes += len(contents[-1])
        elif field.kind == FLOAT:
            decimals[number] = column.fill_null(0.0).to_numpy()
        else:
            numbers[number] = integers(column) if field.kind == TIME else column.to_numpy()
    content = np.concatenate(contents)
    escapes = int(np.count_nonzero((content < _SPACE) | (content == _QUOTE) | (content == _BACKSLASH)))
    room = content_bytes + escapes * (MOST_ESCAPE_BYTES - 1) + len(events) * (len(names) + MOST_ADDED_BYTES)
    out, ends = np.empty(room, np.uint8), np.zeros(len(events) + 1, np.int64)
    size = write_records(kinds, names, name_ends, content, bounds, present, numbers, decimals, out, ends)
    written = out[:size].tobytes()
    values = [written[first:after] for first, after in pairwise(ends.tolist())]
    for place in np.flatnonzero(ends[1:] == ends[:-1]).tolist():
        values[place] = _encoded(events.row(place, named=True))
    return values


def _encoded(row: dict[str, Any]) -> bytes:
    moment = row["event_time"].astimezone(UTC)
    in_milliseconds = moment.microsecond and moment.microsecond % 1_000 == 0
    event_time = moment.isoformat(timespec="milliseconds" if in_milliseconds else "auto").replace("+00:00", "Z")
    return encode(Event(**{name: row[name] for name in FIELDS} | {"event_time": event_time}))


@cache
def _form() -> tuple[list[Field], tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]]:
    """The fields, and for the loop: their kinds, all that is written before their values, and its bounds."""
    columns = EVENT_SCHEMA.to_frame().to_arrow().schema
    fields = fields_of(Event, dict(zip(columns.names, columns.types, strict=True)))
    names = [field.before(is_first=number == 0) for number, field in enumerate(fields)]
    return fields, (
        np.array([field.kind for field in fields]),
        np.frombuffer(b"".join(names), np.uint8),
        np.array([0, *accumulate(map(len, names))]),
    )
