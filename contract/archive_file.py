"""The bytes of an archive file: Parquet that says what its offset range holds, sealed by a SHA-256 of all its bytes.

The digest is in the file itself, so that both appear, move and are copied as one; it is taken with zeros in its own place.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from contract.errors import ArchiveDamaged
from contract.master import OffsetRange

# A dictionary of values that hardly repeat makes a file larger and slower to write and to read (measured: decision 39).
_REPEATING = {"partition", "site", "page", "visitor_id", "status", "referrer", "user_agent", "reason"}
# Only these tell a reader which files or row groups to leave out.
_RISING = {"offset", "kafka_time", "event_time"}
_CONTENTS = "braid.contents"
_MARK = b"sha256:"
_BLANK = b"0" * 64


@dataclass(frozen=True)
class Contents:
    """What an offset range holds; its master and its quarantine file both say so, and either tells of the other.

    `merged` names the files that the range was merged from, if it was.
    """

    offsets: OffsetRange
    events: int
    rejects: int
    merged: tuple[str, ...] = ()


def encode(table: pa.Table, contents: Contents) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        use_dictionary=[name for name in table.column_names if name in _REPEATING],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in table.column_names if name in _RISING},
        write_statistics=[name for name in table.column_names if name in _RISING],
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_CONTENTS: json.dumps(asdict(contents)), "braid.checksum": (_MARK + _BLANK).decode()})
    content = bytearray(buffer.getbuffer())
    place = _digest_place(content)
    content[place : place + len(_BLANK)] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def decode(content: bytes, path: str) -> tuple[pa.Table, Contents]:
    """The file's rows and what its range holds; ArchiveDamaged, which names `path`, if a single byte is not as written."""
    place = _digest_place(content)
    if place < len(_MARK) or not content.endswith(b"PAR1"):
        raise ArchiveDamaged.of(path, f"its {len(content)} bytes hold no checksum of Braid's")
    stored = content[place : place + len(_BLANK)]
    blanked = hashlib.sha256(memoryview(content)[:place])
    blanked.update(_BLANK)
    blanked.update(memoryview(content)[place + len(_BLANK) :])
    if blanked.hexdigest().encode() != stored:
        raise ArchiveDamaged.of(path, f"its {len(content)} bytes are not those that were written")
    # Nothing is parsed before the digest has vouched for it.
    file = pq.ParquetFile(pa.BufferReader(content))
    held = json.loads(file.metadata.metadata[_CONTENTS.encode()])
    return file.read(), Contents(OffsetRange(**held["offsets"]), held["events"], held["rejects"], tuple(held["merged"]))


def _digest_place(content: bytes | bytearray) -> int:
    # Parquet keeps these texts behind everything that comes from events, so the last mark is ours.
    return content.rfind(_MARK) + len(_MARK)
