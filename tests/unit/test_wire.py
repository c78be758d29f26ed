"""Which records are read without a JSON decoder; that they are read rightly is fuzzed in test_fuzz_event.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, islice, product
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from contract.event import EVENT_SCHEMA, EVENTS, FIELDS, MAX_AHEAD, MAX_VALUE_BYTES, Event, decode, encode
from contract.records import Piece, Records
from contract.streams.page_views import PAGE_VIEWS
from contract.wire import WireForm
from ingest.simulate import Shares, events
from tests.fixtures.corpus import EVENT, KAFKA_TIME_MS, TIME
from tests.fixtures.judges import by_decode, by_oracle

KNOWN = {"duration_ms": 12.25, "referrer": "", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/149.0"}
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
LATEST_US = KAFKA_TIME_MS * 1000 + MAX_AHEAD // timedelta(microseconds=1)


def value(**fields: object) -> bytes:
    return encode(Event(**{**EVENT, **fields}))  # type: ignore[arg-type]


def pieces(values: Sequence[bytes | None]) -> list[Piece]:
    return Records.of(range(len(values)), [KAFKA_TIME_MS] * len(values), values).pieces


def read(values: Sequence[bytes | None]) -> tuple[list[int], list[dict[str, Any]]]:
    """The positions of the values that are of wire form, and their fields."""
    at, columns, _ = EVENTS.wire_form.read(pieces(values), np.full(len(values), LATEST_US))
    return at.tolist(), pa.RecordBatch.from_pydict(columns).to_pylist()


@pytest.mark.parametrize("known", [some for count in range(4) for some in combinations(KNOWN, count)], ids=str)
def test_every_set_of_optional_fields_is_wire_form(known: tuple[str, ...]):
    fields = {**EVENT, **{name: KNOWN[name] for name in known}}
    assert read([value(**fields)]) == ([0], [dict.fromkeys(FIELDS) | fields | {"event_time": TIME}])


def test_columns_have_the_types_of_events():
    _, columns, _ = EVENTS.wire_form.read(pieces([value()]), np.array([LATEST_US]))
    assert pl.DataFrame(pa.RecordBatch.from_pydict(columns)).schema == {name: EVENT_SCHEMA[name] for name in FIELDS}


def test_simulated_events_are_wire_form():
    sent = [value for _, value in islice(events(1, lambda: NOW, "test", shares=Shares(malformed=0)), 2_000)]
    assert read(sent)[0] == list(range(2_000))


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11, 12, 13, 16, 17, 253])
@pytest.mark.parametrize("text", ["a", "\x7f", "ü", "😀"])
def test_texts_of_any_length_come_back(text: str, length: int):
    sites = [text * length if len((text * length).encode()) <= 253 else "x", "y"]
    at, rows = read([value(site=site) for site in sites])
    assert at == [0, 1]
    assert [row["site"] for row in rows] == sites


@pytest.mark.parametrize("text", ["0", "0.0", "0.1", "86400000", "86399999.999999", "0.00000000000001", "12345678.9012345"])
def test_numbers_of_up_to_15_digits_are_wire_form(text: str):
    at, rows = read([value(duration_ms=7.5).replace(b"7.5", text.encode())])
    assert at == [0]
    assert rows[0]["duration_ms"] == float(text)


@pytest.mark.parametrize("duration_ms", [0.1 + 0.2, 1e-7, 5e-324, 1e-5, 86_399_999.999_999_99, 1 / 3])
def test_numbers_come_back_to_the_last_bit(duration_ms: float):
    assert by_decode([value(duration_ms=duration_ms)], KAFKA_TIME_MS)[0]["duration_ms"] == duration_ms  # type: ignore[index]


@pytest.mark.parametrize("text", ["2026-05-17T10:05:03.000000Z", "2026-05-17T12:05:03+02:00", "2026-05-16T10:06:03.0-23:59"])
def test_times_of_the_usual_form_are_wire_form(text: str):
    at, rows = read([value(event_time=text)])
    assert at == [0]
    assert rows[0]["event_time"] == TIME


@pytest.mark.parametrize("text", ["2024-02-29T10:05:03.123456Z", "1999-12-31T23:59:59.9+14:30"])
def test_a_time_with_one_byte_changed_is_judged_as_the_oracle_does(text: str):
    changed = [text[:at] + new + text[at + len(old) :] for at, old in enumerate(text) for new in ["", *"0139:/+-.TZtz a"]]
    values = [value(event_time=text) for text in [text, *changed]]
    assert by_decode(values, KAFKA_TIME_MS) == [by_oracle(one, KAFKA_TIME_MS) for one in values]


def test_every_day_of_four_centuries_is_read_rightly():
    times_us = np.arange(np.datetime64("1970-01-01T01:02:03", "us"), np.datetime64("2370-01-01"), np.timedelta64(1, "D"))
    before, after = value(event_time="@@").split(b"@@")
    values = [before + f"{time}Z".encode() + after for time in times_us.astype("datetime64[s]")]
    at, columns, _ = EVENTS.wire_form.read(pieces(values), np.full(len(values), np.iinfo(np.int64).max))
    assert at.tolist() == list(range(len(values)))
    assert np.array_equal(columns["event_time"].cast(pa.int64()), times_us.astype(np.int64))


def test_a_time_is_within_its_records_own_limit():
    values = [value(event_time="2026-05-17T10:05:03.000001Z")] * 3
    time_us = (TIME - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) + 1
    assert EVENTS.wire_form.read(pieces(values), np.array([time_us, time_us - 1, time_us + 1]))[0].tolist() == [0, 2]


def test_a_value_that_is_too_large_is_left_to_the_decoder():
    values = [value(), value(site="a" * 30), value()]
    for most_bytes, found in ((len(values[1]), [0, 1, 2]), (len(values[1]) - 1, [0, 2])):
        form = WireForm(PAGE_VIEWS, most_bytes)
        assert form.read(pieces(values), np.full(3, LATEST_US))[0].tolist() == found


def test_texts_are_wire_form_where_python_reads_them_as_utf8():
    bounds = [0x20, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    pages = [bytes([lead, *rest]) for lead in range(0x7F, 0x100) for n in range(3) for rest in product(bounds, repeat=n)]
    pages += [bytes([lead, *rest]) for lead in range(0xEF, 0x100) for rest in product(bounds, repeat=3)]
    good = [page for page in pages if page.decode(errors="ignore").encode() == page]
    at, rows = read([value(page="@@").replace(b"@@", page) for page in pages])
    assert [pages[position] for position in at] == good
    assert [row["page"].encode() for row in rows] == good


@pytest.mark.parametrize(
    "damaged",
    [
        b"", b"{", b"{}", b"\0", b"\0" * 99, value() + b"\0", value() + b"\0" + value(), b"\0" + value(),
        b'"', b"\xff", value()[:-1], value() + b"}", value() + b" ", value() + b"\xc3",
        value()[:-1] + b',"x":1}', value(page='"'), value(page="\n"), value(page="a\\b"), value(site=""),
        value(site="s" * 254), value(status=600), value(bytes_sent=-1), value(bytes_sent=2**60),
        value().replace(b":200", b":0200"), value(bytes_sent=5).replace(b":5", b":05"),
        value(duration_ms=7.5).replace(b":7.5", b":07"), value(duration_ms=7.5).replace(b":7.5", b":07.5"),
        *(value(duration_ms=7.5).replace(b"7.5", text) for text in b"NaN inf +7.5 -7.5 -0 7E1 1e400 7. .5".split()),
        *(value(duration_ms=7.5).replace(b"7.5", text) for text in b"1.000000000000001 9999999999999999".split()),
        value().replace(b":200", b':"200"'), value().replace(b'"page"', b'"pagE"'),
    ],
)  # fmt: skip
def test_anything_else_is_not_and_disturbs_no_neighbour(damaged: bytes):
    good = value(user_agent="the last field")
    at, rows = read([good, damaged, good, damaged])
    assert at == [0, 2]
    assert [row["user_agent"] for row in rows] == ["the last field"] * 2


@pytest.mark.parametrize("fields", [{}, KNOWN, {"page": "ü" * 20, "event_time": "2026-05-17T12:05:03.5+02:00"}], ids=str)
def test_no_beginning_of_a_record_is_read(fields: dict[str, object]):
    whole = value(**fields)
    for length in range(len(whole)):
        assert read([whole, whole[:length]])[0] == [0]
        assert read([whole[:length], whole])[0] == [1]


def test_what_no_value_or_too_large_a_value_is_read_beside():
    largest = value()[:-1] + b"}".rjust(MAX_VALUE_BYTES - len(value()) + 1)
    assert len(largest) == MAX_VALUE_BYTES
    assert read([value(), None, value(), b"", largest, b" " + largest, value()])[0] == [0, 2, 6]
    assert read([]) == ([], [])


def test_both_ways_of_reading_end_in_the_order_of_the_records():
    values = [
        value(event_id=f"event number {i}", page="/\\" if i % 3 == 0 else "/") if i % 7 else b"?" for i in range(20_000)
    ]
    decoded = decode(0, range(20_000), [int(NOW.timestamp() * 1000)] * 20_000, values)
    assert decoded.events["event_id"].to_list() == [f"event number {i}" for i in range(20_000) if i % 7]
    assert decoded.events["offset"].to_list() == [i for i in range(20_000) if i % 7]
    assert decoded.rejects["offset"].to_list() == list(range(0, 20_000, 7))
