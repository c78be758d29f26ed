"""The kernel: events become partial rows of every view, partial rows become one. The only such code in Python.

Rows come sorted by bucket and keys, so equal content is an equal frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow.compute as pc
from numpy.typing import NDArray

from contract.columns import integers, texts
from contract.measures import Groups
from contract.views import VIEWS, View

IDENTITY = ("event_day", "event_id")
"""What makes two records the same event: its id and the day of its time."""
# Marking the numbers that occur is faster than sorting them unless they are this many times as far apart as they are many.
_SPARSE_TIMES = 64
_DAY_US = 86_400_000_000


def columns_read(views: Sequence[View] = VIEWS) -> list[str]:
    """The event's columns that first_of_each and aggregate need, without repeats."""
    needed = ["partition", "offset", "event_id", "event_time"]
    for view in views:
        needed += view.keys
        needed += (column for measure in view.measures for column in measure.reads)
    return list(dict.fromkeys(needed))


event_day = pl.col("event_time").dt.date().alias("event_day")
"""The day of an event, which is no column of it."""


def identity_hashes(events: pl.DataFrame) -> NDArray[np.uint64]:
    """A hash of each event's identity, shape (n,): the same in every process and on every machine.

    Events of one identity share it; events that share it nearly always are of one identity.
    """
    return identity_halves(events)[:, 0].copy()


def identity_halves(events: pl.DataFrame) -> NDArray[np.uint64]:
    """identity_hashes, and as many bits more, shape (n, 2)."""
    # Imported late: Numba takes more than a second to load, and whoever only plans work needs no loops.
    from contract.sketches import murmur

    halves = np.empty((len(events), 2), np.uint64)
    murmur.hash_all(*texts(events["event_id"]), halves)
    murmur.mix_in(integers(events["event_time"]) // _DAY_US, halves)
    return halves


def first_of_each(events: pl.DataFrame) -> pl.DataFrame:
    """The events without repeats: of each identity the one first by (partition, offset); sorted so."""
    in_order = events if _is_in_order(events) else events.sort("partition", "offset")
    hashes = in_order.select(pl.struct(event_day, "event_id").hash()).to_series().to_numpy()
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(shared):
        return in_order
    # Only events that share a hash with another can be repeats; whether they are, the identities themselves tell.
    suspects = np.flatnonzero(np.isin(hashes, shared))
    firsts = (
        in_order[suspects]
        .select(event_day, "event_id")
        .with_row_index("row")
        .unique(subset=IDENTITY, keep="first", maintain_order=True)["row"]
    )
    kept = np.ones(len(in_order), np.bool_)
    kept[np.delete(suspects, firsts.to_numpy())] = False
    return in_order.filter(kept)


def _is_in_order(events: pl.DataFrame) -> bool:
    partitions, offsets = events["partition"].to_numpy(), events["offset"].to_numpy()
    steps, further = np.diff(partitions), np.diff(offsets) >= 0
    return bool(((steps > 0) | ((steps == 0) & further)).all())


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
    ids, count = np.zeros(len(keys), np.int64), 1
    columns = []
    # Distinct values are few, so only they are sorted: ten times as fast as sorting rows.
    for column in keys:
        encoded = column.to_arrow().dictionary_encode()
        ranks = np.empty(len(encoded.dictionary), np.int64)
        ranks[pc.array_sort_indices(encoded.dictionary)] = np.arange(len(ranks))
        ids, count = _dense(ids * len(ranks) + ranks[encoded.indices], count * len(ranks))
        columns.append((column.name, encoded))
    rows = np.empty(count, np.int64)
    rows[ids] = np.arange(len(ids))
    distinct = [pl.Series(name, column.dictionary.take(column.indices.take(rows))) for name, column in columns]
    return pl.DataFrame(distinct), Groups(ids, count)


def _dense(numbers: NDArray[np.int64], below: int) -> tuple[NDArray[np.int64], int]:
    """The rank of each of the numbers, all in [0, below), among the different ones, and how many those are."""
    if below > _SPARSE_TIMES * len(numbers) + _SPARSE_TIMES:
        different, ranks = np.unique(numbers, return_inverse=True)
        return ranks, len(different)
    present = np.zeros(below, np.bool_)
    present[numbers] = True
    return (np.cumsum(present) - 1)[numbers], int(np.count_nonzero(present))
