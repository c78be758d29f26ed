"""Blocked Bloom filter: a member is always found, a stranger with at most the stated rate.

Each probe reads one 64-bit word and asks for BITS_PER_PROBE bits of it (Putze, Sanders, Singler 2007, "Cache-, Hash- and
Space-Efficient Bloom Filters"): two probes, and so two cache misses, do what thirteen single bits do, in twice the memory.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

_WORD_BITS = 64
BITS_PER_PROBE = 5
_MOST_PROBES = 4


class BloomFilter:
    """A set of 128-bit hashes for up to `capacity` members at `false_positive_rate`; memory is fixed at the start."""

    def __init__(self, capacity: int, false_positive_rate: float) -> None:
        log2_words, self._probes = _smallest(capacity, false_positive_rate)
        self._shift = np.uint64(_WORD_BITS - log2_words)
        self._words = np.zeros(1 << log2_words, dtype=np.uint64)

    def add(self, halves: NDArray[np.uint64]) -> None:
        """Add hashes of shape (n, 2)."""
        from contract.loops import bloom

        bloom.add(self._words, self._shift, self._probes, halves)

    def find(self, halves: NDArray[np.uint64], found: NDArray[np.bool_]) -> None:
        """Set found[i], of shape (n,), for each hash i of shape (n, 2) that may be a member; others stay as they are."""
        from contract.loops import bloom

        bloom.find(self._words, self._shift, self._probes, halves, found)


@cache
def _smallest(capacity: int, false_positive_rate: float) -> tuple[int, int]:
    """The least log2 of the number of words that reaches the rate, and with how many probes."""
    # With more than 16 members a word nearly all bits are set.
    for log2_words in itertools.count(max(1, math.ceil(math.log2(capacity / 16)))):
        for probes in range(1, _MOST_PROBES + 1):
            if _rate_of_probe(probes * capacity / 2**log2_words) ** probes <= false_positive_rate:
                return log2_words, probes
    raise AssertionError("unreachable")


def _rate_of_probe(members_per_word: float) -> float:
    """How often a probe of a stranger finds its bits: their number is Poisson in a word, so some words are far fuller."""
    rate, probability = 0.0, math.exp(-members_per_word)
    for members in range(1, int(members_per_word + 12 * math.sqrt(members_per_word) + 20)):
        probability *= members_per_word / members
        filled = 1 - (1 - 1 / _WORD_BITS) ** (BITS_PER_PROBE * members)
        rate += probability * _found(filled, BITS_PER_PROBE)
    return rate


def _found(filled: float, bits: int) -> float:
    """The chance that `bits` random bits, of which some may be the same one, are all set where a share is `filled`."""
    chances = {0: 1.0}
    for _ in range(bits):
        drawn: dict[int, float] = {}
        for different, chance in chances.items():
            drawn[different] = drawn.get(different, 0.0) + chance * different / _WORD_BITS
            drawn[different + 1] = drawn.get(different + 1, 0.0) + chance * (1 - different / _WORD_BITS)
        chances = drawn
    return sum(chance * filled**different for different, chance in chances.items())
