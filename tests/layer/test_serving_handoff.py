"""Commit, begin, write, publish, collect: each function's promise, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import polars as pl
import pytest

from contract.aggregate import aggregate
from contract.errors import BraidError, OffsetRefused, RunRefused
from contract.master import OffsetRange
from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, connect
from serving.handoff import (
    Counts,
    Cut,
    Run,
    begin_run,
    collect_garbage,
    commit_range,
    fail_run,
    positions,
    publish,
    write_task,
)
from serving.staging import LEDGER_SCHEMA
from tests.fixtures.pageviews import NO_REJECTS, PAGES, TODAY, Range, events, reject

TOPIC = "pageviews"


@pytest.fixture
def speed(database: Settings) -> Iterator[Connection]:
    with connect(database, "speed") as connection:
        yield connection


@pytest.fixture
def batch(database: Settings) -> Iterator[Connection]:
    with connect(database, "batch") as connection:
        yield connection


@pytest.fixture
def reader(database: Settings) -> Iterator[Connection]:
    with connect(database, "reader") as connection:
        yield connection


def commit(connection: Connection, frame: pl.DataFrame, rejects: pl.DataFrame = NO_REJECTS) -> bool:
    part = Range.of(frame)
    counts = Counts(part.count + len(rejects), part.count, 0)
    return commit_range(connection, part.offsets, part.rows, counts, rejects, TOPIC)


def compute(connection: Connection, run: Run, frame: pl.DataFrame, task_id: str = "all") -> list[date]:
    """What a batch job does: the run's rows and ledger of these events; their days."""
    part = ledger_of(frame)
    write_task(connection, run.run_id, task_id, aggregate(frame), part)
    return part["day"].unique().to_list()


def ledger_of(frame: pl.DataFrame) -> pl.DataFrame:
    """The counts of events without repeats."""
    return frame.group_by(pl.col("event_time").dt.date().alias("day"), "partition").agg(
        pl.len().cast(pl.Int64).alias("counted"), pl.lit(0, pl.Int64).alias("duplicate")
    )


def full_run(connection: Connection, frame: pl.DataFrame, rejects: pl.DataFrame = NO_REJECTS) -> Run:
    run = begin_run(connection, "full")
    every = pl.concat([frame.select("partition", "offset"), rejects.select("partition", "offset")])
    received = {p: every.filter(pl.col("partition") == p).height for p in run.cut}
    publish(connection, run.run_id, compute(connection, run, frame), received, rejects, TOPIC)
    return run


def assert_merged(reader: Connection, frame: pl.DataFrame) -> None:
    """The merged views equal the kernel's rows of these events in every column, sketches byte for byte."""
    for view in VIEWS:
        columns = ", ".join(f"{m.name}::text" if m.sql_type.startswith("hll") else m.name for m in view.measures)
        rows = reader.execute(f"SELECT {', '.join(view.group)}, {columns} FROM {view.name}").fetchall()
        expected = [
            tuple("\\x" + value.hex() if isinstance(value, bytes) else value for value in row)
            for row in aggregate(frame)[view.name].iter_rows()
        ]
        assert sorted(rows, key=lambda row: row[:3]) == sorted(expected, key=lambda row: row[:3])


def ledger(reader: Connection) -> dict[int, dict[str, int]]:
    cursor = reader.execute("SELECT * FROM ledger ORDER BY partition")
    names = [column.name for column in cursor.description or ()]
    return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}


def parts(reader: Connection) -> tuple[int, int]:
    row = reader.execute("SELECT coalesce(sum(batch_views), 0), coalesce(sum(speed_views), 0) FROM page_traffic").fetchone()
    assert row
    return int(row[0]), int(row[1])


def test_commits_add_up_to_the_kernels_rows_of_all_events(speed: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 900)
    for first in range(0, 900, 300):
        assert commit(speed, frame[first : first + 300])
    assert_merged(reader, frame)
    assert positions(speed) == {0: 900, 1: 0, 2: 0, 3: 0}


def test_commits_into_one_row_add_up_with_many_bins(speed: Connection, reader: Connection) -> None:
    # Histograms of more than 20 bins on both sides take another path than a few entries into many.
    frame = events(1, 0, 0, 900).with_columns(
        pl.lit(TODAY).alias("event_time"),
        pl.lit("/").alias("page"),
        (pl.col("offset") * 7.3 + 1).alias("duration_ms"),
    )
    for first in range(0, 900, 300):
        assert commit(speed, frame[first : first + 300])
    assert_merged(reader, frame)


