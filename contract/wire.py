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

# As many digits, the point included, as are exact in a float and an integer alike.
_MOST_DIGITS = 16
_QUOTE, _BACKSLASH, _SPACE, _POINT, _ZERO, _NINE = b'"\\ .09'
_LAST_ASCII = 127
_QUOTES_OF_FIELD = 4
_WORD_BYTES = 8
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
            if field.required:
                plain = present
            start, quote_after = cursor + len(before), quote + before.count(b'"')
            end = text.quotes[quote_after] if is_text else text.number_end(quote_after)
            if is_text:
                good = present & (end - start >= field.least) & (end - start <= field.most)
                columns[field.name] = text.column(start, end, good)
            else:
                numbers, good = text.numbers(start, end, present, field.kind is float)
                good &= (numbers >= field.least) & (numbers <= field.most)
                columns[field.name] = _with_nulls(numbers, good, self._schema[field.name])
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

    def numbers(
        self, start: Positions, end: Positions, present: Mask, is_float: bool
    ) -> tuple[NDArray[np.float64 | np.int64], Mask]:
        """The numbers that stand there, and where present ones are JSON's digits, without sign and exponent."""
        length = end - start
        good = present & (length >= 1) & (length <= _MOST_DIGITS)
        digits, scale, fraction = (np.full(len(start), one, np.int64) for one in (0, 1, 0))
        for place in range(int(length[good].max(initial=0))):
            inside = good & (place < length)
            byte = self._bytes[np.where(inside, end - 1 - place, 0)]
            is_point = inside & (byte == _POINT)
            is_digit = inside & (byte >= _ZERO) & (byte <= _NINE)
            good &= ~inside | is_digit | (is_point & is_float & (fraction == 0) & (place > 0) & (place < length - 1))
            digits += np.where(is_digit, (byte.astype(np.int64) - _ZERO) * scale, 0)
            scale = np.where(is_digit, scale * 10, scale)
            fraction = np.where(is_point, place, fraction)
        starts_with_zero = self._bytes[np.where(good, start, 0)] == _ZERO
        good &= ~starts_with_zero | (length == 1) | ((fraction > 0) & (fraction == length - 2))
        if not is_float:
            return digits, good
        # Both are exact, so their quotient is the float nearest to the number, which is what a parser gives.
        return digits / 10.0**fraction, good & (digits < 2**53)

    def column(self, start: Positions, end: Positions, present: Mask) -> pl.Series:
        """The texts between these positions, null where not present. No byte of a text longer than 12 is copied."""
        length = np.where(present, end - start, 0).astype(np.uint64)
        start = np.where(present, start, 0)
        first = _first_bytes(self._from_each(start, "<u8"), length)
        rest = _first_bytes(self._from_each(start + _WORD_BYTES, "<u8"), length - np.minimum(length, _WORD_BYTES))
        # https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
        views = np.empty((len(start), 2), "<u8")
        views[:, 0] = length | first << np.uint64(32)
        views[:, 1] = np.where(
            length > _INLINE_BYTES, start.astype(np.uint64) << np.uint64(32), first >> np.uint64(32) | rest << np.uint64(32)
        )
        is_there = pa.py_buffer(np.packbits(present, bitorder="little"))
        parts = [is_there, pa.py_buffer(views), pa.py_buffer(self._buffer)]
        return pl.Series(pa.Array.from_buffers(pa.string_view(), len(start), parts))

    def _from_each(self, at: Positions, dtype: str) -> NDArray[Any]:
        """What stands at each position, read as this type; zeros from the buffer's end on."""
        size = np.dtype(dtype).itemsize
        anywhere = np.ndarray(len(self._buffer) - size + 1, dtype, self._buffer, strides=1)
        return anywhere[np.minimum(at, len(anywhere) - 1)]


def _first_bytes(word: NDArray[np.uint64], count: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The word with all but its first `count` bytes set to zero."""
    bits = np.uint64(8) * np.minimum(count, _WORD_BYTES).astype(np.uint64)
    return np.where(bits == 64, word, word & ((np.uint64(1) << (bits & np.uint64(63))) - np.uint64(1)))


def _with_nulls(numbers: NDArray[np.float64 | np.int64], present: Mask, dtype: pl.DataType) -> pl.Series:
    series = pl.Series(numbers)
    # A number that is not there may be anything, and need not fit.
    return (series if present.all() else series.set(pl.Series(~present), None)).cast(dtype)
