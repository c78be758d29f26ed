"""Which records are read without a JSON decoder; that they are read rightly is fuzzed in test_fuzz_event.py."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations, islice

import pytest

from contract.event import FIELD_SCHEMA, FIELDS, Event, decode, encode
from contract.wire import WireForm
from ingest.simulate import Shares, events
from tests.fixtures.corpus import EVENT

WIRE = WireForm(Event, FIELD_SCHEMA)
KNOWN = {"duration_ms": 12.25, "referrer": "", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/149.0"}
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)


def value(**fields: object) -> bytes:
    return encode(Event(**{**EVENT, **fields}))  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [some for count in range(4) for some in combinations(KNOWN, count)], ids=str)
def test_every_set_of_optional_fields_is_wire_form(known: tuple[str, ...]):
    fields = {**EVENT, **{name: KNOWN[name] for name in known}}
    frame, is_wire_form = WIRE.read([value(**fields)])
    assert is_wire_form.tolist() == [True]
    assert frame.row(0, named=True) == dict.fromkeys(FIELDS) | fields
    assert frame.schema == FIELD_SCHEMA


def test_simulated_events_are_wire_form():
    sent = [value for _, value in islice(events(1, lambda: NOW, "test", shares=Shares(malformed=0)), 2_000)]
    assert WIRE.read(sent)[1].all()


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11, 12, 13, 16, 17, 253])
@pytest.mark.parametrize("text", ["a", "\x7f", "ü", "😀"])
def test_texts_of_any_length_come_back(text: str, length: int):
    sites = [text * length if len((text * length).encode()) <= 253 else "x", "y"]
    frame, is_wire_form = WIRE.read([value(site=site) for site in sites])
    assert is_wire_form.all()
    assert frame["site"].to_list() == sites


@pytest.mark.parametrize("duration_ms", [0.0, 0.1 + 0.2, 1e-7, 5e-324, 1e-5, 86_399_999.999_999_99, 86_400_000.0])
def test_numbers_come_back_to_the_last_bit(duration_ms: float):
    frame, is_wire_form = WIRE.read([value(duration_ms=duration_ms)])
    assert is_wire_form.all()
    assert frame["duration_ms"].to_list() == [duration_ms]


@pytest.mark.parametrize(
    "damaged",
    [
        b"", b"{", b"{}", b'"', b"\xff", b"\0" + value(), value()[:-1], value() + b"}", value() + b" ", value() + b"\xc3",
        value()[:-1] + b',"x":1}', value(page='"'), value(page="\n"), value(page="a\\b"), value(site=""),
        value(site="s" * 254), value(status=600), value(bytes_sent=-1), value(bytes_sent=2**60),
        value().replace(b":200", b":0200"), value(bytes_sent=5).replace(b":5", b":05"),
        value(duration_ms=7.5).replace(b":7.5", b":07"), value(duration_ms=7.5).replace(b":7.5", b":07.5"),
        *(value(duration_ms=7.5).replace(b"7.5", text) for text in b"NaN inf +7.5 7E1 1e400 7. .5".split()),
        value().replace(b":200", b':"200"'), value().replace(b'"page"', b'"pagE"'),
    ],
)  # fmt: skip
def test_anything_else_is_not_and_disturbs_no_neighbour(damaged: bytes):
    good = value(user_agent="the last field")
    frame, is_wire_form = WIRE.read([good, damaged, good, damaged])
    assert is_wire_form.tolist() == [True, False, True, False]
    assert frame.filter(is_wire_form)["user_agent"].to_list() == ["the last field"] * 2


def test_both_ways_of_reading_end_in_the_order_of_the_records():
    values = [value(event_id=f"{i}", page="/\\" if i % 3 == 0 else "/") if i % 7 else b"?" for i in range(20_000)]
    decoded = decode(0, range(20_000), [int(NOW.timestamp() * 1000)] * 20_000, values)
    assert decoded.events["event_id"].to_list() == [f"{i}" for i in range(20_000) if i % 7]
    assert decoded.events["offset"].to_list() == [i for i in range(20_000) if i % 7]
    assert decoded.rejects["offset"].to_list() == list(range(0, 20_000, 7))
