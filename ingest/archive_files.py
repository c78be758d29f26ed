"""The archive's files: each appears whole or not at all, and a master file never without the rejects of its range.

A quarantine file counts only beside the master file of the same name. It is written before and deleted after that one, so a
crash in between leaves one that nobody reads. It stays until a larger master file covers its range: another archiver may be
about to write the master file beside it.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

import polars as pl
import pyarrow as pa

from contract.archive_file import Contents, Lost, decode, encode, position, read_footer
from contract.event import EVENT_SCHEMA, REJECT_SCHEMA, Decoded
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice, folder
from ingest.hdfs import FileInfo, FileStore


def _arrow_schema(schema: pl.Schema) -> pa.Schema:
    """The Parquet columns of a frame, without Polars' own Arrow types."""
    plain = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    columns = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema([(column.name, plain.get(column.type, column.type)) for column in columns])


_ASIDE = "without-master"
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

    def put(self, offsets: OffsetRange, decoded: Decoded, position: LogPosition | None = None) -> None:
        """Store a range; a range that is there already stays, for it holds the same. `position` is the one at its end."""
        arrow = {
            dataset: frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(_SCHEMAS[dataset])
            for dataset, frame in ((MASTER, decoded.events), (QUARANTINE, decoded.rejects))
        }
        self._put_tables(offsets, arrow[MASTER], arrow[QUARANTINE], position)

    def put_empty(self, offsets: OffsetRange, position: LogPosition, lost: tuple[Lost, ...] = ()) -> None:
        """Store a range without a record: readers go on behind it. `lost` says which of its offsets are given up."""
        events, rejects = (_SCHEMAS[dataset].empty_table() for dataset in (MASTER, QUARANTINE))
        self._put_tables(offsets, events, rejects, position, lost=lost)

    def extent(self, partition: int) -> Extent:
        """Where the files of the partition end, in which log, and what is missing. ArchiveDamaged if one cannot say it."""
        files = self.ranges(partition)
        return Extent.of(partition, files, lambda file: position(self.footer(file, files[file]), self.path(MASTER, file)))

    def position(self, partition: int) -> LogPosition:
        """Where the files of the partition end, and in which log, as the last one says. ArchiveDamaged if it cannot."""
        return self.extent(partition).end

    def merge(self, slices: list[Slice], most_bytes: int) -> OffsetRange | None:
        """Store neighbouring slices as one range more; the old files stay until `delete`. ArchiveDamaged if one is.

        Nothing is stored, and None returned, if they are more than so many bytes in memory.
        """
        merged = OffsetRange(slices[0].file.partition, slices[0].first_offset, slices[-1].next_offset)
        quarantined = self.ranges(merged.partition, QUARANTINE)
        tables: dict[str, list[pa.Table]] = {MASTER: [], QUARANTINE: []}
        held_bytes = 0
        end = LogPosition(0)
        lost: list[Lost] = []
        for part in slices:
            for dataset in (QUARANTINE, MASTER) if part.file in quarantined else (MASTER,):
                table, contents = self._read(dataset, part)
                tables[dataset].append(table)
                held_bytes += table.nbytes
                end = contents.position
            lost += [piece for one in contents.lost for piece in one.within(part.first_offset, part.next_offset)]
            if held_bytes > most_bytes:
                return None
        events, rejects = (pa.concat_tables([_SCHEMAS[one].empty_table(), *tables[one]]) for one in (MASTER, QUARANTINE))
        # Of an end inside a file it is not known.
        position = end if end.next_offset == merged.next_offset else replace(end, leader_epoch=None)
        names = tuple(part.file.file_name for part in slices)
        self._put_tables(merged, events, rejects, position, names, tuple(lost))
        return merged

    def read(self, dataset: str, slices: list[Slice]) -> pa.Table:
        """The rows of the slices, in their order; of QUARANTINE give only slices whose file is there.

        Raises ArchiveDamaged if a file is not as it was written.
        """
        return pa.concat_tables([_SCHEMAS[dataset].empty_table(), *(self._read(dataset, part)[0] for part in slices)])

    def _read(self, dataset: str, part: Slice) -> tuple[pa.Table, Contents]:
        """The rows of the slice, and what its file holds."""
        path = part.file.path(self._root, dataset)
        table, contents = decode(self._store.read(path), path)
        offset = table["offset"].to_numpy()
        # guard: offset filter of a merge
        return table.filter(pa.array((offset >= part.first_offset) & (offset < part.next_offset))), contents

    def footer(self, offsets: OffsetRange, file: FileInfo) -> bytes:
        """The end of a listed master file, as far as its footer reaches or farther."""
        path = self.path(MASTER, offsets)
        return read_footer(lambda size_bytes: self._store.read(path, max(0, file.size_bytes - size_bytes)))

    def path(self, dataset: str, offsets: OffsetRange) -> str:
        """Where the range's file is."""
        return offsets.path(self._root, dataset)

    def delete(self, offsets: OffsetRange) -> None:
        """Remove a range that others cover."""
        self._store.delete(offsets.path(self._root, MASTER))
        self._store.delete(offsets.path(self._root, QUARANTINE))

    def set_aside(self, offsets: OffsetRange) -> list[str]:
        """Quarantine files within the range whose master files are gone get a name that no reader takes; the new paths."""
        moved = []
        finished = self.ranges(offsets.partition)
        for orphan in sorted(self.ranges(offsets.partition, QUARANTINE).keys() - finished.keys()):
            if offsets.first_offset <= orphan.first_offset and orphan.next_offset <= offsets.next_offset:
                path = orphan.path(self._root, QUARANTINE)
                if self._store.rename(path, f"{path}.{_ASIDE}"):
                    moved.append(f"{path}.{_ASIDE}")
        return moved

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

    def _put_tables(
        self,
        offsets: OffsetRange,
        events: pa.Table,
        rejects: pa.Table,
        position: LogPosition | None,
        merged: tuple[str, ...] = (),
        lost: tuple[Lost, ...] = (),
    ) -> None:
        at = position or LogPosition(offsets.next_offset)
        contents = Contents(offsets, len(events), len(rejects), merged, at.topic_id, at.leader_epoch, at.shift, lost)
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
