"""Columns of a frame as flat arrays, for compiled loops; nothing is copied but texts, once."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


def texts(column: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UTF-8 of all texts end to end, and their n + 1 bounds in it; a null is an empty text."""
    array = column.to_arrow()
    _, bounds, content = array.buffers()
    offsets = (
        np.frombuffer(bounds, np.int64)[array.offset : array.offset + len(array) + 1] if bounds else np.zeros(1, np.int64)
    )
    return np.frombuffer(content or b"", np.uint8), offsets


def integers(column: pl.Series) -> NDArray[np.int64]:
    """The numbers of a column that Arrow stores in 64 bits and that has no nulls, times among them."""
    array = column.to_arrow()
    return np.frombuffer(array.buffers()[1] or b"", np.int64)[array.offset : array.offset + len(array)]
