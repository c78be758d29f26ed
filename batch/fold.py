"""What the tasks of a run do with events and rows, each in its own process. Nothing here knows Spark, HDFS or the database.

Whether an event is a repeat is settled exactly, though nearly no event is sent to where it could meet another: two records
of one identity have one hash, so an event whose hash no other record has is no repeat. Only the others meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from io import BytesIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.aggregate import aggregate, columns_aggregated, days_of, first_of_each, identity_hashes, merge
from contract.sketches.bloom import BloomFilter, range_width
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS

Hashes = NDArray[np.uint64]

LEDGER = "ledger"
"""The name of the counts beside the views' rows: by day and partition how many events were counted, how many repeats."""
_MARK_BITS = np.uint64(20)
_PARTITION_BITS = 32


def outputs_of(stream: Stream = PAGE_VIEWS) -> tuple[str, ...]:
    """The names of all that a run makes of a stream's events: those of its views, and LEDGER."""
    return (*(view.name for view in stream.views), LEDGER)


def hashes_by_day(events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> dict[date, Hashes]:
    """The hashes of the events' identities."""
    days, hashes = days_of(events, stream), identity_hashes(events, stream)
    # Mostly the events of a file are of few days, one after the other, which this order makes use of.
    order = np.argsort(days, kind="stable")
    different, firsts = np.unique(days[order], return_index=True)
    return dict(zip(different.astype("datetime64[D]").tolist(), np.split(hashes[order], firsts)[1:], strict=True))


def ranges_of(hashes: Hashes, count: int) -> list[Hashes]:
    """The hashes, sorted, in `count` ranges of all possible ones."""
    ordered = np.sort(hashes)
    return np.split(ordered, np.searchsorted(ordered, _bounds(count)))


def in_order(blocks: Sequence[Hashes]) -> Hashes:
    """The hashes of all blocks, sorted."""
    ordered = np.concatenate(blocks)
    ordered.sort()
    return ordered


def shared_hashes(blocks: Sequence[Hashes], ordered: Hashes) -> list[Hashes]:
    """Of each block, all sorted, the hashes that occur more than once in all of them together; as often as it has them."""
    # guard: a hash that two records have is suspected
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    answers = []
    for block in blocks:
        first, after = (np.searchsorted(block, shared, side) for side in ("left", "right"))
        answers.append(np.repeat(shared, after - first))
    return answers


def filter_of(ordered: Hashes, false_positive_rate: float) -> tuple[int, BloomFilter]:
    """How many different ones there are of sorted hashes, and the filter that has just these."""
    different = min(1, len(ordered)) + int(np.count_nonzero(ordered[1:] != ordered[:-1]))
    bloom = BloomFilter.for_members(different, false_positive_rate)
    bloom.add(ordered)
    return different, bloom


def split(
    events: pl.DataFrame, hashes: Hashes, shared: Hashes, count: int, stream: Stream = PAGE_VIEWS
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The events whose hash is not among the shared ones, for `fold_alone`; the others, in `count` ranges of hashes."""
    suspects = _places_of(shared, hashes)
    alone = np.ones(len(events), np.bool_)
    alone[suspects] = False
    groups = np.searchsorted(_bounds(count), hashes[suspects], "right")
    # Ids have done their work, and would be most of what is copied.
    folded = events.select(list(dict.fromkeys(["partition", *columns_aggregated(stream.views)])))
    return folded.filter(alone), [events[suspects[groups == group]] for group in range(count)]


def fold(events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> dict[str, pl.DataFrame]:
    """Partial rows of the stream's views and the ledger of these events, repeats among them left out."""
    # guard: dedupe of the batch layer
    distinct = first_of_each(events, stream)
    return {**aggregate(distinct, stream.views), LEDGER: _ledger(events, distinct, stream)}


def fold_alone(events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> dict[str, pl.DataFrame]:
    """What `fold` gives for events none of which is a repeat."""
    counted = _counts(events, "counted", stream).with_columns(duplicate=pl.lit(0, pl.Int64))
    return {**aggregate(events, stream.views), LEDGER: counted}


def merged(output: str, frames: Iterable[pl.DataFrame], stream: Stream = PAGE_VIEWS) -> pl.DataFrame:
    """Rows of one of outputs_of as one: what `fold` gives for all their events at once, if no two are the same."""
    if output == LEDGER:
        return pl.concat(frames).group_by("day", "partition").sum().sort("day", "partition")
    return merge(stream.view(output), frames)


def with_rollup(name: str, rows: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> dict[str, pl.DataFrame]:
    """All rows of a view on some days, and those by day, if readers have them."""
    rollup = stream.view(name).rollup
    return {name: rows} | ({rollup.name: merge(rollup, [rows])} if rollup else {})


def day_of(output: str) -> pl.Expr:
    """The day of a row of one of outputs_of."""
    return pl.col("day") if output == LEDGER else pl.col("bucket").dt.date()


def packed(frame: pl.DataFrame) -> bytes:
    """The frame as Parquet: Spark copies, spills and sorts these bytes several times, and Arrow's are nine times as many."""
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1, statistics=False)
    return buffer.getvalue()


def unpacked(content: bytes) -> pl.DataFrame:
    """The frame that was packed."""
    return pl.read_parquet(BytesIO(content))


def _bounds(count: int) -> Hashes:
    """Where all but the first of `count` ranges of hashes begin."""
    return np.arange(1, count, dtype=np.uint64) * range_width(count)


def _places_of(wanted: Hashes, hashes: Hashes) -> NDArray[np.int64]:
    """Where in `hashes` any of the wanted ones is."""
    # The wanted ones are few, and most others are told from them by their first bits, a tenth of the time of a search.
    shift = np.uint64(64) - _MARK_BITS
    marked = np.zeros(1 << int(_MARK_BITS), np.bool_)
    marked[wanted >> shift] = True
    candidates = np.flatnonzero(marked[hashes >> shift])
    return candidates[np.isin(hashes[candidates], wanted)]


def _ledger(events: pl.DataFrame, distinct: pl.DataFrame, stream: Stream) -> pl.DataFrame:
    # All events of a day and partition may be repeats of ones in other partitions.
    received, first = _counts(events, "received", stream), _counts(distinct, "counted", stream)
    both = received.join(first, on=["day", "partition"], how="left")
    counted = pl.col("counted").fill_null(0)
    return both.select("day", "partition", counted, (pl.col("received") - counted).alias("duplicate"))


def _counts(events: pl.DataFrame, name: str, stream: Stream) -> pl.DataFrame:
    places = days_of(events, stream) << _PARTITION_BITS | events["partition"].to_numpy()
    different, counts = np.unique(places, return_counts=True)
    days = (different >> _PARTITION_BITS).astype("datetime64[D]")
    partitions = (different & (1 << _PARTITION_BITS) - 1).astype(np.int32)
    return pl.DataFrame({"day": days, "partition": partitions, name: counts})
