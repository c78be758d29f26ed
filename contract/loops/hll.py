"""HyperLogLogs in their stored form, entry by entry; contract.sketches.hll says what the form is.

The loops are made for one number of registers, 2^log2m, which the compiler then knows. With 2,048 an entry of a sparse
sketch is two bytes; of other sizes entries lie across bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import boolean, int64, uint8, uint32, uint64, void
from numpy.typing import NDArray

from contract.compiled import compiled, pair, read_only
from contract.loops.words import trailing_zeros
from contract.sketches.hll import EMPTY, FULL, HEADER_BYTES, LOG2M, MAX_RANK, REGWIDTH, SPARSE, header, sparse_limit

_WORD_BITS = 64
_BYTE_BITS = 8
_ONE = np.uint64(1)
# Without a sign, as indices are: of one that may be negative it is asked whether it counts from the end.
_WORD_SHIFT, _IN_WORD, _RANK_BITS, _RANK = map(np.uint64, (_WORD_BITS.bit_length() - 1, _WORD_BITS - 1, REGWIDTH, MAX_RANK))
# Eight ranks fill as many bytes as one has bits.
_RANKS = 8


class Loops(NamedTuple):
    """Those for sketches of one size."""

    entries_of: Callable[..., Any]
    """The entry that each hash fills."""
    fold: Callable[..., Any]
    """The sketches of the entries of rows[bounds[g]:bounds[g + 1]] for all g, end to end, and their bounds."""
    merge: Callable[..., Any]
    """fold() of what these rows' sketches hold; ends before the first group with a row that is no sketch."""


