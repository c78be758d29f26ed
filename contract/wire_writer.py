"""Columns of events written in the wire form, many at once: decode() reads the very same events from it.

Byte for byte it is what encode() writes of each event with its time in UTC. An event with a number that is no short
decimal is left to encode() itself.

What the loop writes is also forms 1 and 2 of the values that archive files leave out. So it must write the same of the same
columns for ever: whoever wants something else written adds a form, and keeps these for the files that name them. A file
names the columns, one text each, in the order in which they are written: contract/value_form.py says how.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.columns import column_of, integers, texts
from contract.decoder import Decoder
from contract.event import EVENTS
from contract.fields import Decimal, Double, Enumeration, Field, Text, Timestamp
from contract.loops.wire import END, OBJECT
from contract.loops.wire_writer import MOST_ADDED_BYTES, MOST_ESCAPE_BYTES, write_records
from contract.stream import members_of
from contract.value_form import fields_in, form_of
from contract.wire import Step, steps_of, table_of

_SPACE, _QUOTE, _BACKSLASH = b' "\\'


class _Form(NamedTuple):
    """The steps through an event, as they are and as the loop knows them, and the bytes before each, with their bounds."""

    steps: list[Step]
    table: NDArray[np.void]
    befores: NDArray[np.uint8]
    before_bounds: NDArray[np.int64]


def encode_all(events: pl.DataFrame, decoder: Decoder = EVENTS) -> list[bytes]:
    """The wire form of each event; the frame has at least the fields' own columns of the decoder's schema."""
    written = write(events, form_of(decoder.stream).fields)
    values: list[bytes] = written.to_list()
    for place in np.flatnonzero((written.bin.size() == 0).to_numpy()).tolist():
        values[place] = decoder.encode_row(events.row(place, named=True))
    return values


def write(events: pl.DataFrame, fields: Sequence[str]) -> pl.Series:
    """These columns of each event, nulls left out, in the form that the texts of a ValueForm say.

    Empty if a number in it is no short decimal.
    """
    types = tuple((name, dtype.base_type()) for name, dtype in events.schema.items())
    form = _form(tuple(fields), types)
    steps = form.steps
    shape = (len(steps), len(events))
    present, numbers, doubles = np.ones(shape, np.bool_), np.zeros(shape, np.int64), np.zeros(shape, np.float64)
    bounds = np.zeros((len(steps), len(events) + 1), np.int64)
    contents: list[NDArray[np.uint8]] = []
    content_bytes = 0
    for number, field in enumerate(step.field for step in steps):
        if field is None:
            continue
        column = events[field.name]
        if column.null_count():
            present[number] = column.is_not_null().to_numpy()
        match field:
            case Text() | Enumeration():
                content, ends = texts(column)
                # Of a slice the content is that of the whole column.
                contents.append(content[ends[0] : ends[-1]])
                bounds[number] = ends - ends[0] + content_bytes
                content_bytes += len(contents[-1])
            case Double():
                doubles[number] = column.fill_null(0.0).to_numpy()
            case _:
                numbers[number] = _whole_numbers(field, column)
    _mark_objects(steps, present)
    content = np.concatenate(contents) if contents else np.zeros(0, np.uint8)
    escapes = int(np.count_nonzero((content < _SPACE) | (content == _QUOTE) | (content == _BACKSLASH)))
    most_added = len(form.befores) + len(steps) * MOST_ADDED_BYTES + 1
    room = content_bytes + escapes * (MOST_ESCAPE_BYTES - 1) + len(events) * most_added
    out, ends = np.empty(room, np.uint8), np.zeros(len(events) + 1, np.int64)
    size = write_records(form.table, form.befores, form.before_bounds, content, bounds, present, numbers, doubles, out, ends)
    return column_of("value", pa.large_binary(), out[:size], ends)


@cache
def _form(texts: tuple[str, ...], types: tuple[tuple[str, type[pl.DataType]], ...]) -> _Form:
    """What the texts of a ValueForm say of columns of these types: to work it out takes as long as to write 200 events."""
    fields, is_first_form = fields_in(texts, dict(types))
    steps = steps_of(members_of(fields), is_first_form)
    befores = [step.before for step in steps]
    bounds = np.array([0, *accumulate(map(len, befores))])
    return _Form(steps, table_of(steps), np.frombuffer(b"".join(befores), np.uint8), bounds)


def _whole_numbers(field: Field, column: pl.Series) -> NDArray[np.int64]:
    """As the loop takes them; what is null is any."""
    if isinstance(field, Timestamp) and not column.null_count():
        return integers(column)
    if isinstance(field, Timestamp | Decimal):
        column = column.to_physical()
    return column.cast(pl.Int64).fill_null(0).to_numpy()


def _mark_objects(steps: Sequence[Step], present: NDArray[np.bool_]) -> None:
    """An object is written if something in it is."""
    for number in range(len(steps) - 1, -1, -1):
        if steps[number].kind == END:
            present[number] = False
        elif steps[number].kind == OBJECT:
            present[number] = present[number + 1 : number + 1 + steps[number].steps_within].any(axis=0)
