"""A replay sends each value as it was received; shifted, with all that Braid does not know of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from contract.event import EVENT_SCHEMA, MAX_VALUE_BYTES, decode
from contract.master_rows import LEFT_OUT, VALUE, master_schema
from contract.wire_writer import encode_all
from ingest.as_received import values_of, values_of_shifted
from ingest.shifted import Shift

TIME_MS = 1_763_712_000_000
FIELDS = {
    "event_id": "e:1", "event_time": "2025-11-20T10:00:00.500Z", "site": "s", "page": "/", "visitor_id": "v", "status": 200,
    "bytes_sent": 1,
}  # fmt: skip
PLAIN = json.dumps(FIELDS, separators=(",", ":")).encode()
# Numbers that no double holds, and white space, which is as good as a field to whoever signs its bytes.
MORE = json.dumps(FIELDS | {"big": 2**80, "nested": {"a": [1, None]}}).encode().replace(b"[1,", b"[1.50,")


def events(*values: bytes, kept: Sequence[bytes | None] | None = None) -> pl.DataFrame:
    """Events as they are read from the archive, which has kept their values or what is given."""
    decoded = decode(0, range(len(values)), [TIME_MS] * len(values), values)
    assert decoded.rejects.is_empty()
    return decoded.events.with_columns(pl.Series(VALUE, values if kept is None else kept, master_schema()[VALUE]))


def test_values_are_sent_as_they_came_and_what_is_not_kept_as_the_columns_say():
    mixed = pl.concat([events(MORE, PLAIN), events(MORE, PLAIN, kept=[None, LEFT_OUT]), events(MORE)])
    assert values_of(mixed) == [MORE, PLAIN, PLAIN, PLAIN, MORE]
    assert values_of(mixed[:0]) == []


def test_a_shifted_event_has_new_id_time_and_site_and_all_else_as_it_came():
    mixed = pl.concat([events(MORE, PLAIN), events(MORE, PLAIN, kept=[None, LEFT_OUT])])
    shifted = Shift(0, 86_400_000_000, source="x").apply(mixed)
    values = values_of_shifted(mixed, shifted)
    plain = encode_all(shifted)
    assert values[1:] == plain[1:]
    known: dict[str, Any] = json.loads(plain[0])
    assert json.loads(values[0]) == json.loads(MORE) | known
    assert b"[1.50, null]" in values[0]
    assert known["event_id"] == "x:0"
    read = decode(0, range(4), [TIME_MS + 2 * 86_400_000] * 4, values).events
    assert read.select(list(FIELDS)).equals(shifted.select(list(FIELDS)))
    assert read.schema == EVENT_SCHEMA


def test_a_shifted_event_that_would_be_too_large_is_sent_without_what_nobody_knows():
    value = MORE[:-1] + b',"x":"' + b"x" * (MAX_VALUE_BYTES - len(MORE) - 7) + b'"}'
    assert len(value) == MAX_VALUE_BYTES
    large = events(value)
    shifted = Shift(0, 0, source="a longer source").apply(large)
    assert values_of_shifted(large, shifted) == encode_all(shifted)
