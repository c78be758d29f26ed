"""The batch layer on Spark, HDFS and the database: equal to the oracle whatever the files look like."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException

from batch.archive import Archive
from batch.audit import audit
from batch.fold import Hashes, hashes_by_day
from batch.run import Result, computed, run
from contract.errors import ArchiveBehind, ArchiveGap
from contract.event import decode
from contract.master import MASTER, OffsetRange
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from ingest.hdfs import Hdfs
from serving.database import Connection, connect
from serving.day_filters import filtered_days
from serving.handoff import Counts, begin_run, commit_range, fail_run, positions
from speed.day_filters import DayFilters
from speed.dedupe import Identities
from tests.fixtures.archived import PARTITIONS, archive, archive_whole, ends_of, traffic
from tests.fixtures.views import as_the_oracle_has_them, stored_rows
from tests.oracle import Record, expected_rows, pipeline


@pytest.fixture
def batch(database: Settings, archive_root: str) -> Settings:
    """A fresh database and archive; Spark runs inside the test, so no other run's executors are waited for."""
    return replace(database, archive_root=archive_root, spark_master="local[2]", batch_wait_s=1)


def progress(settings: Settings, ends: Sequence[int], starts: Sequence[int] = (0,) * PARTITIONS) -> None:
    """The speed layer has come this far, and has counted nothing: what the views show is the batch part alone."""
    with connect(settings, "speed") as connection:
        positions(connection, PARTITIONS)
        for partition, (start, end) in enumerate(zip(starts, ends, strict=True)):
            rejects = decode(partition, [], [], []).rejects
            commit_range(connection, OffsetRange(partition, start, end), {}, Counts(0, 0, 0), rejects, settings.topic)


def merged(settings: Settings, view: Any) -> list[tuple[Any, ...]]:
    columns = ", ".join((*view.group, *(measure.name for measure in view.measures)))
    with connect(settings, "reader") as connection:
        rows = connection.execute(f"SELECT {columns} FROM {stored_rows(view)} ORDER BY {', '.join(view.group)}").fetchall()
    return as_the_oracle_has_them(view, rows)


def test_rows_equal_the_oracles_with_overlapping_files_and_a_cut_inside_a_file(batch: Settings):
    records = traffic(4_000, seed=3)
    ends = ends_of(records)
    archive(batch, records, 0, *pairwise([0, 100, 400, 401, ends[0]]))
    archive(batch, records, 1, (0, 500), (300, 700), (300, 400), (700, ends[1]))
    archive(batch, records, 2, (0, 10), (0, ends[2]), (10, 200))
    archive(batch, records, 3, (0, ends[3]))
    cut = [ends[0], ends[1] - 50, ends[2] - 1, 333]
    progress(batch, cut)
    done = run(batch, lambda line: None)
    truth = pipeline(record for record in records if record[1] < cut[record[0]])
    for view in with_rollups(VIEWS):
        assert merged(batch, view) == expected_rows(truth, view.name)
    assert (done.received, done.counted, done.duplicate, done.quarantined) == (
        truth.received,
        truth.counted,
        truth.duplicate,
        truth.rejects.total(),
    )
    assert truth.duplicate > 10
    with connect(batch, "reader") as connection:
        assert connection.execute("SELECT sum(difference), sum(in_flight) FROM ledger").fetchall() == [(0, 0)]


def test_when_every_event_has_copies_in_all_partitions_each_counts_once(batch: Settings):
    originals = traffic(1_000, seed=9)
    # Another order in each partition: which copy is the first by offset is not the first of the topic.
    records = [
        (partition, offset, time_ms, value)
        for partition in range(PARTITIONS)
        for offset, (_, _, time_ms, value) in enumerate(random.Random(partition).sample(originals, len(originals)))
    ]
    for partition in range(PARTITIONS):
        archive(batch, records, partition, (0, 300), (300, 1_000))
    progress(batch, [len(originals)] * PARTITIONS)
    done = run(batch, lambda line: None)
    truth = pipeline(records)
    for view in with_rollups(VIEWS):
        assert merged(batch, view) == expected_rows(truth, view.name)
    assert (done.counted, done.duplicate) == (truth.counted, truth.duplicate)
    assert done.duplicate >= (PARTITIONS - 1) * done.counted > 0
    with connect(batch, "reader") as connection:
        assert connection.execute("SELECT sum(difference), sum(in_flight) FROM ledger").fetchall() == [(0, 0)]


