"""The Spark job: slices of the master dataset become rows of every view, written once each.

Spark plans, retries and carries; what it carries between the steps is byte strings, a few for each task. Few events are
among them, because most of the work would be to move and to unpack them: each task reads its share of the slices itself,
from the worker's disk if some task of the run on that worker has had the file from HDFS before.

1. Each task finds out what is in its share. The driver chooses the days of the run, and the slices that they need.
2. Each task hashes the identities of its share's events on these days, and sends the hashes on by range.
3. A task that has all hashes of a range writes them as a part of the filters of their days, in one claimed transaction,
   and tells each share which of its hashes others have too.
4. Each task folds the events of its share that have their hash alone; the few others are sent on whole, by range of hash.
5. A task that has all such events of a range removes the repeats and folds the rest, and merges rows of some shares.
6. The rows of a view on a block of days are merged and written in one claimed transaction.

Between two exchanges a step has one Python function: with a cache between two of them Spark would start twice as many
Python processes. So what the driver is to hear is sent to a partition of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from pyspark import Broadcast, SparkConf, SparkContext, TaskContext

from batch.fold import (
    LEDGER,
    Hashes,
    day_of,
    filter_of,
    fold,
    fold_alone,
    in_order,
    merged,
    outputs_of,
    packed,
    ranges_of,
    shared_hashes,
    split,
    unpacked,
    with_rollup,
)
from batch.share import Describer, Found, Share, events_on, files_at_hand, hashes_of, offsets_of, portions, shared_out
from contract import logs
from contract.aggregate import columns_read, identity_hashes
from contract.master import Slice
from contract.settings import Settings, hand_spark_key
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS
from serving.database import connect
from serving.day_filters import write_filters
from serving.handoff import LEDGER_SCHEMA, write_task
from serving.spark_page import is_standalone

_SUSPECTS = "suspects"
_OF_THE_RUN = "braid."
"""How names of local properties begin, which Spark brings to the tasks of a job."""
# A task holds that many of what it works on in memory: an event takes some hundred bytes, a hash 24.
_TASK_EVENTS = 500_000
_TASK_HASHES = 4_000_000
# It folds its events in portions if they are so large, four times as much as usual ones; a file alone may be more.
_TASK_BYTES = 256 << 20
_TASK_SHARES = 32
# Rows that wait to be merged with others; merging takes some three times as much for a while.
_MERGE_BYTES = 32 << 20
_WRITERS_PER_CORE = 16
# A writer holds what is sent to it packed: at most some 40 bytes an event, where hardly two events have a row together.
_WRITER_EVENTS = 4_000_000
# So many events, on average, are on the days of a block: what a transaction costs is shared by thin days.
_BLOCK_EVENTS = 200_000
_BLOCKS_PER_CORE = 4

Sent = tuple[int, Any]
"""The number of the task that is to have it, and what it is."""


@dataclass(frozen=True)
class DayCounts:
    """How the events of one day and partition were judged."""

    day: date
    partition: int
    counted: int
    duplicate: int


def _nobody(tasks: int) -> None:
    """Nobody wants to know."""


def context(settings: Settings) -> SparkContext:
    """Spark on settings.spark_master. What the driver's lines have, those of its tasks have too.

    ConfigurationError if the key for a master of its own is missing.
    """
    if is_standalone(settings):
        hand_spark_key(settings.secret("spark_key"))
    spark = SparkContext.getOrCreate(SparkConf().setAppName("braid batch").setMaster(settings.spark_master))
    for name, value in logs.bound().items():
        spark.setLocalProperty(_OF_THE_RUN + name, str(value))
    return spark


def describe(
    spark: SparkContext, describer: Describer, slices: Sequence[Slice], planned: Callable[[int], None] = _nobody
) -> list[Found]:
    """What is in each of the slices. `planned` is told how many tasks that takes."""
    shares = _shares(spark, slices)
    planned(len(shares))
    found: list[Found] = spark.parallelize(shares, len(shares)).flatMap(describer.describe).collect()
    return found


def compute(
    spark: SparkContext,
    settings: Settings,
    run_id: int,
    slices: Sequence[Slice],
    days: Sequence[date],
    with_filters: bool,
    planned: Callable[[int], None] = _nobody,
    stream: Stream = PAGE_VIEWS,
) -> list[DayCounts]:
    """Write the rows of the stream's views under the run, one claimed task a block of days and view.

    Returns how events were judged. The slices hold all events of the days below the run's cut, and others, which are left
    out. The filters of the days are written too if the speed layer is to ask them. `planned` is told how many tasks that
    takes, and once more when it is known how many events may have copies elsewhere.
    """
    if not days:
        return []
    wanted, cores = frozenset(days), spark.defaultParallelism
    shares = _shares(spark, slices)
    ranges = max(cores, -(-offsets_of(slices) // _TASK_HASHES))
    # Of what is sent back to shares, each has a partition, and the driver the last.
    driver = len(shares)
    blocks = DayBlocks.of(days, max(cores * _BLOCKS_PER_CORE, -(-offsets_of(slices) // _BLOCK_EVENTS)))
    writers = max(cores * _WRITERS_PER_CORE, -(-offsets_of(slices) // _WRITER_EVENTS))
    writers = min(blocks.count * len(outputs_of(stream)), writers)
    least_groups = max(cores, len(shares) // _TASK_SHARES)
    # To hash, to answer, the driver's, to fold and to write; to merge, as many more as there are groups.
    but_groups = driver + ranges + 1 + driver + 1 + writers
    planned(but_groups + least_groups)
    numbered = spark.parallelize(list(enumerate(shares)), driver)
    hashes = numbered.flatMap(partial(send_hashes, settings, stream, wanted, ranges)).partitionBy(ranges, int)
    filters = Filters(settings, run_id, ranges) if with_filters else None
    answers = hashes.mapPartitionsWithIndex(partial(send_answers, filters, driver)).partitionBy(driver + 1, int)
    suspects: int = sum(what for _, what in spark.runJob(answers, list, [driver]))
    groups = max(least_groups, -(-suspects // _TASK_EVENTS))
    planned(but_groups + groups)
    folded = partial(send_folded, settings, stream, spark.broadcast(shares), wanted, groups)
    rows = answers.mapPartitionsWithIndex(folded).partitionBy(groups, int)
    rows = rows.mapPartitions(partial(send_merged, stream, blocks))
    return rows.partitionBy(writers, int).mapPartitions(partial(write, settings, stream, run_id, blocks)).collect()


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


def send_hashes(
    settings: Settings, stream: Stream, days: Collection[date], ranges: int, numbered: tuple[int, Share]
) -> Iterator[Sent]:
    """To each range of hashes: the number of the share, a day, and its hashes of that day."""
    number, share = numbered
    for day, hashes in hashes_of(files_at_hand(settings, stream), share, days).items():
        for place, some in enumerate(ranges_of(hashes, ranges)):
            if len(some):
                yield place, (number, day, some.tobytes())


def send_answers(filters: Filters | None, driver: int, number: int, sent: Iterable[Sent]) -> Iterator[Sent]:
    """To each share: those of its hashes in range `number` that occur more than once. To the driver: how many."""
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
                yield driver, len(shared)


def send_folded(
    settings: Settings,
    stream: Stream,
    shares: Broadcast[Sequence[Share]],
    days: Collection[date],
    groups: int,
    number: int,
    sent: Iterable[Sent],
) -> Iterator[Sent]:
    """To a group: rows of a share's events that are no repeats; to each group: the suspects among its hashes."""
    # What the driver was told has a partition too.
    if number == len(shares.value):
        return
    shared = np.frombuffer(b"".join(content for _, content in sent), np.uint64)
    read = events_on(files_at_hand(settings, stream), shares.value[number], days, columns_read(stream.views))
    # guard: a task folds what fits into memory
    for frames in portions(read, _TASK_BYTES):
        # File by file: all ids at once would have to be copied into one piece first.
        hashes = np.concatenate([identity_hashes(events, stream) for events in frames])
        alone, suspects = split(pl.concat(frames), hashes, shared, groups, stream)
        frames.clear()
        for group, some in enumerate(suspects):
            if len(some):
                yield group, (_SUSPECTS, packed(some))
        for output, rows in fold_alone(alone, stream).items():
            yield number % groups, (output, packed(rows))


