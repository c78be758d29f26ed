"""The wire form of events read straight into columns, many records at once: what encode() writes, and little else.

A record is read here only if it is of the one form that needs no JSON parser: the fields in their order, without white
space and escapes, numbers and times of the usual forms, each within its limits. So the JSON decoder would read the same
from it; every other record is left to the decoder, which alone judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import inspect
from numpy.typing import NDArray

from contract.loops.wire import FIELD, FLOAT, INTEGER, READ_AHEAD, TEXT, TIME, WORD_BYTES, read_records
from contract.records import PADDING_BYTES, Piece


@dataclass(frozen=True)
class Field:
    """A field of the wire form, with the type of its column and its limits."""

    name: str
    dtype: pa.DataType
    kind: int
    least: float
    most: float
    required: bool

    @classmethod
    def of(cls, field: inspect.Field, dtype: pa.DataType) -> Field:
        kind = _plain(field.type)
        if isinstance(kind, inspect.UnionType):
            (kind,) = (_plain(one) for one in kind.types if not isinstance(one, inspect.NoneType))
        if isinstance(kind, inspect.StrType):
            in_loop = TIME if pa.types.is_timestamp(dtype) else TEXT
            return cls(field.encode_name, dtype, in_loop, kind.min_length or 0, kind.max_length or 0, field.required)
        assert isinstance(kind, inspect.IntType | inspect.FloatType)
        assert kind.ge is not None
        assert kind.le is not None
        in_loop = INTEGER if isinstance(kind, inspect.IntType) else FLOAT
        return cls(field.encode_name, dtype, in_loop, kind.ge, kind.le, field.required)

    def in_loop(self, name: bytes) -> tuple[int, bool, int, float, float]:
        """What the loop must know of it, as FIELD."""
        return self.kind, self.required, len(name), self.least, self.most

    def column(self, items: np.ndarray, present: NDArray[np.bool_], buffers: Sequence[NDArray[np.uint8]]) -> pa.Array:
        """The loop's output as Arrow's column; no byte of a text longer than 12 is copied."""
        parts = [None if self.required else pa.py_buffer(np.packbits(present, bitorder="little"))]
        if self.kind == TEXT:
            parts += map(pa.py_buffer, [items, *buffers])
        else:
            parts += [pa.py_buffer(items.astype(f"{items.dtype.kind}{self.dtype.bit_width // 8}", copy=False))]
        return pa.Array.from_buffers(self.dtype, len(items), parts)


def before(name: str, kind: int, is_first: bool) -> bytes:
    """All that is written before a field's value."""
    return (b"{" if is_first else b",") + f'"{name}":'.encode() + (b'"' if kind in (TEXT, TIME) else b"")


def _plain(kind: inspect.Type) -> inspect.Type:
    """The type without what only describes it."""
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def fields_of(struct: type[msgspec.Struct], dtypes: Mapping[str, pa.DataType]) -> list[Field]:
    """The fields of a flat struct of texts, times and numbers, each limited from both sides, in the wire form's order."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return [Field.of(field, dtypes[field.encode_name]) for field in info.fields]


class WireForm:
    """Reads records of one struct, as fields_of describes it."""

    def __init__(self, struct: type[msgspec.Struct], dtypes: Mapping[str, pa.DataType], most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._fields = fields_of(struct, dtypes)
        names = [before(field.name, field.kind, is_first=number == 0) for number, field in enumerate(self._fields)]
        longest = -len(max(names, key=len)) // WORD_BYTES * -WORD_BYTES
        self._form = (
            np.array([field.in_loop(name) for field, name in zip(self._fields, names, strict=True)], FIELD),
            _words(name.ljust(longest, b"\0") for name in names),
            _words((b"\xff" * len(name)).ljust(longest, b"\0") for name in names),
        )
        assert longest + READ_AHEAD <= PADDING_BYTES

    def read(
        self, pieces: Sequence[Piece], latest_us: NDArray[np.int64], compare: bool = False
    ) -> tuple[NDArray[np.int64], dict[str, pa.Array], NDArray[np.bool_]]:
        """The positions of those values that are of wire form, their fields as columns, and which of them follow from these.

        Positions count through all pieces. A time is within its limits from 1970 up to its value's own `latest_us`. A value
        follows from the columns if contract/wire_writer.py writes it of them, byte for byte; none does if they are not to be
        compared.
        """
        count = sum(map(len, pieces))
        assert len(latest_us) == count
        shape = (len(self._fields), count)
        positions, present = np.empty(count, np.int64), np.empty(shape, np.bool_)
        follows = np.empty(count, np.bool_)
        views, integers, floats = np.empty((*shape, 2), np.uint64), np.empty(shape, np.int64), np.empty(shape, np.float64)
        first = rows = 0
        for number, piece in enumerate(pieces):
            text = piece.text
            rows = read_records(
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
        columns = {TEXT: views, TIME: integers, INTEGER: integers, FLOAT: floats}
        buffers = [piece.text for piece in pieces]
        fields = {
            field.name: field.column(columns[field.kind][number, :rows], present[number, :rows], buffers)
            for number, field in enumerate(self._fields)
        }
        return positions[:rows], fields, follows[:rows]


def _words(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    return np.stack([np.frombuffer(text, np.uint64) for text in texts])
