"""The Gregorian calendar, for loops that read or write times. Months count from 1."""

from __future__ import annotations

import numpy as np
from numba import int64, types

from contract.compiled import compiled

_LEAP_DAYS_BEFORE_1970 = 1969 // 4 - 1969 // 100 + 1969 // 400
_DAYS_OF_400_YEARS = 400 * 365 + 97
_LONGEST_MONTH = 31
_DATE = types.UniTuple(int64, 3)  # type: ignore[no-untyped-call]
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


@compiled(int64(int64))
def days_until(year: int) -> int:
    """How many days are from 1970 to the beginning of a year, 1970 or later."""
    last = year - 1
    return 365 * (year - 1970) + last // 4 - last // 100 + last // 400 - _LEAP_DAYS_BEFORE_1970


@compiled(_DATE(int64))
def date_of(day: int) -> tuple[int, int, int]:
    """Year, month and day of the month so many days, not less than none, after the first of January 1970."""
    # Leap years are not evenly spread, so the estimate may be a year off, to either side.
    year = 1970 + day * 400 // _DAYS_OF_400_YEARS
    if days_until(year) > day:
        year -= 1
    elif days_until(year + 1) <= day:
        year += 1
    rest = day - days_until(year)
    month = rest // _LONGEST_MONTH + 1
    while days_before(year, month + 1) <= rest:
        month += 1
    return year, month, rest - days_before(year, month) + 1
