"""Batch runs: begin, write, publish, collect; each function's promise, on a real database."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import polars as pl
import psycopg
import pytest

from contract.errors import OffsetRefused, RunRefused
from contract.master import OffsetRange
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from serving.database import Connection, connect, one_row
from serving.handoff import LEDGER_SCHEMA, Cut, Run, begin_run, collect_garbage, fail_run, publish, vacuum, write_task
from serving.rollback import rollback
from serving.row_arrays import view_rows
from tests.fixtures.eventually import eventually
from tests.fixtures.handoff import TOPIC, assert_merged, batch_rows, commit, compute, full_run, ledger, ledger_of, parts
from tests.fixtures.pageviews import PAGES, events, reject


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
    assert publish(batch, run.run_id, days, {0: 300, 1: 0, 2: 100, 3: 0}, [], TOPIC) == 1
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
    publish(batch, run.run_id, days[:1], {0: len(everything), 1: 0, 2: 0, 3: 0}, [], TOPIC)
    assert_merged(reader, everything)
    assert parts(reader) == (len(everything), 0)
    assert ledger(reader)[0]["difference"] == 0
    run = begin_run(batch, "full")
    compute(batch, run, everything.filter(pl.col("event_time").dt.date() == days[0]))
    publish(batch, run.run_id, days[:1], dict.fromkeys(range(4), 0), [], TOPIC)
    assert_merged(reader, everything.filter(pl.col("event_time").dt.date() == days[0]))


def test_a_task_writes_once(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    run = begin_run(batch, "full")
    days = compute(batch, run, frame)
    assert not write_task(batch, run.run_id, "all", batch_rows(frame), pl.DataFrame(schema=LEDGER_SCHEMA))
    publish(batch, run.run_id, days, {0: 100, 1: 0, 2: 0, 3: 0}, [], TOPIC)
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
        # Each task has pages of its own; rows that are not of a page are all in the first.
        rows = batch_rows(frame.filter(pl.col("page") == page))
        for name in (view.name for view in with_rollups(VIEWS) if "page" not in view.keys):
            rows[name] = batch_rows(frame)[name] if page == PAGES[0] else rows[name].clear()
        part = ledger_of(frame.filter(pl.col("page") == page))
        with connect(database, "batch") as connection:
            assert write_task(connection, run.run_id, page, rows, part)
        days.extend(part["day"])

    with ThreadPoolExecutor(len(PAGES)) as pool:
        list(pool.map(work, PAGES))
    publish(batch, run.run_id, set(days), {0: 800, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    assert_merged(reader, frame)
    assert parts(reader) == (800, 0)
    assert ledger(reader)[0]["difference"] == 0


def test_a_task_that_waits_for_a_table_holds_no_day_that_others_need(
    database: Settings, speed: Connection, batch: Connection, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = events(1, 0, 0, 200)
    commit(speed, frame)
    run = begin_run(batch, "full")
    of_one_site = pl.col("site") == "demo"
    many, few = batch_rows(frame), batch_rows(frame.filter(~of_one_site))
    many["site_traffic"] = batch_rows(frame.filter(of_one_site))["site_traffic"]
    # Its first rows are in the table that the other comes to last, and whose first chunk it makes.
    few = {"site_traffic": few["site_traffic"]}
    ledgers = [ledger_of(frame.filter(of_one_site)), ledger_of(frame.filter(~of_one_site))]
    with connect(database, "batch") as slow, connect(database, "batch") as quick, connect(database, "postgres") as owner:

        def the_quick_one_ended_or_waits() -> None:
            blocking = owner.execute("SELECT pg_blocking_pids(%s)", [quick.info.backend_pid]).fetchone()
            assert written.done() or blocking == ([slow.info.backend_pid],)

        def slowly(connection: Connection, part: dict[str, pl.DataFrame]) -> object:
            if connection is slow and "site_traffic" in part:
                begins.set()
                eventually(the_quick_one_ended_or_waits, within_s=30)
            return view_rows(connection, part)

        begins = threading.Event()
        monkeypatch.setattr("serving.handoff.view_rows", slowly)
        with ThreadPoolExecutor(1) as pool:

            def write_quickly() -> bool:
                assert begins.wait(60)
                return write_task(quick, run.run_id, "quick", few, ledgers[1])

            written = pool.submit(write_quickly)
            assert write_task(slow, run.run_id, "slow", many, ledgers[0])
            assert written.result()
    days = {*ledgers[0]["day"], *ledgers[1]["day"]}
    publish(batch, run.run_id, days, {0: 200, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    assert_merged(reader, frame)
    assert ledger(reader)[0]["difference"] == 0


def test_a_partition_that_comes_while_a_run_waits_to_begin_is_counted_once(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, first, second = events(1, 0, 0, 100), events(2, 7, 0, 100), events(2, 7, 100, 100)
    is_counted, may_end = threading.Event(), threading.Event()

    def count_the_new_one(connection: Connection) -> None:
        commit(connection, first)
        with connection.transaction():
            commit(connection, second)
            is_counted.set()
            may_end.wait(60)

    with connect(database, "speed") as other, connect(database, "postgres") as owner, ThreadPoolExecutor(2) as pool:

        def blocking(waiting: Connection) -> list[int]:
            query = "SELECT unnest(pg_blocking_pids(%s))"
            return [pid for (pid,) in owner.execute(query, [waiting.info.backend_pid])]

        def the_run_waits_for(holder: Connection) -> None:
            assert begun.done() or holder.info.backend_pid in blocking(batch)

        def the_new_one_waits_or_is_counted() -> None:
            assert is_counted.is_set() or blocking(other)

        try:
            with speed.transaction():
                commit(speed, frame)
                begun = pool.submit(begin_run, batch, "full")
                eventually(lambda: the_run_waits_for(speed), within_s=30)
                counted = pool.submit(count_the_new_one, other)
                eventually(the_new_one_waits_or_is_counted, within_s=30)
            assert is_counted.wait(60)
            eventually(lambda: the_run_waits_for(other), within_s=30)
        finally:
            may_end.set()
        counted.result()
        run = begun.result()
    # As a worker does that has not heard that its commit came through.
    assert not commit(speed, second)
    everything = pl.concat([frame, first, second])
    assert_merged(reader, everything)
    cut = {partition: point.next_offset for partition, point in run.cut.items()}
    below = everything.filter(pl.col("offset") < pl.col("partition").replace_strict(cut, default=0))
    publish(batch, run.run_id, compute(batch, run, below), cut, [], TOPIC)
    assert_merged(reader, everything)


def test_of_two_runs_at_once_the_second_is_refused(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    late = begin_run(batch, "full")
    days = compute(batch, late, frame)
    winner = full_run(batch, frame)
    with pytest.raises(RunRefused) as refusal:
        publish(batch, late.run_id, days, dict.fromkeys(range(4), 0), [], TOPIC)
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
    with pytest.raises(RunRefused, match=r"is failed, not running \(the driver was killed\); nothing was changed"):
        compute(batch, run, frame)
    with pytest.raises(RunRefused, match="is failed, not running"):
        publish(batch, run.run_id, [], dict.fromkeys(range(4), 0), [], TOPIC)
    with pytest.raises(RunRefused, match="run 4711 is unknown, not running"):
        write_task(batch, 4711, "all", batch_rows(frame), pl.DataFrame(schema=LEDGER_SCHEMA))
    assert_merged(reader, frame)
    assert reader.execute("SELECT state, error FROM runs").fetchall() == [("failed", "the driver was killed")]


def test_a_publication_names_the_partitions_it_says_nothing_about(batch: Connection) -> None:
    run = begin_run(batch, "full")
    with pytest.raises(RunRefused, match=rf"run {run.run_id} does not say how many records it received of partition 1, 3"):
        publish(batch, run.run_id, [], {0: 0, 2: 0}, [], TOPIC)


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
    assert collect_garbage(batch, keep_runs=2) == {"publications": 0, "batch_rows": 0, "speed_rows": 0, "view_versions": 0}
    assert_merged(reader, frame)
    vacuum(batch)
    with connect(database, "postgres") as owner:
        kept = {run_id for (run_id,) in owner.execute("SELECT DISTINCT run_id FROM serving.batch_page_traffic")}
        assert kept == {run.run_id for run in (*runs[2:], running)}
        # Vacuumed, and analysed: readers do not visit what was deleted.
        for view in VIEWS:
            rows, known = one_row(
                owner,
                f"SELECT (SELECT count(*) FROM serving.speed_{view.name}), reltuples FROM pg_class WHERE oid = %s::regclass",  # type: ignore[arg-type]
                [f"serving.speed_{view.name}"],
            )
            assert 0 < rows == known, view.name
    rollback(batch, runs[2].run_id)
    assert_merged(reader, frame)
    assert parts(reader) == (300, 200)


def test_of_a_run_the_days_that_nobody_needs_go_together_and_those_between_them_stay(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 700, days=7)
    commit(speed, frame)
    first = full_run(batch, frame)
    days = sorted(frame["event_time"].dt.date().unique())
    anew = [days[1], days[2], days[4], days[6]]
    second = begin_run(batch, "incremental")
    compute(batch, second, frame.filter(pl.col("event_time").dt.date().is_in(anew)))
    publish(batch, second.run_id, anew, {p: 700 * (p == 0) for p in second.cut}, [], TOPIC)
    batch.execute("SELECT serving.prune_publications(0)")
    names = [*(f"batch_{view.name}" for view in with_rollups(VIEWS)), "batch_ledger", "run_day"]
    with connect(database, "postgres") as owner:

        def held(run: Run) -> set[tuple[date, ...]]:
            """The days that each table has of the run."""
            column = dict.fromkeys(names[:-2], "(bucket AT TIME ZONE 'UTC')::date")
            queries = (f"SELECT DISTINCT {column.get(n, 'day')} FROM serving.{n} WHERE run_id = {run.run_id}" for n in names)
            return {tuple(sorted(day for (day,) in owner.execute(query.encode()))) for query in queries}

        # As many as have fewer events, and one at least.
        events_of = frame.group_by(pl.col("event_time").dt.date().alias("day")).len().sort("day")["len"].to_list()
        collect = "SELECT serving.collect_run_days(%s) > 0"
        assert one_row(batch, collect, [1]) == (True,)
        assert held(first) == {(days[0], *days[2:])}
        assert one_row(batch, collect, [events_of[2] + 1]) == (True,)
        assert held(first) == {(days[0], days[3], *days[5:])}
        assert one_row(batch, collect, [1_000]) == (True,)
        assert one_row(batch, collect, [1_000]) == (None,)
        assert held(first) == {(days[0], days[3], days[5])}
        assert held(second) == {tuple(anew)}
        # How many events are on the days of a run that was broken off, nobody knows.
        dead = begin_run(batch, "full")
        write_task(batch, dead.run_id, "all", batch_rows(frame), pl.DataFrame(schema=LEDGER_SCHEMA))
        fail_run(batch, dead.run_id, "killed")
        for _ in days:
            assert one_row(batch, collect, [1_000]) == (True,)
        assert one_row(batch, collect, [1_000]) == (None,)
    assert_merged(reader, frame)


def test_a_task_and_rejects_of_several_arguments_are_written_whole_or_not_at_all(
    database: Settings, speed: Connection, batch: Connection, reader: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.handoff._ARGUMENT_ROWS", 7)
    frame = events(1, 0, 0, 300)
    rejects = pl.concat(reject(0, offset) for offset in range(300, 320))
    commit(speed, frame)
    run = begin_run(batch, "full", {0: 320})
    rows = batch_rows(frame)
    assert len(rows["site_traffic"]) > 3 * 7
    broken = rows["site_traffic"].with_columns(
        bytes_sent=pl.when(pl.int_range(pl.len()) == 20).then(None).otherwise("bytes_sent")
    )
    with pytest.raises(psycopg.errors.NotNullViolation):
        write_task(batch, run.run_id, "all", rows | {"site_traffic": broken}, ledger_of(frame))
    with connect(database, "postgres") as owner:
        for table in (*(f"batch_{name}" for name in rows), "batch_ledger", "run_task", "run_day"):
            assert owner.execute(f"SELECT count(*) FROM serving.{table}".encode()).fetchone() == (0,), table
    days = compute(batch, run, frame)
    assert not write_task(batch, run.run_id, "all", rows, ledger_of(frame))
    publish(batch, run.run_id, days, {0: 320, 1: 0, 2: 0, 3: 0}, [(OffsetRange(0, 0, 320), rejects)], TOPIC)
    assert_merged(reader, frame)
    state = ledger(reader)[0]
    assert (state["counted"], state["quarantined"], state["difference"]) == (300, 20, 0)
