"""The kernel: events become partial rows of every view, partial rows become one. The only such code in Python.

Rows come sorted by bucket and keys, so equal content is an equal frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contract.columns import column_of, integers, texts
from contract.groups import Groups
from contract.keys import Key
from contract.sketches.hash import hash_texts
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS
from contract.view import View

# Marking the codes that occur is faster than sorting them unless they are this many times as far apart as they are many.
_SPARSE_TIMES = 64
_MOST_CODES = 1 << 62
# Keys have few different values, and a table for few stays in the processor's nearest cache; it grows if there are more.
_FEW_SLOTS = 1 << 10
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = timedelta(days=1) // _MICROSECOND
_TIME = pa.timestamp("us", "UTC")


def columns_read(views: Sequence[View] = PAGE_VIEWS.views) -> list[str]:
    """The event's columns that first_of_each and aggregate need, without repeats; the views are of one stream."""
    return list(dict.fromkeys(["partition", "offset", *_stream_of(views).identity, *columns_aggregated(views)]))


def columns_aggregated(views: Sequence[View] = PAGE_VIEWS.views) -> list[str]:
    """The event's columns that aggregate needs, without repeats; the views are of one stream."""
    needed = [_stream_of(views).time]
    for view in views:
        needed += (key.field for key in view.grouped_by)
        needed += (column for measure in view.measures for column in measure.reads)
    return list(dict.fromkeys(needed))


