"""An archive file vouches for every byte of itself, and for what is in the other file of its range."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.archive_file import Contents, decode, encode
from contract.errors import ArchiveDamaged
from contract.master import OffsetRange
from contract.streams.page_views import PAGE_VIEWS

RANGE = OffsetRange(2, 5, 9)
CONTENTS = Contents(RANGE, 3, 1, ("a.parquet", "b.parquet"))
# Text that looks like the checksum must not be taken for it.
TABLE = pa.table({"partition": [2, 2, 2], "offset": [5, 6, 8], "page": ["sha256:" + "0" * 64, "/", "sha256:"]})
FILE = encode(TABLE, CONTENTS, PAGE_VIEWS)


def test_a_file_says_what_it_holds():
    table, contents = decode(FILE, "/a")
    assert table.equals(TABLE)
    assert contents == CONTENTS


def test_equal_content_is_an_equal_file():
    assert encode(TABLE, CONTENTS, PAGE_VIEWS) == FILE


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int):
    changed = bytearray(FILE)
    changed[place] ^= change
    with pytest.raises(ArchiveDamaged, match=r"^/a: is damaged: its "):
        decode(bytes(changed), "/a")


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", FILE[:-1], FILE[:-4], FILE[1:], FILE + b"PAR1", b"sha256:", b"sha256:" + b"0" * 64 + b"PAR1"]
)
def test_anything_else_is_damaged(content: bytes):
    with pytest.raises(ArchiveDamaged):
        decode(content, "/a")


def test_a_parquet_file_of_somebody_else_has_no_checksum():
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(TABLE.select(["offset"]), sink)
    with pytest.raises(ArchiveDamaged, match=r"bytes hold no checksum of Braid's; see docs/operations\.md"):
        decode(sink.getvalue().to_pybytes(), "/a")
