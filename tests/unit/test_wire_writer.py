"""Events written from columns: byte for byte what encode() writes, and decode() reads the same events from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.event import (
    EVENT_ID_LENGTH,
    EVENT_SCHEMA,
    MAX_BYTES_SENT,
    MAX_DURATION_MS,
    MAX_PAGE_LENGTH,
    MAX_VALUE_BYTES,
    SITE_LENGTH,
    VISITOR_ID_LENGTH,
    Event,
    decode,
    encode,
)
from contract.wire_writer import encode_all
from tests.fixtures import history
from tests.fixtures.corpus import EVENT, KAFKA_TIME_MS, TIME

# U+0000 is no character of an event; lone surrogates are not in UTF-8.
_CHARACTERS = st.characters(min_codepoint=1, exclude_categories=["Cs"]) | st.sampled_from('"\\/\b\t\n\f\r\x01\x1f\x7fü😀')
LATEST = datetime.fromtimestamp(KAFKA_TIME_MS / 1000, UTC)
DURATIONS_MS = st.none() | st.integers(0, MAX_DURATION_MS * 1_000).map(lambda us: us / 1_000) | st.floats(0, MAX_DURATION_MS)


def text(longest: int, least: int = 1) -> st.SearchStrategy[str]:
    longest_ones = st.sampled_from(["\x1f" * longest, "😀" * longest])
    return st.text(_CHARACTERS, min_size=least, max_size=min(longest, 40)) | longest_ones


EVENTS = st.fixed_dictionaries(
    {
        "event_id": text(EVENT_ID_LENGTH),
        "event_time": st.datetimes(datetime(1970, 1, 1), LATEST.replace(tzinfo=None), timezones=st.just(UTC)),
        "site": text(SITE_LENGTH),
        "page": text(MAX_PAGE_LENGTH),
        "visitor_id": text(VISITOR_ID_LENGTH),
        "status": st.integers(100, 599),
        "bytes_sent": st.integers(0, MAX_BYTES_SENT),
        "duration_ms": DURATIONS_MS,
        "referrer": st.none() | text(MAX_PAGE_LENGTH, 0),
        "user_agent": st.none() | text(MAX_PAGE_LENGTH, 0),
    }
)


def frame(events: list[dict[str, Any]]) -> pl.DataFrame:
    return history.frame({"partition": 3, "offset": at, "kafka_time": LATEST, **event} for at, event in enumerate(events))


def as_encoded(event: dict[str, Any]) -> bytes:
    time = event["event_time"]
    fraction = f"{time:%f}" if time.microsecond % 1_000 else f"{time:%f}"[:3]
    written = f"{time:%Y-%m-%dT%H:%M:%S}" + (f".{fraction}Z" if time.microsecond else "Z")
    return encode(Event(**(event | {"event_time": written})))


def written_and_read(events: list[dict[str, Any]]) -> list[bytes]:
    expected = frame(events)
    values = encode_all(expected)
    decoded = decode(3, range(len(events)), [KAFKA_TIME_MS] * len(events), values)
    assert decoded.rejects.is_empty()
    assert decoded.events.equals(expected)
    return values


@given(st.lists(EVENTS, max_size=5))
def test_events_are_written_as_encode_does_and_read_as_the_same(events: list[dict[str, Any]]):
    assert written_and_read(events) == [as_encoded(event) for event in events]


def test_the_largest_event_is_not_too_large():
    longest = {
        "event_id": "\x1f" * EVENT_ID_LENGTH, "site": "\x1f" * SITE_LENGTH, "page": "\x1f" * MAX_PAGE_LENGTH,
        "visitor_id": "\x1f" * VISITOR_ID_LENGTH, "referrer": "\x1f" * MAX_PAGE_LENGTH,
        "user_agent": "\x1f" * MAX_PAGE_LENGTH,
    }  # fmt: skip
    (value,) = written_and_read([{**EVENT, **longest, "event_time": TIME, "duration_ms": 1 / 3}])
    assert len(value) <= MAX_VALUE_BYTES


@pytest.mark.parametrize(
    "duration_ms",
    [0.0, 0.001, 0.1, 0.5, 1.0, 12.25, 100.0, 999.999, 86_400_000.0, 86_399_999.999, 0.0001, 5e-324, 1e-7, 1 / 3, 0.1 + 0.2],
)
def test_durations_come_back_to_the_last_bit(duration_ms: float):
    event = {**EVENT, "event_time": TIME, "duration_ms": duration_ms}
    assert written_and_read([event]) == [as_encoded(event)]


def test_a_negative_zero_stays_one():
    (value,) = encode_all(frame([{**EVENT, "event_time": TIME, "duration_ms": -0.0}]))
    (read,) = decode(0, [0], [KAFKA_TIME_MS], [value]).events["duration_ms"]
    assert np.signbit(read)


def test_every_day_of_four_centuries_is_written_rightly():
    days = [datetime(1970, 1, 1, 1, 2, 3, tzinfo=UTC) + timedelta(days=day) for day in range(146_097)]
    times = pl.Series("event_time", days, dtype=EVENT_SCHEMA["event_time"])
    events = pl.concat([frame([{**EVENT, "event_time": TIME}])] * len(days), rechunk=True)
    values = encode_all(events.with_columns(times))
    before, after = encode(Event(**EVENT)).split(EVENT["event_time"].encode())
    assert values == [before + f"{day:%Y-%m-%dT%H:%M:%S}Z".encode() + after for day in days]


def test_a_slice_is_written_like_the_whole():
    one = {**EVENT, "event_time": TIME}
    events = frame([one | {"page": f"/{at}", "referrer": None if at % 3 else "r"} for at in range(100)])
    whole = encode_all(events)
    assert encode_all(events[10:20]) == whole[10:20]
    assert encode_all(events[:0]) == []
    assert encode_all(pl.concat([events[:40], events[40:]], rechunk=False)) == whole
