"""MurmurHash3 x64-128 with seed 0 (Appleby, public domain) of many texts at once."""

from __future__ import annotations

import numpy as np
from numba import int64, uint8, uint64, void
from numpy.typing import NDArray

from contract.compiled import compiled, read_only
from contract.loops.words import finalized, tail_at, word_at

_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_ADD_1, _ADD_2 = np.uint64(0x52DCE729), np.uint64(0x38495AB5)


@compiled(uint64(uint64, uint64))
def _rotated(word: np.uint64, bits: np.uint64) -> np.uint64:
    """The word with its bits moved to the left, those that fall out coming in on the right; 0 < bits < 64."""
    return word << bits | word >> (np.uint64(64) - bits)


@compiled(uint64[:, ::1](read_only(uint8), read_only(int64)))
def hash_all(content: NDArray[np.uint8], bounds: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Both halves of the hash of each text, [bounds[i], bounds[i + 1]) of the content, shape (n, 2)."""
    halves = np.empty((len(bounds) - 1, 2), np.uint64)
    for row in range(len(halves)):
        at, after = np.uint64(bounds[row]), np.uint64(bounds[row + 1])
        length = after - at
        h1 = h2 = np.uint64(0)
        while after - at >= np.uint64(16):
            k1, k2 = word_at(content, at), word_at(content, at + np.uint64(8))
            h1 ^= _rotated(k1 * _C1, np.uint64(31)) * _C2
            h1 = (_rotated(h1, np.uint64(27)) + h2) * np.uint64(5) + _ADD_1
            h2 ^= _rotated(k2 * _C2, np.uint64(33)) * _C1
            h2 = (_rotated(h2, np.uint64(31)) + h1) * np.uint64(5) + _ADD_2
            at += np.uint64(16)
        if after - at > np.uint64(8):
            h2 ^= _rotated(tail_at(content, at + np.uint64(8), after) * _C2, np.uint64(33)) * _C1
            h1 ^= _rotated(word_at(content, at) * _C1, np.uint64(31)) * _C2
        elif after - at == np.uint64(8):
            h1 ^= _rotated(word_at(content, at) * _C1, np.uint64(31)) * _C2
        else:
            h1 ^= _rotated(tail_at(content, at, after) * _C1, np.uint64(31)) * _C2
        h1, h2 = h1 ^ length, h2 ^ length
        h1 += h2
        h2 += h1
        h1, h2 = finalized(h1), finalized(h2)
        h1 += h2
        halves[row, 0], halves[row, 1] = h1, h2 + h1
    return halves


@compiled(void(read_only(int64), uint64[::1]))
def mix_in(numbers: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Make each hash one of its number too; different numbers give different hashes of the same text."""
    for row in range(len(hashes)):
        hashes[row] = finalized(hashes[row] ^ finalized(np.uint64(numbers[row])))
