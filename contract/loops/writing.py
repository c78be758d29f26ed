"""Numbers and parts of texts written into a buffer, for loops that write records; each returns where it ends."""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, types, uint8
from numpy.typing import NDArray

from contract.compiled import compiled, read_only
from contract.loops.dates import date_of

_ZERO, _MINUS, _COLON, _POINT, _T, _Z = b"0-:.TZ"
_DAY_US, _SECOND_US, _MILLISECOND_US = 86_400_000_000, 1_000_000, 1_000
_THOUSAND = 1_000
# So many thousandths are exact as a float, and so is what they are divided by, so the quotient is correctly rounded.
_MOST_NUMBER = 1e11
# So small integers are exact as floats, and what has no more digits is the shortest decimal that means the float.
_MOST_EXACT, _MOST_PLACES = 1e15, 15
_LEAST_WITHOUT_EXPONENT = 1e-5
_POWERS_OF_TEN = np.array([float(10**power) for power in range(_MOST_PLACES + 1)])
_WHOLE_POWERS_OF_TEN = np.array([10**power for power in range(_MOST_PLACES + 1)])
_BYTES = read_only(uint8)
_WRITTEN = types.Array(uint8, 1, "C")


@compiled(int64(_BYTES, int64, int64, _WRITTEN, int64))
def put(source: NDArray[np.uint8], first: int, after: int, out: NDArray[np.uint8], at: int) -> int:
    """Copy a part of the source."""
    # Of places without a sign the compiler knows that none counts from the end, and copies many bytes at once.
    source_first, out_first = np.uint64(first), np.uint64(at)
    for place in range(np.uint64(after - first)):
        out[out_first + place] = source[source_first + place]
    return at + after - first


@compiled(int64(int64, int64, _WRITTEN, int64))
def put_digits(number: int, digits: int, out: NDArray[np.uint8], at: int) -> int:
    """Write the last digits of a number."""
    for place in range(digits - 1, -1, -1):
        # As in put().
        out[np.uint64(at + place)] = _ZERO + number % 10
        number //= 10
    return at + digits


@compiled(int64(int64, _WRITTEN, int64))
def put_number(number: int, out: NDArray[np.uint8], at: int) -> int:
    """Write a whole number that is not the least of 64 bits."""
    if number < 0:
        out[at] = _MINUS
        return put_number(-number, out, at + 1)
    digits, rest = 1, number // 10
    while rest:
        digits += 1
        rest //= 10
    return put_digits(number, digits, out, at)


@compiled(int64(int64, _WRITTEN, int64))
def put_fraction(fraction: int, out: NDArray[np.uint8], at: int) -> int:
    """Write what follows the whole second of a time in UTC, which has so many microseconds more."""
    if fraction:
        out[at] = _POINT
        if fraction % _MILLISECOND_US:
            at = put_digits(fraction, 6, out, at + 1)
        else:
            at = put_digits(fraction // _MILLISECOND_US, 3, out, at + 1)
    out[at] = _Z
    return at + 1


@compiled(int64(int64, _WRITTEN, int64))
def put_time(time_us: int, out: NDArray[np.uint8], at: int) -> int:
    """Write microseconds since 1970, not less than none, as RFC 3339 in UTC with no more digits than they have."""
    year, month, day = date_of(time_us // _DAY_US)
    seconds, fraction = time_us % _DAY_US // _SECOND_US, time_us % _SECOND_US
    at = put_digits(year, 4, out, at)
    out[at] = _MINUS
    at = put_digits(month, 2, out, at + 1)
    out[at] = _MINUS
    at = put_digits(day, 2, out, at + 1)
    out[at] = _T
    at = put_digits(seconds // 3600, 2, out, at + 1)
    out[at] = _COLON
    at = put_digits(seconds // 60 % 60, 2, out, at + 1)
    out[at] = _COLON
    return put_fraction(fraction, out, put_digits(seconds % 60, 2, out, at + 1))


@compiled(int64(float64, _WRITTEN, int64))
def put_decimal(number: float, out: NDArray[np.uint8], at: int) -> int:
    """Write a number with one to three decimals; -1 if it has more, is negative or too large."""
    if not 0 <= number < _MOST_NUMBER or math.copysign(1.0, number) < 0:
        return -1
    thousandths = np.int64(number * _THOUSAND + 0.5)
    if thousandths / _THOUSAND != number:
        return -1
    at = put_number(int(thousandths // _THOUSAND), out, at)
    out[at] = _POINT
    decimals, digits = thousandths % _THOUSAND, 3
    while digits > 1 and decimals % 10 == 0:
        decimals, digits = decimals // 10, digits - 1
    return put_digits(int(decimals), digits, out, at + 1)


@compiled(int64(int64, int64, _WRITTEN, int64))
def _put_places(units: int, places: int, out: NDArray[np.uint8], at: int) -> int:
    """Write so many units of the last of these decimal places; without places there is no point."""
    if units < 0:
        out[at] = _MINUS
        units, at = -units, at + 1
    if places == 0:
        return put_number(units, out, at)
    power = _WHOLE_POWERS_OF_TEN[places]
    at = put_number(units // power, out, at)
    out[at] = _POINT
    return put_digits(units % power, places, out, at + 1)


@compiled(int64(int64, int64, _WRITTEN, int64))
def put_units(units: int, places: int, out: NDArray[np.uint8], at: int) -> int:
    """Write so many units of the last of these decimal places in the shortest way: 12.5, and 12 without a point."""
    while places and units % 10 == 0:
        units, places = units // 10, places - 1
    return _put_places(units, places, out, at)


@compiled(int64(float64, _WRITTEN, int64))
def put_double(number: float, out: NDArray[np.uint8], at: int) -> int:
    """Write a number as the shortest decimal that means it, with a point; -1 if that has more than 15 digits, or is -0.

    So are numbers that others write with an exponent, since they are next to nothing.
    """
    if (number == 0 and math.copysign(1.0, number) < 0) or 0 < abs(number) < _LEAST_WITHOUT_EXPONENT:
        return -1
    for places in range(1, _MOST_PLACES + 1):
        units = np.rint(number * _POWERS_OF_TEN[places])
        if not -_MOST_EXACT < units < _MOST_EXACT:
            return -1
        if units / _POWERS_OF_TEN[places] == number:
            return _put_places(int(units), places, out, at)
    return -1
