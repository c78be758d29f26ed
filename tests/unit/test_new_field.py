"""The event gets fields: what was received before they were known has them, whichever files it is in."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.archive_file import decode, encode
from contract.event import EVENT_SCHEMA
from contract.master import MASTER, OffsetRange, Slice
from contract.master_rows import MASTER_SCHEMA
from ingest.archive_files import ArchiveFiles
from ingest.archive_plan import current
from tests.fixtures.archived import judged
from tests.fixtures.changed_modules import NEW_FIELDS, NEW_VIEW, ROOT, environment
from tests.fixtures.memory import MemoryStore

TIME_MS = 1_763_712_000_000


def value(number: int, **more: Any) -> bytes:
    fields = {
        "event_id": f"e:{number}", "event_time": "2025-11-20T10:00:00.5Z", "site": "s", "page": "/", "visitor_id": "v",
        "status": 200, "bytes_sent": number,
    }  # fmt: skip
    return json.dumps(fields | more).encode()


def put(files: ArchiveFiles, first: int, values: list[bytes]) -> OffsetRange:
    offsets = OffsetRange(0, first, first + len(values))
    files.put(offsets, *judged(0, range(first, offsets.next_offset), [TIME_MS] * len(values), values))
    return offsets


def change(store: MemoryStore, files: ArchiveFiles, offsets: OffsetRange, **columns: pa.Array | None) -> None:
    """Make the file one with other columns, of which None is taken out."""
    path = files.path(MASTER, offsets)
    content, modified_ms = store.files[path]
    table, contents = decode(content, path)
    for name, column in columns.items():
        table = table.drop_columns(name) if column is None else table.append_column(name, column)
    store.files[path] = encode(table, contents), modified_ms


def test_a_new_field_has_its_history_from_the_values(tmp_path: Path):
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    known = [value(0, country="de", items=3, further=[1]), value(1), value(2, country="fr"), value(3, country="de", items=1)]
    # Events of the version before, which has taken them: they stay events, though the later one would reject them.
    known += [value(4, country=5, items=7), value(5, country="too long"), b"no event", value(7, country="\0", items=2)]
    put(files, 0, known)
    lost = [value(8, country="de", items=100), value(9)]
    change(store, files, put(files, 8, lost), value=None)
    new = [value(10, country="fr", items=20), value(11), value(12, items=4)]
    place = tmp_path / "store"
    place.write_bytes(pickle.dumps((store.files, new, 10, TIME_MS)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fixtures.later_version", str(place)],
        cwd=ROOT,
        env=environment(tmp_path, {"contract.event": [NEW_FIELDS], "contract.views": [NEW_VIEW]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    fields = {0: ["de", 3], 2: ["fr", None], 3: ["de", 1], 10: ["fr", 20], 12: [None, 4]}
    events = [offset for offset in range(13) if offset != 6]
    kept = dict(enumerate(known)) | dict.fromkeys((8, 9)) | dict(enumerate(new, 10))
    for when in ("before", "after"):
        assert told[when]["rows"] == [[offset, *fields.get(offset, [None, None])] for offset in events]
        assert told[when]["values"] == [(one := kept[offset]) and one.decode() for offset in events]
        assert told[when]["view"] == {"de": [2, 4], "fr": [2, 20], "": [8, 4]}
    assert told["written_again"]
    # Whoever goes back to the version before reads and merges what the later one has written.
    store = MemoryStore(pickle.loads(place.read_bytes()))
    files = ArchiveFiles(store, "/b")
    slices = current(0, files.ranges(0))
    assert [piece.file for piece in slices] == [OffsetRange(0, 0, 13)]
    columns = pq.read_schema(io.BytesIO(store.files[files.path(MASTER, slices[0].file)][0])).names
    assert columns == [*EVENT_SCHEMA, "country", "items", "value"]
    put(files, 13, [value(13, items=1)])
    assert files.merge(current(0, files.ranges(0)), 1 << 30) == OffsetRange(0, 0, 14)
    rows = files.read(MASTER, current(0, files.ranges(0)))
    assert rows.schema == MASTER_SCHEMA
    assert rows["value"].to_list() == [kept.get(offset, value(13, items=1)) for offset in [*events, 13]]


def test_a_column_that_no_value_can_restore_is_not_lost_in_a_merge():
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    parts = [put(files, first, [value(first)]) for first in range(3)]
    change(store, files, parts[0], value=None, gone=pa.array(["a"]))
    change(store, files, parts[1], gone=pa.array(["b"]))
    slices = [Slice(part, part.first_offset, part.next_offset) for part in parts]
    assert files.merge(slices, 1 << 30) is None
    assert files.merge(slices[:2], 1 << 30) == OffsetRange(0, 0, 2)
    path = files.path(MASTER, OffsetRange(0, 0, 2))
    table, _ = decode(store.files[path][0], path)
    assert (table["gone"].to_pylist(), table["value"].to_pylist()) == (["a", "b"], [None, value(1)])
    # A value restores it, should the field come back.
    assert files.merge(slices[1:], 1 << 30) == OffsetRange(0, 1, 3)
    assert files.read(MASTER, [Slice(OffsetRange(0, 0, 2), 0, 2)]).schema == MASTER_SCHEMA


@pytest.mark.parametrize("name", ["user_agent", "status"])
def test_a_column_that_is_missing_is_decoded_and_other_values_are_not_read(name: str):
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    values = [value(number, user_agent=f"a{number}") for number in range(5)]
    offsets = put(files, 0, values)
    whole = files.read(MASTER, [Slice(offsets, 0, 5)])
    change(store, files, offsets, **{name: None})
    assert files.read(MASTER, [Slice(offsets, 0, 5)]).equals(whole)
    assert whole[name].null_count() == 0
