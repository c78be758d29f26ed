"""Fuzzing of the decoder: valid events, damaged in structure and in bytes; every judgement is compared with the oracle's.

Damage that leaves an event almost whole reaches the limits; bytes at random only ever reach `not_json`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from contract.event import (
    EVENT_ID_LENGTH,
    EVENT_SCHEMA,
    EVENTS,
    FIELDS,
    MAX_BYTES_SENT,
    MAX_DURATION_MS,
    MAX_PAGE_LENGTH,
    MAX_VALUE_BYTES,
    SITE_LENGTH,
    VISITOR_ID_LENGTH,
    Decoded,
    Event,
    decode,
    encode,
)
from contract.records import Records
from contract.wire_writer import write
from tests import oracle
from tests.fixtures.corpus import EVENT, KAFKA_TIME_MS, VALUES, written
from tests.fixtures.judges import by_decode, by_oracle

SECRET = "visitor of fourteen letters"
PLAIN = {**EVENT, "visitor_id": SECRET, "page": f"/{SECRET}", "duration_ms": 1.5, "user_agent": SECRET}
NAMES = st.sampled_from([*EVENT, "x"])
_PIECES = [*(bytes([byte]) for byte in b'"\\{}[],:\0 \n\t-+.eE09u\x7f\x80\xc3\xed\xff'), b"null", b"[" * 64, *[b""] * 20]
# What the corpus writes in place of a field's value is written here in place of any field's.
_MARK = b"@@"
_AROUND = written("page", _MARK).split(_MARK)
TOKENS = st.sampled_from(
    [
        *(
            case.value[len(_AROUND[0]) : -len(_AROUND[1])]
            for case in VALUES
            if case.value and case.value.startswith(_AROUND[0]) and case.value.endswith(_AROUND[1])
        ),
        b"null", b"true", b"200", b"-1", b"1e400", b"NaN", b"-0", b"2.0", b'""', b"{}", b"[]", b"9" * 400,
        b"[" * 63 + b"]" * 63, b'"\\ud800"', b'"\\u0000"', b'"\xff"', b"", b'"' + b"a" * 2_049 + b'"', b'"\\\\u0000"',
    ]
)  # fmt: skip
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)) | st.datetimes(
    datetime(1969, 12, 30), datetime(1970, 1, 2)
)
near_the_limit = st.integers(-3, 3).map(
    lambda by_us: (
        datetime.fromtimestamp(KAFKA_TIME_MS / 1000, UTC).replace(tzinfo=None) + timedelta(days=1, microseconds=by_us)
    )
)
offset_texts = st.sampled_from(
    ["Z", "Z", "Z", "z", "", "+00:00", "-00:00", "+0200", "-23:59", "+24:00", "+23:60", "+02", "+24", " Z", "Z\n", "Z[UTC]"]
)
odd_times = st.builds(
    "{:04d}-{:02d}-{:02d}{}{:02d}:{:02d}:{:02d}{}{}".format,
    st.sampled_from([0, 1, 1969, 1970, 2024, 2025, 2026, 9999]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from("TTTt _"),
    st.integers(0, 24),
    st.integers(0, 60),
    st.integers(0, 61),
    st.sampled_from(["", ".", ".5", ".123456", ".1234565", ".9999999", ".000000499999", ".9999995", ",5"]),
    offset_texts,
)
times = odd_times | st.builds(lambda moment, offset: moment.isoformat() + offset, moments | near_the_limit, offset_texts)
LATEST_US = KAFKA_TIME_MS * 1000 + 86_400_000_000
Members = list[tuple[bytes, bytes]]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An event with up to three members written otherwise, then up to two bytes."""
    members: Members = [(json.dumps(name).encode(), json.dumps(item).encode()) for name, item in PLAIN.items()]
    for _ in range(draw(st.integers(0, 3))):
        name = json.dumps(draw(NAMES)).encode()
        at = draw(st.integers(0, len(members)))
        match draw(st.sampled_from(["replace", "repeat", "time", "remove", "move", "escape"])):
            case "replace":
                members = [member for member in members if member[0] != name]
                members.insert(at, (name, draw(TOKENS)))
            case "repeat":
                members.insert(at, (name, draw(TOKENS)))
            case "time":
                members.insert(at, (b'"event_time"', json.dumps(draw(times)).encode()))
                members = [member for place, member in enumerate(members) if place == at or member[0] != b'"event_time"']
            case "remove":
                members = [member for member in members if member[0] != name]
            case "move":
                members = members[at:] + members[:at]
            case "escape":
                members = [(key.replace(b"e", rb"\u0065", 1) if key == name else key, item) for key, item in members]
    value = b"{" + b",".join(key + draw(st.sampled_from([b":", b" :\n"])) + item for key, item in members) + b"}"
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(st.sampled_from(_PIECES)) + value[at + draw(st.sampled_from([0, 1, 1, 99])) :]
    return value


def texts(limit: int, least: int = 1) -> st.SearchStrategy[str]:
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    long = st.builds(lambda text, character: text.ljust(limit, character), st.text(alphabet, max_size=9), alphabet)
    return st.text(alphabet, min_size=least, max_size=30) | long


zones = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
event_times = st.datetimes(datetime(1970, 1, 3), datetime(2026, 5, 17, 12), timezones=zones)
events: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "event_id": texts(EVENT_ID_LENGTH),
        "event_time": event_times,
        "site": texts(SITE_LENGTH),
        "page": texts(MAX_PAGE_LENGTH),
        "visitor_id": texts(VISITOR_ID_LENGTH),
        "status": st.integers(100, 599),
        "bytes_sent": st.integers(0, MAX_BYTES_SENT),
        "duration_ms": st.none() | st.floats(0, MAX_DURATION_MS),
        "referrer": st.none() | texts(MAX_PAGE_LENGTH, least=0),
        "user_agent": st.none() | texts(MAX_PAGE_LENGTH, least=0),
    }
)


