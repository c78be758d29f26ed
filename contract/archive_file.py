"""The bytes of an archive file: Parquet that says what its offset range holds, sealed by a SHA-256 of all its bytes.

The digest is in the file itself, so that both appear, move and are copied as one; it is taken with zeros in its own place.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contract.errors import ArchiveDamaged
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.offset_set import Offsets, pack, unpack

if TYPE_CHECKING:
    # Who reads footers alone need not wait for what streams are declared with.
    from contract.stream import Stream

_CONTENTS = "braid.contents"
_FOOTER_END = b"PAR1"
_FOOTER_LENGTH_BYTES = 4
_TAIL_BYTES = 1 << 16
# In memory: so a row group of usual events has some 80,000.
_ROW_GROUP_BYTES = 32 << 20
_MARK = b"sha256:"
_BLANK = b"0" * 64


@dataclass(frozen=True, order=True)
class Lost:
    """Offsets of a range that were given up: no file has their records. Why, and when (RFC 3339) that was written down."""

    first_offset: int
    next_offset: int
    reason: str
    recorded_at: str

    def within(self, first_offset: int, next_offset: int) -> tuple[Lost, ...]:
        """The part between these offsets; none if there is no such part."""
        first, after = max(self.first_offset, first_offset), min(self.next_offset, next_offset)
        return (replace(self, first_offset=first, next_offset=after),) if first < after else ()


@dataclass(frozen=True)
class ValueForm:
    """How the values are written that a master file leaves out: its columns `fields`, in this order, as `version` says."""

    version: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What an offset range holds; its master and its quarantine file both say so, and either tells of the other.

    `merged` names the files that the range was merged from, if it was. `topic_id`, `leader_epoch` and `shift` are those of
    the position at its end. `lost` says which of its offsets nobody has any more. `form` is that of the values that the
    master file leaves out. `forgotten` are the offsets of records that were received and that `make forget` has taken back,
    as contract.offset_set packs them.
    """

    offsets: OffsetRange
    events: int
    rejects: int
    merged: tuple[str, ...] = ()
    topic_id: str | None = None
    leader_epoch: int | None = None
    shift: int = 0
    lost: tuple[Lost, ...] = ()
    form: ValueForm | None = None
    forgotten: str = ""

    def forgotten_within(self, first_offset: int, next_offset: int) -> Offsets:
        """Those of the forgotten offsets that are in [first_offset, next_offset), in order."""
        offsets = unpack(self.offsets.first_offset, self.forgotten)
        return offsets[(offsets >= first_offset) & (offsets < next_offset)]

    def forgetting(self, offsets: Offsets) -> str:
        """What `forgotten` is once these are forgotten too."""
        first, after = self.offsets.first_offset, self.offsets.next_offset
        return pack(first, after, np.union1d(unpack(first, self.forgotten), offsets))

    @property
    def position(self) -> LogPosition:
        """Where a reader stands that has read the range."""
        return LogPosition(self.offsets.next_offset, self.topic_id, self.leader_epoch, self.shift)


@dataclass(frozen=True)
class Span:
    """How many rows a master file has, their least and greatest event time, and when its first one came to Kafka."""

    rows: int
    first_time_us: int
    last_time_us: int
    kafka_time_ms: int