def test_an_incremental_run_computes_the_days_that_new_records_are_on_and_equals_a_full_one(batch: Settings):
    records = traffic(6_000, seed=8)
    ends = ends_of(records)
    # From day to day there is less and less that comes late, so each run leaves other days alone.
    days_of_run = []
    before = [0] * PARTITIONS
    for share in (0.5, 0.9, 0.99, 1.0):
        after = [int(end * share) for end in ends]
        for partition in range(PARTITIONS):
            archive(batch, records, partition, (before[partition], after[partition]))
        progress(batch, after, before)
        done = run(batch, lambda line: None)
        truth = pipeline(record for record in records if record[1] < after[record[0]])
        for view in with_rollups(VIEWS):
            assert merged(batch, view) == expected_rows(truth, view.name)
        new = pipeline(record for record in records if before[record[0]] <= record[1] < after[record[0]])
        days = {row[0].date() for row in new.rows["site_traffic"]}
        assert (done.kind, done.days, done.received) == ("incremental", len(days), new.received)
        assert done.counted == sum(
            row.views for (bucket, *_), row in truth.rows["site_traffic"].items() if bucket.date() in days
        )
        days_of_run.append(len(days))
        before = after
    assert days_of_run[-1] < days_of_run[0]
    rows = [merged(batch, view) for view in with_rollups(VIEWS)]
    with connect(batch, "reader") as connection:
        ledger = connection.execute("SELECT * FROM ledger ORDER BY partition").fetchall()
        assert sum(row[-1] for row in ledger) == 0
    assert run(batch, lambda line: None).days == 0
    done = run(batch, lambda line: None, full=True)
    assert (done.kind, done.days, done.received) == ("full", days_of_run[0], truth.received)
    assert [merged(batch, view) for view in with_rollups(VIEWS)] == rows
    with connect(batch, "reader") as connection:
        assert connection.execute("SELECT * FROM ledger ORDER BY partition").fetchall() == ledger


def test_new_records_in_one_partition_meet_old_ones_in_all(batch: Settings):
    """The new share and the old ones are not as many, and repeats of old events are among the new."""
    records = traffic(2_000, seed=8)
    ends = archive_whole(batch, records)
    progress(batch, ends)
    run(batch, lambda line: None)
    again = [(2, ends[2] + number, time_ms, value) for number, (*_, time_ms, value) in enumerate(records[::2])]
    archive(batch, again, 2, (ends[2], ends[2] + len(again)))
    progress(batch, [*ends[:2], ends[2] + len(again), ends[3]], ends)
    done = run(batch, lambda line: None)
    truth = pipeline([*records, *again])
    for view in with_rollups(VIEWS):
        assert merged(batch, view) == expected_rows(truth, view.name)
    assert (done.kind, done.received, done.duplicate) == ("incremental", len(again), truth.duplicate)


