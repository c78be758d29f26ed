"""Exponential histograms in their stored form, entry by entry; contract.sketches.histogram says what the form is."""

from __future__ import annotations

import numpy as np
from numba import float64, int64
from numpy.typing import NDArray

from contract.compiled import compiled, pair, read_only
from contract.loops.words import trailing_zeros
from contract.sketches.histogram import BINS_PER_OCTAVE, COUNT_BITS, MANTISSA_BOUNDS, ZERO_BIN, ZERO_THRESHOLD

_COUNT_MASK = (1 << COUNT_BITS) - 1
_WORD_BITS = 64
_ONE = np.uint64(1)
# A double is 2^exponent times a mantissa in [0.5, 1), which is stored without its first bit.
_MANTISSA_BITS, _EXPONENT_BIAS = 52, 1022
_MANTISSA_MASK = (1 << _MANTISSA_BITS) - 1
# Of the 64 equal parts of an octave each has one bound at most: how many bounds are below the part, and which is the next.
_PART_BITS = _MANTISSA_BITS - 6
_BOUNDS = MANTISSA_BOUNDS.view(np.int64) & _MANTISSA_MASK
_BELOW = np.searchsorted(_BOUNDS, np.arange(1 << 6) << _PART_BITS)
_NEXT = np.append(_BOUNDS, 1 << _MANTISSA_BITS)[_BELOW]


@compiled(int64[::1](read_only(float64), read_only(int64)))
def entries_of(values: NDArray[np.float64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The entry of each value, which is given as its bits too; 0 for what is not a number."""
    entries = np.empty(len(values), np.int64)
    for row in range(len(values)):
        if np.isnan(values[row]):
            entries[row] = 0
        elif values[row] <= ZERO_THRESHOLD:
            entries[row] = (ZERO_BIN << COUNT_BITS) + 1
        else:
            mantissa = bits[row] & _MANTISSA_MASK
            part = mantissa >> _PART_BITS
            octave = (bits[row] >> _MANTISSA_BITS) - _EXPONENT_BIAS - 1
            position = _BELOW[part] + (_NEXT[part] < mantissa) - 1
            entries[row] = (octave * BINS_PER_OCTAVE + position << COUNT_BITS) + 1
    return entries


@compiled(pair(int64[::1], int64[::1])(read_only(int64), read_only(int64), read_only(int64), read_only(int64)))
def merge(
    entries: NDArray[np.int64], entry_bounds: NDArray[np.int64], rows: NDArray[np.int64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The histograms of rows[bounds[g]:bounds[g + 1]] for all g, end to end, and their bounds.

    Row i has entries[entry_bounds[i]:entry_bounds[i + 1]], in any order; those that are 0 do not count.
    """
    merged, offsets = np.empty(len(entries), np.int64), np.zeros(len(bounds), np.int64)
    least = most = np.int64(0)
    for entry in entries:
        least, most = min(least, entry >> COUNT_BITS), max(most, entry >> COUNT_BITS)
    counts = np.zeros(most - least + 1, np.int64)
    filled = np.zeros((most - least) // _WORD_BITS + 1, np.uint64)
    at = 0
    for group in range(len(bounds) - 1):
        first_word, after_word = len(filled), 0
        for place in range(bounds[group], bounds[group + 1]):
            for item in range(entry_bounds[rows[place]], entry_bounds[rows[place] + 1]):
                if entries[item]:
                    position = (entries[item] >> COUNT_BITS) - least
                    word = position // _WORD_BITS
                    counts[position] += entries[item] & _COUNT_MASK
                    filled[word] |= _ONE << np.uint64(position % _WORD_BITS)
                    first_word, after_word = min(first_word, word), max(after_word, word + 1)
        for word in range(first_word, after_word):
            bits = filled[word]
            while bits:
                position = word * _WORD_BITS + trailing_zeros(bits)
                merged[at] = (position + least << COUNT_BITS) + counts[position]
                counts[position] = 0
                at += 1
                bits &= bits - _ONE
            filled[word] = 0
        offsets[group + 1] = at
    return merged[:at].copy(), offsets
