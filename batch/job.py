"""The Spark job: slices of the master dataset become rows of every view, a day at a time, written once each.

Two steps. Events are grouped by (day, shard of event id), so all copies of an event meet, from whichever partition they
came, and one busy day still uses every core: each group is freed of repeats and folded by the kernel. The small partial
rows of a day then meet and are merged and written in one claimed transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contract.aggregate import aggregate, columns_read, first_of_each, merge
from contract.event import EVENT_SCHEMA, REJECT_SCHEMA
from contract.master import OffsetRange, Slice
from contract.settings import Settings
from contract.views import VIEWS
from serving.database import connect
from serving.handoff import write_task
from serving.staging import STORED_VALUE_BYTES

_LEDGER = "ledger"
_SHARD_EVENTS = 500_000
_PARTIAL = pa.schema([("day", pa.date32()), ("name", pa.string()), ("rows", pa.binary())])
_DONE = pa.schema([("day", pa.date32()), ("partition", pa.int32()), ("counted", pa.int64()), ("duplicate", pa.int64())])
_PARTIAL_DDL = "day date, name string, rows binary"
_DONE_DDL = "day date, partition int, counted bigint, duplicate bigint"


@dataclass(frozen=True)
class DayCounts:
    """How the events of one day and partition were judged."""

    day: date
    partition: int
    counted: int
    duplicate: int


def session(settings: Settings) -> SparkSession:
    """A Spark session on settings.spark_master, in UTC, with Arrow between JVM and Python."""
    return (
        SparkSession.builder.appName("braid batch")
        .master(settings.spark_master)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", 100_000)
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )


def read_slices(
    spark: SparkSession, slices: Sequence[Slice], url: Callable[[OffsetRange], str], columns: Sequence[str]
) -> DataFrame:
    """The rows of the slices, each offset once although files may overlap; only `columns` are read."""
    wanted = spark.createDataFrame(
        [(piece.file.partition, piece.file.file_name, piece.first_offset, piece.next_offset) for piece in slices],
        "file_partition int, file_name string, first_offset bigint, next_offset bigint",
    )
    rows = spark.read.parquet(*(url(piece.file) for piece in slices))
    inside = (
        (rows["partition"] == wanted["file_partition"])
        & (F.col("_metadata.file_name") == wanted["file_name"])
        # guard: offset filter of overlapping files
        & (rows["offset"] >= wanted["first_offset"])
        & (rows["offset"] < wanted["next_offset"])
    )
    return rows.join(F.broadcast(wanted), inside).select(*(rows[column] for column in columns))


def read_rejects(rows: DataFrame, first_offsets: Mapping[int, int]) -> pl.DataFrame:
    """The rejects from first_offsets on, by partition, their values cut to what the database stores."""
    first = F.create_map(*(F.lit(item) for pair in first_offsets.items() for item in pair))
    cut = rows.withColumn("value", F.substring("value", 1, STORED_VALUE_BYTES))
    wanted = cut.where(F.col("offset") >= first[F.col("partition")]).select(*REJECT_SCHEMA)
    return pl.DataFrame(pl.from_arrow(wanted.toArrow())).cast(REJECT_SCHEMA)


def count_records(rows: DataFrame) -> Counter[int]:
    """How many records there are, by partition."""
    return Counter({row["partition"]: row["count"] for row in rows.groupBy("partition").count().collect()})


def compute(events: DataFrame, settings: Settings, run_id: int, offsets: int) -> list[DayCounts]:
    """Write the rows of every view under the run, one claimed task a day; returns how each day's events were judged.

    `offsets` is about how many events there are, at most: a group is held in memory whole (490 bytes an event, measured).
    """
    shards = max(events.sparkSession.sparkContext.defaultParallelism, -(-offsets // _SHARD_EVENTS))
    partials = (
        events.withColumn("day", F.to_date("event_time"))
        .withColumn("shard", F.pmod(F.xxhash64("event_id"), F.lit(shards)))
        .groupBy("day", "shard")
        .applyInArrow(fold_group, _PARTIAL_DDL)
    )

    def write(key: tuple[Any, ...], day: pa.Table) -> pa.Table:
        return write_day(settings, run_id, key, day)

    done = partials.groupBy("day").applyInArrow(write, _DONE_DDL)
    return [DayCounts(row.day, row.partition, row.counted, row.duplicate) for row in done.collect()]


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
        frames.setdefault(name, []).append(pl.read_ipc_stream(BytesIO(rows)))
    merged = {view.name: merge(view, frames[view.name]) for view in VIEWS}
    merged[_LEDGER] = pl.concat(frames[_LEDGER]).group_by("partition").sum().sort("partition")
    return merged


def fold_group(key: tuple[Any, ...], group: pa.Table) -> pa.Table:
    """Of one (day, shard), with columns_read(): fold_events as rows (day, name, Arrow stream)."""
    events = pl.DataFrame(pl.from_arrow(group)).select(columns_read())
    frames = fold_events(events.cast({column: EVENT_SCHEMA[column] for column in events.columns}))
    rows = [_stream_of(frame) for frame in frames.values()]
    return pa.table([[key[0].as_py()] * len(rows), list(frames), rows], schema=_PARTIAL)


def write_day(settings: Settings, run_id: int, key: tuple[Any, ...], partials: pa.Table) -> pa.Table:
    """Merge what fold_group gave for one day and write it as a task of the run; (day, partition, counted, duplicate)."""
    day: date = key[0].as_py()
    rows = merge_partials(partials)
    ledger = rows.pop(_LEDGER).select(pl.lit(day).alias("day"), "partition", "counted", "duplicate")
    with connect(settings, "batch") as connection:
        write_task(connection, run_id, f"day={day}", rows, ledger)
    return ledger.to_arrow().cast(_DONE)


def _stream_of(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()
