"""Columns of events written in the wire form, many at once: decode() reads the very same events from it.

Byte for byte it is what encode() writes of each event with its time in UTC. An event whose duration has more than three
decimals is left to encode() itself.

What the loop writes is also form 1 of the values that archive files leave out. So it must write the same of the same columns
for ever: whoever wants something else written adds a form, and keeps this one for the files that name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.columns import column_of, integers, texts
from contract.event import FIELDS, Event, encode
from contract.loops.wire import FLOAT, INTEGER, TEXT, TIME
from contract.loops.wire_writer import MOST_ADDED_BYTES, MOST_ESCAPE_BYTES, write_records
from contract.wire import before

_SPACE, _QUOTE, _BACKSLASH = b' "\\'
_KINDS = {pl.String: TEXT, pl.Datetime: TIME, pl.Int32: INTEGER, pl.Int64: INTEGER, pl.Float64: FLOAT}


def encode_all(events: pl.DataFrame) -> list[bytes]:
    """The wire form of each event; the frame has at least the event's own columns of EVENT_SCHEMA."""
    written = write(events, FIELDS)
    values: list[bytes] = written.to_list()
    for place in np.flatnonzero((written.bin.size() == 0).to_numpy()).tolist():
        values[place] = _encoded(events.row(place, named=True))
    return values


def write(events: pl.DataFrame, fields: Sequence[str]) -> pl.Series:
    """Form 1 of each event: these columns in their order, nulls left out; empty if a number in it is no short decimal."""
    kinds, names, name_ends = _form(tuple((name, _KINDS[events.schema[name].base_type()]) for name in fields))
    shape = (len(fields), len(events))
    present, numbers, decimals = np.ones(shape, np.bool_), np.zeros(shape, np.int64), np.zeros(shape, np.float64)
    bounds = np.zeros((len(fields), len(events) + 1), np.int64)
    contents: list[NDArray[np.uint8]] = []
    content_bytes = 0
    for number, (name, kind) in enumerate(zip(fields, kinds, strict=True)):
        column = events[name]
        if column.null_count():
            present[number] = column.is_not_null().to_numpy()
        if kind == TEXT:
            content, ends = texts(column)
            # Of a slice the content is that of the whole column.
            contents.append(content[ends[0] : ends[-1]])
            bounds[number] = ends - ends[0] + content_bytes
            content_bytes += len(contents[-1])
        elif kind == FLOAT:
            decimals[number] = column.fill_null(0.0).to_numpy()
        else:
            numbers[number] = integers(column) if kind == TIME else column.fill_null(0).to_numpy()
    content = np.concatenate(contents)
    escapes = int(np.count_nonzero((content < _SPACE) | (content == _QUOTE) | (content == _BACKSLASH)))
    most_added = len(names) + len(fields) * MOST_ADDED_BYTES + 1
    room = content_bytes + escapes * (MOST_ESCAPE_BYTES - 1) + len(events) * most_added
    out, ends = np.empty(room, np.uint8), np.zeros(len(events) + 1, np.int64)
    size = write_records(kinds, names, name_ends, content, bounds, present, numbers, decimals, out, ends)
    return column_of("value", pa.large_binary(), out[:size], ends)


def _encoded(row: dict[str, Any]) -> bytes:
    moment = row["event_time"].astimezone(UTC)
    in_milliseconds = moment.microsecond and moment.microsecond % 1_000 == 0
    event_time = moment.isoformat(timespec="milliseconds" if in_milliseconds else "auto").replace("+00:00", "Z")
    return encode(Event(**{name: row[name] for name in FIELDS} | {"event_time": event_time}))


@cache
def _form(fields: tuple[tuple[str, int], ...]) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """The kinds of the fields, all that is written before their values, and its bounds."""
    names = [before(name, kind, is_first=number == 0) for number, (name, kind) in enumerate(fields)]
    return (
        np.array([kind for _, kind in fields]),
        np.frombuffer(b"".join(names), np.uint8),
        np.array([0, *accumulate(map(len, names))]),
    )
