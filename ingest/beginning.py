"""The beginning of a text: digests at some of its line ends, by which it is known again and its lines are named.

Where these points are follows from the text alone, so equal texts have equal points, however and whenever they are read. The
digests are keyed, because a line has a client's address in it, and who knows all else of the line could try all addresses.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import msgspec

from ingest.pieces import Piece

POINT_SHARE = 128
"""Between two points are at most 1 / POINT_SHARE of the bytes before them, or one line: so each of the first lines ends in
one, and a text of a gigabyte has some 1,500."""
NAMING_POINTS = 128
"""So many points, the first, name the lines from theirs on; after them every NAMING_POINTS-th one does."""
_DIGEST_BYTES = 12
_NAME_BYTES = 6


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """What comes before byte `end` of a text has this digest."""

    end: int
    digest: bytes


START = Mark(0, b"")


class Beginning:
    """What has been read of one text, from its first byte on."""

    def __init__(self, key: str) -> None:
        self.points: list[Mark] = []
        self.end = 0
        self._hash = hmac.new(key.encode(), b"source", "sha256")
        self._next_point = 1

    def copy(self) -> Beginning:
        """One that goes on by itself."""
        copied = Beginning("")
        copied.points, copied.end, copied._next_point = self.points.copy(), self.end, self._next_point
        copied._hash = self._hash.copy()
        return copied

    @property
    def mark(self) -> Mark:
        """Where it ends now."""
        return Mark(self.end, self._hash.digest()[:_DIGEST_BYTES])

    def add(self, piece: Piece) -> None:
        """What follows in the text."""
        if piece.long is not None:
            self._hash.update(piece.long)
            self._go_to(piece.next_offset)
            return
        data, at = memoryview(piece.data), 0
        # The first line end that reaches the next point is one.
        while (line_end := piece.data.find(b"\n", max(at, self._next_point - 1 - piece.offset)) + 1) > 0:
            self._hash.update(data[at:line_end])
            at = line_end
            self._go_to(piece.offset + at)
        self._hash.update(data[at:])
        self.end = piece.next_offset

    def _go_to(self, line_end: int) -> None:
        self.end = line_end
        if line_end >= self._next_point:
            self.points.append(self.mark)
            self._next_point = line_end + 1 + line_end // POINT_SHARE


def naming(points: Sequence[Mark], first: int = 0) -> list[Mark]:
    """Those of the points, from a number on, that name lines."""
    return [
        point
        for number, point in enumerate(points[first:], first)
        if number < NAMING_POINTS or (number + 1) % NAMING_POINTS == 0
    ]


def segments(piece: Piece, names: Sequence[Mark]) -> Iterator[tuple[Mark, int, bytes]]:
    """The lines of a piece apart by what names them, the last point that is not behind the line's end: that point, the byte
    offset of the lines, and their bytes.

    So the name of one of the first lines follows from all up to its own end.
    """
    number = bisect_right(names, piece.offset, key=lambda mark: mark.end)
    name, at = names[number - 1] if number else START, 0
    for mark in names[number:]:
        if mark.end > piece.next_offset:
            break
        begins = 0 if piece.long else piece.data.rfind(b"\n", 0, mark.end - 1 - piece.offset) + 1
        if begins > at:
            yield name, piece.offset + at, piece.data[at:begins]
        name, at = mark, begins
    yield name, piece.offset + at, piece.data[at:]


def name_of(mark: Mark, site: str) -> str:
    """How ids of a site's events say what comes before them."""
    return hashlib.sha256(mark.digest + site.encode("utf-8", "surrogatepass")).digest()[:_NAME_BYTES].hex()


def group_of(first_line: bytes, key: str) -> str:
    """What all texts with this first line, or lines, have in common."""
    return hmac.new(key.encode(), b"group" + first_line, "sha256").digest()[:_NAME_BYTES].hex()


def first_line(head: bytes) -> bytes | None:
    """The beginning of a text up to its first line that is no remark (# in front), without its end; None if all are remarks.

    The remarks before it are part of it: logs of one server all begin with the same.
    """
    at = 0
    while head.startswith(b"#", at):
        at = head.find(b"\n", at) + 1
        if not at:
            return None
    end = head.find(b"\n", at)
    line = head if end < 0 else head[:end]
    return line.removesuffix(b"\r") if at < len(head) else None