def test_a_run_reads_a_file_from_hdfs_in_its_first_step_and_never_again(batch: Settings):
    records = traffic(2_000, seed=7)
    ends = ends_of(records)
    for partition, end in enumerate(ends):
        archive(batch, records, partition, (0, end // 2), (end // 2, end))
    progress(batch, ends)
    deleted = []

    def say(line: str) -> None:
        if ": computing " in line:
            for file in (file for files in Archive(batch).files(MASTER).values() for file in files):
                Hdfs(batch.webhdfs_url).delete(file.path(batch.archive_root, MASTER))
                deleted.append(file)

    run(batch, say)
    assert len(deleted) == 2 * PARTITIONS
    truth = pipeline(records)
    for view in with_rollups(VIEWS):
        assert merged(batch, view) == expected_rows(truth, view.name)


def test_a_worker_does_not_look_for_garbage_among_its_modules_after_each_task():
    def tracked(_: int) -> int:
        import gc

        import polars  # noqa: F401 what the collector would have to look through

        return len(gc.get_objects())

    settings = {"spark.master": "local[1]", "spark.app.name": "tests", "spark.python.daemon.module": "batch.daemon"}
    spark = SparkContext(conf=SparkConf().setAll(settings.items()))
    try:
        first, second = (spark.parallelize([0], 1).map(tracked).collect()[0] for _ in range(2))
    finally:
        spark.stop()
    assert second < first / 10


def test_spark_has_ended_when_its_result_was_used_whatever_happens(batch: Settings):
    records = traffic(100, seed=6)
    end = ends_of(records)[0]
    archive(batch, records, 0, (0, end))
    progress(batch, [end, 0, 0, 0])
    with connect(batch, "batch") as connection:
        run_id = begin_run(connection, "full").run_id

    def compute() -> AbstractContextManager[Result]:
        cut = {0: end, 1: 0, 2: 0, 3: 0}
        return computed(batch, Archive(batch), run_id, cut, {}, lambda line: None, with_filters=False)

    def use() -> None:
        with compute() as result:
            assert result.received.total() == end
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert SparkContext._active_spark_context is None
    with connect(batch, "batch") as connection:
        fail_run(connection, run_id, "the run is refused now")
    with pytest.raises((PySparkException, Py4JError), match="is failed, not running"), compute():
        raise AssertionError
    assert SparkContext._active_spark_context is None


def test_filters_hold_exactly_the_events_of_the_days_below_the_cut_and_an_audit_writes_none(batch: Settings):
    batch = replace(batch, dedupe_false_positive_rate=1e-12)
    records = traffic(4_000, seed=3)
    ends = ends_of(records)
    before = [0] * PARTITIONS
    for cut in ([end // 2 for end in ends], ends):
        for partition in range(PARTITIONS):
            # The files go beyond the cut.
            archive(batch, records, partition, (before[partition], min(ends[partition], cut[partition] + 7)))
        progress(batch, cut, before)
        done = run(batch, lambda line: None)
        below = hashes_by_day(events_of([record for record in records if record[1] < cut[record[0]]]))
        above = hashes_by_day(events_of([record for record in records if record[1] >= cut[record[0]]]))
        with connect(batch, "speed") as connection, connect(batch, "reader") as reader:
            live = {day: written.run_id for day, written in filtered_days(connection).filters.items()}
            counts = dict(reader.execute("SELECT day, events FROM replay_cover").fetchall())
            assert counts == {day: len(np.unique(hashes)) for day, hashes in below.items()}
            assert live.keys() == below.keys()
            for most_bytes in (1, 1 << 20):
                days = live_filters(connection, most_bytes)
                for day in live:
                    assert found(days, day, below[day]).all()
                    assert not found(days, day, np.setdiff1d(above.get(day, below[day]), below[day])).any()
        assert sum(run_id == done.run_id for run_id in live.values()) == done.days
        before = cut
    filters = "SELECT run_id, day, part, events FROM serving.day_filter ORDER BY 1, 2, 3"
    with connect(batch, "postgres") as owner:
        written = owner.execute(filters).fetchall()
        assert audit(batch, lambda line: None, "recompute").ok
        assert owner.execute(filters).fetchall() == written


def events_of(records: list[Record]) -> pl.DataFrame:
    """The valid ones."""
    frames = []
    for partition in range(PARTITIONS):
        inside = [record for record in records if record[0] == partition]
        frames.append(decode(partition, [r[1] for r in inside], [r[2] for r in inside], [r[3] for r in inside]).events)
    return pl.concat(frames)


def live_filters(connection: Connection, most_bytes: int) -> DayFilters:
    days = DayFilters.of_database(lambda: connection, most_bytes, print)
    days.refresh()
    return days


def found(days: DayFilters, day: date, hashes: Hashes) -> NDArray[np.bool_]:
    number = (day - date(1970, 1, 1)).days
    return days.repeats(Identities(np.arange(len(hashes)), hashes, np.full(len(hashes), number)))


def test_a_gap_is_named_and_the_run_fails(batch: Settings, topic: Settings):
    # Whether the archive may still come to the cut, Kafka's end says: that of a topic of its own.
    batch = replace(batch, topic=topic.topic)
    records = traffic(400, seed=4)
    archive(batch, records, 0, (0, 20), (30, 50))
    progress(batch, [50, 0, 0, 0])
    # The archive ends at the gap, so its end never comes; that is said instead of publishing without the rest.
    with pytest.raises(ArchiveBehind, match="partition 0 ends at 20 but the cut is 50"):
        run(batch, lambda line: None)
    with connect(batch, "reader") as connection:
        assert connection.execute("SELECT state FROM runs").fetchall() == [("failed",)]


def test_nothing_archived_is_an_empty_publication(batch: Settings):
    assert run(batch, lambda line: None).received == 0
    assert all(merged(batch, view) == [] for view in with_rollups(VIEWS))


def test_a_run_rescues_a_speed_layer_that_is_far_behind(batch: Settings):
    records = traffic(400, seed=5)
    ends = archive_whole(batch, records)
    said: list[str] = []
    run(replace(batch, rescue_offsets=300), said.append)
    assert "the speed layer is 400 offsets behind the archive: this run takes them over" in said
    truth = pipeline(records)
    for view in with_rollups(VIEWS):
        assert merged(batch, view) == expected_rows(truth, view.name)
    with connect(batch, "speed") as connection:
        assert [at.next_offset for at in positions(connection, PARTITIONS).values()] == ends
    with connect(batch, "reader") as connection:
        assert connection.execute("SELECT count(*) FROM quarantine").fetchall() == [(truth.rejects.total(),)]


def test_an_abandoned_run_is_no_obstacle(batch: Settings):
    records = traffic(200, seed=6)
    end = ends_of(records)[0]
    archive(batch, records, 0, (0, end))
    progress(batch, [end, 0, 0, 0])
    with connect(batch, "batch") as connection:
        fail_run(connection, begin_run(connection, "full").run_id, "killed")
    run(batch, lambda line: None)
    truth = pipeline(record for record in records if record[0] == 0)
    assert merged(batch, VIEWS[0]) == expected_rows(truth, VIEWS[0].name)


def test_a_missing_file_is_a_gap(batch: Settings):
    records = traffic(400, seed=7)
    archive(batch, records, 0, (0, 20), (20, 40), (40, 60))
    Hdfs(batch.webhdfs_url).delete(OffsetRange(0, 20, 40).path(batch.archive_root, MASTER))
    with pytest.raises(ArchiveGap, match=r"partition 0 lacks offsets \[20, 40\)"):
        Archive(batch).slices({0: 60, 1: 0, 2: 0, 3: 0})
