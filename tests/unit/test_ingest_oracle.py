"""The oracle and decode() judge every record alike, although they share no code."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contract.aggregate import aggregate, first_of_each
from contract.event import decode
from contract.views import VIEWS
from ingest.simulate import events
from tests import oracle

KAFKA_TIME_MS = 1_763_712_000_000
VALID = {
    "event_id": "a:1",
    "event_time": "2025-11-21T07:05:03Z",
    "site": "s",
    "page": "/p",
    "visitor_id": "v",
    "status": 200,
    "bytes_sent": 10,
    "duration_ms": 1.5,
    "referrer": None,
    "user_agent": "agent",
}
texts = st.text(max_size=8) | st.sampled_from(
    ["", "\0", "a\0b", "\ud800", "\udc00x", "\ud83d\ude00", "a" * 2048, "a" * 2049, "é" * 253]
)
numbers = st.sampled_from(
    [0, -1, -0.0, 99, 100, 599, 600, 2**40, 2**40 + 1, 2**63, 2**64, 10**25, 1.0, 1e15, 86_400_000, 86_400_001]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | numbers | texts
items = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
times = st.builds(
    "{:04d}-{:02d}-{:02d}{}{:02d}:{:02d}:{:02d}{}{}".format,
    st.sampled_from([0, 1, 1969, 1970, 2024, 2025, 2026, 9999]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from("TTTt _"),
    st.integers(0, 24),
    st.integers(0, 60),
    st.integers(0, 61),
    st.sampled_from(["", ".", ".5", ".123456", ".1234565", ".1234575", ".9999999", ".000000499999", ",5"]),
    st.sampled_from(["Z", "Z", "z", "", "+00:00", "-00:00", "+02:00", "+0200", "-23:59", "+24:00", "+23:60", "+02", " Z"]),
)
# Raw pieces that json.dumps never writes; each is put in place of one field's value.
RAW = (
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1e-400", b"01", b"-0", b"+1", b"1.", b".5", b"2e2", b"9" * 500,
    b"9" * 5000, b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"',
    b'"\\u0000"', b'"\\q"', b'"\x01"', b'"\x7f"', b'"\t"', b"'a'", b"tru", b"", b"[" * 50 + b"]" * 50, b"{}", b"[1,]",
)  # fmt: skip
FIELD_NAMES = st.sampled_from([*VALID, "other"])


def dumped(event: object) -> bytes:
    return json.dumps(event).encode()


def with_raw(name: str, raw: bytes) -> bytes:
    return dumped({**VALID, name: "@@"}).replace(b'"@@"', raw, 1)


changed = st.dictionaries(FIELD_NAMES, items, max_size=2).map(lambda change: dumped({**VALID, **change}))
missing = FIELD_NAMES.map(lambda name: dumped({key: item for key, item in VALID.items() if key != name}))
timed = times.map(lambda time: dumped({**VALID, "event_time": time}))
# Bytes that are not UTF-8 are left out of unknown fields; there decode() does not look.
raw = (
    st.tuples(FIELD_NAMES, st.sampled_from(RAW))
    .filter(lambda it: it[0] != "other" or it[1].isascii())
    .map(lambda it: with_raw(*it))
)
repeated = st.tuples(FIELD_NAMES, items).map(lambda it: dumped({it[0]: it[1]})[:-1] + b"," + dumped(VALID)[1:])
framed = st.sampled_from(
    [
        b"\xef\xbb\xbf%b",
        b"%b ",
        b"\r\n\t %b\n",
        b"%b%b",
        b"%b x",
        b"[%b]",
        b"\0%b",
        b"%b\0",
        b'"%b"',
        b"\xa0%b",
        b"%b,",
        b"%.40b",
    ]
).map(lambda frame: frame.replace(b"%b", dumped(VALID)).replace(b"%.40b", dumped(VALID)[:40]))
sized = st.sampled_from([65_535, 65_536, 65_537]).map(lambda size: dumped(VALID).ljust(size))
values = st.one_of(
    changed, missing, timed, raw, repeated, framed, sized, st.binary(max_size=20), items.map(dumped), st.none()
)


def judged_by_oracle(value: bytes | None) -> str:
    try:
        event, time = oracle.event_of(value, KAFKA_TIME_MS)
        return f"{time.isoformat()} {event['event_id']}"
    except oracle.Rejected as rejected:
        return str(rejected.args[0])


def judged_by_decode(value: bytes | None) -> str:
    decoded = decode(3, [7], [KAFKA_TIME_MS], [value])
    if len(decoded.events):
        event = decoded.events.row(0, named=True)
        return f"{event['event_time'].isoformat()} {event['event_id']}"
    return str(decoded.rejects["reason"][0])


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(values)
@example(dumped({**VALID, "page": "\0"}))
@example(dumped({**VALID, "other": "\0"}))
@example(b"null")
def test_oracle_and_decode_accept_the_same_records_and_read_the_same_times(value: bytes | None):
    ours, theirs = judged_by_oracle(value), judged_by_decode(value)
    accepted = [judged[:4].isdigit() for judged in (ours, theirs)]
    assert accepted[0] == accepted[1], (ours, theirs)
    assert not accepted[0] or ours == theirs


def test_every_reason_is_the_same_for_a_record_with_one_fault():
    faults = {
        "empty_value": b"",
        "too_large": dumped(VALID).ljust(65_537),
        "not_utf8": with_raw("page", b'"\xff"'),
        "not_json": dumped(VALID)[:-3],
        "not_an_object": b"[1]",
        "missing_field": b"{}",
        "wrong_type": dumped({**VALID, "status": True}),
        "too_long": dumped({**VALID, "site": "s" * 254}),
        "empty_text": dumped({**VALID, "page": ""}),
        "out_of_range": dumped({**VALID, "bytes_sent": -1}),
        "nul_character": dumped({**VALID, "user_agent": "\0"}),
        "bad_time": dumped({**VALID, "event_time": "yesterday"}),
        "too_far_ahead": dumped({**VALID, "event_time": "2025-11-22T08:00:00.000001Z"}),
    }
    assert {reason: (judged_by_oracle(value), judged_by_decode(value)) for reason, value in faults.items()} == {
        reason: (reason, reason) for reason in faults
    }


def test_simulated_traffic_gives_the_same_rows_in_oracle_and_kernel():
    now = datetime(2025, 11, 21, 8, 0, tzinfo=UTC)
    stream = events(5, lambda: now, "test")
    values = [next(stream)[1] for _ in range(6_000)]
    outcome = oracle.pipeline((0, offset, KAFKA_TIME_MS, value) for offset, value in enumerate(values))
    decoded = decode(0, range(len(values)), [KAFKA_TIME_MS] * len(values), values)
    unique = first_of_each(decoded.events)
    assert outcome.received == outcome.counted + outcome.duplicate + outcome.rejects.total()
    assert (outcome.counted, outcome.duplicate) == (len(unique), len(decoded.events) - len(unique))
    assert outcome.rejects == dict(decoded.rejects["reason"].value_counts().iter_rows())
    assert outcome.duplicate > 20
    assert outcome.rejects.total() > 0
    assert set(oracle.VIEWS) == {view.name for view in VIEWS}
    for view, rows in aggregate(unique).items():
        assert rows.rows() == oracle.expected_rows(outcome, view)
