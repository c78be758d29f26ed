"""Exponential histogram of scale 5: quantiles within 1.1 % relative error, merged by adding bins, in any order.

Bins as in the OpenTelemetry data model (ExponentialHistogram): bin b holds values in (2^(b/32), 2^((b+1)/32)]. Values up to
2^-10 are in ZERO_BIN and answer 0. A stored histogram is a sorted array of 64-bit integers `bin << 48 | count`, so SQL
reads it with `>>` and `&`, and equal content is equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

SCALE = 5
BINS_PER_OCTAVE = 1 << SCALE
ZERO_THRESHOLD = 2.0**-10
ZERO_BIN = -10 * BINS_PER_OCTAVE - 1
RELATIVE_ERROR = (2 ** (1 / BINS_PER_OCTAVE) - 1) / (2 ** (1 / BINS_PER_OCTAVE) + 1)
COUNT_BITS = 48
SQL_TYPE = "bigint[]"
# Bins of all finite values are less than 2^16 apart.
_BIN_BITS = 17
_BIN_MASK = (1 << _BIN_BITS) - 1


def _mantissa_bounds() -> NDArray[np.float64]:
    """Upper bounds of an octave's bins as frexp mantissas in [0.5, 1): 2^(k/32) / 2, correctly rounded on every machine."""
    with localcontext() as context:
        context.prec = 50
        root = Decimal(2) ** (Decimal(1) / BINS_PER_OCTAVE)
        return np.array([float(root**k / 2) for k in range(BINS_PER_OCTAVE)])


_MANTISSA_BOUNDS = _mantissa_bounds()


def bins_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each finite value >= 0, shape (n,); from exact float bits, never from a rounded logarithm."""
    mantissa, exponent = np.frexp(values)
    position = np.searchsorted(_MANTISSA_BOUNDS, mantissa, side="left") - 1
    bins = (exponent.astype(np.int64) - 1) * BINS_PER_OCTAVE + position
    return np.where(values <= ZERO_THRESHOLD, ZERO_BIN, bins)


def encode_groups(
    groups: NDArray[np.int64], bins: NDArray[np.int64], counts: NDArray[np.int64], group_count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One histogram a group, end to end, and their lengths: item i adds counts[i] to bins[i] of groups[i]."""
    # Group and bin in one number: that sorts several times as fast as two.
    keyed = (groups << _BIN_BITS) + (bins - ZERO_BIN)
    order = np.argsort(keyed)
    keyed = keyed[order]
    starts = np.flatnonzero(np.append(True, keyed[1:] != keyed[:-1])) if keyed.size else order
    totals = np.add.reduceat(counts[order], starts) if keyed.size else counts
    packed = (((keyed[starts] & _BIN_MASK) + ZERO_BIN) << COUNT_BITS) + totals
    return packed, np.bincount(keyed[starts] >> _BIN_BITS, minlength=group_count).astype(np.int64)


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
