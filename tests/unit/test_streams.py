"""Declarations: what is wrong in one is refused with the reason, and page views are one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from contract.aggregate import first_of_each, identity_hashes
from contract.decoder import Decoder
from contract.errors import CatalogueError
from contract.event import EVENT_SCHEMA, FIELDS
from contract.fields import Boolean, Decimal, Double, Enumeration, Field, Integer, Text, Timestamp
from contract.keys import Host, PartOfTime, Range, Spelled
from contract.measures import Count, Sum
from contract.settings import Settings
from contract.stream import Stream
from contract.streams import STREAMS, of_a_stack
from contract.streams.page_views import PAGE_VIEWS
from contract.views import VIEWS, View

HOUR = timedelta(hours=1)
ID, TIME = Text("id", "its id", 40), Timestamp("at", "when it was")
X = Integer("x", "a number", -9, 9)
RIGHT: dict[str, Any] = {
    "name": "trips", "meaning": "One trip", "topic": "trips", "fields": (ID, TIME), "identity": ("id",), "time": "at",
    "key": "id",
}  # fmt: skip


def test_another_process_has_the_stream_that_its_code_declares():
    assert pickle.loads(pickle.dumps(PAGE_VIEWS)) is PAGE_VIEWS
    with pytest.raises(CatalogueError, match="no stream trips is declared in contract/streams; there are: page_views"):
        pickle.loads(pickle.dumps(Stream(**RIGHT)))


def test_a_stack_refuses_what_it_would_not_count():
    assert of_a_stack(PAGE_VIEWS) == (PAGE_VIEWS,)
    with pytest.raises(CatalogueError, match="a stack runs one stream yet, and page_views, trips are declared"):
        of_a_stack(PAGE_VIEWS, Stream(**RIGHT))
    with pytest.raises(CatalogueError, match="stream trips: it has no view, so nothing of it would be counted"):
        of_a_stack(Stream(**RIGHT))


def test_page_views_are_a_stream_of_the_settings_topic():
    assert PAGE_VIEWS in STREAMS
    assert PAGE_VIEWS.topic == Settings().topic
    assert PAGE_VIEWS.views == VIEWS
    assert tuple(PAGE_VIEWS.schema) == FIELDS == tuple(EVENT_SCHEMA)[3:]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Trips"}, "stream Trips: its name is a lower-case SQL identifier"),
        ({"topic": "my trips"}, "'my trips' is no name of a Kafka topic"),
        ({"fields": (ID, TIME, replace(ID, meaning="again"))}, "id is declared twice"),
        ({"fields": (ID, TIME, Text("other", "", 1, path="id"))}, r"field other: \$\.id is there twice"),
        ({"fields": (ID, TIME, Text("other", "", 1, path="id.x"))}, r"field other: \$\.id\.x is within another field"),
        ({"fields": (ID, TIME, Text("x", "", 1, path="o.x"), Text("o", "", 1))}, r"field o: \$\.o is there twice"),
        ({"time": "id"}, "its time, id, is no Timestamp"),
        ({"time": "when"}, "its time, when, is none of its fields"),
        ({"identity": ()}, "it needs an identity"),
        ({"identity": ("name",)}, "its identity, name, is none of its fields"),
        ({"fields": (replace(ID, optional=True), TIME)}, "its identity, id, must not be optional"),
        ({"fields": (ID, TIME, Double("x", "", 0, 1)), "identity": ("x",)}, "x identifies nothing"),
        ({"key": "who"}, "its key, who, is none of its fields"),
        ({"derived": (Host("host", "url"),)}, "key host is derived from url, which is no field"),
        ({"derived": (Host("host", "at"),)}, "key host: at is no text"),
        ({"derived": (Range("size", "id", (0, 1)),)}, "key size: id is no number"),
        ({"derived": (Range("n", "x", (2, 1)),), "fields": (ID, TIME, X)}, r"key n: its bounds, \(2, 1\), do not rise"),
        ({"derived": (Range("n", "x", (float("nan"),)),), "fields": (ID, TIME, X)}, "key n: .* are not all finite"),
        ({"derived": (Range("n", "x", ("much",)),), "fields": (ID, TIME, X)}, "key n: its bounds, .*, are not all numbers"),
        ({"derived": (Range("n", "x", (1e19,)),), "fields": (ID, TIME, X)}, "key n: a bound is beyond 64 bits"),
        ({"derived": (PartOfTime("hour", "at", "hour", "localtime"),)}, "'localtime' is no time zone"),
        ({"derived": (PartOfTime("hour", "id", "hour"),)}, "key hour: id is no time"),
        ({"derived": (PartOfTime("hour", "at", "hour", "Mars/Base"),)}, "'Mars/Base' is no time zone"),
        ({"derived": (Spelled("is_id", "id"),)}, "key is_id: id is neither a whole number nor"),
        ({"derived": (Spelled("id", "at"),)}, "id is declared twice"),
        ({"views": (View("v", ("id",), HOUR, (Count("n"), Sum("x"))),)}, "view v: measure x: x is no field"),
        ({"views": (View("v", ("site",), HOUR, (Count("n"),)),)}, "view v: site is no text of stream trips"),
    ],
)  # fmt: skip
def test_a_wrong_stream_is_refused_at_declaration(changes: dict[str, Any], complaint: str):
    Stream(**RIGHT)
    with pytest.raises(CatalogueError, match=complaint):
        Stream(**(RIGHT | changes))


@pytest.mark.parametrize(
    ("declare", "complaint"),
    [
        (lambda: Text("Name", "", 1), "field Name: its name is that of a column"),
        (lambda: Text("offset", "", 1), "field offset: bucket, kafka_time, offset, partition, value are columns"),
        (lambda: Text("x", "", 0), "field x: a text has 1 to 65,536 characters at most"),
        (lambda: Text("x", "", 1, path="a..b"), "a path has an empty name"),
        (lambda: Text("x", "", 1, path='a"'), "a path has an empty name, or one with a character that JSON escapes"),
        (lambda: Text("x", "", 1, path="a\n"), "a path has an empty name, or one with a character that JSON escapes"),
        (lambda: Text("x", "", 1, path="a" * 65), "a name in its path has more than 64 bytes"),
        (lambda: Integer("x", "", 1, 0), "1 to 0 is no range of 64-bit numbers"),
        (lambda: Integer("x", "", 0, 1e3), "0 to 1000.0 is no range of 64-bit numbers"),  # type: ignore[arg-type]
        (lambda: Integer("x", "", 0, 1 << 63), "is no range of 64-bit numbers"),
        (lambda: Integer("x", "", -(1 << 63), 0), "is no range of 64-bit numbers"),
        (lambda: Decimal("x", "", 0, "0", "1"), "a decimal has 1 to 9 places"),
        (lambda: Decimal("x", "", 2, "0", "0.001"), "it needs limits of 2 places and 18 digits"),
        (lambda: Decimal("x", "", 2, "0", "1e16"), "0 to 1e16 is no range"),
        (lambda: Decimal("x", "", 2, "0", "much"), "it needs limits of 2 places and 18 digits"),
        (lambda: Double("x", "", 0, float("inf")), "0 to inf is no range"),
        (lambda: Enumeration("x", "", ()), "it has no choices"),
        (lambda: Enumeration("x", "", ("a", "a")), "a choice is there twice"),
        (lambda: Enumeration("x", "", ("",)), "a choice is empty"),
    ],
)
def test_a_wrong_field_is_refused_at_declaration(declare: Any, complaint: str):
    with pytest.raises(CatalogueError, match=complaint):
        declare()


def test_fields_say_what_they_are_in_columns():
    fields: list[Field] = [
        Integer("short", "", -(1 << 31), (1 << 31) - 1),
        Integer("long", "", 0, 1 << 31),
        Boolean("so", ""),
        Decimal("money", "", 2, "-1.5", "10"),
        Enumeration("kind", "", ("a", "b")),
    ]
    assert [field.dtype for field in fields] == [pl.Int32(), pl.Int64(), pl.Boolean(), pl.Decimal(18, 2), pl.String()]
    assert Decimal("money", "", 2, "-1.5", "10").limits == (-150, 1_000)


def test_an_identity_of_several_fields_is_told_from_others():
    fields = (Text("station", "", 40), Integer("number", "", -9, 9), TIME)
    stream = Stream(**(RIGHT | {"fields": fields, "identity": ("station", "number", "at"), "key": "station"}))
    decoder = Decoder(stream)
    same = [
        b'{"station":"a","number":1,"at":"2026-05-17T10:00:00Z"}',
        b'{"at": "2026-05-17T12:00:00+02:00", "number": 1.0, "station": "a"}',
    ]
    others = [same[0].replace(b'"a"', b'"a1"'), same[0].replace(b":1,", b":-1,"), same[0].replace(b"00Z", b"01Z")]
    values = [*same, *others]
    times_ms = [1_800_000_000_000] * len(values)
    events = decoder.decode(0, range(len(values)), times_ms, values).events
    assert first_of_each(events, stream)["offset"].to_list() == [0, 2, 3, 4]
    hashes = identity_hashes(events, stream).tolist()
    assert (hashes[0], len(set(hashes))) == (hashes[1], 4)
    judgements = decoder.judge(values, times_ms[0])
    assert (judgements[0], len(set(judgements))) == (judgements[1], 4)
