"""The Gregorian calendar, for loops that read or write times. Months count from 1."""

from __future__ import annotations

import numpy as np
from numba import int64

from contract.compiled import compiled

_DAYS_BEFORE_MONTH = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


@compiled(int64(int64, int64))
def days_before(year: int, month: int) -> int:
    """How many days of the year are before a month, 13 standing for the end of the year."""
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return int(_DAYS_BEFORE_MONTH[month - 1]) + int(is_leap and month > 2)


@compiled(int64(int64, int64))
def days_of(year: int, month: int) -> int:
    """How many days a month has."""
    return days_before(year, month + 1) - days_before(year, month)
