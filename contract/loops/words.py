"""Bytes as 64-bit words, for loops that hash or compare them."""

from __future__ import annotations

import numpy as np
from numba import int64, uint8, uint64
from numpy.typing import NDArray

from contract.compiled import compiled, read_only

_FINAL_1, _FINAL_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


@compiled(uint64(uint64))
def finalized(word: np.uint64) -> np.uint64:
    """A bijection in which each bit of the result depends on all bits given: the last step of MurmurHash3."""
    word = (word ^ word >> np.uint64(33)) * _FINAL_1
    word = (word ^ word >> np.uint64(33)) * _FINAL_2
    return word ^ word >> np.uint64(33)


@compiled(int64(uint64))
def trailing_zeros(word: np.uint64) -> int:
    """How many bits are zero below the lowest that is not; 64 of zero."""
    # They are the bits that are set after that, counted in parallel (Warren, "Hacker's Delight", 5-1).
    word = ~word & word - np.uint64(1)
    word -= word >> np.uint64(1) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + (word >> np.uint64(2) & np.uint64(0x3333333333333333))
    word = word + (word >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int(np.int64(word * np.uint64(0x0101010101010101) >> np.uint64(56)))


@compiled(uint64(read_only(uint8), uint64))
def word_at(content: NDArray[np.uint8], first: np.uint64) -> np.uint64:
    """Eight bytes as a little-endian number."""
    # The compiler makes one load of this.
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
    """The bytes [first, after), fewer than eight, as a little-endian number."""
    word = np.uint64(0)
    while after > first:
        after -= np.uint64(1)
        word = word << np.uint64(8) | np.uint64(content[after])
    return word
