"""What a replay sends of events: their values as they were received, with fields that Braid does not know."""

from __future__ import annotations

import msgspec
import polars as pl

from contract.decoder import MAX_VALUE_BYTES, decoder_of
from contract.master_rows import LEFT_OUT, VALUE
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS
from contract.wire_writer import encode_all

_CHANGED_BY_SHIFT = ("event_id", "event_time", "site")
_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def values_of(events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> list[bytes]:
    """The value of each event of the stream as Kafka had it; of one from before values were kept what its columns say.

    The events are as ArchiveFiles reads them.
    """
    values: list[bytes | None] = events[VALUE].to_list()
    # What was left out in today's form is what today's columns say.
    left_out = events.filter(pl.col(VALUE).is_null() | (pl.col(VALUE) == LEFT_OUT))
    written = iter(encode_all(left_out, decoder_of(stream)))
    # guard: a replay sends what was received
    return [value or next(written) for value in values]


def values_of_shifted(events: pl.DataFrame, shifted: pl.DataFrame) -> list[bytes]:
    """The value of each shifted event: with what Braid knows of it as it is now, and all else as it was received."""
    values = encode_all(shifted)
    for at, received in enumerate(events[VALUE].to_list()):
        if not received:
            continue
        fields = _fields_of(received)
        new = _fields_of(values[at])
        value = _encode(fields | {name: new[name] for name in _CHANGED_BY_SHIFT})
        # With a longer id it may be no event any more; without what nobody knows it is one.
        if len(value) <= MAX_VALUE_BYTES:
            values[at] = value
    return values