def test_a_repeated_commit_changes_nothing(speed: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 200)
    assert commit(speed, frame)
    assert not commit(speed, frame)
    assert not commit(speed, frame[50:100])
    assert_merged(reader, frame)
    assert ledger(reader)[0]["counted"] == 200


def test_a_commit_that_leaves_a_gap_or_overlaps_is_refused_with_the_offset_to_go_on_from(
    speed: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 400)
    commit(speed, frame[:200])
    for wrong in (frame[300:400], frame[100:300]):
        with pytest.raises(
            OffsetRefused, match=r"commit of partition 0 starts at offset (300|100), .* go on from 200"
        ) as refusal:
            commit(speed, wrong)
        assert refusal.value.next_offset == 200
    assert_merged(reader, frame[:200])


def test_a_partition_that_was_added_later_begins_at_its_first_commit(speed: Connection, reader: Connection) -> None:
    frame = events(1, 7, 0, 50)
    assert commit(speed, frame)
    assert_merged(reader, frame)


def test_two_workers_with_the_same_range_count_it_once(database: Settings, reader: Connection) -> None:
    frame, applied = events(1, 0, 0, 300), []

    def work() -> None:
        with connect(database, "speed") as connection:
            applied.extend(commit(connection, frame[first : first + 50]) for first in range(0, 300, 50))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(applied) == [False] * 12 + [True] * 6
    assert_merged(reader, frame)


def test_rejects_are_quarantined_once_with_the_values_first_4096_bytes(speed: Connection, database: Settings) -> None:
    frame = events(1, 0, 0, 10)
    rejects = pl.concat([reject(0, 10, bytes(range(256)) * 40), reject(0, 11, None), reject(0, 12, b"")])
    part = Range.of(frame)
    offsets = OffsetRange(0, 0, 13)
    for _ in range(2):
        commit_range(speed, offsets, part.rows, Counts(13, 10, 0), rejects, TOPIC)
    with connect(database, "postgres") as owner:
        rows = owner.execute('SELECT "offset", reason, detail, value_bytes, value FROM quarantine ORDER BY 1').fetchall()
    assert rows == [
        (10, "not_json", 'broken, "quoted"', 10_240, bytes(range(256)) * 16),
        (11, "not_json", 'broken, "quoted"', 0, None),
        (12, "not_json", 'broken, "quoted"', 0, b""),
    ]


def test_pages_of_the_greatest_length_are_stored(speed: Connection, reader: Connection) -> None:
    # 2,048 characters of four bytes each are three times what a B-tree entry takes.
    pages = ["".join(chr(0x10000 + (i * 7919 + seed) % 50_000) for i in range(2_048)) for seed in (1, 2)]
    frame = events(1, 0, 0, 20).with_columns(page=pl.Series(pages * 10))
    commit(speed, frame)
    assert_merged(reader, frame)


