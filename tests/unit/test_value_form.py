"""The values that archive files leave out come back byte for byte, for ever.

The bytes here are those of form 1. If they are no more what is written, archives of before would give back other values than
they took: then what is written now is form 2, and form 1 stays for the files that name it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from contract.event import EVENT_SCHEMA, decode
from contract.streams.page_views import PAGE_VIEWS
from contract.value_form import form_of
from contract.wire_writer import write

# As they were when form 1 was made; a field that comes later is not in it.
FIELDS = (
    "event_id", "event_time", "site", "page", "visitor_id", "status", "bytes_sent", "duration_ms", "referrer", "user_agent",
)  # fmt: skip
SCHEMA = pl.Schema({name: dtype for name, dtype in EVENT_SCHEMA.items() if name in FIELDS})
TIME_MS = 1_767_225_600_000
PLAIN = ("a:1", datetime(2025, 11, 20, 10, tzinfo=UTC), "s", "/", "v", 200, 0, None, None, None)
WRITTEN = b'{"event_id":"a:1","event_time":"2025-11-20T10:00:00Z","site":"s","page":"/","visitor_id":"v","status":200,'
WRITTEN += b'"bytes_sent":0'
GOLDEN: list[tuple[dict[str, Any], dict[bytes, bytes]]] = [
    ({}, {}),
    ({"event_time": datetime(1970, 1, 1, tzinfo=UTC)}, {b"2025-11-20T10:00:00Z": b"1970-01-01T00:00:00Z"}),
    ({"event_time": datetime(2024, 2, 29, 23, 59, 59, 5_000, UTC)}, {b"2025-11-20T10:00:00Z": b"2024-02-29T23:59:59.005Z"}),
    ({"event_time": datetime(2025, 12, 31, 0, 0, 0, 120_000, UTC)}, {b"2025-11-20T10:00:00Z": b"2025-12-31T00:00:00.120Z"}),
    ({"event_time": datetime(2025, 1, 1, 0, 0, 1, 1, UTC)}, {b"2025-11-20T10:00:00Z": b"2025-01-01T00:00:01.000001Z"}),
    ({"event_time": datetime(2025, 1, 1, 0, 0, 1, 10, UTC)}, {b"2025-11-20T10:00:00Z": b"2025-01-01T00:00:01.000010Z"}),
    ({"status": 599, "bytes_sent": 1 << 40}, {b":200": b":599", b":0}": b":1099511627776}"}),
    ({"duration_ms": 0.0}, {b":0}": b':0,"duration_ms":0.0}'}),
    ({"duration_ms": 0.1}, {b":0}": b':0,"duration_ms":0.1}'}),
    ({"duration_ms": 7.0}, {b":0}": b':0,"duration_ms":7.0}'}),
    ({"duration_ms": 12.25}, {b":0}": b':0,"duration_ms":12.25}'}),
    ({"duration_ms": 0.001}, {b":0}": b':0,"duration_ms":0.001}'}),
    ({"duration_ms": 86_399_999.999}, {b":0}": b':0,"duration_ms":86399999.999}'}),
    ({"duration_ms": 86_400_000.0}, {b":0}": b':0,"duration_ms":86400000.0}'}),
    ({"referrer": ""}, {b":0}": b':0,"referrer":""}'}),
    ({"referrer": "r", "user_agent": "u"}, {b":0}": b':0,"referrer":"r","user_agent":"u"}'}),
    ({"duration_ms": 1.5, "user_agent": "u"}, {b":0}": b':0,"duration_ms":1.5,"user_agent":"u"}'}),
    ({"page": "/ü?\u2028😀\x7f"}, {b'"/"': '"/ü?\u2028😀\x7f"'.encode()}),
    ({"page": '"\\/\b\t\n\f\r'}, {b'"/"': rb'"\"\\/\b\t\n\f\r"'}),
    ({"page": "\x01\x0b\x1f"}, {b'"/"': rb'"\u0001\u000b\u001f"'}),
]
"""What differs from PLAIN, and what of WRITTEN it changes."""


def golden(changes: dict[bytes, bytes]) -> bytes:
    value = WRITTEN + b"}"
    for old, new in changes.items():
        assert value.count(old) == 1
        value = value.replace(old, new)
    return value


ROWS = pl.DataFrame(
    [tuple((dict(zip(FIELDS, PLAIN, strict=True)) | row).values()) for row, _ in GOLDEN], SCHEMA, orient="row"
)
VALUES = [golden(changes) for _, changes in GOLDEN]


def test_form_1_is_what_it_was():
    form = form_of(PAGE_VIEWS)
    assert (form.version, form.fields[: len(FIELDS)]) == (1, FIELDS)
    assert write(ROWS, FIELDS).to_list() == VALUES


def test_what_is_in_form_1_is_left_out_unless_it_has_escapes():
    decoded = decode(0, range(len(VALUES)), [TIME_MS] * len(VALUES), VALUES, compare=True)
    assert decoded.events.select(FIELDS).equals(ROWS)
    assert decoded.follows.tolist() == [b"\\" not in value for value in VALUES]


@pytest.mark.parametrize("duration_ms", [-0.0, 0.0001, 1e-7, 5e-324, 1 / 3, 0.1 + 0.2, 1e11, 1e22, -1.0])
def test_form_1_has_no_other_numbers(duration_ms: float):
    assert write(ROWS[:1].with_columns(duration_ms=pl.lit(duration_ms)), FIELDS).to_list() == [b""]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"00Z", b"00.0Z"), (b"00Z", b"00.000Z"), (b"00Z", b"00.000000Z"), (b"00Z", b"00.5Z"), (b"00Z", b"00.50Z"),
        (b"00Z", b"00.500000Z"), (b"00Z", b"00.0005Z"), (b"00Z", b"00+00:00"), (b"00Z", b"00.5+02:00"),
        (b"00Z", b"00.500+02:00"), (b"00Z", b"00.000001+02:00"), (b"T", b"t"), (b"00Z", b"00z"),
        (b"1.5", b"1.50"), (b"1.5", b"1.500"), (b"1.5", b"15e-1"), (b"1.5", b"1"), (b"1.5", b"10"), (b"1.5", b"1.00"),
        (b"1.5", b"1.0001"), (b"1.5", b"-0.0"), (b"1.5", b"1.5000000000000001"), (b":200", b": 200"),
        (b"{", b" {"), (b"}", b"}\n"), (b"}", b',"x":1}'), (b"}", b',"referrer":null}'), (b"/", rb"\/"), (b"/", rb"\u002f"),
        (b"}", b',"status":200}'), (b'"site":"s","page":"/"', b'"page":"/","site":"s"'),
    ],
)  # fmt: skip
def test_what_is_spelled_otherwise_is_kept(old: bytes, new: bytes):
    value = WRITTEN + b',"duration_ms":1.5}'
    other = value.replace(old, new, 1)
    assert other != value
    decoded = decode(0, range(3), [TIME_MS] * 3, [value, other, value], compare=True)
    assert (len(decoded.events), decoded.follows.tolist()) == (3, [True, False, True])
    assert write(decoded.events, FIELDS)[1] != other
