"""Numbers and parts of texts written into a buffer, for loops that write records; each returns where it ends."""

from __future__ import annotations

import numpy as np
from numba import int64, types, uint8
from numpy.typing import NDArray

from contract.compiled import compiled, read_only

_ZERO = ord("0")
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
        out[at + place] = _ZERO + number % 10
        number //= 10
    return at + digits


@compiled(int64(int64, _WRITTEN, int64))
def put_number(number: int, out: NDArray[np.uint8], at: int) -> int:
    """Write a number that is not negative."""
    digits, rest = 1, number // 10
    while rest:
        digits += 1
        rest //= 10
    return put_digits(number, digits, out, at)
