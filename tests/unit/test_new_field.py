"""The event gets fields: what was received before they were known has them, whichever files it is in."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch.share import events_in
from contract.archive_file import Lost, ValueForm, decode, encode
from contract.errors import ArchiveDamaged
from contract.event import EVENT_SCHEMA
from contract.log_position import LogPosition
from contract.master import MASTER, OffsetRange, Slice
from contract.master_rows import master_schema
from contract.streams.page_views import PAGE_VIEWS
from contract.value_form import LAST_VERSION, form_of
from ingest.archive_files import ArchiveFiles
from ingest.archive_plan import current
from ingest.as_received import values_of
from tests.fixtures.archived import judged
from tests.fixtures.changed_modules import DECLARATION, NEW_FIELDS, NEW_VIEW, ROOT, environment
from tests.fixtures.memory import MemoryStore

TIME_MS = 1_763_712_000_000
FORM = form_of(PAGE_VIEWS)


def value(number: int, **more: Any) -> bytes:
    """In the wire form of an event that has such further fields."""
    fields = {
        "event_id": f"e:{number}", "event_time": "2025-11-20T10:00:00.500Z", "site": "s", "page": "/", "visitor_id": "v",
        "status": 200, "bytes_sent": number,
    }  # fmt: skip
    return json.dumps(fields | more, separators=(",", ":")).encode()


def put(files: ArchiveFiles, first: int, values: list[bytes]) -> OffsetRange:
    offsets = OffsetRange(0, first, first + len(values))
    files.put(offsets, *judged(0, range(first, offsets.next_offset), [TIME_MS] * len(values), values))
    return offsets


def stored(store: MemoryStore, files: ArchiveFiles, offsets: OffsetRange) -> pa.Table:
    return decode(store.files[files.path(MASTER, offsets)][0], "/")[0]


def change(
    store: MemoryStore,
    files: ArchiveFiles,
    offsets: OffsetRange,
    form: ValueForm | None = FORM,
    **columns: pa.Array | None,
) -> None:
    """Make the file one of another form and with other columns, of which None is taken out."""
    path = files.path(MASTER, offsets)
    content, modified_ms = store.files[path]
    table, contents = decode(content, path)
    for name, column in columns.items():
        if name in table.column_names:
            table = table.drop_columns(name)
        if column is not None:
            table = table.append_column(name, column)
    store.files[path] = encode(table, replace(contents, form=form), PAGE_VIEWS), modified_ms


def test_a_new_field_has_its_history_from_the_values(tmp_path: Path):
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    spaced = value(3, country="de", items=1).replace(b",", b", ")
    known = [value(0, country="de", items=3, further=[1]), value(1), value(2, country="fr"), spaced]
    # Events of the version before, which has taken them: they stay events, though the later one would reject them.
    known += [value(4, country=5, items=7), value(5, country="too long"), b"no event", value(7, country="\0", items=2)]
    put(files, 0, known)
    lost = [value(8, country="de", items=100), value(9)]
    change(store, files, put(files, 8, lost), form=None, value=None)
    sizes = [len(one) for one in stored(store, files, OffsetRange(0, 0, 8))["value"].to_pylist()]
    assert sizes == [0 if number == 1 else len(one) for number, one in enumerate(known) if number != 6]
    new = [value(10, country="fr", items=20), value(11), value(12, items=4)]
    place = tmp_path / "store"
    place.write_bytes(pickle.dumps((store.files, new, 10, TIME_MS)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fixtures.later_version", str(place)],
        cwd=ROOT,
        env=environment(tmp_path, {DECLARATION: [NEW_FIELDS, NEW_VIEW]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    fields = {0: ["de", 3], 2: ["fr", None], 3: ["de", 1], 10: ["fr", 20], 12: [None, 4]}
    events = [offset for offset in range(13) if offset != 6]
    # Of an event whose value was not kept nobody knows more than the columns of its time.
    sent = dict(enumerate([*known, value(8), value(9), *new]))
    for when in ("before", "after"):
        assert told[when]["rows"] == [[offset, *fields.get(offset, [None, None])] for offset in events]
        assert told[when]["values"] == [sent[offset].decode() for offset in events]
        assert told[when]["view"] == {"de": [2, 4], "fr": [2, 20], "": [8, 4]}
    assert told["written_again"]
    # Whoever goes back to the version before reads and merges what the later one has written.
    store = MemoryStore(pickle.loads(place.read_bytes()))
    files = ArchiveFiles(store, "/b")
    slices = current(0, files.ranges(0))
    assert [piece.file for piece in slices] == [OffsetRange(0, 0, 13)]
    table = stored(store, files, slices[0].file)
    assert table.column_names == [*EVENT_SCHEMA, "country", "items", "value"]
    left_out = [offset for offset, one in zip(events, table["value"].to_pylist(), strict=True) if one == b""]
    assert left_out == [1, 10, 11, 12]
    put(files, 13, [value(13, items=1)])
    assert files.merge(current(0, files.ranges(0)), 1 << 30) == OffsetRange(0, 0, 14)
    rows = files.read(MASTER, current(0, files.ranges(0)))
    assert rows.schema == master_schema()
    assert values_of(rows) == [*(sent[offset] for offset in events), value(13, items=1)]


def test_a_column_that_no_value_can_restore_is_not_lost_in_a_merge():
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    parts = [put(files, first, [value(first, further=1)]) for first in range(3)]
    change(store, files, parts[0], form=None, value=None, gone=pa.array(["a"]))
    change(store, files, parts[1], gone=pa.array(["b"]))
    slices = [Slice(part, part.first_offset, part.next_offset) for part in parts]
    assert files.merge(slices, 1 << 30) is None
    assert files.merge(slices[:2], 1 << 30) == OffsetRange(0, 0, 2)
    path = files.path(MASTER, OffsetRange(0, 0, 2))
    table, _ = decode(store.files[path][0], path)
    assert (table["gone"].to_pylist(), table["value"].to_pylist()) == (["a", "b"], [None, value(1, further=1)])
    # A value restores it, should the field come back.
    assert files.merge(slices[1:], 1 << 30) == OffsetRange(0, 1, 3)
    assert files.read(MASTER, [Slice(OffsetRange(0, 0, 2), 0, 2)]).schema == master_schema()


def test_what_is_lost_stays_written_down_when_files_of_before_values_were_kept_are_merged():
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    lost = Lost(1, 3, "gone", "2025-11-21T10:00:00+00:00")
    parts = [put(files, 0, [value(0)]), OffsetRange(0, 1, 3)]
    files.put_empty(parts[1], LogPosition(3), (lost,))
    # It can be read as it is, and so can one of before.
    for change_it in (False, True):
        for part in parts if change_it else ():
            change(store, files, part, form=None, value=None)
        content, _ = store.files[files.path(MASTER, parts[1])]
        assert events_in(content, Slice(parts[1], 1, 3), ["event_time", "page"]).is_empty()
        assert files.read(MASTER, [Slice(parts[1], 1, 3)]).schema == master_schema()
    parts.append(put(files, 3, [value(3, further=1)]))
    slices = [Slice(part, part.first_offset, part.next_offset) for part in parts]
    assert files.merge(slices, 1 << 30) == OffsetRange(0, 0, 4)
    path = files.path(MASTER, OffsetRange(0, 0, 4))
    table, contents = decode(store.files[path][0], path)
    assert (contents.lost, contents.form) == ((lost,), FORM)
    assert (table["offset"].to_pylist(), table["value"].to_pylist()) == ([0, 3], [None, value(3, further=1)])


@pytest.mark.parametrize("name", ["user_agent", "status"])
def test_a_column_that_is_missing_is_decoded_and_other_values_are_not_read(name: str):
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    values = [value(number, user_agent=f"a{number}", further=1) for number in range(5)]
    offsets = put(files, 0, values)
    whole = files.read(MASTER, [Slice(offsets, 0, 5)])
    form = ValueForm(1, tuple(field for field in FORM.fields if field != name))
    change(store, files, offsets, form=form, **{name: None})
    assert files.read(MASTER, [Slice(offsets, 0, 5)]).equals(whole)
    assert whole[name].null_count() == 0


def test_a_value_is_given_back_in_the_form_that_it_was_left_out_in():
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    values = [value(0), value(1, duration_ms=12.5)]
    parts = [put(files, number, [one]) for number, one in enumerate(values)]
    assert [stored(store, files, part)["value"].to_pylist() for part in parts] == [[b""], [b""]]
    # The event had a field that is gone, its fields were in another order, and one of them was of another type.
    fields = ("event_id", "gone", *FORM.fields[:0:-1])
    change(store, files, parts[0], form=ValueForm(1, fields), gone=pa.array(["a"]), bytes_sent=pa.array([7.5]))
    other = b'{"event_id":"e:0","gone":"a","bytes_sent":7.5,"status":200,"visitor_id":"v","page":"/","site":"s",'
    other += b'"event_time":"2025-11-20T10:00:00.500Z"}'
    slices = [Slice(part, part.first_offset, part.next_offset) for part in parts]
    assert values_of(files.read(MASTER, slices)) == [other, values[1]]
    assert files.merge(slices, 1 << 30) == OffsetRange(0, 0, 2)
    assert stored(store, files, OffsetRange(0, 0, 2))["value"].to_pylist() == [other, b""]


def test_a_form_that_a_later_version_brought_is_not_guessed():
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    offsets = put(files, 0, [value(0)])
    change(store, files, offsets, form=ValueForm(LAST_VERSION + 1, FORM.fields))
    with pytest.raises(ArchiveDamaged, match="its values are of form 3"):
        files.read(MASTER, [Slice(offsets, 0, 1)])
