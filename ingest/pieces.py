"""Bytes as they come, as pieces of whole lines with their byte offsets, in bounded memory whatever comes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from contract.event import MAX_VALUE_BYTES

# One byte more than a value may have: a longer line is cut to this and so is still quarantined as too large.
CUT_LINE_BYTES = MAX_VALUE_BYTES + 1
_ROOM_BYTES = CUT_LINE_BYTES + 2  # and the line end
_TEXT_OR_HOLE = re.compile(rb"\0+|[^\0]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of a text with their ends, from byte `offset` on; the text goes on at `next_offset`.

    Of a line that is longer than any may be the data is the beginning, and `long` the SHA-256 of all of it. A hole, NUL
    bytes where a file was never written, has no data, and ends the line before it. That line and the last one of a text
    may lack their ends.
    """

    offset: int
    data: bytes
    next_offset: int
    long: bytes | None = None

    @property
    def is_hole(self) -> bool:
        """Whether there is no line in it."""
        return not self.data

    def split(self, at: int) -> tuple[Piece, Piece]:
        """The piece before, and from an offset inside of it on; not of a long line."""
        before, after = self.data[: at - self.offset], self.data[at - self.offset :]
        return Piece(self.offset, before, at), Piece(at, after, self.next_offset)


class Splitter:
    """Takes the bytes of one text in any portions: the pieces are other ones then, and the lines and offsets the same."""

    def __init__(self) -> None:
        self.offset = 0
        """Where the line begins whose end has not come yet."""
        self._begun = b""
        self._long = hashlib.sha256()
        self._long_bytes = 0
        self._hole_bytes = 0

    @property
    def unfinished_bytes(self) -> int:
        """How much of a line has come without its end."""
        return self._long_bytes or len(self._begun)

    def add(self, data: bytes) -> Iterator[Piece]:
        """The lines that have their ends with these bytes."""
        for run in _TEXT_OR_HOLE.findall(data) if self._hole_bytes or b"\0" in data else (data,):
            if run[0] == 0:
                if line := self.end():
                    yield line
                self._hole_bytes += len(run)
                continue
            if self._hole_bytes:
                hole_bytes, self._hole_bytes = self._hole_bytes, 0
                yield self._piece(b"", hole_bytes, hashlib.sha256(b"%d" % hole_bytes).digest())
            yield from self._add_text(run)

    def _add_text(self, data: bytes) -> Iterator[Piece]:
        if self._long_bytes:
            end = data.find(b"\n") + 1
            self._long.update(data[:end] if end else data)
            self._long_bytes += end or len(data)
            if not end:
                return
            yield self._piece(self._begun, self._long_bytes, self._long.digest())
            self._begun, self._long_bytes, data = b"", 0, data[end:]
        end, rest = data.rfind(b"\n") + 1, b""
        if end and len(data) - end < _ROOM_BYTES:
            # The whole lines are copied once, and not with the rest before.
            data, rest = b"".join((self._begun, memoryview(data)[:end])), data[end:]
        elif self._begun:
            data = self._begun + data
        at = 0
        while (long_at := _long_line(data, at)) >= 0:
            if long_at > at:
                yield self._piece(data[at:long_at])
            at = data.find(b"\n", long_at) + 1
            if not at:
                self._begun = data[long_at : long_at + _ROOM_BYTES]
                self._long, self._long_bytes = hashlib.sha256(data[long_at:]), len(data) - long_at
                return
            line = data[long_at:at]
            yield self._piece(line[:_ROOM_BYTES], len(line), hashlib.sha256(line).digest())
        end = data.rfind(b"\n", at) + 1
        if end > at:
            yield self._piece(data[at:end] if at or end < len(data) else data)
        self._begun = data[max(at, end) :] + rest

    def end(self) -> Piece | None:
        """The line without its end, if there is one, as the last one of the text."""
        if self._long_bytes:
            piece = self._piece(self._begun, self._long_bytes, self._long.digest())
        elif self._begun:
            piece = self._piece(self._begun)
        else:
            return None
        self._begun, self._long_bytes = b"", 0
        return piece

    def _piece(self, data: bytes, length: int | None = None, long: bytes | None = None) -> Piece:
        offset, self.offset = self.offset, self.offset + (length or len(data))
        return Piece(offset, data, self.offset, long)


def lines_of(offset: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line without its end) of each line of a block; a long one is cut to CUT_LINE_BYTES."""
    for line in block.split(b"\n"):
        yield offset, without_end(line)
        offset += len(line) + 1


def without_end(line: bytes) -> bytes:
    """A line of a block as it counts: without CR, and not longer than CUT_LINE_BYTES."""
    return line.removesuffix(b"\r")[:CUT_LINE_BYTES]


def _long_line(data: bytes, at: int) -> int:
    """Where a line begins, from one that begins at `at` on, that has no end within as many bytes as any has; -1 if none."""
    while len(data) - at >= _ROOM_BYTES:
        end = data.rfind(b"\n", at, at + _ROOM_BYTES)
        if end < 0:
            return at
        at = end + 1
    return -1
