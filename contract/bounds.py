"""Bounds between ranges of numbers: declared as whole numbers, doubles, or texts of decimals, and compared exactly.

A number that is a bound is in the range that the bound begins.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.columns import units

Bounds = Sequence[int | float | str]
_LARGEST = decimal.Decimal((1 << 63) - 1)
"""In the smallest unit of what is compared, which has 64 bits."""


def what_is_wrong(bounds: Bounds) -> str | None:
    """Why nothing can be told apart by them, whatever is compared; None if it can."""
    try:
        numbers = list(map(as_written, bounds))
    except decimal.InvalidOperation:
        return "are not all numbers"
    if not all(number.is_finite() for number in numbers):
        return "are not all finite"
    return None if numbers and all(low < high for low, high in pairwise(numbers)) else "do not rise"


def is_too_large(bounds: Bounds, places: int) -> bool:
    """Whether one is beyond what numbers with so many decimal places can be compared with."""
    return any(abs(as_written(bound)) > _LARGEST.scaleb(-places) for bound in bounds)


def as_written(bound: int | float | str) -> decimal.Decimal:
    """The number that people read; of a double its shortest decimal."""
    return decimal.Decimal(str(bound))


def bounds_below(column: pl.Series, bounds: Bounds) -> NDArray[np.intp]:
    """How many bounds are not above each number of the column, shape (n,); what is null counts as 0."""
    if column.dtype == pl.Float64:
        return np.searchsorted(np.array(list(map(float, bounds))), column.fill_null(0.0).to_numpy(), side="right")
    places = column.dtype.scale if isinstance(column.dtype, pl.Decimal) else 0
    # A bound between two units is as good as the next one.
    least = np.array([math.ceil(as_written(bound).scaleb(places)) for bound in bounds], np.int64)
    return np.searchsorted(least, units(column).fill_null(0).to_numpy(), side="right")