numbers = st.from_regex(rb"[0-9]{1,18}(\.[0-9]{0,18})?(e-?[0-9]{1,3})?|-?[0-9.]{0,20}", fullmatch=True)


@st.composite
def almost_wire_form(draw: st.DrawFn) -> bytes:
    """What encode() writes, and what is almost that: the form that is read without a JSON decoder."""
    value = encode(Event(**draw(events) | {"event_time": draw(times)}))
    value = re.sub(rb"(?<=[a-z]\":)[0-9.]+", lambda number: draw(st.just(number[0]) | numbers), value)
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(value) - 1))
        value = value[:at] + draw(st.sampled_from(_PIECES)) + value[at + draw(st.sampled_from([0, 1, 2])) :]
    return value


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
changed = st.dictionaries(NAMES, any_json, max_size=2).map(lambda change: json.dumps({**PLAIN, **change}).encode())
values = st.one_of(
    damaged(),
    almost_wire_form(),
    changed,
    any_json.map(lambda item: json.dumps(item).encode()),
    st.binary(max_size=20),
    st.sampled_from([case.value for case in VALUES]),
)
records = st.lists(st.tuples(values, st.integers(KAFKA_TIME_MS - 10**11, KAFKA_TIME_MS + 10**11)), max_size=6)


def decoded(rows: list[tuple[bytes | None, int]], first_offset: int = 0) -> Decoded:
    return decode(1, range(first_offset, first_offset + len(rows)), [row[1] for row in rows], [row[0] for row in rows])


def time_of(text: str) -> datetime:
    """As the oracle reads it."""
    return oracle.event_of(encode(Event(**{**PLAIN, "event_time": text})), KAFKA_TIME_MS)[1]


@given(st.lists(values, min_size=1, max_size=8))
def test_decoder_and_oracle_give_every_value_the_same_event_or_reason(batch: list[bytes | None]):
    assert by_decode(batch, KAFKA_TIME_MS) == [by_oracle(value, KAFKA_TIME_MS) for value in batch]


@given(st.lists(almost_wire_form(), min_size=1, max_size=8))
def test_the_json_decoder_reads_the_same_from_what_is_read_without_it(batch: list[bytes]):
    pieces = Records.of(range(len(batch)), [KAFKA_TIME_MS] * len(batch), batch).pieces
    at, columns, _ = EVENTS.wire_form.read(pieces, np.full(len(batch), LATEST_US))
    read = pa.RecordBatch.from_pydict(columns).to_pylist()
    decoded = [msgspec.structs.asdict(msgspec.json.decode(batch[position], type=Event)) for position in at]
    assert read == [fields | {"event_time": time_of(fields["event_time"])} for fields in decoded]


@given(st.lists(almost_wire_form(), min_size=1, max_size=8))
def test_a_value_that_is_said_to_follow_from_the_columns_is_written_of_them(batch: list[bytes]):
    decoded = decode(1, range(len(batch)), [KAFKA_TIME_MS] * len(batch), batch, compare=True)
    written = write(decoded.events, FIELDS).to_list()
    for offset, value, follows in zip(decoded.events["offset"], written, decoded.follows, strict=True):
        assert not follows or value == batch[offset]


@given(records, st.data())
def test_a_record_is_judged_alike_whatever_is_decoded_with_it(rows: list[tuple[bytes | None, int]], data: st.DataObject):
    at = data.draw(st.integers(0, len(rows)))
    whole = decoded(rows)
    for parts in ([decoded(rows[:at]), decoded(rows[at:], at)], [decoded([row], place) for place, row in enumerate(rows)]):
        assert whole.events.equals(pl.concat([decoded([]).events, *(part.events for part in parts)]))
        assert whole.rejects.equals(pl.concat([decoded([]).rejects, *(part.rejects for part in parts)]))
    assert whole.events.schema == EVENT_SCHEMA


@given(st.lists(damaged() | changed, min_size=1, max_size=8))
def test_what_sends_a_value_through_the_exceptional_checks_changes_no_judgement(batch: list[bytes]):
    """Both an escaped NUL and 65 brackets, in the text of an unknown field, make decode() look closer and are no fault."""
    whole = [value for value in batch if value.startswith(b'{"')]
    for closer in (rb'{"x":"\u0000",', b'{"x":"' + b"[" * 65 + b'",'):
        assert by_decode([closer + value[1:] for value in whole], KAFKA_TIME_MS) == by_decode(whole, KAFKA_TIME_MS)


@given(st.lists(times, min_size=1, max_size=20))
def test_the_compiled_and_the_one_by_one_parser_read_the_same_times(texts: list[str]):
    plain = [encode(Event(**{**PLAIN, "event_time": text or " "})) for text in texts]
    others = [value.replace(b":", b": ", 1) for value in plain]
    assert by_decode(plain, KAFKA_TIME_MS) == by_decode(others, KAFKA_TIME_MS)


@given(st.lists(damaged(), min_size=1, max_size=8))
def test_the_detail_of_a_reject_quotes_nothing_of_the_value(batch: list[bytes]):
    for detail in decoded([(value, KAFKA_TIME_MS) for value in batch]).rejects["detail"]:
        assert detail
        assert SECRET not in detail


@given(st.lists(events, min_size=1, max_size=4))
def test_an_event_within_the_limits_comes_back_as_it_was(batch: list[dict[str, Any]]):
    sent = [encode(Event(**{**fields, "event_time": fields["event_time"].isoformat()})) for fields in batch]
    assert max(map(len, sent)) <= MAX_VALUE_BYTES
    assert by_decode(sent, KAFKA_TIME_MS) == batch
