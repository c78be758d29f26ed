"""The one hash: what PostgreSQL's hll_hash_text(text) computes, so SQL and Python build the same sketches.

MurmurHash3 x64-128 with seed 0, first 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.columns import texts


def hash_text(text: str) -> int:
    """The hash of one string as an unsigned 64-bit integer."""
    return int(hash_texts([text])[0])


def hash_texts(strings: Iterable[str]) -> NDArray[np.uint64]:
    """hash_text of each string, shape (n,); that of null is 0, as that of the empty string is."""
    return hash_texts_128(strings)[:, 0].copy()


def hash_texts_128(strings: Iterable[str]) -> NDArray[np.uint64]:
    """Both 64-bit halves of the same hash, shape (n, 2); the first column is hash_texts."""
    from contract.loops import murmur

    column = strings if isinstance(strings, pl.Series) else pl.Series(list(strings), dtype=pl.String)
    return murmur.hash_all(*texts(column))