def test_a_run_takes_over_what_was_committed_without_a_change_to_readers(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = pl.concat([events(1, 0, 0, 300), events(1, 2, 0, 100)])
    for partition in (0, 2):
        commit(speed, frame.filter(pl.col("partition") == partition))
    run = begin_run(batch, "full")
    assert run.cut == {0: Cut(300, 1), 1: Cut(0, 1), 2: Cut(100, 1), 3: Cut(0, 1)}
    assert (run.base, run.base_generation) == ({}, 0)
    later = events(1, 0, 300, 50)
    commit(speed, later)
    everything = pl.concat([frame, later])
    days = compute(batch, run, frame)
    assert_merged(reader, everything)
    assert parts(reader) == (0, 450)
    assert publish(batch, run.run_id, days, {0: 300, 1: 0, 2: 100, 3: 0}, NO_REJECTS, TOPIC) == 1
    assert_merged(reader, everything)
    assert parts(reader) == (400, 50)
    second = begin_run(batch, "incremental")
    assert (second.base, second.base_generation) == (run.cut, 1)


def test_an_incremental_run_replaces_its_days_and_a_full_run_all(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    old = events(1, 0, 0, 200)
    commit(speed, old)
    full_run(batch, old)
    days = sorted(old["event_time"].dt.date().unique())
    new = (
        events(1, 0, 200, 100)
        .filter(pl.col("event_time").dt.date() == days[0])
        .with_columns(offset=pl.int_range(200, 200 + pl.len(), dtype=pl.Int64))
    )
    commit(speed, new)
    everything = pl.concat([old, new])
    run = begin_run(batch, "incremental")
    compute(batch, run, everything.filter(pl.col("event_time").dt.date() == days[0]))
    publish(batch, run.run_id, days[:1], {0: len(everything), 1: 0, 2: 0, 3: 0}, NO_REJECTS, TOPIC)
    assert_merged(reader, everything)
    assert parts(reader) == (len(everything), 0)
    assert ledger(reader)[0]["difference"] == 0
    run = begin_run(batch, "full")
    compute(batch, run, everything.filter(pl.col("event_time").dt.date() == days[0]))
    publish(batch, run.run_id, days[:1], dict.fromkeys(range(4), 0), NO_REJECTS, TOPIC)
    assert_merged(reader, everything.filter(pl.col("event_time").dt.date() == days[0]))


def test_a_task_writes_once(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    run = begin_run(batch, "full")
    days = compute(batch, run, frame)
    assert not write_task(batch, run.run_id, "all", aggregate(frame), pl.DataFrame(schema=LEDGER_SCHEMA))
    publish(batch, run.run_id, days, {0: 100, 1: 0, 2: 0, 3: 0}, NO_REJECTS, TOPIC)
    assert_merged(reader, frame)
    assert ledger(reader)[0]["difference"] == 0


def test_tasks_that_share_days_write_side_by_side(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 800)
    commit(speed, frame)
    run = begin_run(batch, "full")
    days: list[date] = []

    def work(page: str) -> None:
        # Each task has pages of its own; rows of sites are all in the first.
        rows = aggregate(frame.filter(pl.col("page") == page))
        rows["site_traffic"] = aggregate(frame)["site_traffic"] if page == PAGES[0] else rows["site_traffic"].clear()
        part = ledger_of(frame.filter(pl.col("page") == page))
        with connect(database, "batch") as connection:
            assert write_task(connection, run.run_id, page, rows, part)
        days.extend(part["day"])

    with ThreadPoolExecutor(len(PAGES)) as pool:
        list(pool.map(work, PAGES))
    publish(batch, run.run_id, set(days), {0: 800, 1: 0, 2: 0, 3: 0}, NO_REJECTS, TOPIC)
    assert_merged(reader, frame)
    assert parts(reader) == (800, 0)
    assert ledger(reader)[0]["difference"] == 0


def test_of_two_runs_at_once_the_second_is_refused(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    late = begin_run(batch, "full")
    days = compute(batch, late, frame)
    winner = full_run(batch, frame)
    with pytest.raises(RunRefused) as refusal:
        publish(batch, late.run_id, days, dict.fromkeys(range(4), 0), NO_REJECTS, TOPIC)
    assert str(refusal.value) == (
        f"run {late.run_id} was planned on generation 0, but generation 1 (run {winner.run_id}) is live; "
        "nothing was changed, `make batch` starts a new run"
    )
    states = dict(reader.execute("SELECT run_id, state FROM runs").fetchall())
    assert states == {late.run_id: "failed", winner.run_id: "published"}
    assert_merged(reader, frame)


def test_a_run_that_ended_can_neither_write_nor_publish(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    run = begin_run(batch, "full")
    fail_run(batch, run.run_id, "the driver was killed")
    with pytest.raises(RunRefused, match="is failed, not running"):
        compute(batch, run, frame)
    with pytest.raises(RunRefused, match="is failed, not running"):
        publish(batch, run.run_id, [], dict.fromkeys(range(4), 0), NO_REJECTS, TOPIC)
    with pytest.raises(RunRefused, match="run 4711 is unknown, not running"):
        write_task(batch, 4711, "all", aggregate(frame), pl.DataFrame(schema=LEDGER_SCHEMA))
    assert_merged(reader, frame)
    assert reader.execute("SELECT state, error FROM runs").fetchall() == [("failed", "the driver was killed")]


def test_a_publication_names_the_partitions_it_says_nothing_about(batch: Connection) -> None:
    run = begin_run(batch, "full")
    with pytest.raises(RunRefused, match=rf"run {run.run_id} does not say how many records it received of partition 1, 3"):
        publish(batch, run.run_id, [], {0: 0, 2: 0}, NO_REJECTS, TOPIC)


def test_a_run_rescues_a_lagging_speed_layer(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 300)
    commit(speed, frame[:100])
    run = begin_run(batch, "full", {0: 301, 1: 0})
    assert run.cut[0] == Cut(301, 1)
    assert ledger(reader)[0]["in_flight"] == 201
    with pytest.raises(OffsetRefused, match="go on from 301"):
        commit(speed, events(1, 0, 250, 100))
    assert not commit(speed, frame[100:200])
    assert_merged(reader, frame[:100])
    # The run dies; the next one covers what it took over.
    fail_run(batch, run.run_id, "out of memory")
    full_run(batch, frame, reject(0, 300))
    assert_merged(reader, frame)
    state = ledger(reader)[0]
    assert (state["in_flight"], state["difference"], state["received"], state["quarantined"]) == (0, 0, 301, 1)


def test_the_ledger_balances_and_shows_what_is_missing(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 100)
    part = Range.of(frame)
    commit_range(
        speed,
        OffsetRange(0, 0, 110),
        part.rows,
        Counts(108, 100, 5),
        pl.concat(reject(0, offset) for offset in (100, 101, 102)),
        TOPIC,
    )
    assert ledger(reader)[0] == {
        "partition": 0, "next_offset": 110, "batch_next_offset": 0, "in_flight": 0, "received": 108, "counted": 100,
        "duplicate": 5, "quarantined": 3, "difference": 0,
    }  # fmt: skip
    commit_range(speed, OffsetRange(0, 110, 120), {}, Counts(10, 0, 8), NO_REJECTS, TOPIC)
    assert ledger(reader)[0]["difference"] == 2


def test_garbage_goes_and_what_a_rollback_needs_stays(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 500)
    runs = []
    for first in range(0, 500, 100):
        commit(speed, frame[first : first + 100])
        runs.append(full_run(batch, frame[: first + 100]))
    dead = begin_run(batch, "full")
    compute(batch, dead, frame)
    fail_run(batch, dead.run_id, "killed")
    running = begin_run(batch, "full")
    compute(batch, running, frame)
    deleted = collect_garbage(batch, keep_runs=2)
    assert deleted["publications"] == 2
    assert deleted["batch_rows"] > 0
    assert deleted["speed_rows"] > 0
    assert collect_garbage(batch, keep_runs=2) == {"publications": 0, "batch_rows": 0, "speed_rows": 0}
    assert_merged(reader, frame)
    with connect(database, "postgres") as owner:
        kept = {run_id for (run_id,) in owner.execute("SELECT DISTINCT run_id FROM serving.batch_page_traffic")}
        assert kept == {run.run_id for run in (*runs[2:], running)}
        roll_back(owner, 3)
    assert_merged(reader, frame)
    assert parts(reader) == (300, 200)


def roll_back(owner: Connection, generation: int) -> None:
    """Publishes a kept generation again."""
    with owner.transaction():
        owner.execute(
            "INSERT INTO serving.publication SELECT (SELECT max(generation) + 1 FROM serving.publication), run_id "
            "FROM serving.publication WHERE generation = %s",
            [generation],
        )
        owner.execute(
            "INSERT INTO serving.publication_day SELECT (SELECT max(generation) FROM serving.publication), day, run_id "
            "FROM serving.publication_day WHERE generation = %s",
            [generation],
        )


def test_a_run_planned_before_a_rollback_is_refused(database: Settings, speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 200)
    for first in (0, 100):
        commit(speed, frame[first : first + 100])
        full_run(batch, frame[: first + 100])
    run = begin_run(batch, "incremental")
    with connect(database, "postgres") as owner:
        roll_back(owner, 1)
    with pytest.raises(RunRefused, match=r"planned on generation 2, but generation 3"):
        publish(batch, run.run_id, [], dict.fromkeys(range(4), 0), NO_REJECTS, TOPIC)


def test_a_server_that_goes_away_is_named(speed: Connection, database: Settings) -> None:
    with connect(database, "postgres") as owner:
        owner.execute("SELECT pg_terminate_backend(%s)", [speed.info.backend_pid])
    with pytest.raises(
        BraidError, match=rf"TimescaleDB at {database.database_host}:{database.database_port} does not answer"
    ):
        positions(speed)
