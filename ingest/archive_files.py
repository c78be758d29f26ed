"""The archive's files: each appears whole or not at all, and a master file never without the rejects of its range.

A quarantine file counts only beside the master file of the same name. It is written before and deleted after that one, so a
crash in between leaves one that nobody reads. It stays until a larger master file covers its range: another archiver may be
about to write the master file beside it.
"""

from __future__ import annotations

import uuid

import polars as pl
import pyarrow as pa

from contract.archive_file import Contents, decode, encode
from contract.event import EVENT_SCHEMA, REJECT_SCHEMA, Decoded
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice, folder
from ingest.hdfs import FileInfo, FileStore


def _arrow_schema(schema: pl.Schema) -> pa.Schema:
    """The Parquet columns of a frame, without Polars' own Arrow types."""
    plain = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    columns = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema([(column.name, plain.get(column.type, column.type)) for column in columns])


_SCHEMAS = {MASTER: _arrow_schema(EVENT_SCHEMA), QUARANTINE: _arrow_schema(REJECT_SCHEMA)}


class ArchiveFiles:
    """The files of all partitions below one root."""

    def __init__(self, store: FileStore, root: str) -> None:
        self._store, self._root = store, root

    def ranges(self, partition: int, dataset: str = MASTER) -> dict[OffsetRange, FileInfo]:
        """The finished files of a partition, by the range that their name states."""
        files = self._store.list(folder(self._root, dataset, partition))
        named = ((OffsetRange.of_file(partition, file.name), file) for file in files)
        return {offsets: file for offsets, file in named if offsets is not None}

    def put(self, offsets: OffsetRange, decoded: Decoded) -> None:
        """Store a range; a range that is there already stays, for it holds the same."""
        arrow = {
            dataset: frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(_SCHEMAS[dataset])
            for dataset, frame in ((MASTER, decoded.events), (QUARANTINE, decoded.rejects))
        }
        self._put_tables(offsets, arrow[MASTER], arrow[QUARANTINE])

    def merge(self, slices: list[Slice]) -> OffsetRange:
        """Store neighbouring slices as one range more; the old files stay until `delete`. ArchiveDamaged if one is."""
        merged = OffsetRange(slices[0].file.partition, slices[0].first_offset, slices[-1].next_offset)
        quarantined = self.ranges(merged.partition, QUARANTINE)
        rejected = [part for part in slices if part.file in quarantined]
        names = tuple(part.file.file_name for part in slices)
        self._put_tables(merged, self.read(MASTER, slices), self.read(QUARANTINE, rejected), names)
        return merged

    def read(self, dataset: str, slices: list[Slice]) -> pa.Table:
        """The rows of the slices, in their order; of QUARANTINE give only slices whose file is there.

        Raises ArchiveDamaged if a file is not as it was written.
        """
        tables = [_SCHEMAS[dataset].empty_table()]
        for part in slices:
            path = part.file.path(self._root, dataset)
            table, _ = decode(self._store.read(path), path)
            offset = table["offset"].to_numpy()
            # guard: offset filter of a merge
            tables.append(table.filter(pa.array((offset >= part.first_offset) & (offset < part.next_offset))))
        return pa.concat_tables(tables)

    def read_end(self, dataset: str, offsets: OffsetRange, file: FileInfo, size_bytes: int) -> bytes:
        """The last bytes of a listed file, so many or all of them."""
        return self._store.read(self.path(dataset, offsets), max(0, file.size_bytes - size_bytes))

    def path(self, dataset: str, offsets: OffsetRange) -> str:
        """Where the range's file is."""
        return offsets.path(self._root, dataset)

    def delete(self, offsets: OffsetRange) -> None:
        """Remove a range that others cover."""
        self._store.delete(offsets.path(self._root, MASTER))
        self._store.delete(offsets.path(self._root, QUARANTINE))

    def clean(self, partition: int) -> int:
        """Remove what crashes left half done; returns how many files. A live archiver writes a lost temporary file anew."""
        finished = self.ranges(partition)
        leftovers = []
        for dataset in (MASTER, QUARANTINE):
            place = folder(self._root, dataset, partition)
            names = [file.name for file in self._store.list(place)]
            leftovers += [f"{place}/{name}" for name in names if name.startswith(".") and name.endswith(".tmp")]
        for orphan in self.ranges(partition, QUARANTINE).keys() - finished.keys():
            # Readers prefer the larger file, so a master file that comes late to this one is never read.
            # guard: orphans stay
            if any(file.first_offset <= orphan.first_offset and orphan.next_offset <= file.next_offset for file in finished):
                leftovers.append(orphan.path(self._root, QUARANTINE))
        for path in leftovers:
            self._store.delete(path)
        return len(leftovers)

    def _put_tables(self, offsets: OffsetRange, events: pa.Table, rejects: pa.Table, merged: tuple[str, ...] = ()) -> None:
        contents = Contents(offsets, len(events), len(rejects), merged)
        # guard: quarantine before master
        if len(rejects):
            self._put_file(offsets, QUARANTINE, encode(rejects, contents))
        self._put_file(offsets, MASTER, encode(events, contents))

    def _put_file(self, offsets: OffsetRange, dataset: str, content: bytes) -> None:
        temporary = f"{folder(self._root, dataset, offsets.partition)}/.{offsets.file_name}.{uuid.uuid4().hex}.tmp"
        # guard: rename
        self._store.write(temporary, content)
        if not self._store.rename(temporary, offsets.path(self._root, dataset)):
            self._store.delete(temporary)
