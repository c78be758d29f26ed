"""The wire form of events read straight into columns, many records at once: what encode() writes, and little else.

A record is read here only if it is of the one form that needs no JSON parser: the fields in their order, without white
space and escapes, numbers and times of the usual forms, each within its limits. So the JSON decoder would read the same
from it; every other record is left to the decoder, which alone judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.fields import Boolean, Decimal, Double, Enumeration, Field, Integer, Text, Timestamp
from contract.loops.wire import (
    BOOLEAN,
    CHOICE,
    DECIMAL,
    DOUBLE,
    END,
    FLOAT,
    INTEGER,
    OBJECT,
    READ_AHEAD,
    STEP,
    TEXT,
    TIME,
    WORD_BYTES,
    read_plain_records,
    read_records,
)
from contract.records import PADDING_BYTES, Piece
from contract.stream import Members, Stream, is_optional
from contract.value_form import is_of_first_form

KINDS: dict[type[Field], int] = {
    Text: TEXT,
    Enumeration: CHOICE,
    Timestamp: TIME,
    Integer: INTEGER,
    Decimal: DECIMAL,
    Double: DOUBLE,
    Boolean: BOOLEAN,
}
QUOTED = (TEXT, CHOICE, TIME)
# Where the loop writes what is of these kinds; all else is among the integers.
_TEXTS, _FLOATS = (TEXT, CHOICE), (FLOAT, DOUBLE)


@dataclass(frozen=True)
class Step:
    """A step on the way through a record: to a field's value, into an object, or out of it.

    `before` is all that is written before what it leads to, as if something of the same object stood before it.
    """

    kind: int
    before: bytes = b""
    field: Field | None = None
    is_required: bool = True
    steps_within: int = 0
    """So many follow until it is left: of an object those of its members, and its end."""

    fields_within: int = 1
    """So many columns it fills."""


def steps_of(members: Members, is_first_form: bool) -> list[Step]:
    """The steps through an object, without its own beginning and end."""
    steps: list[Step] = []
    for name, member in members.items():
        spelled = b"," + msgspec.json.encode(name) + b":"
        if isinstance(member, Field):
            kind = KINDS[type(member)]
            if is_first_form and kind == DOUBLE:
                kind = FLOAT
            steps.append(Step(kind, spelled + b'"' * (kind in QUOTED), member, not member.optional))
        else:
            within = [*steps_of(member, is_first_form), Step(END)]
            fields = sum(step.field is not None for step in within)
            steps += [Step(OBJECT, spelled, None, not is_optional(member), len(within), fields), *within]
    return steps


def _limits(field: Field) -> tuple[float, float, int, int]:
    """As numbers with a fraction, or of a text's bytes, and as whole numbers."""
    match field:
        case Text():
            return 0 if field.optional else 1, field.most_characters, 0, 0
        case Integer():
            return 0, 0, field.least, field.most
        case Decimal():
            return 0, 0, *field.limits
        case Double():
            return field.least, field.most, 0, 0
    return 0, 0, 0, 0


def table_of(steps: Sequence[Step], time: str = "") -> NDArray[np.void]:
    """What the loops know of the steps; `time` is the field that records limit."""
    table = np.zeros(len(steps), STEP)
    column = choice = 0
    for row, step in zip(table, steps, strict=True):
        row["kind"], row["required"], row["before_bytes"] = step.kind, step.is_required, len(step.before)
        row["steps_within"], row["column"], row["column_after"] = step.steps_within, column, column + step.fields_within
        if step.field is None:
            continue
        column += 1
        row["least"], row["most"], row["least_whole"], row["most_whole"] = _limits(step.field)
        row["is_of_record"] = step.field.name == time
        row["places"] = step.field.places if isinstance(step.field, Decimal) else 0
        row["first_choice"] = choice
        choice += len(step.field.choices) if isinstance(step.field, Enumeration) else 0
        row["after_choice"] = choice
    return table


