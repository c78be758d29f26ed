"""Probes of a blocked Bloom filter; contract.sketches.bloom says how many, and of how many blocks."""

from __future__ import annotations

import numpy as np
from numba import boolean, int64, uint64, void
from numpy.typing import NDArray

from contract.compiled import compiled, read_only
from contract.loops.words import finalized
from contract.sketches.bloom import BLOCK_WORDS

_WORDS, _ONE, _SIX = np.uint64(BLOCK_WORDS), np.uint64(1), np.uint64(6)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_WORD_MASK, _BIT_MASK = np.uint64(BLOCK_WORDS - 1), np.uint64(63)
_STEP = np.uint64(0x9E3779B97F4A7C15)
# A position in a block takes nine bits, and so many fit into a word.
_POSITION_BITS, _POSITIONS = np.uint64(9), 7


@compiled(uint64(read_only(int64), uint64, uint64))
def _first_word(first_blocks: NDArray[np.int64], width: np.uint64, hashed: np.uint64) -> np.uint64:
    """Where the block of a hash begins: the high bits say in which part, the low ones where in it."""
    part = np.uint64(0)
    if len(first_blocks) > 2:
        part = min(hashed // width, np.uint64(len(first_blocks) - 2))
    first = np.uint64(first_blocks[part])
    # Below the number of blocks of the part, since the low half of a hash is below 2^32.
    inside = (hashed & _LOW) * (np.uint64(first_blocks[part + _ONE]) - first) >> _HALF
    return (first + inside) * _WORDS


@compiled(void(uint64[::1], read_only(int64), uint64, int64, read_only(uint64)))
def add(
    words: NDArray[np.uint64],
    first_blocks: NDArray[np.int64],
    width: np.uint64,
    probes: int,
    hashes: NDArray[np.uint64],
) -> None:
    """Add hashes to a filter whose part i has the blocks [first_blocks[i], first_blocks[i + 1]), each for `width` hashes."""
    for row in range(len(hashes)):
        first, state = _first_word(first_blocks, width, hashes[row]), hashes[row]
        for done in range(0, probes, _POSITIONS):
            state = finalized(state + _STEP)
            positions = state
            for _ in range(min(_POSITIONS, probes - done)):
                words[first + (positions >> _SIX & _WORD_MASK)] |= _ONE << (positions & _BIT_MASK)
                positions >>= _POSITION_BITS


@compiled(void(read_only(uint64), read_only(int64), uint64, int64, read_only(uint64), boolean[::1]))
def find(
    words: NDArray[np.uint64],
    first_blocks: NDArray[np.int64],
    width: np.uint64,
    probes: int,
    hashes: NDArray[np.uint64],
    found: NDArray[np.bool_],
) -> None:
    """Set found[i] if the filter has hash i; its parts are as for `add`."""
    for row in range(len(hashes)):
        first, state, missing = _first_word(first_blocks, width, hashes[row]), hashes[row], np.uint64(0)
        # All bits are asked for, so that the next block is on its way while this one is awaited.
        for done in range(0, probes, _POSITIONS):
            state = finalized(state + _STEP)
            positions = state
            for _ in range(min(_POSITIONS, probes - done)):
                missing |= ~words[first + (positions >> _SIX & _WORD_MASK)] >> (positions & _BIT_MASK)
                positions >>= _POSITION_BITS
        found[row] |= missing & _ONE == np.uint64(0)
