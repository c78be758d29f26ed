"""Probes of a blocked Bloom filter; contract.sketches.bloom says how many, and of how many words."""

from __future__ import annotations

import numpy as np
from numba import boolean, int64, types, uint64, void
from numpy.typing import NDArray

from contract.compiled import compiled
from contract.sketches.bloom import BITS_PER_PROBE

_halves = types.Array(uint64, 2, "C", readonly=True)
_ONE, _SIX, _BIT_MASK = np.uint64(1), np.uint64(6), np.uint64(63)


@compiled(uint64(uint64))
def _bits(position: np.uint64) -> np.uint64:
    """The bits of a word that a probe asks for: the low bits of its position say which."""
    bits = np.uint64(0)
    for _ in range(BITS_PER_PROBE):
        bits |= _ONE << (position & _BIT_MASK)
        position >>= _SIX
    return bits


@compiled(void(uint64[::1], uint64, int64, _halves))
def add(words: NDArray[np.uint64], shift: np.uint64, probes: int, halves: NDArray[np.uint64]) -> None:
    """Add hashes to a filter of 2^(64 - shift) words."""
    for row in range(len(halves)):
        position = halves[row, 0]
        for _ in range(probes):
            words[position >> shift] |= _bits(position)
            position += halves[row, 1] | _ONE


@compiled(void(uint64[::1], uint64, int64, _halves, boolean[::1]))
def find(
    words: NDArray[np.uint64], shift: np.uint64, probes: int, halves: NDArray[np.uint64], found: NDArray[np.bool_]
) -> None:
    """Set found[i] if the filter has hash i."""
    for row in range(len(halves)):
        position, missing = halves[row, 0], np.uint64(0)
        # All words are read, so that the next ones are on their way while these are awaited.
        for _ in range(probes):
            missing |= _bits(position) & ~words[position >> shift]
            position += halves[row, 1] | _ONE
        found[row] |= missing == np.uint64(0)
