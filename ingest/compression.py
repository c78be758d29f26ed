"""What a file is compressed with, by its first bytes whatever its name, and its content as a stream of bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable

Read = Callable[[int], bytes]
"""At most so many bytes of the content, b"" at its end."""

MAGIC_BYTES = 6
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading raises where the content breaks off or is damaged."""


def opener(head: bytes) -> Callable[[io.BufferedReader], Read] | None:
    """How to read a file that begins so; None if it is not compressed."""
    return next((read for magic, read in _OPENERS.items() if head.startswith(magic)), None)


def _zstd(file: io.BufferedReader) -> Read:
    import pyarrow as pa  # takes a while to load, and other files do without

    read: Read = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd").read
    return read


# Each reads members or frames that follow each other as one text.
_OPENERS: dict[bytes, Callable[[io.BufferedReader], Read]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file).read1,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": lambda file: bz2.BZ2File(file).read1,
    b"\xfd7zXZ\0": lambda file: lzma.LZMAFile(file).read1,  # noqa: SIM115 (whoever reads it closes it)
}
