"""The archive's files: each appears whole or not at all, and a master file never without the rejects of its range.

A quarantine file counts only beside the master file of the same name. It is written before and deleted after that one, so a
crash in between leaves one that nobody reads. It stays until a larger master file covers its range: another archiver may be
about to write the master file beside it.

Files are never changed, but for what `make forget` takes out of them (ingest/forget_files.py).

A master file has the columns of the event as it was when the file was written; whoever reads or merges it gets today's, and
a value is left out in what they get if today's form writes it of today's columns.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contract.archive_file import Contents, Encoder, Lost, ValueForm, decode, position, read_footer
from contract.decoder import REJECT_SCHEMA, Decoded
from contract.errors import ArchiveDamaged
from contract.extent import Extent
from contract.forgotten import KNOWING, REJECTS_KNOWING, Rules
from contract.log_position import LogPosition
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice, folder, partitions_in
from contract.master_rows import LEFT_OUT, VALUE, lacking, master_rows, master_schema
from contract.offset_set import pack
from contract.records import Records
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS
from contract.value_form import LAST_VERSION, column_in, form_of
from ingest.hdfs import FileInfo, FileStore


def _arrow_schema(schema: pl.Schema) -> pa.Schema:
    """The Parquet columns of a frame, without Polars' own Arrow types."""
    plain = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    columns = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema([(column.name, plain.get(column.type, column.type)) for column in columns])