class Encoder:
    """Makes a file of rows of a stream that come in parts.

    It holds no more of them in memory than a row group takes, and the file.
    """

    def __init__(self, schema: pa.Schema, stream: Stream) -> None:
        self.rows = 0
        # Only these tell a reader which files or row groups to leave out.
        rising = {"offset", "kafka_time", stream.time}
        # A dictionary of values that hardly repeat makes a file larger, and slower to write and to read (decision 39).
        repeated = {"partition", "reason", *(field.name for field in stream.fields if field.is_repeated)}
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._buffer = io.BytesIO()
        self._writer = pq.ParquetWriter(
            self._buffer,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name in repeated],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in schema.names if name in rising},
            write_statistics=[name for name in schema.names if name in rising],
        )

    def add(self, table: pa.Table) -> None:
        """Rows that follow; all columns of the schema are among the table's."""
        if not len(table):
            return
        self._waiting.append(table.select(self._schema.names).cast(self._schema))
        self._waiting_bytes += table.nbytes
        self.rows += len(table)
        if self._waiting_bytes >= _ROW_GROUP_BYTES:
            self._write()

    def finish(self, contents: Contents) -> bytes:
        """The file's bytes."""
        self._write()
        sealed = {_CONTENTS: json.dumps(asdict(contents)), "braid.checksum": (_MARK + _BLANK).decode()}
        self._writer.add_key_value_metadata(sealed)
        self._writer.close()
        content = bytearray(self._buffer.getbuffer())
        place = _digest_place(content)
        content[place : place + len(_BLANK)] = hashlib.sha256(content).hexdigest().encode()
        return bytes(content)

    def _write(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._writer.write_table(table, row_group_size=len(table))
            self._waiting, self._waiting_bytes = [], 0


def encode(table: pa.Table, contents: Contents, stream: Stream) -> bytes:
    """The bytes of a file with these rows of a stream."""
    encoder = Encoder(table.schema, stream)
    encoder.add(table)
    return encoder.finish(contents)


def decode(content: bytes, path: str, columns: Sequence[str] | None = None) -> tuple[pa.Table, Contents]:
    """The file's rows and what its range holds; ArchiveDamaged, which names `path`, if a single byte is not as written.

    Of the rows all columns, or the given ones.
    """
    place = _digest_place(content)
    if place < len(_MARK) or not content.endswith(_FOOTER_END):
        raise ArchiveDamaged.of(path, f"its {len(content)} bytes hold no checksum of Braid's")
    stored = content[place : place + len(_BLANK)]
    blanked = hashlib.sha256(memoryview(content)[:place])
    blanked.update(_BLANK)
    blanked.update(memoryview(content)[place + len(_BLANK) :])
    if blanked.hexdigest().encode() != stored:
        raise ArchiveDamaged.of(path, f"its {len(content)} bytes are not those that were written")
    # Nothing is parsed before the digest has vouched for it.
    file = pq.ParquetFile(pa.BufferReader(content))
    return file.read(columns), _contents(file.metadata)


def position(footer: bytes, path: str) -> LogPosition:
    """Where a reader stands that has read the file, as its footer says; ArchiveDamaged if it is no footer of ours."""
    try:
        return _contents(_footer(footer, path)).position
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveDamaged.of(path, "its footer does not say what it holds") from error


def lost(footer: bytes, path: str) -> tuple[Lost, ...]:
    """Which offsets of a file are lost for good, as its footer says; ArchiveDamaged if it is no footer of Parquet's."""
    metadata = _footer(footer, path)
    # A file of a version without checksums says nothing of itself.
    return _contents(metadata).lost if _CONTENTS.encode() in (metadata.metadata or {}) else ()


def forgotten_within(footer: bytes, path: str, first_offset: int, next_offset: int) -> int:
    """How many offsets of a part of a file are forgotten, as its footer says; ArchiveDamaged if it is no footer."""
    metadata = _footer(footer, path)
    if _CONTENTS.encode() not in (metadata.metadata or {}):
        return 0
    return len(_contents(metadata).forgotten_within(first_offset, next_offset))


def read_footer(read_end: Callable[[int], bytes]) -> bytes:
    """The end of a file with its footer; `read_end` gives so many bytes at the end, or all."""
    tail = read_end(_TAIL_BYTES)
    needed = int.from_bytes(tail[-len(_FOOTER_END) - _FOOTER_LENGTH_BYTES : -len(_FOOTER_END)], "little") + 8
    return tail if needed <= len(tail) else read_end(needed)


def span(footer: bytes, path: str, time: str) -> Span | None:
    """What the footer of a master file says of its rows, None if it has none; ArchiveDamaged if it is no footer.

    `time` is the column with the event's time.

    The digest does not vouch for it: whoever then takes rows reads the whole file.
    """
    metadata = _footer(footer, path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    times = [_limits(group, time, path) for group in groups if group.num_rows]
    arrivals = [_limits(group, "kafka_time", path) for group in groups if group.num_rows]
    if not times:
        return None
    first, last = min(low for low, _ in times), max(high for _, high in times)
    return Span(metadata.num_rows, first, last, min(low for low, _ in arrivals))


def _footer(footer: bytes, path: str) -> pq.FileMetaData:
    try:
        return pq.ParquetFile(pa.BufferReader(footer)).metadata
    except (pa.ArrowException, OSError) as error:
        raise ArchiveDamaged.of(path, f"its last {len(footer)} bytes are no footer of Parquet's") from error


def _contents(metadata: pq.FileMetaData) -> Contents:
    held = json.loads(metadata.metadata[_CONTENTS.encode()])
    offsets, merged, form = OffsetRange(**held.pop("offsets")), tuple(held.pop("merged")), held.pop("form", None)
    lost = tuple(Lost(**one) for one in held.pop("lost", ()))
    known = ValueForm(form["version"], tuple(form["fields"])) if form else None
    return Contents(offsets, merged=merged, lost=lost, form=known, **held)


def _limits(group: pq.RowGroupMetaData, name: str, path: str) -> tuple[int, int]:
    """The least and the greatest item of a column, as they are stored."""
    columns = (group.column(number) for number in range(group.num_columns))
    found = next((column.statistics for column in columns if column.path_in_schema == name), None)
    if found is None or not found.has_min_max:
        raise ArchiveDamaged.of(path, f"its footer does not say which {name} it has")
    return found.min_raw, found.max_raw


def _digest_place(content: bytes | bytearray) -> int:
    # Parquet keeps these texts behind everything that comes from events, so the last mark is ours.
    return content.rfind(_MARK) + len(_MARK)
