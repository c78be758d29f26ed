"""Kafka records as columns, many together and no object of each: the form in which decode() takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FETCH_BYTES = 1 << 17
"""How much to fetch of a partition at once, as producers have compressed it: a batch at least, whatever its size.

The client unpacks at once all that a fetch brings, before it looks at the limits of its queue. By default that is a MiB, of
which equal characters are 200 times as much.
"""
PIECE_RECORDS = 2_000
"""So many usual records stay in the processor's cache from the call that brings them to the one that decodes them."""
PIECE_BYTES = 1 << 24
"""A piece of several records is no larger, so each is within the first 2^31 bytes of it, as Arrow's views must be."""
PADDING_BYTES = 256
"""So much may be read beyond a value without looking where it ends."""
NONE = -1
"""The length of a value that is none."""
_PADDING = bytes(PADDING_BYTES)


@dataclass(frozen=True)
class Piece:
    """Records of one partition, in order: arrays of shape (n,) of int64, and `text`, all bytes of the values.

    Each value is followed by a byte 0, and all of them by PADDING_BYTES more, or by values that are of another piece.
    """

    offsets: NDArray[np.int64]
    kafka_times_ms: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """Of the values, each NONE if there is none."""
    text: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size_bytes(self) -> int:
        """Of the values alone."""
        return int(self._sizes().sum())

    def ends(self) -> NDArray[np.int64]:
        """Where in the text the byte after each value is."""
        return np.cumsum(self._sizes() + 1) - 1

    def split(self, count: int) -> tuple[Piece, Piece]:
        """The first `count` records, at least one, and those after them. Nothing is copied."""
        first = Piece(self.offsets[:count], self.kafka_times_ms[:count], self.lengths[:count], self.text)
        text = self.text[first.ends()[-1] + 1 :]
        return first, Piece(self.offsets[count:], self.kafka_times_ms[count:], self.lengths[count:], text)

    def values_at(self, positions: Iterable[int]) -> Iterator[bytes | None]:
        """Those values as objects of their own."""
        ends = self.ends()
        for at in positions:
            length, end = int(self.lengths[at]), int(ends[at])
            yield None if length == NONE else self.text[end - length : end].tobytes()

    def _sizes(self) -> NDArray[np.int64]:
        return np.maximum(self.lengths, 0)


def pieces_of(offsets: Sequence[int], kafka_times_ms: Sequence[int], values: Sequence[bytes | None]) -> Iterator[Piece]:
    """Records that are objects, in order: one item a record in each sequence."""
    present = [value or b"" for value in values]
    lengths = np.fromiter(map(len, present), np.int64, len(present))
    ends = np.cumsum(lengths + 1)
    lengths[[at for at, value in enumerate(values) if value is None]] = NONE
    offset, time_ms = np.asarray(offsets, np.int64), np.asarray(kafka_times_ms, np.int64)
    assert len(offset) == len(time_ms) == len(present)
    first = 0
    while first < len(present):
        begins = ends[first - 1] if first else 0
        # guard: a piece is bounded
        fitting = int(np.searchsorted(ends, begins + PIECE_BYTES, side="right"))
        after = min(first + PIECE_RECORDS, max(first + 1, fitting))
        text = np.frombuffer(b"\0".join([*present[first:after], _PADDING]), np.uint8)
        yield Piece(offset[first:after], time_ms[first:after], lengths[first:after], text)
        first = after


class Records:
    """Records of one partition, in order, in pieces; further ones may be added."""

    def __init__(self, pieces: Iterable[Piece] = ()) -> None:
        self.pieces: list[Piece] = []
        self.size_bytes = self._count = 0
        """Of the values alone."""
        for piece in pieces:
            self.add(piece)

    @classmethod
    def of(cls, offsets: Sequence[int], kafka_times_ms: Sequence[int], values: Sequence[bytes | None]) -> Records:
        """Records that are objects: one item a record in each sequence."""
        return cls(pieces_of(offsets, kafka_times_ms, values))

    def __len__(self) -> int:
        return self._count

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Of each record."""
        return _together([piece.offsets for piece in self.pieces])

    @property
    def kafka_times_ms(self) -> NDArray[np.int64]:
        """Of each record."""
        return _together([piece.kafka_times_ms for piece in self.pieces])

    def values_at(self, positions: NDArray[np.int64]) -> Mapping[int, bytes | None]:
        """Those values as objects of their own, by their position; the positions are ascending."""
        found: dict[int, bytes | None] = {}
        first = 0
        for piece in self.pieces:
            begin, end = np.searchsorted(positions, (first, first + len(piece)))
            if begin < end:
                inside = positions[begin:end]
                found.update(zip(inside.tolist(), piece.values_at((inside - first).tolist()), strict=True))
            first += len(piece)
        return found

    def add(self, piece: Piece, shift: int = 0) -> None:
        """Append records that follow; `shift` is added to their offsets."""
        self.pieces.append(replace(piece, offsets=piece.offsets + shift) if shift else piece)
        self.size_bytes += piece.size_bytes
        self._count += len(piece)

    def take(self, count: int) -> Records:
        """Remove the first `count` records and return them."""
        taken = Records()
        while count > 0:
            piece = self.pieces.pop(0)
            if len(piece) > count:
                piece, rest = piece.split(count)
                self.pieces.insert(0, rest)
            taken.add(piece)
            count -= len(piece)
        self.size_bytes -= taken.size_bytes
        self._count -= len(taken)
        return taken

    def count_within(self, most_bytes: int) -> int:
        """How many of the first records have at most so many bytes together; one at least, if there is one."""
        if self.size_bytes <= most_bytes:
            return len(self)
        sizes = np.maximum(_together([piece.lengths for piece in self.pieces]), 0)
        return max(1, int(np.searchsorted(np.cumsum(sizes), most_bytes, side="right")))


def _together(columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(columns) if columns else np.zeros(0, np.int64)
