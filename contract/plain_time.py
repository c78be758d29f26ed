"""Times of the one form that nearly all events have, read many at once; every other text is left to the JSON decoder."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

_SHORTEST, _LONGEST = len("1970-01-01T00:00:00Z"), len("1970-01-01T00:00:00.000000Z")
_MARKS = {4: b"-", 7: b"-", 10: b"T", 13: b":", 16: b":"}
_POINT_AT = _SHORTEST - 1
_MOST_FRACTION_DIGITS = _LONGEST - _POINT_AT - 2
_MICROSECONDS = 1_000_000


def plain_times(texts: pl.Series) -> pl.Series:
    """Microseconds since 1970 of each text `YYYY-MM-DDThh:mm:ss[.f]Z` with up to six digits f; null for all others."""
    array = texts.to_arrow().cast(pa.large_string())
    _, offsets, content = array.buffers()
    if not len(array) or content is None:
        return pl.Series(texts.name, [None] * len(texts), dtype=pl.Int64)
    starts = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(starts)
    padded = content.to_pybytes() + bytes(_LONGEST)
    anywhere = np.ndarray(len(padded) - _LONGEST + 1, f"V{_LONGEST}", padded, strides=1)
    bytes_at = anywhere[starts[:-1]].view(np.uint8).reshape(-1, _LONGEST).T.copy()
    digit_at = bytes_at - np.uint8(ord("0"))
    plain = (lengths == _SHORTEST) | ((lengths > _SHORTEST + 1) & (lengths <= _LONGEST) & (bytes_at[_POINT_AT] == ord(".")))
    plain &= np.frombuffer(padded, np.uint8)[starts[1:] - 1] == ord("Z")
    for place, mark in _MARKS.items():
        plain &= bytes_at[place] == ord(mark)

    def number(first: int, after: int) -> NDArray[np.int64]:
        value = np.zeros(len(array), np.int64)
        for place in range(first, after):
            np.logical_and(plain, digit_at[place] <= 9, out=plain)
            value = value * 10 + digit_at[place]
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    fraction = np.zeros(len(array), np.int64)
    for number_of_digits in range(_MOST_FRACTION_DIGITS):
        place = _POINT_AT + 1 + number_of_digits
        there = place < lengths - 1
        plain &= ~there | (digit_at[place] <= 9)
        fraction = fraction * 10 + np.where(there, digit_at[place], 0)
    plain &= (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60)
    # What is not plain may be any number; it must not be out of what the calendar takes.
    months = np.where(plain, (year - 1970) * 12 + month - 1, 0)
    first_days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_first_days = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    plain &= (day >= 1) & (day <= next_first_days - first_days)
    seconds = (((first_days + day - 1) * 24 + hour) * 60 + minute) * 60 + second
    return pl.Series(texts.name, pa.array(seconds * _MICROSECONDS + fraction, mask=~plain))
