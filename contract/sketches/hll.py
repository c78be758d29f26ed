"""HyperLogLog as PostgreSQL's hll extension stores it: the same values give the same bytes in Python and in SQL.

Format: postgresql-hll, storage specification 1.0.0, with explicit storage off and sparse storage on. A filled register is
an *entry* `index << REGWIDTH | rank` of log2m + REGWIDTH bits; those of a SPARSE sketch follow each other bit by bit, and
the last byte is filled up with zeros. The form is canonical: EMPTY without entries, SPARSE below sparse_limit() entries,
FULL from there on. 2^log2m registers are the precision; 2,048 unless another is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import numpy as np
from numpy.typing import NDArray

from contract.groups import Groups
from contract.sketches.hash import hash_text

if TYPE_CHECKING:
    from datasketch import HyperLogLogPlusPlus

LOG2M = 11
REGWIDTH = 5
LEAST_LOG2M, MOST_LOG2M = 10, 15
"""Errors of 3.3 % and 0.6 %: what is less says little, what is more takes more than 20 KB a row."""
REGISTERS = 1 << LOG2M
STANDARD_ERROR = 1.04 / REGISTERS**0.5  # Flajolet et al. 2007, section 1

MAX_RANK = (1 << REGWIDTH) - 1
EMPTY, SPARSE, FULL = 1, 3, 4
HEADER_BYTES = 3
_BITS_OF_RANK = 1 << np.arange(REGWIDTH - 1, -1, -1)


def header(kind: int, log2m: int = LOG2M) -> bytes:
    """The first bytes of a sketch: EMPTY, SPARSE or FULL, and its size."""
    return bytes([0x10 | kind, (REGWIDTH - 1) << 5 | log2m, 0x40])


def sparse_limit(log2m: int = LOG2M) -> int:
    """From so many filled registers on a sketch is FULL."""
    return -(-(REGWIDTH << log2m) // (log2m + REGWIDTH))


def sql_type(log2m: int = LOG2M) -> LiteralString:
    """The type of the column."""
    return f"hll({log2m}, {REGWIDTH}, 0, 1)"


def standard_error(log2m: int = LOG2M) -> float:
    """Flajolet et al. 2007, section 1."""
    return float(1.04 / (1 << log2m) ** 0.5)


def entries_of(hashes: NDArray[np.uint64], log2m: int = LOG2M) -> NDArray[np.uint32]:
    """The register entry that each hash fills, shape (n,); 0 where the extension's hll_add fills none.

    The register is the low log2m bits; the rank is the number of trailing zeros of the rest, plus 1, capped.
    """
    from contract.loops import hll

    entries: NDArray[np.uint32] = hll.loops_of(log2m).entries_of(hashes)
    return entries


def fold(entries: NDArray[np.uint32], groups: Groups, log2m: int = LOG2M) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The sketch of each group of entries, end to end, and their bounds; order and repeats do not matter."""
    from contract.loops import hll

    sketches, bounds = hll.loops_of(log2m).fold(entries, *groups.together)
    return sketches, bounds


def merge(
    stored: NDArray[np.uint8], stored_bounds: NDArray[np.int64], groups: Groups, log2m: int = LOG2M
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The sketch of each group of sketches, and likewise their bounds; ValueError if one of them is none."""
    from contract.loops import hll

    sketches, bounds = hll.loops_of(log2m).merge(stored, stored_bounds, *groups.together)
    if len(bounds) <= groups.count:
        rows, ends = groups.together
        for row in rows[ends[len(bounds) - 1] :].tolist():
            decode(stored[stored_bounds[row] : stored_bounds[row + 1]].tobytes(), log2m)
    return sketches, bounds


def encode(entries: NDArray[np.uint32], log2m: int = LOG2M) -> bytes:
    """The sketch of these entries."""
    return fold(entries, Groups(np.zeros(len(entries), np.int64), 1), log2m)[0].tobytes()


def decode(sketch: bytes, log2m: int = LOG2M) -> NDArray[np.uint32]:
    """The filled registers' entries, sorted by index; ValueError if these are not bytes of this format and size."""
    first, body = sketch[:HEADER_BYTES], sketch[HEADER_BYTES:]
    entry_bits = log2m + REGWIDTH
    if first == header(EMPTY, log2m) and not body:
        return np.empty(0, dtype=np.uint32)
    bits = np.unpackbits(np.frombuffer(body, dtype=np.uint8))
    if first == header(SPARSE, log2m) and len(bits) % entry_bits < 8:
        rows = bits[: len(bits) // entry_bits * entry_bits].reshape(-1, entry_bits)
        return (rows @ (1 << np.arange(entry_bits - 1, -1, -1))).astype(np.uint32)
    if first == header(FULL, log2m) and len(bits) == REGWIDTH << log2m:
        ranks = bits.reshape(-1, REGWIDTH) @ _BITS_OF_RANK
        index = np.flatnonzero(ranks)
        return (index << REGWIDTH | ranks[index]).astype(np.uint32)
    raise ValueError(
        f"not an {sql_type(log2m)} sketch with explicit storage off: header {first.hex()}, {len(body)} bytes follow"
    )


def to_datasketch(sketch: bytes) -> HyperLogLogPlusPlus:
    """The same sketch as datasketch's HyperLogLogPlusPlus: estimate and merge it with a library you know.

    Its updates go on in the same register space: `update(text.encode())`.
    """
    # Its package loads half of SciPy, and every worker of a batch run would wait for that.
    from datasketch import HyperLogLogPlusPlus

    registers = np.zeros(REGISTERS, dtype=np.int8)
    entries = decode(sketch)
    registers[entries >> REGWIDTH] = entries & MAX_RANK
    return HyperLogLogPlusPlus(p=LOG2M, reg=registers, hashfunc=datasketch_hash)


def datasketch_hash(value: bytes) -> int:
    """hash_text with the bits above LOG2M reversed: datasketch counts leading zeros where the extension counts trailing."""
    hashed = hash_text(value.decode())
    rest = f"{hashed >> LOG2M:0{64 - LOG2M}b}"
    return int(rest[::-1], 2) << LOG2M | hashed & (REGISTERS - 1)