def identity_hashes(events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> NDArray[np.uint64]:
    """A hash of each event's identity, shape (n,): the same in every process and on every machine.

    Two records are the same event if the day of their time and their identity are the same. Such records share a hash;
    others nearly never do.
    """
    from contract.loops import murmur

    hashes = hash_texts(stream.identities(events))
    murmur.mix_in(days_of(events, stream), hashes)
    return hashes


def days_of(events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> NDArray[np.int64]:
    """The UTC day of each event's time, in days since 1970, shape (n,)."""
    return integers(events[stream.time]) // _DAY_US


def first_of_each(events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> pl.DataFrame:
    """The events without repeats: of each identity the one first by (partition, offset); sorted so."""
    from contract.loops import grouping

    in_order = events if _is_in_order(events) else events.sort("partition", "offset")
    # Nearly all identities are different, so the table has its full size from the start.
    slots = 2 << len(events).bit_length()
    identities = texts(stream.identities(in_order))
    _, firsts = grouping.number(days_of(in_order, stream), *identities, grouping.keys(), slots)
    if len(firsts) == len(in_order):
        return in_order
    kept = np.zeros(len(in_order), np.bool_)
    kept[firsts] = True
    return in_order.filter(kept)


def _stream_of(views: Sequence[View]) -> Stream:
    """The one that all are of."""
    stream = views[0].of_stream
    for view in views:
        # In another process a stream is another object of the same name.
        is_same = view.stream is stream or view.of_stream.name == stream.name
        assert is_same, f"views of {stream.name} and {view.of_stream.name} are not made of the same events"
    return stream


def _is_in_order(events: pl.DataFrame) -> bool:
    partitions, offsets = events["partition"].to_numpy(), events["offset"].to_numpy()
    steps, further = np.diff(partitions), np.diff(offsets) >= 0
    return bool(((steps > 0) | ((steps == 0) & further)).all())


class _Column(ABC):
    """A column that rows are grouped by: codes of shape (n,), in [0, below), that sort as its values do."""

    def __init__(self, codes: NDArray[np.int64], below: int) -> None:
        self.codes, self.below = codes, below

    @abstractmethod
    def take(self, name: str, rows: NDArray[np.int64]) -> pl.Series:
        """The values of these rows."""


class _Buckets(_Column):
    def __init__(self, times: NDArray[np.int64], width: timedelta) -> None:
        self._width_us = width // _MICROSECOND
        self._numbers = times // self._width_us
        first, last = (self._numbers.min(), self._numbers.max()) if len(times) else (0, 0)
        super().__init__(self._numbers - first, int(last - first) + 1)

    def take(self, name: str, rows: NDArray[np.int64]) -> pl.Series:
        return column_of(name, _TIME, self._numbers[rows] * self._width_us)


class _Texts(_Column):
    def __init__(self, column: pl.Series) -> None:
        from contract.loops import grouping

        self._content, self._bounds = texts(column)
        numbers, firsts = _numbered(self._content, self._bounds)
        ranks = np.empty(len(firsts), np.int64)
        ranks[numbers[grouping.sort(self._content, self._bounds, firsts)]] = np.arange(len(firsts))
        super().__init__(ranks[numbers], max(1, len(firsts)))

    def take(self, name: str, rows: NDArray[np.int64]) -> pl.Series:
        from contract.loops import grouping

        return column_of(name, pa.large_string(), *grouping.take(self._content, self._bounds, rows))


class _Derived(_Column):
    """What a key derives from texts. Each different text is derived once: events share them, and to derive takes longest."""

    def __init__(self, column: pl.Series, derive: Callable[[pl.Series], pl.Series]) -> None:
        from contract.loops import grouping

        content, bounds = texts(column)
        self._numbers, firsts = _numbered(content, bounds)
        different = column_of("", pa.large_string(), *grouping.take(content, bounds, firsts))
        self._derived = _Texts(derive(different))
        # guard: each event has the host of its own referrer
        super().__init__(self._derived.codes[self._numbers], self._derived.below)

    def take(self, name: str, rows: NDArray[np.int64]) -> pl.Series:
        return self._derived.take(name, self._numbers[rows])


def _numbered(content: NDArray[np.uint8], bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of the different texts each is, and where each of those is first."""
    from contract.loops import grouping

    nothing_else = np.zeros(len(bounds) - 1, np.int64)
    return grouping.number(nothing_else, content, bounds, grouping.keys(), _FEW_SLOTS)


def _key_column(key: Key, events: pl.DataFrame) -> _Column:
    column = events[key.field]
    return _Derived(column, key.derive) if key.is_of_texts else _Texts(key.derive(column))


def aggregate(events: pl.DataFrame, views: Sequence[View] = PAGE_VIEWS.views) -> dict[str, pl.DataFrame]:
    """Partial rows of each view, by its name, with the view's schema; the events must be free of repeats.

    All views are of the events' stream.
    """
    times = integers(events[_stream_of(views).time])
    # Views share keys and measures; what the events bring to one is found out once.
    grouped_by = {key.name: key for view in views for key in view.grouped_by}
    keys = {name: _key_column(key, events) for name, key in grouped_by.items()}
    measures = {id(measure): measure for view in views for measure in view.measures}
    items = {number: measure.items(events) for number, measure in measures.items()}
    rows = {}
    for view in views:
        distinct, groups = _grouped({"bucket": _Buckets(times, view.bucket)} | {key: keys[key] for key in view.keys})
        rows[view.name] = pl.DataFrame(distinct + [measure.fold(items[id(measure)], groups) for measure in view.measures])
    return rows


def merge(view: View, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts as one: what aggregate would have given for all their events at once."""
    rows = pl.concat([pl.DataFrame(schema=view.schema), *parts])
    buckets = _Buckets(integers(rows["bucket"]), view.bucket)
    distinct, groups = _grouped({"bucket": buckets} | {key: _Texts(rows[key]) for key in view.keys})
    return pl.DataFrame(distinct + [measure.merge(rows[measure.name], groups) for measure in view.measures])


def _grouped(columns: Mapping[str, _Column]) -> tuple[list[pl.Series], Groups]:
    """The different rows, sorted, as columns, and which of them each row is."""
    (_, first), *others = columns.items()
    codes, below = first.codes, first.below
    for _, column in others:
        if below > _MOST_CODES // column.below:
            codes, below = _dense(codes, below)
        codes, below = codes * column.below + column.codes, below * column.below
    ids, count = _dense(codes, below)
    rows = np.empty(count, np.int64)
    rows[ids] = np.arange(len(ids))
    return [column.take(name, rows) for name, column in columns.items()], Groups(ids, count)


def _dense(codes: NDArray[np.int64], below: int) -> tuple[NDArray[np.int64], int]:
    """The rank of each of the codes, all in [0, below), among the different ones, and how many those are."""
    if below > _SPARSE_TIMES * len(codes) + _SPARSE_TIMES:
        different, ranks = np.unique(codes, return_inverse=True)
        return ranks, len(different)
    present = np.zeros(below, np.bool_)
    present[codes] = True
    return (np.cumsum(present) - 1)[codes], int(np.count_nonzero(present))
