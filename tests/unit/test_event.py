"""The decoder: each limit from both sides, each reason, and no exception ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from contract.event import EVENT_SCHEMA, MAX_VALUE_BYTES, REASONS, REJECT_SCHEMA, Event, decode, encode

KAFKA_TIME_MS = int(datetime(2026, 5, 17, 12, tzinfo=UTC).timestamp() * 1000)
GOOD = {
    "event_id": "access.log:0", "event_time": "2026-05-17T10:05:03Z", "site": "demo", "page": "/x?y=1", "visitor_id": "v",
    "status": 200, "bytes_sent": 0,
}  # fmt: skip


def judge(value: bytes | None) -> str:
    decoded = decode(3, [7], [KAFKA_TIME_MS], [value])
    assert decoded.events.schema == EVENT_SCHEMA
    assert decoded.rejects.schema == REJECT_SCHEMA
    assert len(decoded.events) + len(decoded.rejects) == 1
    if len(decoded.events):
        return "accepted"
    row = decoded.rejects.row(0, named=True)
    assert (row["partition"], row["offset"], row["value"]) == (3, 7, value)
    assert row["reason"] in REASONS
    return str(row["reason"])


def changed(**fields: object) -> bytes:
    return json.dumps({name: value for name, value in (GOOD | fields).items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_value"),
        (b"", "empty_value"),
        (b" ", "not_json"),
        (b"83.149.9.216 - - [17/May/2015", "not_json"),
        (b"\xff\xfe", "not_utf8"),
        (changed().replace(b"demo", b"d\xffmo"), "not_utf8"),
        (changed() + b"{}", "not_json"),
        (b"\xef\xbb\xbf" + changed(), "not_json"),
        (b"[" * 100_000, "too_large"),
        (b"[" * 60_000, "too_deep"),
        (b'{"x":' + b"[" * 60_000, "too_deep"),
        (changed(other="[" * 100), "accepted"),
        (changed(other=[[[[]]]]).replace(b"[[[[]]]]", b"[" * 63 + b"]" * 63), "accepted"),
        (changed(other=[[[[]]]]).replace(b"[[[[]]]]", b"[" * 64 + b"]" * 64), "too_deep"),
        (changed(other="x").replace(b'"x"', b'"\xff"'), "not_utf8"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"{}", "missing_field"),
        (changed(site=...), "missing_field"),
        (changed(status="200"), "wrong_type"),
        (changed(status=200.5), "wrong_type"),
        (changed(status=True), "wrong_type"),
        (changed(page=None), "wrong_type"),
        (changed(status=99), "out_of_range"),
        (changed(status=600), "out_of_range"),
        (changed(bytes_sent=-1), "out_of_range"),
        (changed(bytes_sent=1 << 40), "accepted"),
        (changed(bytes_sent=(1 << 40) + 1), "out_of_range"),
        (changed(bytes_sent=10**30), "out_of_range"),
        (changed(duration_ms=-0.1), "out_of_range"),
        (changed(duration_ms=0), "accepted"),
        (changed(duration_ms=86_400_000.5), "out_of_range"),
        (changed(duration_ms=float("nan")), "not_json"),
        (changed(duration_ms=1).replace(b"1}", b"1e999}"), "out_of_range"),
        (changed(page="p" * 2_048), "accepted"),
        (changed(page="ä" * 2_048), "accepted"),
        (changed(page="p" * 2_049), "too_long"),
        (changed(visitor_id=""), "empty_text"),
        (changed(page="a\0b"), "nul_character"),
        (changed(other="a\0b"), "accepted"),
        (changed(page="\ud800"), "not_json"),
        (changed(event_time="yesterday"), "bad_time"),
        (changed(event_time="2026-05-17T10:05:03"), "bad_time"),
        (changed(event_time="2026-02-30T10:05:03Z"), "bad_time"),
        (changed(event_time="2026-05-17T24:00:00Z"), "bad_time"),
        (changed(event_time="1969-12-31T23:59:59Z"), "bad_time"),
        (changed(event_time="1970-01-01T00:00:00Z"), "accepted"),
        (changed(event_time="2026-05-18T12:00:00Z"), "accepted"),
        (changed(event_time="2026-05-18T12:00:00.000001Z"), "too_far_ahead"),
        (changed(event_time="9999-12-31T23:59:59Z"), "too_far_ahead"),
        (changed(event_time="9999-12-31T23:59:59-12:00"), "too_far_ahead"),
        (changed(newer_field={"a": [1]}), "accepted"),
        (changed(referrer=None, user_agent="x" * 2_048), "accepted"),
        (b" " * (MAX_VALUE_BYTES - len(changed())) + changed(), "accepted"),
        (b" " * (MAX_VALUE_BYTES - len(changed()) + 1) + changed(), "too_large"),
    ],
)
def test_value_is_judged(value: bytes | None, reason: str):
    assert judge(value) == reason


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2015-05-17T10:05:03+00:00", "2015-05-17T10:05:03Z"),
        ("2015-05-17T12:05:03.25+02:00", "2015-05-17T10:05:03.250Z"),
        ("2015-05-17t10:05:03z", "2015-05-17T10:05:03Z"),
    ],
)
def test_times_of_one_moment_are_equal(text: str, same_as: str):
    values = [changed(event_time=text), changed(event_time=same_as)]
    times = decode(0, [0, 1], [KAFKA_TIME_MS] * 2, values).events["event_time"]
    assert times[0] == times[1]


def test_order_and_positions_survive_a_mix():
    values = [changed(event_id=f"e{i}") if i % 3 else b"x" for i in range(10)]
    decoded = decode(1, list(range(50, 60)), [KAFKA_TIME_MS] * 10, values)
    assert decoded.events["offset"].to_list() == [51, 52, 54, 55, 57, 58]
    assert decoded.events["event_id"].to_list() == [f"e{i}" for i in range(10) if i % 3]
    assert decoded.rejects["offset"].to_list() == [50, 53, 56, 59]


def test_encoded_events_are_decoded_to_the_same():
    event = Event(**(GOOD | {"duration_ms": 12.5, "user_agent": 'a"b\\c'}))  # type: ignore[arg-type]
    row = decode(0, [0], [KAFKA_TIME_MS], [encode(event)]).events.row(0, named=True)
    assert {name: row[name] for name in GOOD if name != "event_time"} == {k: v for k, v in GOOD.items() if k != "event_time"}
    assert (row["duration_ms"], row["user_agent"], row["referrer"]) == (12.5, 'a"b\\c', None)
    assert b"referrer" not in encode(event)


def test_no_records_give_empty_frames():
    decoded = decode(0, [], [], [])
    assert decoded.events.equals(pl.DataFrame(schema=EVENT_SCHEMA))
    assert decoded.rejects.equals(pl.DataFrame(schema=REJECT_SCHEMA))
