"""The Spark job: slices of the master dataset become rows of every view, a day at a time, written once each.

Spark plans, retries and carries; what it carries between the steps is whole frames as Parquet, since a row at a time through
the JVM took longer than all the rest. Each task reads its slices from HDFS itself and deals their events out by (day, shard
of event id), so all copies of an event meet, from whichever partition they came, and one busy day still uses every core.
Each such group is freed of repeats and folded by the kernel. The small partial rows of a day then meet and are merged and
written in one claimed transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from batch.archive import Archive
from contract.aggregate import aggregate, columns_read, first_of_each, merge
from contract.event import EVENT_SCHEMA, REJECT_SCHEMA
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice
from contract.settings import Settings
from contract.sketches.hash import hash_texts
from contract.views import VIEWS
from serving.database import connect
from serving.handoff import STORED_VALUE_BYTES, write_task

_LEDGER = "ledger"
_SHARD_EVENTS = 500_000
_TASK_OFFSETS = 500_000
_FOUND = pa.schema([("slice", pa.int64()), ("records", pa.int64()), ("days", pa.list_(pa.date32()))])
_DEALT = pa.schema([("day", pa.date32()), ("shard", pa.int64()), ("rows", pa.binary())])
_PARTIAL = pa.schema([("day", pa.date32()), ("name", pa.string()), ("rows", pa.binary())])
_DONE = pa.schema([("day", pa.date32()), ("partition", pa.int32()), ("counted", pa.int64()), ("duplicate", pa.int64())])
_FOUND_DDL = "slice bigint, records bigint, days array<date>"
_DEALT_DDL = "day date, shard bigint, rows binary"
_PARTIAL_DDL = "day date, name string, rows binary"
_DONE_DDL = "day date, partition int, counted bigint, duplicate bigint"
_REJECTS_DDL = "rows binary"
_REJECTS = pa.schema([("rows", pa.binary())])


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


def session(settings: Settings) -> SparkSession:
    """A Spark session on settings.spark_master, in UTC."""
    return (
        SparkSession.builder.appName("braid batch")
        .master(settings.spark_master)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )


def survey(spark: SparkSession, settings: Settings, dataset: str, slices: Sequence[Slice]) -> list[Found]:
    """What is in each slice of MASTER or QUARANTINE, in their order."""
    if not slices:
        return []
    rows = _tasks(spark, slices, partial(survey_slices, settings, dataset), _FOUND_DDL).collect()
    found = {row.slice: row for row in rows}
    return [
        Found(
            OffsetRange(piece.file.partition, piece.first_offset, piece.next_offset),
            found[number].records,
            tuple(found[number].days),
        )
        for number, piece in enumerate(slices)
    ]


def read_rejects(spark: SparkSession, settings: Settings, slices: Sequence[Slice]) -> pl.DataFrame:
    """The rejects of slices of QUARANTINE, their values cut to what the database stores."""
    if not slices:
        return pl.DataFrame(schema=REJECT_SCHEMA)
    rows = _tasks(spark, slices, partial(reject_slices, settings), _REJECTS_DDL).collect()
    return pl.concat(_unpacked(row.rows) for row in rows)


def compute(
    spark: SparkSession, settings: Settings, run_id: int, slices: Sequence[Slice], days: Sequence[date]
) -> list[DayCounts]:
    """Write the rows of every view under the run, one claimed task a day; returns how each day's events were judged.

    The slices hold all events of the days below the run's cut, and others, which are left out.
    """
    if not days:
        return []
    # A group is held in memory whole: 490 bytes an event, measured.
    shards = max(spark.sparkContext.defaultParallelism, -(-_offsets(slices) // _SHARD_EVENTS))
    dealt = _tasks(spark, slices, partial(deal_slices, settings, frozenset(days), shards), _DEALT_DDL)
    partials = dealt.groupBy("day", "shard").applyInArrow(fold_group, _PARTIAL_DDL)

    def write(key: tuple[Any, ...], day: pa.Table) -> pa.Table:
        return write_day(settings, run_id, key, day)

    done = partials.groupBy("day").applyInArrow(write, _DONE_DDL)
    return [DayCounts(row.day, row.partition, row.counted, row.duplicate) for row in done.collect()]


def survey_slices(settings: Settings, dataset: str, slices: Iterable[tuple[int, Slice]]) -> pa.Table:
    """Of numbered slices: (slice, records, days)."""
    archive, rows = Archive(settings), []
    for number, piece in slices:
        records = _read(archive, dataset, piece, ["event_time"] if dataset == MASTER else [])
        days = records["event_time"].dt.date().unique().sort().to_list() if dataset == MASTER else []
        rows.append({"slice": number, "records": len(records), "days": days})
    return pa.Table.from_pylist(rows, schema=_FOUND)


def reject_slices(settings: Settings, slices: Iterable[tuple[int, Slice]]) -> pa.Table:
    """The rejects of the slices, packed, one frame a slice."""
    archive, rows = Archive(settings), []
    for _, piece in slices:
        rejects = _read(archive, QUARANTINE, piece, list(REJECT_SCHEMA))
        cut = rejects.with_columns(pl.col("value").bin.slice(0, STORED_VALUE_BYTES))
        rows.append({"rows": _packed(cut.cast(REJECT_SCHEMA))})
    return pa.Table.from_pylist(rows, schema=_REJECTS)


def deal_slices(settings: Settings, days: frozenset[date], shards: int, slices: Iterable[tuple[int, Slice]]) -> pa.Table:
    """The slices' events of these days, packed, with columns_read(), by (day, shard)."""
    archive = Archive(settings)
    columns = columns_read()
    wanted = pl.Series(sorted(days), dtype=pl.Date)
    frames = [_read(archive, MASTER, piece, columns) for _, piece in slices]
    events = pl.concat([pl.DataFrame(schema={name: EVENT_SCHEMA[name] for name in columns}), *frames])
    events = events.with_columns(pl.col("event_time").dt.date().alias("day")).filter(pl.col("day").is_in(wanted.implode()))
    shard = hash_texts(events["event_id"]) % np.uint64(shards)
    dealt = events.with_columns(pl.Series("shard", shard.astype(np.int64))).partition_by(
        "day", "shard", as_dict=True, include_key=False
    )
    rows = [{"day": day, "shard": shard, "rows": _packed(frame)} for (day, shard), frame in dealt.items()]
    return pa.Table.from_pylist(rows, schema=_DEALT)


