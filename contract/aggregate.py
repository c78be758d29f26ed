"""The kernel: events become partial rows of every view, partial rows become one. The only such code in Python.

Rows come sorted by bucket and keys, so equal content is an equal frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from contract.views import VIEWS, View

IDENTITY = ("event_day", "event_id")
"""What makes two records the same event: its id and the day of its time."""


def columns_read(views: Sequence[View] = VIEWS) -> list[str]:
    """The event's columns that first_of_each and aggregate need, without repeats."""
    needed = ["partition", "offset", "event_id", "event_time"]
    for view in views:
        needed += view.keys
        needed += (column for measure in view.measures for column in measure.reads)
    return list(dict.fromkeys(needed))


event_day = pl.col("event_time").dt.date().alias("event_day")
"""The day of an event, which is no column of it."""


def first_of_each(events: pl.DataFrame) -> pl.DataFrame:
    """The events without repeats: of each identity the one first by (partition, offset); sorted so."""
    return (
        events.lazy()
        .sort("partition", "offset")
        .with_columns(event_day)
        .unique(subset=IDENTITY, keep="first", maintain_order=True)
        .drop("event_day")
        .collect()
    )


def aggregate(events: pl.DataFrame, views: Sequence[View] = VIEWS) -> dict[str, pl.DataFrame]:
    """Partial rows of each view, by its name, with the view's schema; the events must be free of repeats."""
    items = {item.name: item for view in views for measure in view.measures for item in measure.items(events)}
    events = events.with_columns(items.values())
    return {view.name: _fold(view, events) for view in views}


def merge(view: View, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts as one: what aggregate would have given for all their events at once."""
    rows = pl.concat([pl.DataFrame(schema=view.schema), *parts]).lazy()
    merged = rows.group_by(view.group).agg(measure.regather() for measure in view.measures).sort(view.group).collect()
    return _rows(view, merged, {measure.name: measure.resettle(merged[measure.name]) for measure in view.measures})


def _fold(view: View, events: pl.DataFrame) -> pl.DataFrame:
    bucket = pl.col("event_time").dt.truncate(view.bucket).alias("bucket")
    grouped = events.lazy().with_columns(bucket).group_by(view.group)
    gathered = grouped.agg(measure.gather() for measure in view.measures).sort(view.group).collect()
    return _rows(view, gathered, {measure.name: measure.settle(gathered[measure.name]) for measure in view.measures})


def _rows(view: View, groups: pl.DataFrame, stored: dict[str, pl.Series]) -> pl.DataFrame:
    columns = groups.to_dict() | stored
    return pl.DataFrame({name: columns[name] for name in view.schema}, schema_overrides=view.schema)
