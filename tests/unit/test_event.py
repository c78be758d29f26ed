"""The decoder's frames; what it says of each kind of value is in test_corpus.py and test_fuzz_event.py."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl

from contract.event import EVENT_SCHEMA, REJECT_SCHEMA, Event, decode, encode

KAFKA_TIME_MS = int(datetime(2026, 5, 17, 12, tzinfo=UTC).timestamp() * 1000)
GOOD = {
    "event_id": "access.log:0", "event_time": "2026-05-17T10:05:03Z", "site": "demo", "page": "/x?y=1", "visitor_id": "v",
    "status": 200, "bytes_sent": 0,
}  # fmt: skip


def changed(**fields: object) -> bytes:
    return json.dumps({name: value for name, value in (GOOD | fields).items() if value is not ...}).encode()


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
