"""The one hash: what PostgreSQL's hll_hash_text(text) computes, so SQL and Python build the same sketches.

MurmurHash3 x64-128 with seed 0, first 64 bits (Appleby; mmh3 on PyPI).
"""

from __future__ import annotations

from collections.abc import Iterable

import mmh3
import numpy as np
from numpy.typing import NDArray


def hash_text(text: str) -> int:
    """The hash of one string as an unsigned 64-bit integer."""
    return mmh3.hash64(text.encode(), 0, signed=False)[0]


def hash_texts(texts: Iterable[str]) -> NDArray[np.uint64]:
    """hash_text of each string, shape (n,)."""
    return hash_texts_128(texts)[:, 0].copy()


def hash_texts_128(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Both 64-bit halves of the same hash, shape (n, 2); the first column is hash_texts."""
    return np.frombuffer(b"".join(map(mmh3.hash_bytes, texts)), dtype="<u8").reshape(-1, 2)
