"""The Spark job: slices of the master dataset become rows of every view, written once each.

Spark plans, retries and carries; what it carries between the steps is byte strings, a few for each task. Each task takes a
share of the slices and reads it from HDFS itself. Events stay where they are read, because most of the work is to move them:

1. Each task hashes the identities of its events, and sends the hashes on by range of hash.
2. A task that has all hashes of a range writes them as a part of the filters of their days, in one claimed transaction, and
   tells each share which of its hashes others have too.
3. Each task folds the events that share their hash with no other; the few that do are sent on whole, by range of hash.
4. A task that has all such events of a range removes the repeats and folds the rest, and merges rows of some shares.
5. The rows of a view and day are merged and written in one claimed transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
from pyspark import RDD, SparkConf, SparkContext

from batch.archive import Archive
from batch.fold import (
    LEDGER,
    PARTS,
    Hashes,
    day_of,
    filter_of,
    fold,
    fold_alone,
    hashes_by_day,
    in_order,
    merged,
    packed,
    ranges_of,
    shared_hashes,
    split,
    unpacked,
)
from contract.aggregate import columns_read, identity_hashes
from contract.event import EVENT_SCHEMA, REJECT_SCHEMA
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from contract.settings import Settings
from serving.database import connect
from serving.day_filters import write_filters
from serving.handoff import LEDGER_SCHEMA, STORED_VALUE_BYTES, write_task

_SUSPECTS = "suspects"
# A task holds that many of what it works on in memory: an event takes some hundred bytes, a hash 24.
_TASK_EVENTS = 500_000
_TASK_HASHES = 4_000_000
_TASK_SHARES = 32
_WRITERS_PER_CORE = 16

Share = Sequence[Slice]
Sent = tuple[int, Any]
"""The number of the task that is to have it, and what it is."""


@dataclass(frozen=True)
class Found:
    """How many records a range of offsets has, and the days of its events; rejects have none."""

    offsets: OffsetRange
    records: int
    days: tuple[date, ...]


@dataclass(frozen=True)
class DayCounts:
    """How the events of one day and partition were judged."""

    day: date
    partition: int
    counted: int
    duplicate: int


def context(settings: Settings) -> SparkContext:
    """Spark on settings.spark_master."""
    return SparkContext.getOrCreate(SparkConf().setAppName("braid batch").setMaster(settings.spark_master))


def survey(spark: SparkContext, settings: Settings, dataset: str, slices: Sequence[Slice]) -> list[Found]:
    """What is in each slice of MASTER or QUARANTINE, in their order."""
    return _of_each_share(spark, slices, partial(survey_share, settings, dataset)).collect() if slices else []


def read_rejects(spark: SparkContext, settings: Settings, slices: Sequence[Slice]) -> pl.DataFrame:
    """The rejects of slices of QUARANTINE, their values cut to what the database stores."""
    if not slices:
        return pl.DataFrame(schema=REJECT_SCHEMA)
    return pl.concat(map(unpacked, _of_each_share(spark, slices, partial(reject_share, settings)).collect()))


def compute(
    spark: SparkContext, settings: Settings, run_id: int, slices: Sequence[Slice], days: Sequence[date], with_filters: bool
) -> list[DayCounts]:
    """Write the rows of every view under the run, one claimed task a day and view; returns how events were judged.

    The slices hold all events of the days below the run's cut, and others, which are left out. The filters of the days are
    written too if the speed layer is to ask them.
    """
    if not days:
        return []
    reader = Reader(settings, frozenset(days))
    shares, cores = shared_out(slices, _tasks(spark, slices)), spark.defaultParallelism
    ranges = max(cores, -(-_offsets(slices) // _TASK_HASHES))
    hashes = spark.parallelize(list(enumerate(shares)), len(shares)).flatMap(partial(send_hashes, reader, ranges))
    filters = Filters(settings, run_id, ranges) if with_filters else None
    answers = hashes.partitionBy(ranges, int).mapPartitionsWithIndex(partial(send_answers, filters))
    answers = answers.partitionBy(len(shares), int)
    # Asked for already here, because it decides into how many ranges the suspects are dealt out; nothing is done twice.
    suspects = sum(answers.map(_count).collect())
    groups = max(cores, -(-suspects // _TASK_EVENTS), len(shares) // _TASK_SHARES)
    rows = answers.mapPartitionsWithIndex(partial(send_folded, reader, shares, groups)).partitionBy(groups, int)
    places = [(day, part) for day in days for part in PARTS]
    writers = min(len(places), cores * _WRITERS_PER_CORE)
    rows = rows.mapPartitions(partial(send_merged, {place: number % writers for number, place in enumerate(places)}))
    return rows.partitionBy(writers, int).mapPartitions(partial(write, settings, run_id)).collect()


@dataclass(frozen=True)
class Reader:
    """Reads events of some days."""

    settings: Settings
    days: Collection[date]

    def frames(self, slices: Iterable[Slice], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """These columns of the events of each slice that are on one of the days; event_time must be one of them."""
        archive, wanted = Archive(self.settings), pl.Series(sorted(self.days), dtype=pl.Date)
        for piece in slices:
            events = _read(archive, MASTER, piece, columns)
            yield events.filter(pl.col("event_time").dt.date().is_in(wanted.implode()))


@dataclass(frozen=True)
class Filters:
    """Writes the day filters of a run, each in as many parts as there are ranges of hashes."""

    settings: Settings
    run_id: int
    ranges: int

    def write(self, number: int, hashes: Mapping[date, Hashes]) -> None:
        """Write part `number` of the filters of some days, in one claimed transaction."""
        rate = self.settings.filter_false_positive_rate
        filters = {day: filter_of(some, rate) for day, some in hashes.items()}
        with connect(self.settings, "batch") as connection:
            write_filters(connection, self.run_id, number, self.ranges, filters)


def send_hashes(reader: Reader, ranges: int, numbered: tuple[int, Share]) -> Iterator[Sent]:
    """To each range of hashes: the number of the share, a day, and its hashes of that day."""
    share, slices = numbered
    hashes: dict[date, list[Hashes]] = {}
    for events in reader.frames(slices, ("event_id", "event_time")):
        for day, some in hashes_by_day(events).items():
            hashes.setdefault(day, []).append(some)
    for day, blocks in hashes.items():
        for number, some in enumerate(ranges_of(np.concatenate(blocks), ranges)):
            if len(some):
                yield number, (share, day, some.tobytes())


def send_answers(filters: Filters | None, number: int, sent: Iterable[Sent]) -> Iterator[Sent]:
    """To each share: those of its hashes in range `number` that occur more than once."""
    received: dict[date, list[tuple[int, Hashes]]] = {}
    for _, (share, day, content) in sent:
        received.setdefault(day, []).append((share, np.frombuffer(content, np.uint64)))
    of_days = {day: in_order([hashes for _, hashes in blocks]) for day, blocks in sorted(received.items())}
    if filters and of_days:
        filters.write(number, of_days)
    # Events of one identity are of one day.
    for day, blocks in received.items():
        answers = shared_hashes([hashes for _, hashes in blocks], of_days[day])
        for (share, _), shared in zip(blocks, answers, strict=True):
            if len(shared):
                yield share, shared.tobytes()


def send_folded(reader: Reader, shares: Sequence[Share], groups: int, share: int, sent: Iterable[Sent]) -> Iterator[Sent]:
    """To a group: rows of a share's events that are no repeats; to each group: the suspects among its hashes."""
    columns = columns_read()
    answers = np.frombuffer(b"".join(content for _, content in sent), np.uint64)
    nothing = pl.DataFrame(schema={name: EVENT_SCHEMA[name] for name in columns})
    events = pl.concat([nothing, *reader.frames(shares[share], columns)])
    alone, suspects = split(events, identity_hashes(events), answers, groups)
    del events
    for group, some in enumerate(suspects):
        if len(some):
            yield group, (_SUSPECTS, packed(some))
    for part, rows in fold_alone(alone).items():
        yield share % groups, (part, packed(rows))


