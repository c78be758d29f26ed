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


@compiled(uint64(uint64, uint64))
def _first_word(words_count: np.uint64, hashed: np.uint64) -> np.uint64:
    """Where the block of a hash begins: its low half says in which one."""
    # Below the number of blocks, since the low half of a hash is below 2^32.
    return ((hashed & _LOW) * (words_count // _WORDS) >> _HALF) * _WORDS


@compiled(boolean(read_only(uint64), uint64, int64, uint64))
def _has(words: NDArray[np.uint64], first: np.uint64, probes: int, hashed: np.uint64) -> bool:
    """Whether all bits of a hash are set in the block that begins there."""
    state, missing = hashed, np.uint64(0)
    # All bits are asked for, so that the next block is on its way while this one is awaited.
    for done in range(0, probes, _POSITIONS):
        state = finalized(state + _STEP)
        positions = state
        for _ in range(min(_POSITIONS, probes - done)):
            missing |= ~words[first + (positions >> _SIX & _WORD_MASK)] >> (positions & _BIT_MASK)
            positions >>= _POSITION_BITS
    is_set: bool = missing & _ONE == np.uint64(0)
    return is_set


@compiled(void(uint64[::1], int64, read_only(uint64)))
def add(words: NDArray[np.uint64], probes: int, hashes: NDArray[np.uint64]) -> None:
    """Add hashes to a filter."""
    for row in range(len(hashes)):
        first, state = _first_word(np.uint64(len(words)), hashes[row]), hashes[row]
        for done in range(0, probes, _POSITIONS):
            state = finalized(state + _STEP)
            positions = state
            for _ in range(min(_POSITIONS, probes - done)):
                words[first + (positions >> _SIX & _WORD_MASK)] |= _ONE << (positions & _BIT_MASK)
                positions >>= _POSITION_BITS


@compiled(void(read_only(uint64), int64, read_only(uint64), boolean[::1]))
def find(words: NDArray[np.uint64], probes: int, hashes: NDArray[np.uint64], found: NDArray[np.bool_]) -> None:
    """Set found[i] if the filter has hash i."""
    for row in range(len(hashes)):
        found[row] |= _has(words, _first_word(np.uint64(len(words)), hashes[row]), probes, hashes[row])


@compiled(void(read_only(uint64), int64, read_only(uint64), boolean[::1]))
def find_in_blocks(words: NDArray[np.uint64], probes: int, hashes: NDArray[np.uint64], found: NDArray[np.bool_]) -> None:
    """Set found[i] if block i has hash i."""
    for row in range(len(hashes)):
        found[row] |= _has(words, np.uint64(row) * _WORDS, probes, hashes[row])
