"""MurmurHash3 x64-128 with seed 0 (Appleby, public domain) of many texts at once, compiled."""

from __future__ import annotations

import numpy as np
from numba import int64, uint8, uint64, void
from numpy.typing import NDArray

from contract.compiled import compiled, read_only

_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_ADD_1, _ADD_2 = np.uint64(0x52DCE729), np.uint64(0x38495AB5)
_FINAL_1, _FINAL_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


@compiled(uint64(uint64, uint64))
def rotated(word: np.uint64, bits: np.uint64) -> np.uint64:
    """The word with its bits moved to the left, those that fall out coming in on the right; 0 < bits < 64."""
    return word << bits | word >> (np.uint64(64) - bits)


@compiled(uint64(uint64))
def finalized(word: np.uint64) -> np.uint64:
    """A bijection in which each bit of the result depends on all bits given."""
    word = (word ^ word >> np.uint64(33)) * _FINAL_1
    word = (word ^ word >> np.uint64(33)) * _FINAL_2
    return word ^ word >> np.uint64(33)


@compiled(uint64(read_only(uint8), uint64))
def word_at(content: NDArray[np.uint8], first: np.uint64) -> np.uint64:
    """Eight bytes as a little-endian number."""
    # Unrolled, this is one load.
    return (
        np.uint64(content[first])
        | np.uint64(content[first + np.uint64(1)]) << np.uint64(8)
        | np.uint64(content[first + np.uint64(2)]) << np.uint64(16)
        | np.uint64(content[first + np.uint64(3)]) << np.uint64(24)
        | np.uint64(content[first + np.uint64(4)]) << np.uint64(32)
        | np.uint64(content[first + np.uint64(5)]) << np.uint64(40)
        | np.uint64(content[first + np.uint64(6)]) << np.uint64(48)
        | np.uint64(content[first + np.uint64(7)]) << np.uint64(56)
    )


@compiled(uint64(read_only(uint8), uint64, uint64))
def tail_at(content: NDArray[np.uint8], first: np.uint64, after: np.uint64) -> np.uint64:
    """The bytes [first, after), less than eight, as a little-endian number."""
    word = np.uint64(0)
    while after > first:
        after -= np.uint64(1)
        word = word << np.uint64(8) | np.uint64(content[after])
    return word


@compiled(void(read_only(uint8), read_only(int64), uint64[:, ::1]))
def hash_all(content: NDArray[np.uint8], bounds: NDArray[np.int64], halves: NDArray[np.uint64]) -> None:
    """Write both halves of the hash of each text, [bounds[i], bounds[i + 1]) of the content, to halves[i]."""
    for row in range(len(halves)):
        at, after = np.uint64(bounds[row]), np.uint64(bounds[row + 1])
        length = after - at
        h1 = h2 = np.uint64(0)
        while after - at >= np.uint64(16):
            k1, k2 = word_at(content, at), word_at(content, at + np.uint64(8))
            h1 ^= rotated(k1 * _C1, np.uint64(31)) * _C2
            h1 = (rotated(h1, np.uint64(27)) + h2) * np.uint64(5) + _ADD_1
            h2 ^= rotated(k2 * _C2, np.uint64(33)) * _C1
            h2 = (rotated(h2, np.uint64(31)) + h1) * np.uint64(5) + _ADD_2
            at += np.uint64(16)
        if after - at > np.uint64(8):
            h2 ^= rotated(tail_at(content, at + np.uint64(8), after) * _C2, np.uint64(33)) * _C1
            h1 ^= rotated(word_at(content, at) * _C1, np.uint64(31)) * _C2
        elif after - at == np.uint64(8):
            h1 ^= rotated(word_at(content, at) * _C1, np.uint64(31)) * _C2
        else:
            h1 ^= rotated(tail_at(content, at, after) * _C1, np.uint64(31)) * _C2
        h1, h2 = h1 ^ length, h2 ^ length
        h1 += h2
        h2 += h1
        h1, h2 = finalized(h1), finalized(h2)
        h1 += h2
        halves[row, 0], halves[row, 1] = h1, h2 + h1


@compiled(void(read_only(int64), uint64[:, ::1]))
def mix_in(numbers: NDArray[np.int64], halves: NDArray[np.uint64]) -> None:
    """Make each hash one of its number too; different numbers give different hashes of the same text."""
    for row in range(len(halves)):
        mixed = finalized(halves[row, 0] ^ finalized(np.uint64(numbers[row])))
        halves[row, 0] = mixed
        halves[row, 1] = finalized(halves[row, 1] ^ mixed)
