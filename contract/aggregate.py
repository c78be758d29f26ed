"""The kernel: events become partial rows of every view, partial rows become one. The only such code in Python.

Rows come sorted by bucket and keys, so equal content is an equal frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.measures import Groups
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
    # Views share measures; what the events bring to one is found out once.
    items: dict[int, NDArray[Any]] = {}
    rows = {}
    for view in views:
        bucket = events["event_time"].dt.truncate(view.bucket).alias("bucket")
        keys, groups = _grouped(pl.DataFrame([bucket, *(events[key] for key in view.keys)]))
        for measure in view.measures:
            if id(measure) not in items:
                items[id(measure)] = measure.items(events)
            keys.insert_column(len(keys.columns), measure.fold(items[id(measure)], groups))
        rows[view.name] = keys
    return rows


def merge(view: View, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts as one: what aggregate would have given for all their events at once."""
    rows = pl.concat([pl.DataFrame(schema=view.schema), *parts])
    keys, groups = _grouped(rows.select(view.group))
    return keys.hstack([measure.merge(rows[measure.name], groups) for measure in view.measures])


def _grouped(keys: pl.DataFrame) -> tuple[pl.DataFrame, Groups]:
    """The different rows, sorted, and which of them each row is."""
    numbered = keys.with_columns(group=pl.struct(pl.all()).rank("dense") - 1)
    ids = numbered["group"].to_numpy().astype(np.int64)
    # Of each group the last row, without sorting again: the ranks are dense.
    rows = np.empty(ids.max(initial=-1) + 1, np.int64)
    rows[ids] = np.arange(len(ids))
    return keys[rows], Groups(ids, len(rows))