@dataclass(frozen=True)
class DayBlocks:
    """Which days are written together. Days that follow each other are in different blocks, since they are as busy.

    That follows from the run's days alone, so a task that is tried again claims what the first try has claimed.
    """

    newest_first: Sequence[date]
    count: int

    @classmethod
    def of(cls, days: Iterable[date], most: int) -> DayBlocks:
        """At most so many, of at least one day each."""
        newest_first = sorted(days, reverse=True)
        return cls(newest_first, min(most, len(newest_first)))

    def number(self, day: pl.Expr) -> pl.Expr:
        """The number of the block that a day of the run is in."""
        numbers = [number % self.count for number in range(len(self.newest_first))]
        return day.replace_strict(self.newest_first, numbers, return_dtype=pl.Int64)

    def name(self, number: int) -> str:
        """What its tasks are called: by its newest day."""
        return f"day={self.newest_first[number]}"


def send_merged(stream: Stream, blocks: DayBlocks, sent: Iterable[Sent]) -> Iterator[Sent]:
    """To the writer of each block and one of outputs_of: rows on its days, of all events of the group.

    Rows that merging does not make fewer are sent on as they come, so what is held follows neither from the group's events
    nor from the length of the history.
    """
    suspects: list[pl.DataFrame] = []
    outputs: dict[str, list[pl.DataFrame]] = {}
    held_bytes = 0.0
    for _, (output, content) in sent:
        frame = unpacked(content)
        if output == _SUSPECTS:
            suspects.append(frame)
            continue
        outputs.setdefault(output, []).append(frame)
        held_bytes += frame.estimated_size()
        # guard: a task merges what fits into memory
        if held_bytes > _MERGE_BYTES:
            rows_of = {output: merged(output, frames, stream) for output, frames in outputs.items()}
            held_bytes = sum(rows.estimated_size() for rows in rows_of.values())
            outputs = {output: [rows] for output, rows in rows_of.items()}
            if held_bytes > _MERGE_BYTES // 2:
                yield from _to_writers(stream, blocks, rows_of.items())
                outputs, held_bytes = {}, 0.0
    if suspects:
        for output, rows in fold(pl.concat(suspects), stream).items():
            outputs.setdefault(output, []).append(rows)
    # One after the other: all at once they would be twice as much.
    yield from _to_writers(stream, blocks, ((output, merged(output, frames, stream)) for output, frames in outputs.items()))


