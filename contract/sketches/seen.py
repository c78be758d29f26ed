"""Bloom filter that SQL can ask: a member is always found, a stranger with a rate that grows with the members.

Bit p of a filter is bit p % 8 of byte p // 8, counted from the low end, as get_bit(bytea, p) counts. A text has PROBES bits,
(low + i * (high | 1)) mod bits for i from 0 on, where low and high are the halves of its hash (Kirsch, Mitzenmacher 2006,
"Less Hashing, Same Performance"). Filters of one size are merged by OR.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from contract.groups import Groups
from contract.sketches.hash import hash_text

PROBES = 7
SQL_TYPE = "bytea"


def fold(hashes: NDArray[np.uint64], bits: int, groups: Groups) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The filter of each group of hashes, end to end, and their bounds; `bits` is a power of two, 8 at least."""
    from contract.loops import seen

    return seen.fold(hashes, bits, *groups.together), _bounds(bits, groups)


def merge(
    stored: NDArray[np.uint8], stored_bounds: NDArray[np.int64], bits: int, groups: Groups
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The filter of each group of filters, and likewise their bounds; ValueError if one has another size."""
    from contract.loops import seen

    if wrong := set(np.diff(stored_bounds).tolist()) - {bits // 8}:
        raise ValueError(f"not a filter of {bits // 8} bytes: {', '.join(map(str, sorted(wrong)))} bytes")
    return seen.merge(stored, bits // 8, *groups.together), _bounds(bits, groups)


def has(text: str, stored: bytes) -> bool:
    """Whether the text may be a member."""
    hashed = hash_text(text)
    low, step, bits = hashed & 0xFFFFFFFF, hashed >> 32 | 1, 8 * len(stored)
    positions = ((low + number * step) % bits for number in range(PROBES))
    return all(stored[position >> 3] >> (position & 7) & 1 for position in positions)


def false_positive_rate(members: int, bits: int) -> float:
    """How often a stranger is found among so many members."""
    return (1 - math.exp(-PROBES * members / bits)) ** PROBES


def _bounds(bits: int, groups: Groups) -> NDArray[np.int64]:
    return np.arange(groups.count + 1, dtype=np.int64) * (bits // 8)
