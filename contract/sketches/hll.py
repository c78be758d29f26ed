"""HyperLogLog as PostgreSQL's hll extension stores it: the same values give the same bytes in Python and in SQL.

Format: postgresql-hll, storage specification 1.0.0, with explicit storage off and sparse storage on. A filled register is
an *entry* `index << REGWIDTH | rank`; LOG2M + REGWIDTH is 16, so an entry is one big-endian 16-bit word of a SPARSE sketch.
The form is canonical: EMPTY without entries, SPARSE below SPARSE_LIMIT entries, FULL from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from datasketch import HyperLogLogPlusPlus
from numpy.typing import NDArray

from contract.sketches.hash import hash_text

LOG2M = 11
REGWIDTH = 5
REGISTERS = 1 << LOG2M
STANDARD_ERROR = 1.04 / REGISTERS**0.5  # Flajolet et al. 2007, section 1
SPARSE_LIMIT = -(-REGISTERS * REGWIDTH // (LOG2M + REGWIDTH))
SQL_TYPE = f"hll({LOG2M}, {REGWIDTH}, 0, 1)"

_MAX_RANK = (1 << REGWIDTH) - 1
_EMPTY, _SPARSE, _FULL = (bytes([0x10 | kind, (REGWIDTH - 1) << 5 | LOG2M, 0x40]) for kind in (1, 3, 4))
_HEADER_LENGTH = 3
_ENTRY_BYTES = 2
_BITS_OF_RANK = 1 << np.arange(REGWIDTH - 1, -1, -1)


def entries_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The register entry that each hash fills, shape (n,); 0 where the extension's hll_add fills none.

    The register is the low LOG2M bits; the rank is the number of trailing zeros of the rest, plus 1, capped.
    """
    index = hashes & np.uint64(REGISTERS - 1)
    rest = hashes >> np.uint64(LOG2M)
    # frexp of the lowest set bit is exact: it is a power of two.
    lowest_bit = rest & (~rest + np.uint64(1))
    rank = np.minimum(np.frexp(lowest_bit.astype(np.float64))[1], _MAX_RANK)
    return np.where(rest == 0, 0, index << np.uint64(REGWIDTH) | rank.astype(np.uint64)).astype(np.uint16)


def encode_groups(groups: NDArray[np.int64], entries: NDArray[np.uint16], group_count: int) -> list[bytes]:
    """One sketch a group: entry i belongs to group groups[i] in [0, group_count); order and repeats do not matter."""
    filled = entries != 0
    keyed = groups[filled].astype(np.uint64) << np.uint64(16) | entries[filled]
    keyed.sort()
    # Sorted, so the last entry of a register carries its highest rank.
    register = keyed >> np.uint64(REGWIDTH)
    keyed = keyed[np.append(register[1:] != register[:-1], True)] if keyed.size else keyed
    payload = (keyed & np.uint64(0xFFFF)).astype(">u2").tobytes()
    bounds = np.searchsorted(keyed >> np.uint64(16), np.arange(group_count + 1, dtype=np.uint64)) * _ENTRY_BYTES
    return [_encode(payload[first:after]) for first, after in pairwise(bounds.tolist())]


def _encode(payload: bytes) -> bytes:
    """The sketch of these entries, big-endian and sorted, one a register."""
    if not payload:
        return _EMPTY
    if len(payload) < SPARSE_LIMIT * _ENTRY_BYTES:
        return _SPARSE + payload
    entries = np.frombuffer(payload, ">u2")
    ranks = np.zeros(REGISTERS, dtype=np.uint8)
    ranks[entries >> REGWIDTH] = entries & _MAX_RANK
    bits = ranks[:, None] & _BITS_OF_RANK.astype(np.uint8) != 0
    return _FULL + np.packbits(bits).tobytes()


def decode(sketch: bytes) -> NDArray[np.uint16]:
    """The filled registers' entries, sorted by index; ValueError if these are not bytes of this format and size."""
    header, body = sketch[:_HEADER_LENGTH], sketch[_HEADER_LENGTH:]
    if header == _EMPTY and not body:
        return np.empty(0, dtype=np.uint16)
    if header == _SPARSE and len(body) % 2 == 0:
        return np.frombuffer(body, dtype=">u2").astype(np.uint16)
    if header == _FULL and len(body) == REGISTERS * REGWIDTH // 8:
        bits = np.unpackbits(np.frombuffer(body, dtype=np.uint8)).reshape(REGISTERS, REGWIDTH)
        ranks = bits @ _BITS_OF_RANK
        index = np.flatnonzero(ranks)
        return (index << REGWIDTH | ranks[index]).astype(np.uint16)
    raise ValueError(f"not an {SQL_TYPE} sketch with explicit storage off: header {header.hex()}, {len(body)} bytes follow")


def decode_all(sketches: Sequence[bytes]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """The entries of many sketches end to end, and how many each has: what encode_groups takes back."""
    parts = [decode(sketch) for sketch in sketches]
    lengths = np.fromiter((part.size for part in parts), dtype=np.int64, count=len(parts))
    return (np.concatenate(parts) if parts else np.empty(0, dtype=np.uint16)), lengths


def to_datasketch(sketch: bytes) -> HyperLogLogPlusPlus:
    """The same sketch as datasketch's HyperLogLogPlusPlus: estimate and merge it with a library you know.

    Its updates go on in the same register space: `update(text.encode())`.
    """
    registers = np.zeros(REGISTERS, dtype=np.int8)
    entries = decode(sketch)
    registers[entries >> REGWIDTH] = entries & _MAX_RANK
    return HyperLogLogPlusPlus(p=LOG2M, reg=registers, hashfunc=datasketch_hash)


def datasketch_hash(value: bytes) -> int:
    """hash_text with the bits above LOG2M reversed: datasketch counts leading zeros where the extension counts trailing."""
    hashed = hash_text(value.decode())
    rest = f"{hashed >> LOG2M:0{64 - LOG2M}b}"
    return int(rest[::-1], 2) << LOG2M | hashed & (REGISTERS - 1)
