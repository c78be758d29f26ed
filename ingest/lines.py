"""An input file as blocks of lines with their byte offsets, in bounded memory whatever the file holds."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from contract.errors import InputError
from contract.event import MAX_VALUE_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

# One byte more than a value may have: a longer line is cut to this and so is still quarantined as too large.
CUT_LINE_BYTES = MAX_VALUE_BYTES + 1
_ROOM_BYTES = CUT_LINE_BYTES + 2  # and the line end
_BLOCK_BYTES = 1 << 18
_HEAD_BYTES = 8_192
_GZIP_MAGIC = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TEXT_OR_HOLE = re.compile(rb"\0+|[^\0]+")


class _Counted(io.RawIOBase):
    """A file or a pipe that knows how much was read of it; a pipe cannot be asked for its position."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        # Filled up as far as possible: how much a pipe gives at once must not decide what the first line is.
        view, length = memoryview(buffer), 0
        while length < len(view) and (more := self._raw.readinto(view[length:])):
            length += more
        self.read_bytes += length
        return length

    def close(self) -> None:
        self._raw.close()
        super().close()


class InputFile:
    """A readable, non-empty file, plain or gzip; anything else raises InputError in one line.

    `path` is opened, unless `pipe` brings its content; `size_bytes` is how much that will be, 0 if nobody knows.
    """

    def __init__(self, path: Path, pipe: io.RawIOBase | None = None, size_bytes: int = 0) -> None:
        self.path = path
        try:
            self._counted = _Counted(path.open("rb", buffering=0) if pipe is None else pipe)
            self.size_bytes = path.stat().st_size if pipe is None else size_bytes
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        self._raw: BinaryIO = io.BufferedReader(self._counted, _BLOCK_BYTES)
        self._text: BinaryIO = self._raw
        try:
            if self._peek(self._raw)[:2] == _GZIP_MAGIC:
                self._text = io.BufferedReader(gzip.GzipFile(fileobj=self._raw), _BLOCK_BYTES)
                if self._peek(self._text)[:2] == _GZIP_MAGIC:
                    raise InputError(f"{path} is gzip within gzip; unpack it once")
            self._check_head()
        except InputError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """The file is no longer needed."""
        self._text.close()
        self._raw.close()

    @property
    def read_bytes(self) -> int:
        """How much of size_bytes has been read."""
        return self._counted.read_bytes

    @property
    def content(self) -> BinaryIO:
        """The text, from where it was read to, for whoever does not read it by lines."""
        return self._text

    def first_line(self) -> bytes:
        """The first line, as far as it is in the first bytes of the text; without moving on."""
        return self.head().split(b"\n", 1)[0].rstrip(b"\r")

    def head(self) -> bytes:
        """The first bytes of the text, without moving on."""
        return self._peek(self._text)[:_HEAD_BYTES]

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """(byte offset in the uncompressed text, whole lines without the last one's end) until all lines are there.

        Of a line that is longer than any may be only the beginning comes, as a block of its own.
        """
        offset, begun = 0, b""
        try:
            while read := self._text.read1(_BLOCK_BYTES):  # type: ignore[attr-defined]
                pieces = _TEXT_OR_HOLE.findall(read) if b"\0" in read else [read]
                for number, more in enumerate(pieces, 1):
                    if more[0] == 0:
                        # What was never written in the middle of a file ends a line, and is none.
                        if begun:
                            yield offset, begun
                        offset, begun = offset + len(begun) + len(more), b""
                        continue
                    lines, end, following = more.rpartition(b"\n")
                    if end:
                        yield offset, begun + lines
                        offset += len(begun) + len(lines) + len(end)
                        begun = following
                    else:
                        begun += following
                    if len(begun) >= _ROOM_BYTES:
                        yield offset, begun[:_ROOM_BYTES]
                        offset += len(begun) + (self._skip_rest_of_line() if number == len(pieces) else 0)
                        begun = b""
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.path} breaks off or is damaged after byte {offset} of its text: {error}") from error
        if begun:
            yield offset, begun

    def _check_head(self) -> None:
        head = self.head()
        if not head:
            raise InputError(f"{self.path} is empty; nothing was sent")
        if head.startswith(_UTF_16):
            raise InputError(f"{self.path} is UTF-16; `iconv -f UTF-16 -t UTF-8` makes of it what can be counted")

    def _skip_rest_of_line(self) -> int:
        skipped = 0
        while more := self._text.readline(_ROOM_BYTES):
            skipped += len(more)
            if more[-1:] == b"\n":
                break
        return skipped

    def _peek(self, file: BinaryIO) -> bytes:
        try:
            return file.peek(_HEAD_BYTES)  # type: ignore[attr-defined,no-any-return]
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error


def lines_of(offset: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """(byte offset, line without its end) of each line of a block; a long one is cut to CUT_LINE_BYTES."""
    for line in block.split(b"\n"):
        yield offset, without_end(line)
        offset += len(line) + 1


def without_end(line: bytes) -> bytes:
    """A line of a block as it counts: without CR, and not longer than CUT_LINE_BYTES."""
    return line.removesuffix(b"\r")[:CUT_LINE_BYTES]