def _to_writers(stream: Stream, blocks: DayBlocks, rows_of: Iterable[tuple[str, pl.DataFrame]]) -> Iterator[Sent]:
    names = outputs_of(stream)
    for output, all_rows in rows_of:
        rows_and_block = all_rows.with_columns(blocks.number(day_of(output)).alias("of_block"))
        for (block,), rows in rows_and_block.partition_by("of_block", as_dict=True, include_key=False).items():
            # One busy day's outputs are written by different tasks.
            yield block * len(names) + names.index(output), (block, output, packed(rows))


def write(settings: Settings, stream: Stream, run_id: int, blocks: DayBlocks, sent: Iterable[Sent]) -> Iterator[DayCounts]:
    """Merge the rows of each block of days and view and write them as a task of the run; what the ledger has of the days."""
    tasks: dict[tuple[int, str], list[bytes]] = {}
    for _, (block, output, content) in sent:
        tasks.setdefault((block, output), []).append(content)
    if not tasks:
        return
    written = 0
    with connect(settings, "batch") as connection:
        for (block, output), contents in sorted(tasks.items()):
            rows = merged(output, map(unpacked, contents), stream)
            views, ledger = (
                ({}, rows) if output == LEDGER else (with_rollup(output, rows, stream), pl.DataFrame(schema=LEDGER_SCHEMA))
            )
            write_task(connection, run_id, f"{blocks.name(block)} {output}", views, ledger)
            written += sum(map(len, views.values()))
            yield from (DayCounts(**row) for row in ledger.iter_rows(named=True))
    _logger_of_task(settings, run_id).info(
        "run %s: a task has written %s rows of %s blocks", run_id, f"{written:,}", len(tasks)
    )


def _logger_of_task(settings: Settings, run_id: int) -> logging.Logger:
    """What a task says is in its executor's stderr. In JSON it has the run's correlation id."""
    logger = logs.begin("batch task", settings)
    if task := TaskContext.get():
        correlation_id = task.getLocalProperty(f"{_OF_THE_RUN}correlation_id")
        logs.bind(correlation_id=correlation_id, run_id=run_id, stage=task.stageId(), task=task.taskAttemptId())
    return logger


def _shares(spark: SparkContext, slices: Sequence[Slice]) -> list[list[Slice]]:
    return shared_out(slices, max(spark.defaultParallelism, -(-offsets_of(slices) // _TASK_EVENTS)))
