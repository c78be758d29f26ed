"""Bloom filter with a size in powers of two: a member is always found, a stranger with at most the stated rate.

Positions by double hashing (Kirsch and Mitzenmacher 2006): h1 + i·h2 modulo the size, with h2 odd to reach all bits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class BloomFilter:
    """A set of 128-bit hashes for up to `capacity` members at `false_positive_rate`; memory is fixed at the start."""

    def __init__(self, capacity: int, false_positive_rate: float) -> None:
        # Bloom 1970: bits = -n·ln(rate)/ln(2)², then fewer hashes suffice as the size is rounded up.
        needed_bits = -capacity * math.log(false_positive_rate) / math.log(2) ** 2
        self.bits = 1 << max(6, math.ceil(math.log2(needed_bits)))
        self.hashes = _fewest_hashes(capacity / self.bits, false_positive_rate)
        self._words = np.zeros(self.bits // 8, dtype=np.uint8)

    def add(self, halves: NDArray[np.uint64]) -> None:
        """Add hashes of shape (n, 2)."""
        for position in self._positions(halves):
            np.bitwise_or.at(self._words, position >> np.uint64(3), _bit(position))

    def contains(self, halves: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether each hash of shape (n, 2) may be a member, shape (n,)."""
        found = np.ones(len(halves), dtype=np.bool_)
        for position in self._positions(halves):
            found &= self._words[position >> np.uint64(3)] & _bit(position) != 0
        return found

    def _positions(self, halves: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
        first, step = halves[:, 0], halves[:, 1] | np.uint64(1)
        return [(first + np.uint64(i) * step) & np.uint64(self.bits - 1) for i in range(self.hashes)]


def _bit(position: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (position & np.uint64(7)).astype(np.uint8))


def _fewest_hashes(members_per_bit: float, false_positive_rate: float) -> int:
    for hashes in range(1, 64):
        if (1 - math.exp(-hashes * members_per_bit)) ** hashes <= false_positive_rate:
            return hashes
    raise ValueError(f"no number of hashes reaches a rate of {false_positive_rate} at {members_per_bit} members a bit")