@cache
def loops_of(log2m: int) -> Loops:
    """The loops for sketches of 2^log2m registers; they are compiled when they are asked for first."""
    of_size = f"_{log2m}"
    registers, entry_bits, limit = 1 << log2m, log2m + REGWIDTH, sparse_limit(log2m)
    full_bytes = registers * REGWIDTH // _BYTE_BITS
    entry_mask = (1 << entry_bits) - 1
    is_of_bytes = entry_bits % _BYTE_BITS == 0
    most_entry_bytes = -(-entry_bits // _BYTE_BITS)
    empty, sparse, full = (int.from_bytes(header(kind, log2m), "big") for kind in (EMPTY, SPARSE, FULL))

    @compiled(uint32[::1](read_only(uint64)), of_size)
    def entries_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        entries = np.empty(len(hashes), np.uint32)
        for row in range(len(hashes)):
            rest = hashes[row] >> np.uint64(log2m)
            rank = min(trailing_zeros(rest) + 1, MAX_RANK)
            entries[row] = np.int64(hashes[row] & np.uint64(registers - 1)) << REGWIDTH | rank if rest else 0
        return entries

    @compiled(void(uint8[::1], uint64[::1], uint64), of_size)
    def fill(ranks: NDArray[np.uint8], filled: NDArray[np.uint64], entry: np.uint64) -> None:
        """Ranks by register, and a bit for each one that is filled."""
        if entry:
            register = entry >> _RANK_BITS
            ranks[register] = max(ranks[register], entry & _RANK)
            filled[register >> _WORD_SHIFT] |= _ONE << (register & _IN_WORD)

    @compiled(boolean(uint8[::1], uint64[::1], read_only(uint8), int64, int64), of_size)
    def fill_all(
        ranks: NDArray[np.uint8], filled: NDArray[np.uint64], stored: NDArray[np.uint8], first: np.int64, after: np.int64
    ) -> bool:
        """Fill what the sketch [first, after) fills; False if it is none."""
        length = after - first - HEADER_BYTES
        if length < 0:
            return False
        kind = np.int64(stored[first]) << 16 | np.int64(stored[first + 1]) << 8 | np.int64(stored[first + 2])
        if kind == empty:
            return bool(length == 0)
        first += HEADER_BYTES
        # Fewer bits are left over than a byte has.
        if kind == sparse and length * _BYTE_BITS % entry_bits < _BYTE_BITS:
            packed, bits = np.int64(0), 0
            for at in range(first, after):
                packed, bits = packed << _BYTE_BITS | np.int64(stored[at]), bits + _BYTE_BITS
                if bits >= entry_bits:
                    bits -= entry_bits
                    entry = packed >> bits & entry_mask
                    packed &= (1 << bits) - 1
                    fill(ranks, filled, np.uint64(entry))
            return True
        if kind == full and length == full_bytes:
            for register in range(0, registers, _RANKS):
                packed = np.int64(0)
                for _ in range(REGWIDTH):
                    packed = packed << 8 | np.int64(stored[first])
                    first += 1
                for place in range(_RANKS):
                    rank = packed >> REGWIDTH * (_RANKS - 1 - place) & MAX_RANK
                    if rank:
                        fill(ranks, filled, np.uint64(register + place << REGWIDTH | rank))
            return True
        return False

    @compiled(int64(uint8[::1], uint64[::1], uint8[::1], int64), of_size)
    def write(ranks: NDArray[np.uint8], filled: NDArray[np.uint64], sketches: NDArray[np.uint8], at: np.int64) -> np.int64:
        """Write the sketch of these registers from `at` on and empty them; returns where it ends.

        Until it is known how many are filled, the sketch is written as a sparse one, which may be longer.
        """
        body = to = np.uint64(at + HEADER_BYTES)
        count = 0
        packed, bits = np.int64(0), 0
        for word in range(len(filled)):
            left = filled[word]
            while left:
                register = np.uint64(word * _WORD_BITS + trailing_zeros(left))
                entry = np.int64(register) << REGWIDTH | np.int64(ranks[register])
                if is_of_bytes:
                    for place in range(most_entry_bytes - 1, -1, -1):
                        sketches[to] = entry >> _BYTE_BITS * place & 0xFF
                        to += _ONE
                else:
                    packed, bits = packed << entry_bits | entry, bits + entry_bits
                    while bits >= _BYTE_BITS:
                        bits -= _BYTE_BITS
                        sketches[to] = packed >> bits & 0xFF
                        packed &= (1 << bits) - 1
                        to += _ONE
                count += 1
                left &= left - _ONE
        if bits:
            sketches[to] = packed << _BYTE_BITS - bits & 0xFF
            to += _ONE
        kind = sparse if count else empty
        if count >= limit:
            kind = full
            to = body
            for first in range(0, registers, _RANKS):
                packed = np.int64(0)
                for place in range(_RANKS):
                    packed = packed << REGWIDTH | np.int64(ranks[first + place])
                for place in range(REGWIDTH - 1, -1, -1):
                    sketches[to] = packed >> 8 * place & 0xFF
                    to += _ONE
        for place in range(HEADER_BYTES):
            sketches[np.uint64(at + place)] = kind >> 8 * (HEADER_BYTES - 1 - place) & 0xFF
        ranks[:] = 0
        filled[:] = 0
        return np.int64(to)

    @compiled(pair(uint8[::1], int64[::1])(read_only(uint32), read_only(int64), read_only(int64)), of_size)
    def fold(
        entries: NDArray[np.uint32], rows: NDArray[np.int64], bounds: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        ranks, filled = np.zeros(registers, np.uint8), np.zeros(-(-registers // _WORD_BITS), np.uint64)
        sketches = np.empty((HEADER_BYTES + 1) * (len(bounds) - 1) + most_entry_bytes * len(rows), np.uint8)
        offsets = np.zeros(len(bounds), np.int64)
        for group in range(len(bounds) - 1):
            for place in range(bounds[group], bounds[group + 1]):
                fill(ranks, filled, np.uint64(entries[rows[place]]))
            offsets[group + 1] = write(ranks, filled, sketches, offsets[group])
        return sketches[: offsets[-1]].copy(), offsets

    @compiled(pair(uint8[::1], int64[::1])(read_only(uint8), read_only(int64), read_only(int64), read_only(int64)), of_size)
    def merge(
        stored: NDArray[np.uint8], stored_bounds: NDArray[np.int64], rows: NDArray[np.int64], bounds: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        ranks, filled = np.zeros(registers, np.uint8), np.zeros(-(-registers // _WORD_BITS), np.uint64)
        # A full sketch may fill more registers than a sparse one of its length; the last to be written has room for all.
        room = (HEADER_BYTES + 1) * (len(bounds) - 1) + len(stored) + most_entry_bytes * registers
        sketches = np.empty(room, np.uint8)
        offsets = np.zeros(len(bounds), np.int64)
        for group in range(len(bounds) - 1):
            for place in range(bounds[group], bounds[group + 1]):
                row = rows[place]
                if not fill_all(ranks, filled, stored, stored_bounds[row], stored_bounds[row + 1]):
                    return sketches[:0].copy(), offsets[: group + 1].copy()
            offsets[group + 1] = write(ranks, filled, sketches, offsets[group])
        return sketches[: offsets[-1]].copy(), offsets

    return Loops(entries_of, fold, merge)


# Those that nearly all views have are compiled with the module.
loops_of(LOG2M)
