"""Columns of a frame as flat arrays, for compiled loops, and the way back; nothing is copied but texts, once.

Arrow's buffers take microseconds where Polars' own calls take ten times that, which is what a range of few events costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray


def texts(column: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UTF-8 of all texts, or the bytes of all binaries, and their n + 1 bounds in it; a null is empty."""
    array = (column.fill_null("") if column.null_count() else column).to_arrow()
    _, bounds, content = array.buffers()
    return np.frombuffer(content or b"", np.uint8), _items(bounds, array.offset, len(array) + 1)


def lists(column: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The integers of all lists, and the lists' n + 1 bounds in them; neither has nulls."""
    array = column.to_arrow()
    return _items(array.values.buffers()[1], array.values.offset, len(array.values)), _items(
        array.buffers()[1], array.offset, len(array) + 1
    )


def integers(column: pl.Series) -> NDArray[np.int64]:
    """The numbers of a column that Arrow stores in 64 bits and that has no nulls, times among them."""
    array = column.to_arrow()
    return _items(array.buffers()[1], array.offset, len(array))


def units(column: pl.Series) -> pl.Series:
    """Whole numbers as they are, decimals in their smallest unit, times in microseconds."""
    return (column.to_physical() if isinstance(column.dtype, pl.Decimal | pl.Datetime) else column).cast(pl.Int64)


def column_of(name: str, form: pa.DataType, *parts: NDArray[Any]) -> pl.Series:
    """The way back: a column of numbers or times from its items; one of texts, bytes or lists from content and bounds."""
    *content, last = (pa.py_buffer(part) for part in parts)
    if pa.types.is_large_list(form):
        items = pa.Array.from_buffers(form.value_type, len(parts[0]), [None, *content])
        array = pa.Array.from_buffers(form, len(parts[-1]) - 1, [None, last], children=[items])
    else:
        array = pa.Array.from_buffers(form, len(parts[-1]) - len(content), [None, last, *content])
    return pl.Series(name, array)


def _items(buffer: pa.Buffer | None, first: int, count: int) -> NDArray[np.int64]:
    # Arrow may leave out the buffers of an empty array.
    return np.frombuffer(buffer, np.int64)[first : first + count] if buffer else np.zeros(count, np.int64)