def send_merged(writers: dict[tuple[date, str], int], sent: Iterable[Sent]) -> Iterator[Sent]:
    """To each writer: rows of one of PARTS on a day, of all events of the group."""
    parts: dict[str, list[pl.DataFrame]] = {}
    for _, (part, content) in sent:
        parts.setdefault(part, []).append(unpacked(content))
    if suspects := parts.pop(_SUSPECTS, []):
        for part, rows in fold(pl.concat(suspects)).items():
            parts.setdefault(part, []).append(rows)
    for part, frames in parts.items():
        rows_and_day = merged(part, frames).with_columns(day_of(part).alias("of_day"))
        for (day,), rows in rows_and_day.partition_by("of_day", as_dict=True, include_key=False).items():
            yield writers[day, part], (day, part, packed(rows))


def write(settings: Settings, run_id: int, sent: Iterable[Sent]) -> Iterator[DayCounts]:
    """Merge the rows of each view and day and write them as a task of the run; what the ledger has of the day."""
    places: dict[tuple[date, str], list[bytes]] = {}
    for _, (day, part, content) in sent:
        places.setdefault((day, part), []).append(content)
    for (day, part), contents in sorted(places.items()):
        rows = merged(part, map(unpacked, contents))
        views, ledger = ({}, rows) if part == LEDGER else ({part: rows}, pl.DataFrame(schema=LEDGER_SCHEMA))
        with connect(settings, "batch") as connection:
            write_task(connection, run_id, f"day={day} {part}", views, ledger)
        yield from (DayCounts(**row) for row in ledger.iter_rows(named=True))


