"""HyperLogLogs in their stored form, entry by entry; contract.sketches.hll says what the form is."""

from __future__ import annotations

import numpy as np
from numba import boolean, int64, uint8, uint16, uint64, void
from numpy.typing import NDArray

from contract.compiled import compiled, pair, read_only
from contract.loops.words import trailing_zeros
from contract.sketches.hll import EMPTY, FULL, FULL_BYTES, LOG2M, MAX_RANK, REGISTERS, REGWIDTH, SPARSE, SPARSE_LIMIT

_HEADER, _ENTRY = len(EMPTY), 2
_EMPTY, _SPARSE, _FULL = (int.from_bytes(header, "big") for header in (EMPTY, SPARSE, FULL))
_WORD_BITS = 64
_ONE = np.uint64(1)
# Eight ranks fill as many bytes as one has bits.
_RANKS = 8


@compiled(uint16[::1](read_only(uint64)))
def entries_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The entry that each hash fills."""
    entries = np.empty(len(hashes), np.uint16)
    for row in range(len(hashes)):
        rest = hashes[row] >> np.uint64(LOG2M)
        rank = min(trailing_zeros(rest) + 1, MAX_RANK)
        entries[row] = np.int64(hashes[row] & np.uint64(REGISTERS - 1)) << REGWIDTH | rank if rest else 0
    return entries


@compiled(void(uint8[::1], uint64[::1], int64))
def _fill(ranks: NDArray[np.uint8], filled: NDArray[np.uint64], entry: np.int64) -> None:
    """Ranks by register, and a bit for each one that is filled; the entry has 16 bits."""
    if entry:
        register = entry >> REGWIDTH
        ranks[register] = max(ranks[register], entry & MAX_RANK)
        filled[register // _WORD_BITS] |= _ONE << np.uint64(register % _WORD_BITS)


@compiled(boolean(uint8[::1], uint64[::1], read_only(uint8), int64, int64))
def _fill_all(
    ranks: NDArray[np.uint8], filled: NDArray[np.uint64], stored: NDArray[np.uint8], first: np.int64, after: np.int64
) -> bool:
    """Fill what the sketch [first, after) fills; False if it is none."""
    length = after - first - _HEADER
    if length < 0:
        return False
    header = np.int64(stored[first]) << 16 | np.int64(stored[first + 1]) << 8 | np.int64(stored[first + 2])
    if header == _EMPTY:
        return bool(length == 0)
    first += _HEADER
    if header == _SPARSE and length % _ENTRY == 0:
        for at in range(first, after, _ENTRY):
            _fill(ranks, filled, np.int64(stored[at]) << 8 | np.int64(stored[at + 1]))
        return True
    if header == _FULL and length == FULL_BYTES:
        for register in range(0, REGISTERS, _RANKS):
            packed = np.int64(0)
            for _ in range(REGWIDTH):
                packed = packed << 8 | np.int64(stored[first])
                first += 1
            for place in range(_RANKS):
                rank = packed >> REGWIDTH * (_RANKS - 1 - place) & MAX_RANK
                if rank:
                    _fill(ranks, filled, register + place << REGWIDTH | rank)
        return True
    return False


@compiled(int64(uint8[::1], uint64[::1], uint8[::1], int64))
def _write(ranks: NDArray[np.uint8], filled: NDArray[np.uint64], sketches: NDArray[np.uint8], at: np.int64) -> np.int64:
    """Write the sketch of these registers from `at` on and empty them; returns where it ends.

    Until it is known how many are filled, the sketch is written as a sparse one, which may be longer.
    """
    start = at
    at += _HEADER
    for word in range(len(filled)):
        bits = filled[word]
        while bits:
            register = word * _WORD_BITS + trailing_zeros(bits)
            entry = register << REGWIDTH | np.int64(ranks[register])
            sketches[at], sketches[at + 1] = entry >> 8, entry & 0xFF
            at += _ENTRY
            bits &= bits - _ONE
    header = _EMPTY if at == start + _HEADER else _SPARSE
    if at >= start + _HEADER + _ENTRY * SPARSE_LIMIT:
        header = _FULL
        at = start + _HEADER
        for register in range(0, REGISTERS, _RANKS):
            packed = np.int64(0)
            for place in range(_RANKS):
                packed = packed << REGWIDTH | np.int64(ranks[register + place])
            for place in range(REGWIDTH - 1, -1, -1):
                sketches[at] = packed >> 8 * place & 0xFF
                at += 1
    for place in range(_HEADER):
        sketches[start + place] = header >> 8 * (_HEADER - 1 - place) & 0xFF
    ranks[:] = 0
    filled[:] = 0
    return at


@compiled(pair(uint8[::1], int64[::1])(read_only(uint16), read_only(int64), read_only(int64)))
def fold(
    entries: NDArray[np.uint16], rows: NDArray[np.int64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The sketches of the entries of rows[bounds[g]:bounds[g + 1]] for all g, end to end, and their bounds."""
    ranks, filled = np.zeros(REGISTERS, np.uint8), np.zeros(REGISTERS // _WORD_BITS, np.uint64)
    sketches = np.empty(_HEADER * (len(bounds) - 1) + _ENTRY * len(rows), np.uint8)
    offsets = np.zeros(len(bounds), np.int64)
    for group in range(len(bounds) - 1):
        for place in range(bounds[group], bounds[group + 1]):
            _fill(ranks, filled, np.int64(entries[rows[place]]))
        offsets[group + 1] = _write(ranks, filled, sketches, offsets[group])
    return sketches[: offsets[-1]].copy(), offsets


@compiled(pair(uint8[::1], int64[::1])(read_only(uint8), read_only(int64), read_only(int64), read_only(int64)))
def merge(
    stored: NDArray[np.uint8], stored_bounds: NDArray[np.int64], rows: NDArray[np.int64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """fold() of what these rows' sketches hold; ends before the first group with a row that is no sketch."""
    ranks, filled = np.zeros(REGISTERS, np.uint8), np.zeros(REGISTERS // _WORD_BITS, np.uint64)
    # A full sketch may fill more registers than a sparse one of its length; the last one to be written has room for all.
    sketches = np.empty(_HEADER * (len(bounds) - 1) + len(stored) + _ENTRY * REGISTERS, np.uint8)
    offsets = np.zeros(len(bounds), np.int64)
    for group in range(len(bounds) - 1):
        for place in range(bounds[group], bounds[group + 1]):
            row = rows[place]
            if not _fill_all(ranks, filled, stored, stored_bounds[row], stored_bounds[row + 1]):
                return sketches[:0].copy(), offsets[: group + 1].copy()
        offsets[group + 1] = _write(ranks, filled, sketches, offsets[group])
    return sketches[: offsets[-1]].copy(), offsets