@dataclass(frozen=True)
class _Column:
    """How a field's column in Arrow is made of what the loop writes of it."""

    name: str
    kind: int
    dtype: pa.DataType
    is_optional: bool

    def of(self, items: NDArray[Any], present: NDArray[np.bool_], texts: Sequence[pa.Buffer]) -> pa.Array:
        """The column of these items, one a row; no byte of a text longer than 12 is copied."""
        if self.kind == BOOLEAN:
            items = np.packbits(items.astype(np.bool_), bitorder="little")
        elif self.kind == DECIMAL:
            # Arrow's have 128 bits.
            items = np.stack([items, items >> 63], axis=1)
        elif self.kind == INTEGER:
            items = items.astype(self.dtype.to_pandas_dtype(), copy=False)
        validity = pa.py_buffer(np.packbits(present, bitorder="little")) if self.is_optional else None
        further = texts if self.kind in _TEXTS else ()
        return pa.Array.from_buffers(self.dtype, len(present), [validity, pa.py_buffer(items), *further])


class WireForm:
    """Reads records of one stream."""

    def __init__(self, stream: Stream, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        steps = steps_of(stream.members, is_of_first_form(stream))
        schema = stream.schema.to_frame().to_arrow(compat_level=pl.CompatLevel.newest()).schema
        types = dict(zip(schema.names, schema.types, strict=True))
        fields = [(step.kind, step.field) for step in steps if step.field is not None]
        self._columns = [_Column(each.name, kind, types[each.name], each.optional) for kind, each in fields]
        choices = [choice.encode() for _, each in fields if isinstance(each, Enumeration) for choice in each.choices]
        longest = -max(len(step.before) for step in steps) // WORD_BYTES * -WORD_BYTES
        # Only form 1 has no number with a sign.
        self._read = read_plain_records if is_of_first_form(stream) else read_records
        self._form = (
            table_of(steps, stream.time),
            _words(step.before.ljust(longest, b"\0") for step in steps),
            _words((b"\xff" * len(step.before)).ljust(longest, b"\0") for step in steps),
            # Numba takes longer to know the type of an array that nobody may write to.
            np.array(bytearray(b"".join(choices)), np.uint8),
            np.array([0, *accumulate(map(len, choices))]),
        )
        assert longest + READ_AHEAD <= PADDING_BYTES

    def read(
        self, pieces: Sequence[Piece], latest_us: NDArray[np.int64], compare: bool = False
    ) -> tuple[NDArray[np.int64], dict[str, pa.Array], NDArray[np.bool_]]:
        """The positions of those values that are of wire form, their fields as columns, and which of them follow from these.

        Positions count through all pieces. The event's time is within its limits from 1970 up to its value's own
        `latest_us`. A value follows from the columns if contract/wire_writer.py writes it of them, byte for byte; none
        does if they are not to be compared.
        """
        count = sum(map(len, pieces))
        assert len(latest_us) == count
        shape = (len(self._columns), count)
        positions, present = np.empty(count, np.int64), np.empty(shape, np.bool_)
        follows = np.empty(count, np.bool_)
        views, integers, floats = np.empty((*shape, 2), np.uint64), np.empty(shape, np.int64), np.empty(shape, np.float64)
        first = rows = 0
        for number, piece in enumerate(pieces):
            text = piece.text
            rows = self._read(
                *self._form,
                text,
                np.ndarray(len(text) - WORD_BYTES + 1, np.uint64, text, strides=1),
                piece.lengths,
                self._most_bytes,
                latest_us,
                number,
                first,
                rows,
                positions,
                present,
                views,
                integers,
                floats,
                compare,
                follows,
            )
            first += len(piece)
        texts = [pa.py_buffer(piece.text) for piece in pieces]
        fields = {}
        for number, column in enumerate(self._columns):
            items = views if column.kind in _TEXTS else floats if column.kind in _FLOATS else integers
            fields[column.name] = column.of(items[number, :rows], present[number, :rows], texts)
        return positions[:rows], fields, follows[:rows]


def _words(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    return np.stack([np.frombuffer(text, np.uint64) for text in texts])