def survey_share(settings: Settings, dataset: str, slices: Share) -> Iterator[Found]:
    """Of each slice what it holds."""
    archive = Archive(settings)
    for piece in slices:
        records = _read(archive, dataset, piece, ["event_time"] if dataset == MASTER else [])
        days = records["event_time"].dt.date().unique().sort() if dataset == MASTER else []
        yield Found(OffsetRange(piece.file.partition, piece.first_offset, piece.next_offset), len(records), tuple(days))


def reject_share(settings: Settings, slices: Share) -> Iterator[bytes]:
    """The rejects of the slices, packed."""
    archive = Archive(settings)
    columns = REJECT_SCHEMA.names()
    rejects = pl.concat(_read(archive, QUARANTINE, piece, columns) for piece in slices)
    yield packed(rejects.with_columns(pl.col("value").bin.slice(0, STORED_VALUE_BYTES)))


def shared_out(slices: Sequence[Slice], count: int) -> list[list[Slice]]:
    """The slices in at most `count` shares, each in order and of about the same number of offsets."""
    shares: list[list[Slice]] = [[] for _ in range(count)]
    total, before = max(1, _offsets(slices)), 0
    for piece in slices:
        middle = before + (piece.next_offset - piece.first_offset) // 2
        shares[min(count - 1, middle * count // total)].append(piece)
        before += piece.next_offset - piece.first_offset
    return [share for share in shares if share]


def _of_each_share(spark: SparkContext, slices: Sequence[Slice], work: Callable[[Share], Iterable[Any]]) -> RDD[Any]:
    shares = shared_out(slices, _tasks(spark, slices))
    return spark.parallelize(shares, len(shares)).flatMap(work)


def _tasks(spark: SparkContext, slices: Iterable[Slice]) -> int:
    return max(spark.defaultParallelism, -(-_offsets(slices) // _TASK_EVENTS))


def _offsets(slices: Iterable[Slice]) -> int:
    return sum(piece.next_offset - piece.first_offset for piece in slices)


def _count(sent: Sent) -> int:
    return len(sent[1]) // np.dtype(np.uint64).itemsize


def _read(archive: Archive, dataset: str, piece: Slice, columns: Sequence[str]) -> pl.DataFrame:
    """These columns of the slice's rows, and no row of the file that is not in the slice."""
    content = archive.read(piece.file.path(archive.root, dataset))
    rows = pl.read_parquet(BytesIO(content), columns=list(dict.fromkeys(["offset", *columns])))
    # guard: offset filter of overlapping files
    inside = rows.filter(pl.col("offset").is_between(piece.first_offset, piece.next_offset, closed="left"))
    return inside.select(columns or ["offset"])
