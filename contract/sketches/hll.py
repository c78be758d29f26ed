"""HyperLogLog as PostgreSQL's hll extension stores it: the same values give the same bytes in Python and in SQL.

Format: postgresql-hll, storage specification 1.0.0, with explicit storage off and sparse storage on. A filled register is
an *entry* `index << REGWIDTH | rank`; LOG2M + REGWIDTH is 16, so an entry is one big-endian 16-bit word of a SPARSE sketch.
The form is canonical: EMPTY without entries, SPARSE below SPARSE_LIMIT entries, FULL from there on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contract.groups import Groups
from contract.sketches.hash import hash_text

if TYPE_CHECKING:
    from datasketch import HyperLogLogPlusPlus

LOG2M = 11
REGWIDTH = 5
REGISTERS = 1 << LOG2M
STANDARD_ERROR = 1.04 / REGISTERS**0.5  # Flajolet et al. 2007, section 1
SPARSE_LIMIT = -(-REGISTERS * REGWIDTH // (LOG2M + REGWIDTH))
SQL_TYPE = f"hll({LOG2M}, {REGWIDTH}, 0, 1)"

MAX_RANK = (1 << REGWIDTH) - 1
EMPTY, SPARSE, FULL = (bytes([0x10 | kind, (REGWIDTH - 1) << 5 | LOG2M, 0x40]) for kind in (1, 3, 4))
FULL_BYTES = REGISTERS * REGWIDTH // 8
_HEADER_BYTES = len(EMPTY)
_BITS_OF_RANK = 1 << np.arange(REGWIDTH - 1, -1, -1)


def entries_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The register entry that each hash fills, shape (n,); 0 where the extension's hll_add fills none.

    The register is the low LOG2M bits; the rank is the number of trailing zeros of the rest, plus 1, capped.
    """
    from contract.loops import hll

    return hll.entries_of(hashes)


def fold(entries: NDArray[np.uint16], groups: Groups) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The sketch of each group of entries, end to end, and their bounds; order and repeats do not matter."""
    from contract.loops import hll

    return hll.fold(entries, *groups.together)


def merge(
    stored: NDArray[np.uint8], stored_bounds: NDArray[np.int64], groups: Groups
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The sketch of each group of sketches, and likewise their bounds; ValueError if one of them is none."""
    from contract.loops import hll

    sketches, bounds = hll.merge(stored, stored_bounds, *groups.together)
    if len(bounds) <= groups.count:
        rows, ends = groups.together
        for row in rows[ends[len(bounds) - 1] :].tolist():
            decode(stored[stored_bounds[row] : stored_bounds[row + 1]].tobytes())
    return sketches, bounds


def encode(entries: NDArray[np.uint16]) -> bytes:
    """The sketch of these entries."""
    return fold(entries, Groups(np.zeros(len(entries), np.int64), 1))[0].tobytes()


def decode(sketch: bytes) -> NDArray[np.uint16]:
    """The filled registers' entries, sorted by index; ValueError if these are not bytes of this format and size."""
    header, body = sketch[:_HEADER_BYTES], sketch[_HEADER_BYTES:]
    if header == EMPTY and not body:
        return np.empty(0, dtype=np.uint16)
    if header == SPARSE and len(body) % 2 == 0:
        return np.frombuffer(body, dtype=">u2").astype(np.uint16)
    if header == FULL and len(body) == FULL_BYTES:
        bits = np.unpackbits(np.frombuffer(body, dtype=np.uint8)).reshape(REGISTERS, REGWIDTH)
        ranks = bits @ _BITS_OF_RANK
        index = np.flatnonzero(ranks)
        return (index << REGWIDTH | ranks[index]).astype(np.uint16)
    raise ValueError(f"not an {SQL_TYPE} sketch with explicit storage off: header {header.hex()}, {len(body)} bytes follow")


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
