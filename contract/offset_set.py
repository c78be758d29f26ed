"""Some offsets of a range as a short text: a bit an offset, compressed; few of them, or nearly all, take next to nothing."""

from __future__ import annotations

import zlib
from base64 import b85decode, b85encode
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]


def pack(first_offset: int, next_offset: int, offsets: Iterable[int] | Offsets) -> str:
    """The offsets, all in [first_offset, next_offset), in any order; the empty text if there is none."""
    places = np.asarray(offsets if isinstance(offsets, np.ndarray) else list(offsets), np.int64) - first_offset
    if not len(places):
        return ""
    bits = np.zeros(next_offset - first_offset, np.uint8)
    bits[places] = 1
    return b85encode(zlib.compress(np.packbits(bits).tobytes(), 9)).decode()


def unpack(first_offset: int, text: str) -> Offsets:
    """The offsets of a text that `pack` gave of a range that began there, in order."""
    if not text:
        return np.zeros(0, np.int64)
    bits = np.frombuffer(zlib.decompress(b85decode(text)), np.uint8)
    return np.flatnonzero(np.unpackbits(bits)).astype(np.int64) + first_offset
