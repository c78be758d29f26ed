"""An input file as pieces of whole lines: plain or compressed, finished or still growing, a file or a pipe."""

from __future__ import annotations

import io
import select
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from contract.errors import InputError
from ingest.compression import DAMAGED, MAGIC_BYTES, Read, opener
from ingest.pieces import Piece, Splitter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_BLOCK_BYTES = 1 << 18
_HEAD_BYTES = 8_192
_KEPT_BYTES = 256
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class _Counted(io.RawIOBase):
    """Knows how much was read of a file or a pipe, which cannot be asked for its position. Closing this leaves that open."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.read_bytes = 0
        self.first_bytes = self.last_bytes = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        # Filled up as far as possible: how much a pipe gives at once must not decide what a file begins with.
        view, length = memoryview(buffer), 0
        while length < len(view) and (more := self._raw.readinto(view[length:])):
            length += more
        self.read_bytes += length
        return length

    def read_some(self, size: int) -> bytes:
        """What there is, at most so many bytes."""
        more: bytes = self._raw.read(size) or b""
        self.read_bytes += len(more)
        self.first_bytes += more[: _KEPT_BYTES - len(self.first_bytes)]
        self.last_bytes = (self.last_bytes + more)[-_KEPT_BYTES:]
        return more


class InputFile:
    """A file of text, plain or compressed with gzip, zstd, bzip2 or xz; anything else raises InputError in one line.

    `path` is opened, unless `pipe` brings its content; `size_bytes` is how much that will be, 0 if nobody knows. A `live`
    one is plain, may be empty, and is read as far as it goes now, again and again: a pipe until it has `ended`.
    """

    def __init__(self, path: Path, pipe: io.RawIOBase | None = None, size_bytes: int = 0, live: bool = False) -> None:
        self.path, self.live = path, live
        self.ended = False
        self.head = b""
        """The first bytes of the content, if it is not live."""
        self._is_pipe = pipe is not None
        try:
            self._file = path.open("rb", buffering=0) if pipe is None else pipe
            self.size_bytes = path.stat().st_size if pipe is None else size_bytes
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        self.can_restart = self._file.seekable()
        try:
            self._begin()
        except InputError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """The file is no longer needed."""
        self._file.close()

    def fileno(self) -> int:
        """What the content is read from."""
        return self._file.fileno()

    @property
    def read_bytes(self) -> int:
        """How much of size_bytes has been read."""
        return self._raw.read_bytes

    @property
    def first_bytes(self) -> bytes:
        """The beginning of what was read of a live file."""
        return self._raw.first_bytes

    @property
    def last_bytes(self) -> bytes:
        """The end of it."""
        return self._raw.last_bytes

    @property
    def position(self) -> int:
        """Where in the text the line begins whose end has not been read yet."""
        return self._splitter.offset

    @property
    def unfinished_bytes(self) -> int:
        """How much of a line without its end was there."""
        return self._splitter.unfinished_bytes

    def content(self) -> Iterator[bytes]:
        """All of it from the first byte on, for whoever does not read it by lines; not of a live file."""
        try:
            while more := self._read(_BLOCK_BYTES):
                yield more
        except DAMAGED as error:
            raise InputError(f"{self.path} breaks off or is damaged: {error}") from error

    def wait(self, seconds: float) -> bool:
        """Whether a live pipe has more, or has ended, within this time."""
        return bool(select.select([self._file], [], [], seconds)[0])

    def restart(self) -> None:
        """The next piece is the first one again; only if `can_restart`."""
        self._file.seek(0)
        self._begin()

    def pieces(self, final: bool = False) -> Iterator[Piece]:
        """The pieces that follow, as far as the text goes now.

        With `final`, or if it is compressed, the last line is among them though it has no end. Where the content is damaged,
        InputError comes after the whole lines before that.
        """
        try:
            while more := self._read(_BLOCK_BYTES):
                yield from self._splitter.add(more)
        except DAMAGED as error:
            where = f"after byte {self.position} of its text"
            raise InputError(f"{self.path} breaks off or is damaged {where}: {error}") from error
        if (final or self.is_compressed) and (last := self._splitter.end()):
            yield last

    def _begin(self) -> None:
        self._splitter = Splitter()
        self._raw = _Counted(self._file)
        self.is_compressed = False
        if self.live:
            self._read: Read = self._read_live
            return
        buffered = io.BufferedReader(self._raw, _BLOCK_BYTES)
        try:
            unpack = opener(buffered.peek(MAGIC_BYTES))
            self.is_compressed = unpack is not None
            read = unpack(buffered) if unpack else buffered.read1
            first = [read(_BLOCK_BYTES)]
        except DAMAGED as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error
        if not first[0]:
            raise InputError(f"{self.path} is empty; nothing was sent")
        if self.is_compressed and opener(first[0]):
            raise InputError(f"{self.path} is compressed twice; unpack it once")
        self._require_text(first[0])
        self.head = first[0][:_HEAD_BYTES]
        self._read = lambda size: first.pop() if first else read(size)

    def _read_live(self, size: int) -> bytes:
        if self._is_pipe and not self.wait(0):
            return b""
        try:
            more = self._raw.read_some(size)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}") from error
        self.ended = self._is_pipe and not more
        if self.position == self.unfinished_bytes == 0:
            if opener(more):
                raise InputError(f"{self.path} is compressed and still growing; give it when it is finished, or unpacked")
            self._require_text(more)
        return more

    def _require_text(self, head: bytes) -> None:
        if head.startswith(_UTF_16):
            raise InputError(f"{self.path} is UTF-16; `iconv -f UTF-16 -t UTF-8` makes of it what can be counted")
