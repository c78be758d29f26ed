"""Events of master files in today's schema, whatever an event was when a file was written.

A master file holds each event's value exactly as Kafka had it, and beside it columns that were decoded from it. Nearly all
values follow from the columns, byte for byte: these are left out, and the file says in which form they are written. So
nothing is in them but what the columns say. A field that the event has got since is in no column of an older file, but
perhaps in the values that are there: then these are decoded once more. Files from before values were kept have none, and
nobody knows what more there was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import polars as pl

from contract.columns import integers
from contract.decoder import decoder_of
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS

VALUE = "value"
LEFT_OUT = b""
"""The value of an event whose value is left out: no event's is empty."""
_READ_TO_DECODE = ("partition", "kafka_time", VALUE)
_DECODED_AT_ONCE = 20_000


def master_schema(stream: Stream = PAGE_VIEWS) -> pl.Schema:
    """The columns of a master file of the stream that is written today.

    A value that is null is one that nobody knows, since a file from before values were kept was merged in.
    """
    return pl.Schema({**decoder_of(stream).schema, VALUE: pl.Binary()})


def master_rows(
    held: Collection[str],
    columns: Sequence[str],
    read: Callable[[list[str]], pl.DataFrame],
    stream: Stream = PAGE_VIEWS,
) -> pl.DataFrame:
    """All rows of a file of the stream, with these columns of its master_schema, in the order of the file.

    `held` are the names of the file's columns, and `read` gives some of them. The values are read only if they are asked
    for, or if the file lacks a column that follows from them. An event stays one: if today's decoder rejects its value, or
    if there is none, such a column is null, as it is where the value follows from the columns that there are.
    """
    schema = master_schema(stream)
    derived = [name for name in lacking(held, stream) if name in columns] if VALUE in held else []
    needed = dict.fromkeys(["offset", *columns, *(_READ_TO_DECODE if derived else ())])
    stored = read([name for name in needed if name in held])
    if derived:
        # guard: what a file lacks follows from its values
        stored = stored.join(_decoded(stored, derived, stream), on="offset", how="left", maintain_order="left")
    unknown = [pl.lit(None, schema[name]).alias(name) for name in columns if name not in stored.columns]
    return stored.with_columns(unknown).select(columns).cast({name: schema[name] for name in columns})


def lacking(held: Collection[str], stream: Stream = PAGE_VIEWS) -> list[str]:
    """The columns of the stream's events that a file with these columns was written without."""
    return [name for name in decoder_of(stream).schema if name not in held]


def _decoded(stored: pl.DataFrame, columns: Sequence[str], stream: Stream) -> pl.DataFrame:
    """Offset and these columns of the events that today's decoder finds in the values."""
    decoder = decoder_of(stream)
    decoded = [pl.DataFrame(schema={name: decoder.schema[name] for name in ("offset", *columns)})]
    for part in stored.filter(pl.col(VALUE) != LEFT_OUT).iter_slices(_DECODED_AT_ONCE):
        offsets, times_ms = part["offset"].to_list(), integers(part["kafka_time"]).tolist()
        events = decoder.decode(part["partition"][0], offsets, times_ms, part[VALUE].to_list()).events
        # Texts would hold on to the whole values that they were found in; this copies them.
        copied = pl.from_arrow(events.select("offset", *columns).to_arrow(compat_level=pl.CompatLevel.oldest()))
        assert isinstance(copied, pl.DataFrame)
        decoded.append(copied)
    return pl.concat(decoded)
