"""Commits of the speed layer: each function's promise, on a real database."""

from __future__ import annotations

import threading

import polars as pl
import pytest

from contract.errors import BraidError, OffsetRefused
from contract.master import OffsetRange
from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, connect
from serving.handoff import Counts, begin_run, collect_garbage, commit_range, merge_appended, positions, publish
from serving.rollback import rollback
from tests.fixtures.handoff import TOPIC, assert_merged, commit, compute, full_run, ledger
from tests.fixtures.pageviews import NO_REJECTS, TODAY, Range, events, reject


def test_commits_add_up_to_the_kernels_rows_of_all_events(speed: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 900)
    for first in range(0, 900, 300):
        assert commit(speed, frame[first : first + 300])
    assert_merged(reader, frame)
    assert {p: at.next_offset for p, at in positions(speed).items()} == {0: 900, 1: 0, 2: 0, 3: 0}


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


def test_merged_rows_are_one_a_key_and_epoch_and_change_no_view(
    speed: Connection, batch: Connection, reader: Connection, database: Settings
) -> None:
    frame = events(1, 0, 0, 900)
    for first in range(0, 900, 100):
        if first == 500:
            run = begin_run(batch, "full")
        commit(speed, frame[first : first + 100])
    assert merge_appended(speed, 1, least_rows=1) == 0
    assert merge_appended(speed, 0, least_rows=100_000) == 0
    merge_appended(speed, 0, least_rows=2)
    with connect(database, "postgres") as owner:
        for view in VIEWS:
            rows = owner.execute(f"SELECT epoch, {', '.join(view.group)} FROM serving.speed_{view.name}".encode()).fetchall()
            assert len(rows) == len(set(rows)), view.name
    assert_merged(reader, frame)
    more = events(2, 0, 900, 100)
    commit(speed, more)
    merge_appended(speed, 0, least_rows=2)
    assert_merged(reader, pl.concat([frame, more]))
    # What was committed before the run began is the run's from now on, and what came after is not.
    days = compute(batch, run, frame[:500])
    publish(batch, run.run_id, days, {0: 500, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    assert_merged(reader, pl.concat([frame, more]))


def test_a_call_merges_no_more_rows_than_it_may_and_the_next_one_goes_on(
    speed: Connection, reader: Connection, database: Settings
) -> None:
    frame = events(1, 0, 0, 900)
    for first in range(0, 900, 100):
        commit(speed, frame[first : first + 100])
    with connect(database, "postgres") as owner:

        def rows() -> int:
            row = owner.execute("SELECT count(*) FROM serving.speed_site_traffic").fetchone()
            assert row
            return int(row[0])

        before = rows()
        assert before > 60
        taken = [merge_appended(speed, 0, least_rows=2, most_rows=50) or 0]
        assert before - 50 <= rows() <= before
        while taken[-1] == 50:
            taken.append(merge_appended(speed, 0, least_rows=2, most_rows=50) or 0)
            assert_merged(reader, frame)
    assert len(taken) > 3
    assert max(taken) == 50
    merge_appended(speed, 0, least_rows=1)
    assert_merged(reader, frame)


def test_a_merge_beside_another_one_does_nothing_and_does_not_wait_for_it(
    speed: Connection, reader: Connection, database: Settings
) -> None:
    frame = events(1, 0, 0, 300)
    for first in range(0, 300, 100):
        commit(speed, frame[first : first + 100])
    # One that waits ends with an error.
    speed.execute("SET lock_timeout = '10s'")
    with connect(database, "speed") as other, other.transaction():
        assert merge_appended(other, 1, least_rows=1) == 0
        assert merge_appended(speed, 0, least_rows=1) is None
        assert_merged(reader, frame)
    assert merge_appended(speed, 0, least_rows=1)
    assert_merged(reader, frame)


def test_rows_that_the_live_run_has_absorbed_are_not_merged_until_a_rollback_needs_them(
    speed: Connection, batch: Connection, reader: Connection, database: Settings
) -> None:
    frame = events(1, 0, 0, 300)
    with connect(database, "postgres") as owner:

        def merged_epochs() -> list[int]:
            query = "SELECT epoch FROM serving.speed_page_traffic GROUP BY epoch HAVING min(level) > 0 ORDER BY epoch"
            return [epoch for (epoch,) in owner.execute(query)]

        for first in (0, 100):
            commit(speed, frame[first : first + 100])
            full_run(batch, frame[: first + 100])
        assert merge_appended(speed, 0, least_rows=1) == 0
        commit(speed, frame[200:])
        merge_appended(speed, 0, least_rows=1)
        assert merged_epochs() == [3]
        rollback(batch)
        merge_appended(speed, 0, least_rows=1)
        assert merged_epochs() == [2, 3]
    assert_merged(reader, frame)


def test_rows_are_merged_while_others_commit_and_garbage_is_collected(
    batch: Connection, reader: Connection, database: Settings
) -> None:
    frame = events(1, 0, 0, 600)

    def merge() -> None:
        with connect(database, "speed") as connection:
            while positions(connection)[0].next_offset < 600:
                merge_appended(connection, 0, least_rows=1)

    def collect() -> None:
        with connect(database, "batch") as connection:
            while positions(connection)[0].next_offset < 600:
                collect_garbage(connection, 1)

    others = [threading.Thread(target=work) for work in (merge, merge, collect)]
    for other in others:
        other.start()
    with connect(database, "speed") as speed:
        for first in range(0, 600, 20):
            commit(speed, frame[first : first + 20])
    for other in others:
        other.join()
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
        quarantined = 'SELECT "offset", reason, detail, value_bytes, value FROM serving.quarantined ORDER BY 1'
        rows = owner.execute(quarantined).fetchall()
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
        "duplicate": 5, "quarantined": 3, "difference": 0, "lost": 0, "forgotten": 0,
    }  # fmt: skip
    commit_range(speed, OffsetRange(0, 110, 120), {}, Counts(10, 0, 8), NO_REJECTS, TOPIC)
    assert ledger(reader)[0]["difference"] == 2


def test_a_server_that_goes_away_is_named(speed: Connection, database: Settings) -> None:
    with connect(database, "postgres") as owner:
        owner.execute("SELECT pg_terminate_backend(%s)", [speed.info.backend_pid])
    with pytest.raises(
        BraidError, match=rf"TimescaleDB at {database.database_host}:{database.database_port} is shutting down, or some"
    ):
        positions(speed)


def test_a_writer_that_stands_still_in_mid_transaction_does_not_keep_its_locks(speed: Connection, batch: Connection) -> None:
    for writer in (speed, batch):
        assert writer.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("15s",)
        assert writer.execute("SHOW tcp_user_timeout").fetchone() == ("20000",)  # ms
