"""Exponential histogram of scale 5: quantiles within 1.1 % relative error, merged by adding bins, in any order.

Bins as in the OpenTelemetry data model (ExponentialHistogram): bin b holds values in (2^(b/32), 2^((b+1)/32)]. Values up to
2^-10 are in ZERO_BIN and answer 0. A stored histogram is a sorted array of 64-bit integers `bin << 48 | count`, so SQL
reads it with `>>` and `&`, and equal content is equal bytes. An *entry* is one of these integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from contract.groups import Groups

SCALE = 5
BINS_PER_OCTAVE = 1 << SCALE
ZERO_THRESHOLD = 2.0**-10
ZERO_BIN = -10 * BINS_PER_OCTAVE - 1
RELATIVE_ERROR = (2 ** (1 / BINS_PER_OCTAVE) - 1) / (2 ** (1 / BINS_PER_OCTAVE) + 1)
COUNT_BITS = 48
SQL_TYPE = "bigint[]"


def _mantissa_bounds() -> NDArray[np.float64]:
    """Upper bounds of an octave's bins as frexp mantissas in [0.5, 1): 2^(k/32) / 2, correctly rounded on every machine."""
    with localcontext() as context:
        context.prec = 50
        root = Decimal(2) ** (Decimal(1) / BINS_PER_OCTAVE)
        return np.array([float(root**k / 2) for k in range(BINS_PER_OCTAVE)])


MANTISSA_BOUNDS = _mantissa_bounds()


def entries_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The entry of each finite value >= 0, shape (n,), and 0 where there is none (NaN).

    The bin comes from exact float bits, never from a rounded logarithm.
    """
    from contract.loops import histogram

    return histogram.entries_of(values, values.view(np.int64))


def fold(entries: NDArray[np.int64], groups: Groups) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The histogram of each group of entries, end to end, and their bounds; entries that are 0 do not count."""
    from contract.loops import histogram

    rows, bounds = groups.together
    # Fetched together first: the loop then reads memory from one end to the other, and takes a third of the time.
    numbers = np.arange(groups.count + 1)
    return histogram.merge(entries[rows], bounds, numbers[:-1], numbers)


def merge(
    entries: NDArray[np.int64], entry_bounds: NDArray[np.int64], groups: Groups
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The histogram of each group of histograms, and likewise their bounds."""
    from contract.loops import histogram

    return histogram.merge(entries, entry_bounds, *groups.together)


def encode(entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """The histogram of these entries."""
    return fold(entries, Groups(np.zeros(len(entries), np.int64), 1))[0]


def decode(packed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bins and counts of stored integers, each of shape (n,)."""
    return packed >> COUNT_BITS, packed & ((1 << COUNT_BITS) - 1)


def value_of(histogram_bin: int) -> float:
    """The value that stands for a bin: the one with the least worst relative error, 2·lo·hi/(lo+hi)."""
    if histogram_bin <= ZERO_BIN:
        return 0.0
    low, high = 2 ** (histogram_bin / BINS_PER_OCTAVE), 2 ** ((histogram_bin + 1) / BINS_PER_OCTAVE)
    return 2 * low * high / (low + high)


def percentile(fraction: float, packed: Sequence[int]) -> float | None:
    """The value at rank ceil(fraction · n) (at least 1) of n, within RELATIVE_ERROR; None of an empty histogram."""
    bins, counts = decode(np.asarray(packed, dtype=np.int64))
    cumulative = np.cumsum(counts)
    if not counts.size:
        return None
    rank = max(1, math.ceil(fraction * int(cumulative[-1])))
    return value_of(int(bins[np.searchsorted(cumulative, rank)]))
