"""Bloom filters in their stored form; contract.sketches.seen says what the form is."""

from __future__ import annotations

import numpy as np
from numba import int64, uint8, uint64
from numpy.typing import NDArray

from contract.compiled import compiled, read_only
from contract.sketches.seen import PROBES

_LOW, _HALF, _ONE = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(1)
_BYTE, _BIT_MASK = np.uint64(3), np.uint64(7)


@compiled(uint8[::1](read_only(uint64), int64, read_only(int64), read_only(int64)))
def fold(hashes: NDArray[np.uint64], bits: int, rows: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The filters of the hashes of rows[bounds[g]:bounds[g + 1]] for all g, end to end."""
    mask, size = np.uint64(bits - 1), np.uint64(bits // 8)
    filters = np.zeros((len(bounds) - 1) * (bits // 8), np.uint8)
    for group in range(len(bounds) - 1):
        first = np.uint64(group) * size
        for place in range(bounds[group], bounds[group + 1]):
            position, step = hashes[rows[place]] & _LOW, hashes[rows[place]] >> _HALF | _ONE
            for _ in range(PROBES):
                # Masked, so it is inside the group's filter.
                bit = position & mask
                filters[first + (bit >> _BYTE)] |= np.uint8(_ONE << (bit & _BIT_MASK))
                position += step
    return filters


@compiled(uint8[::1](read_only(uint8), int64, read_only(int64), read_only(int64)))
def merge(stored: NDArray[np.uint8], size: int, rows: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """OR of the filters of these rows, each of `size` bytes."""
    filters = np.zeros((len(bounds) - 1) * size, np.uint8)
    for group in range(len(bounds) - 1):
        for place in range(bounds[group], bounds[group + 1]):
            for at in range(size):
                filters[group * size + at] |= stored[rows[place] * size + at]
    return filters