_ASIDE = "without-master"


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def frame_of(table: pa.Table) -> pl.DataFrame:
    """As Polars has it."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _values_of(decoded: Decoded, records: Records) -> pa.Array:
    """The values that the events were decoded from, but for those that follow from the columns."""
    kept = np.flatnonzero(~decoded.follows)
    at = np.searchsorted(records.offsets, decoded.events["offset"].to_numpy()[kept])
    values = [value or LEFT_OUT for value in records.values_at(at).values()]
    lengths = np.zeros(1 + len(decoded.follows), np.int64)
    lengths[1 + kept] = list(map(len, values))
    buffers = [None, pa.py_buffer(np.cumsum(lengths)), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.large_binary(), len(decoded.follows), buffers)


def _together(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """All rows, with the columns of the schema."""
    return pa.concat_tables(
        [schema.empty_table(), *(table.select(schema.names).cast(schema) for table in tables if len(table))]
    )


def _temporary(place: str, name: str) -> str:
    return f"{place}/.{name}.{uuid.uuid4().hex}.tmp"


def without(table: pa.Table, gone: NDArray[np.bool_]) -> pa.Table:
    """The rows that are not gone. Nearly always none is, and no copy is made."""
    return table.filter(pa.array(~gone)) if gone.any() else table


class Outdated(Exception):
    """What a file was made by does not stand any more, so it was not stored."""


class ArchiveFiles:
    """The files of all partitions of a stream, below one root."""

    def __init__(self, store: FileStore, root: str, stream: Stream = PAGE_VIEWS) -> None:
        self._store, self._root, self.stream = store, root, stream
        self._schema = master_schema(stream)
        self._in_arrow = {MASTER: _arrow_schema(self._schema), QUARANTINE: _arrow_schema(REJECT_SCHEMA)}
        self._form = form_of(stream)

    def partitions(self) -> list[int]:
        """Those that anything was archived of."""
        return partitions_in(self._store.folders(f"{self._root}/{MASTER}"))

    def ranges(self, partition: int, dataset: str = MASTER) -> dict[OffsetRange, FileInfo]:
        """The finished files of a partition, by the range that their name states."""
        files = self._store.list(folder(self._root, dataset, partition))
        named = ((OffsetRange.of_file(partition, file.name), file) for file in files)
        return {offsets: file for offsets, file in named if offsets is not None}

    def put(
        self,
        offsets: OffsetRange,
        records: Records,
        decoded: Decoded,
        position: LogPosition | None = None,
        forgotten: Iterable[int] = (),
        stands: Callable[[], bool] = lambda: True,
    ) -> None:
        """Store a range; a range that is there already stays, for it holds the same. `position` is the one at its end.

        `records` are all that were decoded: of the events among them the values are stored as they are, but for those that
        follow from the columns. Records at the offsets `forgotten` are in neither `decoded` nor the file. Raises Outdated if
        what that was decided by does not stand any more.
        """
        # guard: values are kept
        events = _arrow(decoded.events).append_column(VALUE, _values_of(decoded, records))
        marks = pack(offsets.first_offset, offsets.next_offset, forgotten)
        rejects = self._encoder(QUARANTINE, _arrow(decoded.rejects))
        self._put_encoded(offsets, self._encoder(MASTER, events), rejects, position, forgotten=marks, stands=stands)

    def put_empty(self, offsets: OffsetRange, position: LogPosition, lost: tuple[Lost, ...] = ()) -> None:
        """Store a range without a record: readers go on behind it. `lost` says which of its offsets are given up."""
        self._put_encoded(offsets, self._encoder(MASTER), self._encoder(QUARANTINE), position, lost=lost)

    def extent(self, partition: int) -> Extent:
        """Where the files of the partition end, in which log, and what is missing. ArchiveDamaged if one cannot say it."""
        files = self.ranges(partition)
        return Extent.of(partition, files, lambda file: position(self.footer(file, files[file]), self.path(MASTER, file)))

    def position(self, partition: int) -> LogPosition:
        """Where the files of the partition end, and in which log, as the last one says. ArchiveDamaged if it cannot."""
        return self.extent(partition).end

    def merge(
        self, slices: list[Slice], most_bytes: int, rules: Rules | None = None, stands: Callable[[], bool] = lambda: True
    ) -> OffsetRange | None:
        """Store neighbouring slices as one range more; the old files stay until `delete`. ArchiveDamaged if one is.

        Columns that follow from values are filled in; a column that the event has no more is kept if no other could restore
        it. Nothing is stored, and None returned, if the slices are more than so many bytes in memory, which is what reading
        the merged file takes, or if only some of them have such a column. It holds one of them at a time. What the rules
        forget is not in it; Outdated if they do not stand any more.
        """
        return self._merge(slices, most_bytes, self._in_arrow[MASTER], rules or Rules(), stands)

    def _merge(
        self, slices: list[Slice], most_bytes: int, schema: pa.Schema, rules: Rules, stands: Callable[[], bool]
    ) -> OffsetRange | None:
        """With these columns of events, and from the beginning again if there must be more."""
        merged = OffsetRange(slices[0].file.partition, slices[0].first_offset, slices[-1].next_offset)
        quarantined = self.ranges(merged.partition, QUARANTINE)
        events, rejects = Encoder(schema, self.stream), self._encoder(QUARANTINE)
        read_bytes = 0
        end = LogPosition(0)
        lost: list[Lost] = []
        forgotten: list[int] = []
        for part in slices:
            if part.file in quarantined:
                table, _ = self._read(QUARANTINE, part)
                read_bytes += table.nbytes
                gone = rules.rejects(frame_of(table.select(REJECTS_KNOWING)))
                forgotten += table["offset"].to_numpy()[gone].tolist()
                rejects.add(without(table, gone))
            table, contents = self._read(MASTER, part)
            table = self.of_today(table, contents.form)
            read_bytes += table.nbytes
            if read_bytes > most_bytes:
                return None
            if wanted := [name for name in self._irreplaceable(table) if name not in schema.names]:
                whole = pa.schema([*schema, *map(table.schema.field, wanted)])
                return self._merge(slices, most_bytes, whole, rules, stands)
            # guard: a merge loses no column
            if len(table) and set(schema.names).difference(table.column_names):
                return None
            # Whoever takes it out of the parts now may have listed the files before this one is there.
            # guard: a merge takes out what is forgotten
            gone = rules.events(frame_of(table.select(KNOWING))) if rules else np.zeros(len(table), np.bool_)
            forgotten += table["offset"].to_numpy()[gone].tolist()
            events.add(without(table, gone))
            end = contents.position
            forgotten += contents.forgotten_within(part.first_offset, part.next_offset).tolist()
            lost += [piece for one in contents.lost for piece in one.within(part.first_offset, part.next_offset)]
        # Of an end inside a file it is not known.
        position = end if end.next_offset == merged.next_offset else replace(end, leader_epoch=None)
        names = tuple(part.file.file_name for part in slices)
        # guard: a merge keeps what is forgotten in mind
        marks = pack(merged.first_offset, merged.next_offset, forgotten)
        self._put_encoded(merged, events, rejects, position, names, tuple(lost), marks, stands)
        return merged

    def read(self, dataset: str, slices: list[Slice]) -> pl.DataFrame:
        """The rows of the slices, in their order; of QUARANTINE give only slices whose file is there.

        Events have the stream's master_schema, whenever they were stored; ingest/as_received.py gives their values. Raises
        ArchiveDamaged if a file is not as it was written.
        """
        held = [self._read(dataset, part) for part in slices]
        tables = [self.of_today(table, contents.form) if dataset == MASTER else table for table, contents in held]
        return frame_of(_together(tables, self._in_arrow[dataset]))

    def of_today(self, table: pa.Table, form: ValueForm | None) -> pa.Table:
        """The rows of a master file with all columns of today's, and the further ones that it has, in today's form.

        `form` is the file's own; a file of before values were kept has none.
        """
        if form == self._form and not lacking(table.column_names, self.stream):
            return table
        if form is not None:
            table = self._in_form_of_today(table, form)
        held, of_today = table.column_names, self._schema.names()
        rows = master_rows(held, of_today, lambda names: frame_of(table.select(names)), self.stream)
        further = [name for name in table.column_names if name not in self._schema]
        whole = _arrow(rows).cast(self._in_arrow[MASTER])
        for name in further:
            whole = whole.append_column(table.schema.field(name), table[name])
        return whole

    def _in_form_of_today(self, table: pa.Table, form: ValueForm) -> pa.Table:
        """The same rows, with those values that today's form would not write of today's columns."""
        columns = {text: table.schema.field(column_in(text)).type for text in form.fields}
        schema = self._in_arrow[MASTER]
        of_today = {text: schema.field(column_in(text)).type for text in self._form.fields if text in columns}
        # Of a value that was left out, what the form did not have is null, and a null is not written.
        # guard: a value that is left out stays the same
        if list(columns.items()) == list(of_today.items()):
            return table
        from contract.wire_writer import write  # takes a second to load

        values = table[VALUE].combine_chunks()
        left_out = pc.fill_null(pc.equal(values, LEFT_OUT), False)
        given_back = write(frame_of(table.filter(left_out)), form.fields).to_arrow().cast(pa.binary())
        at = table.column_names.index(VALUE)
        return table.set_column(at, VALUE, pc.replace_with_mask(values, left_out, given_back))

    def _irreplaceable(self, table: pa.Table) -> list[str]:
        """Columns of a master file that the event has no more, and that say something of rows without value."""
        alone = table.filter(table[VALUE].is_null())
        return [name for name in table.column_names if name not in self._schema and alone[name].null_count < len(alone)]

    def _encoder(self, dataset: str, *tables: pa.Table) -> Encoder:
        """Of a file that has these rows so far."""
        encoder = Encoder(self._in_arrow[dataset], self.stream)
        for table in tables:
            encoder.add(table)
        return encoder

    def _read(self, dataset: str, part: Slice) -> tuple[pa.Table, Contents]:
        """The rows of the slice, and what its file holds."""
        path = part.file.path(self._root, dataset)
        table, contents = decode(self._store.read(path), path)
        if contents.form is not None and contents.form.version > LAST_VERSION:
            raise ArchiveDamaged.of(path, f"its values are of form {contents.form.version}, which a later Braid knows")
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

    def aside(self, partition: int) -> list[str]:
        """Where the quarantine files of the partition are that were set aside."""
        place = folder(self._root, QUARANTINE, partition)
        return [f"{place}/{file.name}" for file in self._store.list(place) if file.name.endswith(f".{_ASIDE}")]

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

    def _put_encoded(
        self,
        offsets: OffsetRange,
        events: Encoder,
        rejects: Encoder,
        position: LogPosition | None,
        merged: tuple[str, ...] = (),
        lost: tuple[Lost, ...] = (),
        forgotten: str = "",
        stands: Callable[[], bool] = lambda: True,
    ) -> None:
        at = position or LogPosition(offsets.next_offset)
        counts = (events.rows, rejects.rows)
        contents = Contents(offsets, *counts, merged, at.topic_id, at.leader_epoch, at.shift, lost, self._form, forgotten)
        # guard: quarantine before master
        if rejects.rows:
            self._put_file(offsets, QUARANTINE, rejects.finish(contents), stands)
        self._put_file(offsets, MASTER, events.finish(contents), stands)

    def replace(self, path: str, content: bytes) -> None:
        """The file at the path has this content from now on: it alone or the old one, at any moment."""
        place, _, name = path.rpartition("/")
        temporary = _temporary(place, name)
        self._store.write(temporary, content)
        # guard: a file is replaced at once
        self._store.replace(temporary, path)

    def content(self, path: str) -> bytes:
        """The bytes of the file at the path."""
        return self._store.read(path)

    def remove(self, path: str) -> None:
        """No file is at the path."""
        self._store.delete(path)

    def _put_file(self, offsets: OffsetRange, dataset: str, content: bytes, stands: Callable[[], bool]) -> None:
        temporary = _temporary(folder(self._root, dataset, offsets.partition), offsets.file_name)
        # guard: rename
        self._store.write(temporary, content)
        # Who says something after this removes the temporary file, or finds the finished one.
        # guard: a file that comes late keeps to what was said
        if not stands():
            self._store.delete(temporary)
            raise Outdated
        if not self._store.rename(temporary, offsets.path(self._root, dataset)):
            self._store.delete(temporary)
