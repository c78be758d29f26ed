"""Blocked Bloom filter: a member is always found, a stranger with at most the stated rate.

Each member sets some bits of one block of 512, which is one cache line and so one cache miss (Putze, Sanders, Singler 2007,
"Cache-, Hash- and Space-Efficient Bloom Filters").
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

BLOCK_BITS = 512
BLOCK_WORDS = BLOCK_BITS // 64
_HALF, _LOW = np.uint64(32), np.uint64(2**32 - 1)
_ONE, _MOST = np.uint64(1), np.uint64(2**64 - 1)
_CACHED_BYTES = 1 << 20
_MOST_DRAWS = 2_048
_MOST_PROBES = 48
_SHARES = np.arange(BLOCK_BITS + 1) / BLOCK_BITS

Words = NDArray[np.uint64]


class BloomFilter:
    """A set of 64-bit hashes; its memory is fixed at the start. `probes` is how many bits each member sets."""

    def __init__(self, words: Words, probes: int) -> None:
        """A filter that was made before, of its words."""
        self.words, self.probes = words, probes

    @classmethod
    def for_members(cls, count: int, false_positive_rate: float) -> BloomFilter:
        """An empty one with room for that many; with more of them strangers are found more often than stated."""
        load, probes = _loaded(false_positive_rate)
        return cls(np.zeros(max(1, math.ceil(count / load)) * BLOCK_WORDS, np.uint64), probes)

    @property
    def size_bytes(self) -> int:
        """What it takes of memory."""
        return self.words.nbytes

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Add hashes of shape (n,)."""
        from contract.loops import bloom

        if self.size_bytes > _CACHED_BYTES:
            # The low half says which block it is. In this order memory is walked through, and not jumped about in.
            hashes = _halves_swapped(hashes)
            hashes.sort()
            hashes = _halves_swapped(hashes)
        bloom.add(self.words, self.probes, hashes)

    def find(self, hashes: NDArray[np.uint64], found: NDArray[np.bool_]) -> None:
        """Set found[i], of shape (n,), for each hash i of shape (n,) that may be a member; others stay as they are."""
        from contract.loops import bloom

        bloom.find(self.words, self.probes, hashes, found)


def find_in_blocks(blocks: Words, probes: int, hashes: NDArray[np.uint64], found: NDArray[np.bool_]) -> None:
    """As `find` of a filter from which there is for each hash its block alone; `blocks` has them one after the other."""
    from contract.loops import bloom

    bloom.find_in_blocks(blocks, probes, hashes, found)


def block_choices(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """What says in which block of a filter each hash is, shape (n,): in number `choice * blocks >> 32`."""
    return (hashes & _LOW).view(np.int64)


def _halves_swapped(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    swapped = hashes << _HALF
    swapped |= hashes >> _HALF
    return swapped


def range_width(count: int) -> np.uint64:
    """How many hashes each of `count` equal ranges of all hashes has; a few more are left over for the last one."""
    return np.uint64((2**64 - 1) // count)


def range_of(hashes: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """In which of counts[i] equal ranges of all hashes hash i is; both are of shape (n,)."""
    wide = counts.view(np.uint64)
    ranges: NDArray[np.int64] = np.minimum(hashes // (_MOST // wide), wide - _ONE).view(np.int64)
    return ranges


@cache
def _loaded(false_positive_rate: float) -> tuple[float, int]:
    """How many members a block may have on average, the most that keeps the rate, and with how many probes."""
    filled = _filled()
    return max((_load(filled[::probes] @ _SHARES**probes, false_positive_rate), probes) for probes in range(1, _MOST_PROBES))


def _filled() -> NDArray[np.float64]:
    """The chance that after so many draws, the first index, so many of a block's bits are set, the second."""
    chances = np.zeros((_MOST_DRAWS, BLOCK_BITS + 1))
    chances[0, 0] = 1
    for before, after in itertools.pairwise(chances):
        # A draw meets a bit that is set already, or sets one more.
        after += before * _SHARES
        after[1:] += before[:-1] * (1 - _SHARES[:-1])
    return chances


def _load(found: NDArray[np.float64], false_positive_rate: float) -> float:
    """The most members a block on average, where found[i] is how often a stranger is found in a block that has i of them.

    The number of members in a block is Poisson, so some blocks are far fuller than others.
    """
    members = np.arange(len(found))
    log_factorials = np.array([math.lgamma(number + 1) for number in members.tolist()])
    low, high = 0.0, len(found) / 2
    for _ in range(40):
        middle = (low + high) / 2
        chances = np.exp(members * math.log(middle) - middle - log_factorials)
        # What is left are blocks with more members than were looked at.
        rate = float(chances @ found) + max(0.0, 1 - float(chances.sum()))
        low, high = (middle, high) if rate <= false_positive_rate else (low, middle)
    return low