def fold_events(events: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Partial rows of every view and the ledger of one group of events, repeats among them left out."""
    # guard: dedupe of the batch layer
    distinct = first_of_each(events)
    ledger = (
        events.group_by("partition")
        .agg(pl.len().cast(pl.Int64).alias("received"))
        .join(distinct.group_by("partition").agg(pl.len().cast(pl.Int64).alias("counted")), on="partition", how="left")
        .with_columns(pl.col("counted").fill_null(0))
        .select("partition", "counted", (pl.col("received") - pl.col("counted")).alias("duplicate"))
    )
    return {**aggregate(distinct), _LEDGER: ledger}


def merge_partials(partials: pa.Table) -> dict[str, pl.DataFrame]:
    """The frames of fold_events, merged over the groups of one day."""
    frames: dict[str, list[pl.DataFrame]] = {}
    for name, rows in zip(partials["name"].to_pylist(), partials["rows"].to_pylist(), strict=True):
        frames.setdefault(name, []).append(_unpacked(rows))
    merged = {view.name: merge(view, frames[view.name]) for view in VIEWS}
    merged[_LEDGER] = pl.concat(frames[_LEDGER]).group_by("partition").sum().sort("partition")
    return merged


def fold_group(key: tuple[Any, ...], dealt: pa.Table) -> pa.Table:
    """What deal_slices dealt of one (day, shard) through fold_events: rows (day, name, packed frame)."""
    frames = fold_events(pl.concat(_unpacked(rows) for rows in dealt["rows"].to_pylist()))
    rows = [_packed(frame) for frame in frames.values()]
    return pa.table([[key[0].as_py()] * len(rows), list(frames), rows], schema=_PARTIAL)


def write_day(settings: Settings, run_id: int, key: tuple[Any, ...], partials: pa.Table) -> pa.Table:
    """Merge what fold_group gave for one day and write it as a task of the run; (day, partition, counted, duplicate)."""
    day: date = key[0].as_py()
    rows = merge_partials(partials)
    ledger = rows.pop(_LEDGER).select(pl.lit(day).alias("day"), "partition", "counted", "duplicate")
    with connect(settings, "batch") as connection:
        write_task(connection, run_id, f"day={day}", rows, ledger)
    return ledger.to_arrow().cast(_DONE)


def _tasks(
    spark: SparkSession, slices: Sequence[Slice], work: Callable[[Iterable[tuple[int, Slice]]], pa.Table], ddl: str
) -> DataFrame:
    """`work` on the numbered slices, in tasks of about the same number of offsets."""
    count = max(spark.sparkContext.defaultParallelism, -(-_offsets(slices) // _TASK_OFFSETS))
    shares = shared_out(slices, count)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from work(shares[number]).to_batches()

    return spark.range(0, len(shares), 1, len(shares)).mapInArrow(run, ddl)


def shared_out(slices: Sequence[Slice], count: int) -> list[list[tuple[int, Slice]]]:
    """The numbered slices in at most `count` shares, each in order and of about the same number of offsets; one at least."""
    shares: list[list[tuple[int, Slice]]] = [[] for _ in range(count)]
    total, before = max(1, _offsets(slices)), 0
    for number, piece in enumerate(slices):
        middle = before + (piece.next_offset - piece.first_offset) // 2
        shares[min(count - 1, middle * count // total)].append((number, piece))
        before += piece.next_offset - piece.first_offset
    return [share for share in shares if share] or [[]]


def _offsets(slices: Iterable[Slice]) -> int:
    return sum(piece.next_offset - piece.first_offset for piece in slices)


def _read(archive: Archive, dataset: str, piece: Slice, columns: Sequence[str]) -> pl.DataFrame:
    """These columns of the slice's rows, and no row of the file that is not in the slice."""
    content = archive.read(piece.file.path(archive.root, dataset))
    rows = pl.read_parquet(BytesIO(content), columns=list(dict.fromkeys(["offset", *columns])))
    # guard: offset filter of overlapping files
    inside = rows.filter(pl.col("offset").is_between(piece.first_offset, piece.next_offset, closed="left"))
    return inside.select(columns or ["offset"])


def _packed(frame: pl.DataFrame) -> bytes:
    """The frame as Parquet: Spark copies, spills and sorts these bytes several times, and Arrow's are nine times as many."""
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1, statistics=False)
    return buffer.getvalue()


def _unpacked(content: bytes) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(content))
