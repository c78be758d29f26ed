"""The archive of a stream, whatever it is declared to be: values come back byte for byte, events in the columns of today."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.archive_file import decode, encode, span
from contract.columns import integers
from contract.decoder import Decoder, decoder_of
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from contract.master_rows import master_schema
from contract.records import Records
from contract.stream import Stream
from ingest.archive_files import ArchiveFiles
from ingest.as_received import values_of
from tests.fixtures.corpus import KAFKA_TIME_MS
from tests.fixtures.drawn_streams import damaged, judgement, streams
from tests.fixtures.memory import MemoryStore
from tests.fixtures.trips import FIELDS, TRIPS


def put(files: ArchiveFiles, first: int, values: list[bytes]) -> OffsetRange:
    """Store these records of partition 0."""
    offsets = OffsetRange(0, first, first + len(values))
    records = Records.of(range(first, offsets.next_offset), [KAFKA_TIME_MS] * len(values), values)
    files.put(offsets, records, decoder_of(files.stream).decode_records(0, records, compare=True))
    return offsets


def whole(part: OffsetRange) -> Slice:
    return Slice(part, part.first_offset, part.next_offset)


@settings(deadline=None)
@given(streams(), st.data())
def test_files_give_back_what_was_received_merged_or_not(stream: Stream, data: st.DataObject):
    values = data.draw(st.lists(damaged(Decoder(stream)), min_size=2, max_size=8))
    split = data.draw(st.integers(1, len(values) - 1))
    store = MemoryStore()
    files = ArchiveFiles(store, "/b", stream)
    parts = [whole(put(files, 0, values[:split])), whole(put(files, split, values[split:]))]
    merged = files.merge(parts, 1 << 30)
    assert merged == OffsetRange(0, 0, len(values))
    for slices in (parts, [whole(merged)]):
        events = files.read(MASTER, slices)
        assert events.schema == master_schema(stream)
        found = {
            row["offset"]: ({name: row[name] for name in stream.by_name}, value)
            for row, value in zip(events.iter_rows(named=True), values_of(events, stream), strict=True)
        }
        rejected = files.ranges(0, QUARANTINE)
        rejects = files.read(QUARANTINE, [piece for piece in slices if piece.file in rejected])
        found |= {row["offset"]: (row["reason"], row["value"]) for row in rejects.iter_rows(named=True)}
        assert found == {offset: (judgement(stream, value), value) for offset, value in enumerate(values)}


def test_a_footer_says_when_the_events_of_a_stream_happened_whatever_their_time_is_called():
    moments = [datetime(2026, 5, 17, 10, minute, tzinfo=UTC) for minute in (7, 3, 9)]
    values = [b'{"id":"t-%d","at":"%s","huge":1}' % (at.minute, at.isoformat().encode()) for at in moments]
    store = MemoryStore()
    files = ArchiveFiles(store, "/b", TRIPS)
    offsets = put(files, 0, values)
    footer = files.footer(offsets, files.ranges(0)[offsets])
    found = span(footer, "/", TRIPS.time)
    assert found is not None
    times_us = sorted(int(at.timestamp()) * 1_000_000 for at in moments)
    assert (found.rows, found.first_time_us, found.last_time_us) == (3, times_us[0], times_us[-1])
    assert integers(files.read(MASTER, [whole(offsets)])["at"]).min() == times_us[0]


def test_a_field_that_a_stream_gets_has_its_history_from_the_values():
    older = replace(TRIPS, fields=FIELDS[:5] + FIELDS[9:], derived=(), views=())
    store = MemoryStore()
    value = b'{"id":"t-1","at":"2026-05-17T10:05:03Z","kind":"b","load":-0.5,"huge":7}'
    offsets = put(ArchiveFiles(store, "/b", older), 0, [value, value.replace(b"t-1", b"t-2")])
    (path,) = store.files
    table, contents = decode(store.files[path][0], path)
    assert {"load", "kind"}.isdisjoint(table.column_names)
    # One of them lost its value, as files from before values were kept have none.
    values = pa.array([table["value"][0].as_py(), None], pa.binary())
    store.files[path] = encode(table.set_column(table.column_names.index("value"), "value", values), contents, older), 0
    rows = ArchiveFiles(store, "/b", TRIPS).read(MASTER, [whole(offsets)])
    assert rows.select("id", "kind", "load", "huge").rows() == [("t-1", "b", -0.5, 7), ("t-2", None, None, 7)]
