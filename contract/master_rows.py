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
from contract.event import EVENT_SCHEMA, decode
from contract.streams.page_views import PAGE_VIEWS
from contract.value_form import form_of

VALUE = "value"
MASTER_SCHEMA = pl.Schema({**EVENT_SCHEMA, VALUE: pl.Binary()})
"""The columns of a master file that is written today.

No event's value is empty, so an empty one is one that is left out; null is one that nobody knows, since a file from before
values were kept was merged in.
"""
LEFT_OUT = b""
FORM = form_of(PAGE_VIEWS)
"""Of the values that are left out today."""
_READ_TO_DECODE = ("partition", "kafka_time", VALUE)
_DECODED_AT_ONCE = 20_000


def master_rows(held: Collection[str], columns: Sequence[str], read: Callable[[list[str]], pl.DataFrame]) -> pl.DataFrame:
    """All rows of a file, with these columns of MASTER_SCHEMA, in the order of the file.

    `held` are the names of the file's columns, and `read` gives some of them. The values are read only if they are asked
    for, or if the file lacks a column that follows from them. An event stays one: if today's decoder rejects its value, or
    if there is none, such a column is null, as it is where the value follows from the columns that there are.
    """
    derived = [name for name in lacking(held) if name in columns] if VALUE in held else []
    needed = dict.fromkeys(["offset", *columns, *(_READ_TO_DECODE if derived else ())])
    stored = read([name for name in needed if name in held])
    if derived:
        # guard: what a file lacks follows from its values
        stored = stored.join(_decoded(stored, derived), on="offset", how="left", maintain_order="left")
    unknown = [pl.lit(None, MASTER_SCHEMA[name]).alias(name) for name in columns if name not in stored.columns]
    return stored.with_columns(unknown).select(columns).cast({name: MASTER_SCHEMA[name] for name in columns})


def lacking(held: Collection[str]) -> list[str]:
    """The event's columns that a file with these columns was written without."""
    return [name for name in EVENT_SCHEMA if name not in held]


def _decoded(stored: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Offset and these columns of the events that today's decoder finds in the values."""
    decoded = [pl.DataFrame(schema={name: EVENT_SCHEMA[name] for name in ("offset", *columns)})]
    for part in stored.filter(pl.col(VALUE) != LEFT_OUT).iter_slices(_DECODED_AT_ONCE):
        offsets, times_ms = part["offset"].to_list(), integers(part["kafka_time"]).tolist()
        events = decode(part["partition"][0], offsets, times_ms, part[VALUE].to_list()).events
        # Texts would hold on to the whole values that they were found in; this copies them.
        copied = pl.from_arrow(events.select("offset", *columns).to_arrow(compat_level=pl.CompatLevel.oldest()))
        assert isinstance(copied, pl.DataFrame)
        decoded.append(copied)
    return pl.concat(decoded)
