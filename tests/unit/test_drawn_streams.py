"""Any declaration makes a decoder: compared with plain Python for drawn fields, types, limits and paths, damage included."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.archive_file import ValueForm
from contract.decoder import Decoder
from contract.fields import Boolean, Decimal, Double, Enumeration, Integer, Text, Timestamp
from contract.records import Records
from contract.stream import Stream
from contract.value_form import form_of
from contract.wire_writer import encode_all, write
from tests.fixtures.corpus import KAFKA_TIME_MS
from tests.fixtures.drawn_streams import damaged, judgement, rows, streams

LATEST_US = KAFKA_TIME_MS * 1000 + 86_400_000_000


def judged(decoder: Decoder, values: list[bytes]) -> list[Any]:
    """Of each value its event's columns, or why it is none."""
    decoded = decoder.decode(0, range(len(values)), [KAFKA_TIME_MS] * len(values), values)
    assert decoded.events.schema == decoder.schema
    found: dict[int, Any] = dict(decoded.rejects.select("offset", "reason").iter_rows())
    for row in decoded.events.iter_rows(named=True):
        found[row["offset"]] = {name: row[name] for name in decoder.fields}
    return [found[offset] for offset in range(len(values))]


def read_as_written(decoder: Decoder, values: list[bytes]) -> dict[int, dict[str, Any]]:
    """What the compiled reader finds, by position."""
    pieces = Records.of(range(len(values)), [KAFKA_TIME_MS] * len(values), values).pieces
    at, columns, _ = decoder.wire_form.read(pieces, np.full(len(values), LATEST_US))
    return dict(zip(at.tolist(), pa.RecordBatch.from_pydict(columns).to_pylist(), strict=True))


@settings(deadline=None)
@given(streams(), st.data())
def test_every_value_is_the_event_or_the_reject_that_its_declaration_says(stream: Stream, data: st.DataObject):
    decoder = Decoder(stream)
    values = data.draw(st.lists(damaged(decoder), min_size=1, max_size=8))
    assert judged(decoder, values) == [judgement(stream, value) for value in values]


@settings(deadline=None)
@given(streams(), st.data())
def test_the_json_decoder_reads_the_same_from_what_the_generated_reader_reads(stream: Stream, data: st.DataObject):
    decoder = Decoder(stream)
    values = data.draw(st.lists(damaged(decoder), min_size=1, max_size=8))
    for place, fields in read_as_written(decoder, values).items():
        (other,) = judged(decoder, [values[place].replace(b"{", b"{ ", 1)])
        assert fields == other


@settings(deadline=None)
@given(streams(), st.data())
def test_the_generated_reader_reads_what_is_written(stream: Stream, data: st.DataObject):
    decoder = Decoder(stream)
    values = [decoder.encode_row(row) for row in data.draw(st.lists(rows(stream), min_size=1, max_size=8))]
    read = read_as_written(decoder, values)
    for place, value in enumerate(values):
        # Escapes, exponents, many digits, and texts with more bytes than characters are left to the JSON decoder.
        is_plain = value.isascii() and not any(mark in value for mark in (b"\\", b"e"))
        assert place in read or not is_plain or any(len(part) > 16 for part in value.split(b":"))


@settings(deadline=None)
@given(streams(), st.data())
def test_events_are_written_as_they_were_and_left_out_only_if_they_come_back(stream: Stream, data: st.DataObject):
    decoder = Decoder(stream)
    values = data.draw(st.lists(damaged(decoder), min_size=1, max_size=8))
    decoded = decoder.decode(0, range(len(values)), [KAFKA_TIME_MS] * len(values), values, compare=True)
    written = write(decoded.events, form_of(stream).fields).to_list()
    sent = [values[offset] for offset in decoded.events["offset"]]
    assert all(value == one for value, one, follows in zip(sent, written, decoded.follows, strict=True) if follows)
    again = encode_all(decoded.events, decoder)
    assert again == [decoder.encode_row(row) for row in decoded.events.iter_rows(named=True)]
    assert judged(decoder, again) == [judgement(stream, value) for value in sent]


def test_an_event_of_every_type_is_read_without_a_json_decoder_and_left_out_of_the_archive():
    stream = Stream(
        "trips", "One trip", "trips",
        (
            Text("note", "", 100, path="rider.note", optional=True), Text("id", "", 40, path="rider.id"),
            Timestamp("at", ""), Timestamp("ended_at", "", optional=True), Integer("floor", "", -9, 9),
            Decimal("fare", "", 2, "-100", "100"), Double("lat", "", -90, 90, path="from.lat", optional=True),
            Boolean("is_member", ""), Enumeration("kind", "", ("classic", "electric, with a basket")),
        ),
        ("id",), "at", "id",
    )  # fmt: skip
    whole = (
        b'{"rider":{"note":"a","id":"t-1"},"at":"2026-05-17T10:05:03Z","ended_at":"2026-05-17T10:09:03.250Z","floor":-3,'
        b'"fare":-12.5,"from":{"lat":-45.123456},"is_member":true,"kind":"electric, with a basket"}'
    )
    short = b'{"rider":{"id":"t-2"},"at":"2026-05-17T10:05:03Z","floor":0,"fare":7,"is_member":false,"kind":"classic"}'
    decoder, values = Decoder(stream), [whole, short]
    assert list(read_as_written(decoder, values)) == [0, 1]
    decoded = decoder.decode(0, [0, 1], [KAFKA_TIME_MS] * 2, values, compare=True)
    assert decoded.follows.tolist() == [True, True]
    # Files name the form for ever, so neither its texts nor what is written in it may change.
    assert form_of(stream) == ValueForm(
        2,
        (
            '["note","text",["rider","note"],0]', '["id","text",["rider","id"],0]', '["at","timestamp",["at"],0]',
            '["ended_at","timestamp",["ended_at"],0]', '["floor","integer",["floor"],0]', '["fare","decimal",["fare"],2]',
            '["lat","double",["from","lat"],0]', '["is_member","boolean",["is_member"],0]',
            '["kind","enumeration",["kind"],0]',
        ),
    )  # fmt: skip
    assert write(decoded.events, form_of(stream).fields).to_list() == values
    assert decoded.events.select("note", "floor", "lat", "is_member", "kind").rows() == [
        ("a", -3, -45.123456, True, "electric, with a basket"), (None, 0, None, False, "classic"),
    ]  # fmt: skip
    assert decoded.events["fare"].to_physical().cast(pl.Int64).to_list() == [-1250, 700]


def test_a_number_with_a_sign_is_read_without_a_json_decoder_whatever_else_an_event_has():
    fields = (Text("id", "", 40), Timestamp("at", ""), Integer("bytes", "", -100, 100))
    decoder = Decoder(Stream("edits", "One edit", "edits", fields, ("id",), "at", "id"))
    values = [b'{"id":"e","at":"2026-05-17T10:05:03Z","bytes":%d}' % number for number in (-100, -1, 0, 100)]
    assert [row["bytes"] for row in read_as_written(decoder, values).values()] == [-100, -1, 0, 100]
    decoded = decoder.decode(0, range(4), [KAFKA_TIME_MS] * 4, values, compare=True)
    assert decoded.follows.all()
    assert write(decoded.events, form_of(decoder.stream).fields).to_list() == values
