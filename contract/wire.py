"""The wire form of events read straight into columns, many records at once: what encode() writes, and nothing else.

A record is read here only if it is, byte for byte, of the one form that needs no JSON parser: the fields in their order,
without white space and escapes, each within its limits. So the JSON decoder would read the same from it; every other record
is left to the decoder, which alone judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from msgspec import inspect
from numpy.typing import NDArray

_LONGEST_NUMBER = 25
_QUOTE, _BACKSLASH, _SPACE = b'"\\ '
_LAST_ASCII = 127
_QUOTES_OF_FIELD = 4
_WORD_BYTES = 8
_HALF_WORD = np.uint64(32)
_INLINE_BYTES = 12
# So that whatever is looked for at the end of the last record can be read.
_PADDING_BYTES = 64

Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Field:
    name: str
    kind: type
    least: float
    most: float
    required: bool

    @classmethod
    def of(cls, field: inspect.Field) -> _Field:
        kind, required = _plain(field.type), field.required
        if isinstance(kind, inspect.UnionType):
            (kind,) = (_plain(one) for one in kind.types if not isinstance(one, inspect.NoneType))
        if isinstance(kind, inspect.StrType):
            return cls(field.encode_name, str, kind.min_length or 0, kind.max_length or 0, required)
        assert isinstance(kind, inspect.IntType | inspect.FloatType)
        assert kind.ge is not None
        assert kind.le is not None
        return cls(field.encode_name, int if isinstance(kind, inspect.IntType) else float, kind.ge, kind.le, required)


def _plain(kind: inspect.Type) -> inspect.Type:
    """The type without what only describes it."""
    return kind.type if isinstance(kind, inspect.Metadata) else kind


class WireForm:
    """Reads records of one flat struct of texts and numbers; all its fields are limited from both sides."""

    def __init__(self, struct: type[msgspec.Struct], schema: pl.Schema) -> None:
        info = inspect.type_info(struct)
        assert isinstance(info, inspect.StructType)
        self._fields = [_Field.of(field) for field in info.fields]
        self._schema = schema

    def read(self, values: Sequence[bytes]) -> tuple[pl.DataFrame, Mask]:
        """A row of fields for each value; and which values are of wire form: the other rows say nothing.

        At least one value, and less than 2 GiB of them.
        """
        text = _Text(values, _QUOTES_OF_FIELD * len(self._fields))
        columns: dict[str, pl.Series] = {}
        plain = text.is_clean()
        cursor, quote = text.starts, text.first_quotes
        for number, field in enumerate(self._fields):
            is_text = field.kind is str
            before = (b"," if number else b"{") + f'"{field.name}":'.encode() + (b'"' if is_text else b"")
            present = plain & text.has(cursor, before)
            start, quote_after = cursor + len(before), quote + before.count(b'"')
            end = text.quotes[quote_after] if is_text else text.number_end(quote_after)
            if is_text:
                good = present & (end - start >= field.least) & (end - start <= field.most)
                columns[field.name] = text.column(start, end, good)
            else:
                numbers, good = text.numbers(start, end, present, self._schema[field.name])
                good &= numbers.is_between(field.least, field.most).fill_null(False).to_numpy()
                columns[field.name] = numbers
            if field.required:
                plain = good
                cursor, quote = end + is_text, quote_after + is_text
            else:
                plain &= good | ~present
                cursor = np.where(present, end + is_text, cursor)
                quote = np.where(present, quote_after + is_text, quote)
        return pl.DataFrame(columns), plain & (cursor == text.ends - 1) & text.has(cursor, b"}")


class _Text:
    """Records side by side in one buffer, and where their quotes are. Positions of all records move together."""

    def __init__(self, values: Sequence[bytes], most_quotes: int) -> None:
        self._buffer = b"".join([*values, bytes(_PADDING_BYTES)])
        self._bytes = np.frombuffer(self._buffer, np.uint8)
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths
        quotes = np.flatnonzero(self._bytes == _QUOTE)
        self.first_quotes = np.searchsorted(quotes, self.starts)
        # A record that lacks quotes finds those of others, or these, and its positions do not add up to its end.
        self.quotes = np.append(quotes, np.full(most_quotes, self.ends[-1]))

    def is_clean(self) -> Mask:
        """Which records are UTF-8 without control characters and escapes."""
        content = self._bytes[: self.ends[-1]]
        unclean: list[NDArray[np.int64]] = []
        # Whether there is any is known ten times faster than where.
        if content.min(initial=_SPACE) < _SPACE:
            unclean.append(np.flatnonzero(content < _SPACE))
        if b"\\" in self._buffer:
            unclean.append(np.flatnonzero(content == _BACKSLASH))
        if not self._is_utf8():
            unclean.append(np.flatnonzero(content > _LAST_ASCII))
        clean = np.ones(len(self.starts), np.bool_)
        for places in unclean:
            clean[np.searchsorted(self.ends, places, side="right")] = False
        return clean

    def _is_utf8(self) -> bool:
        """Where the text is as a whole, each record is: they begin and end with a bracket, or are not of wire form."""
        try:
            return self._buffer.isascii() or bool(self._buffer.decode())
        except UnicodeDecodeError:
            return False

    def has(self, at: Positions, expected: bytes) -> Mask:
        """Whether each record has these bytes at its position."""
        found: Mask = self._from_each(at, f"S{len(expected)}") == expected
        return found

    def number_end(self, quote: Positions) -> Positions:
        """Where a number ends: before the comma before the next field's quote, or before the bracket at the record's end."""
        following = self.quotes[quote]
        return np.where(following < self.ends, following - 1, self.ends - 1)

    def numbers(self, start: Positions, end: Positions, present: Mask, dtype: pl.DataType) -> tuple[pl.Series, Mask]:
        """The numbers that stand there, null where not present, and which of them are as encode() writes them.

        A text that is what its number is written as is read alike by every parser that rounds correctly.
        """
        texts = self.column(start, end, present & (start < end) & (end - start <= _LONGEST_NUMBER))
        numbers = texts.cast(dtype, strict=False)
        return numbers, (numbers.cast(pl.String) == texts).fill_null(False).to_numpy()

    def column(self, start: Positions, end: Positions, present: Mask) -> pl.Series:
        """The texts between these positions, null where not present. No byte of a text longer than 12 is copied."""
        is_there = None
        if not present.all():
            start, end = np.where(present, start, 0), np.where(present, end, 0)
            is_there = pa.py_buffer(np.packbits(present, bitorder="little"))
        length = (end - start).astype(np.uint64)
        first = self._from_each(start, "<u8")
        # https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
        views = np.empty((len(start), 2), "<u8")
        views[:, 0] = length | first << _HALF_WORD
        views[:, 1] = start.astype(np.uint64) << _HALF_WORD
        short = np.flatnonzero(length <= _INLINE_BYTES)
        if len(short):
            length, start = length[short], start[short]
            first = _first_bytes(first[short], length)
            rest = _first_bytes(self._from_each(start + _WORD_BYTES, "<u8"), length - np.minimum(length, _WORD_BYTES))
            views[short, 0] = length | first << _HALF_WORD
            views[short, 1] = first >> _HALF_WORD | rest << _HALF_WORD
        parts = [is_there, pa.py_buffer(views), pa.py_buffer(self._buffer)]
        return pl.Series(pa.Array.from_buffers(pa.string_view(), len(views), parts))

    def _from_each(self, at: Positions, dtype: str) -> NDArray[Any]:
        """What stands at each position, read as this type; zeros from the buffer's end on."""
        size = np.dtype(dtype).itemsize
        anywhere = np.ndarray(len(self._buffer) - size + 1, dtype, self._buffer, strides=1)
        return anywhere[np.minimum(at, len(anywhere) - 1)]


def _first_bytes(word: NDArray[np.uint64], count: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The word with all but its first `count` bytes set to zero."""
    bits = np.uint64(8) * np.minimum(count, _WORD_BYTES).astype(np.uint64)
    return np.where(bits == 64, word, word & ((np.uint64(1) << (bits & np.uint64(63))) - np.uint64(1)))
