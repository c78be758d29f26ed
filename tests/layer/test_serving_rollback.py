"""Earlier runs: what is told of them, going back to one, and reading from one."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import polars as pl
import psycopg
import pytest

from contract.errors import RollbackRefused, RunRefused
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from serving.__main__ import main
from serving.database import Connection, connect
from serving.handoff import begin_run, collect_garbage, end_audit, fail_run, publish
from serving.migrate import migrate
from serving.rollback import rollback
from tests.fixtures.handoff import TOPIC, assert_merged, batch_rows, commit, compute, full_run, ledger, parts
from tests.fixtures.pageviews import events, reject
from tests.fixtures.views import stored_rows

KEPT = '; nothing was changed, `make query SQL="select * from runs where is_kept"` shows the kept runs'


def history(speed: Connection, batch: Connection, runs: int = 3) -> tuple[pl.DataFrame, list[int]]:
    """100 events a run, and 100 after the last one; the numbers of the runs."""
    frame = pl.concat(events(1, 0, first, 100) for first in range(0, 100 * runs + 100, 100))
    run_ids = []
    for first in range(0, 100 * runs, 100):
        commit(speed, frame[first : first + 100])
        run_ids.append(full_run(batch, frame[: first + 100]).run_id)
    commit(speed, frame[100 * runs :])
    return frame, run_ids


def as_of(reader: Connection, run_id: int) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every view as of a run, without the columns that say which half it came from."""
    return {view.name: rows_of(reader, stored_rows(view, run_id), view.schema.names()) for view in with_rollups(VIEWS)}


def rows_of(reader: Connection, source: str, columns: list[str]) -> list[tuple[object, ...]]:
    return sorted(reader.execute(f"SELECT {', '.join(columns)} FROM {source}".encode()).fetchall(), key=str)


def test_runs_tells_what_each_run_was(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame, (first, second) = history(speed, batch, 2)
    dead = begin_run(batch, "incremental")
    compute(batch, dead, frame[:1])
    fail_run(batch, dead.run_id, "killed")
    audited = begin_run(batch, "audit")
    days = compute(batch, audited, frame)
    end_audit(batch, audited.run_id)
    query = "SELECT run_id, kind, state, cut, days, rows, events, is_kept, is_live, error FROM runs ORDER BY run_id"
    told = {row[0]: row[1:] for row in reader.execute(query)}
    rows = {run: sum(map(len, batch_rows(frame[: run * 100]).values())) for run in (1, 2, 3)}
    assert told == {
        first: ("full", "published", cut(100), len(days), rows[1], 100, True, False, None),
        second: ("full", "published", cut(200), len(days), rows[2], 200, True, True, None),
        dead.run_id: ("incremental", "failed", cut(300), None, None, None, False, False, "killed"),
        audited.run_id: ("audit", "audited", cut(300), len(days), rows[3], 300, False, False, None),
    }
    assert all(seconds > 0 for (seconds,) in reader.execute("SELECT extract(epoch FROM duration) FROM runs"))


def test_a_rollback_before_anything_was_ever_counted_fills_nothing(empty_database: Settings) -> None:
    migrate(empty_database)
    with connect(empty_database, "batch") as batch:
        first, second = (full_run(batch, events(0, 0, 0, 1).clear()).run_id for _ in range(2))
        done = rollback(batch)
    assert (done.run_id, done.before_run_id, done.filled) == (first, second, ())


def cut(next_offset: int) -> dict[str, int]:
    return {"0": next_offset, "1": 0, "2": 0, "3": 0}


def test_a_rollback_moves_the_seam_back_and_changes_no_count(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, (first, second, third) = history(speed, batch)
    collect_garbage(batch, keep_runs=2)
    assert parts(reader) == (300, 100)
    done = rollback(batch)
    assert (done.generation, done.run_id, done.before_run_id) == (4, second, third)
    assert done.text().splitlines() == [
        f"run {second} is live in place of run {third}, as generation 4",
        "partition 0: batch rows below offset 200, speed rows from there up to 400",
        *(f"partition {p}: batch rows below offset 0, speed rows from there up to 0" for p in (1, 2, 3)),
    ]
    assert_merged(reader, frame)
    assert parts(reader) == (200, 200)
    assert ledger(reader)[0]["difference"] == 0
    rollback(batch, first)
    assert parts(reader) == (100, 300)
    rollback(batch, third)
    assert_merged(reader, frame)
    assert parts(reader) == (300, 100)
    assert reader.execute("SELECT run_id FROM runs WHERE is_live").fetchall() == [(third,)]


def test_numbers_of_a_wrong_run_are_gone_at_once_and_the_next_run_goes_on_from_there(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, _ = history(speed, batch, 2)
    wrong = begin_run(batch, "full")
    days = compute(batch, wrong, frame.with_columns(pl.col("bytes_sent") * 2))
    publish(batch, wrong.run_id, days, {0: 300, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    (doubled,) = reader.execute("SELECT sum(bytes_sent) FROM site_traffic").fetchone() or (0,)
    assert doubled == 2 * frame["bytes_sent"].sum()
    rollback(batch)
    assert_merged(reader, frame)
    run = begin_run(batch, "incremental")
    assert run.base[0].next_offset == 200
    compute(batch, run, frame)
    publish(batch, run.run_id, days, {0: 300, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    assert_merged(reader, frame)
    assert parts(reader) == (300, 0)


def test_garbage_collection_keeps_runs_and_not_publications(speed: Connection, batch: Connection) -> None:
    _, (first, second, third) = history(speed, batch)
    for run_id in (second, third, second, third):
        rollback(batch, run_id)
    # The three runs have seven publications; two of the runs are kept besides the live one.
    assert collect_garbage(batch, keep_runs=2)["publications"] == 4
    rollback(batch, first)
    assert collect_garbage(batch, keep_runs=1)["publications"] == 2
    with pytest.raises(RollbackRefused, match=rf"run {second} is not kept; kept are {first}, {third}"):
        rollback(batch, second)


def test_a_run_planned_before_a_rollback_is_refused(speed: Connection, batch: Connection) -> None:
    frame, _ = history(speed, batch, 2)
    run = begin_run(batch, "incremental")
    rollback(batch)
    compute(batch, run, frame)
    with pytest.raises(RunRefused, match=r"planned on generation 2, but generation 3"):
        publish(batch, run.run_id, [], dict.fromkeys(range(4), 0), [], TOPIC)


def test_runs_that_cannot_be_brought_back_are_named_with_the_reason(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    def refused(run_id: int | None = None) -> str:
        with pytest.raises(RollbackRefused) as refusal:
            rollback(batch, run_id)
        return str(refusal.value).removesuffix(KEPT)

    assert refused() == "no run before is kept"
    assert refused(1) == "run 1 is not kept; kept is none"
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    run_id = full_run(batch, frame).run_id
    assert refused() == f"no run before run {run_id}, the live one, is kept"
    assert refused(run_id) == f"run {run_id} is live already"
    assert refused(4711) == f"run 4711 is not kept; kept are {run_id}"
    with pytest.raises(psycopg.DatabaseError, match=f"run 4711 is not kept; kept are {run_id}"):
        as_of(reader, 4711)
    assert_merged(reader, frame)


def test_what_speed_rows_cannot_fill_is_refused_with_the_range(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, (first, second, third) = history(speed, batch)
    with connect(database, "postgres") as owner:
        owner.execute("DELETE FROM serving.speed_ledger WHERE partition = 0 AND epoch = 2")
        owner.execute("DELETE FROM serving.speed_page_traffic WHERE partition = 0 AND epoch = 2")
    missing = f"run {first} cannot answer: after its cut there are no speed rows of offsets [100, 200) of partition 0"
    with pytest.raises(RollbackRefused) as refusal:
        rollback(batch, first)
    assert str(refusal.value) == missing + KEPT
    with pytest.raises(psycopg.DatabaseError) as refused:
        as_of(reader, first)
    assert refused.value.diag.message_primary == missing
    assert_merged(reader, frame)
    rollback(batch, second)
    assert_merged(reader, frame)
    rollback(batch, third)


def test_a_run_before_one_that_took_offsets_over_is_refused_with_the_range(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 300)
    commit(speed, frame[:100])
    first = full_run(batch, frame[:100]).run_id
    rescue = begin_run(batch, "full", {0: 201})
    fail_run(batch, rescue.run_id, "out of memory")
    # Nobody has the offsets now, and going back to no run would take them away.
    assert ledger(reader)[0]["in_flight"] == 101
    second = full_run(batch, frame[:200], reject(0, 200)).run_id
    commit(speed, frame[200:].with_columns(pl.col("offset") + 1))
    with pytest.raises(RollbackRefused, match=rf"run {first} .* no speed rows of offsets \[100, 201\) of partition 0"):
        rollback(batch)
    assert_merged(reader, frame)
    third = full_run(batch, frame, reject(0, 200)).run_id
    rollback(batch)
    assert reader.execute("SELECT run_id FROM runs WHERE is_live").fetchall() == [(second,)]
    rollback(batch, third)
    assert ledger(reader)[0]["in_flight"] == 0


def test_an_earlier_run_answers_with_what_it_computed_and_all_that_came_since(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    _, run_ids = history(speed, batch)
    now = {view.name: rows_of(reader, stored_rows(view), view.schema.names()) for view in with_rollups(VIEWS)}
    for count, run_id in enumerate(run_ids, 1):
        assert as_of(reader, run_id) == now
        halves = reader.execute(f"SELECT sum(batch_views), sum(speed_views) FROM page_traffic_as_of({run_id})".encode())
        assert halves.fetchone() == (100 * count, 400 - 100 * count)
    rollback(batch, run_ids[0])
    for run_id in run_ids:
        assert as_of(reader, run_id) == now


def test_a_days_rows_of_an_incremental_run_are_those_of_the_run_that_computed_them_last(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    old = events(1, 0, 0, 100)
    commit(speed, old)
    first = full_run(batch, old).run_id
    newest = old["event_time"].dt.date().max()
    new = events(1, 0, 100, 100).with_columns(
        pl.col("event_time").dt.replace(year=newest.year, month=newest.month, day=newest.day)
    )
    commit(speed, new)
    frame = pl.concat([old, new])
    run = begin_run(batch, "incremental")
    days = compute(batch, run, frame.filter(pl.col("event_time").dt.date() == newest))
    assert days == [newest]
    publish(batch, run.run_id, days, {0: 200, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    now = {view.name: rows_of(reader, stored_rows(view), view.schema.names()) for view in with_rollups(VIEWS)}
    assert as_of(reader, first) == as_of(reader, run.run_id) == now
    assert_merged(reader, frame)
    rollback(batch)
    assert_merged(reader, frame)
    assert parts(reader) == (100, 100)


def test_predicates_reach_the_indexes_as_of_a_run_too(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, (first, *_) = history(speed, batch)
    spread = [
        frame.with_columns(pl.col("event_time") - timedelta(days=9 * weeks), offset=pl.col("offset") + 400 * weeks)
        for weeks in range(1, 9)
    ]
    for part in spread:
        commit(speed, part)
    full_run(batch, pl.concat([frame, *spread]))
    with connect(database, "postgres") as owner:
        owner.execute("ANALYZE")
    reader.execute("SET enable_seqscan = off")
    query = (
        f"EXPLAIN SELECT * FROM page_traffic_as_of({first}) WHERE site = 'demo' AND bucket >= '2026-11-21' "
        "AND bucket < '2026-11-22'"
    )
    plan = "\n".join(row[0] for row in reader.execute(query.encode()))
    # The function is gone from the plan: its view is planned as part of the query.
    assert "Function Scan" not in plan, plan
    assert "Seq Scan on speed_page" not in plan, plan
    assert "Seq Scan on _hyper" not in plan, plan


def test_merged_stays_exact_while_runs_are_rolled_back_and_forth(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame, run_ids = history(speed, batch)
    more = events(1, 0, 400, 200)

    def roll() -> None:
        chance = random.Random(1)
        with connect(database, "batch") as connection:
            for _ in range(40):
                with suppress(RollbackRefused):  # where it is live already
                    rollback(connection, chance.choice(run_ids))

    def read() -> None:
        with connect(database, "reader") as connection:
            for _ in range(60):
                row = connection.execute(
                    "SELECT (SELECT sum(views) FROM site_traffic), (SELECT next_offset FROM ledger WHERE partition = 0)"
                ).fetchone()
                assert row
                assert row[0] == row[1]

    def count() -> None:
        with connect(database, "speed") as connection:
            for first in range(0, 200, 10):
                commit(connection, more[first : first + 10])

    with ThreadPoolExecutor(4) as pool:
        for work in [pool.submit(work) for work in (roll, read, count, read)]:
            work.result()
    assert_merged(reader, pl.concat([frame, more]))


def test_the_command_line_rolls_back(
    database: Settings,
    speed: Connection,
    batch: Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BRAID_DATABASE_NAME", database.database_name)
    _, (first, second, third) = history(speed, batch)
    assert main(["rollback"]) == 0
    assert capsys.readouterr().out.startswith(f"run {second} is live in place of run {third}, as generation 4\n")
    assert main(["rollback", "--run", str(first)]) == 0
    assert capsys.readouterr().out.startswith(f"run {first} is live in place of run {second}, as generation 5\n")
    assert main(["rollback", "--run", "77"]) == 1
    out, talk = capsys.readouterr()
    assert out == ""
    assert talk == f"braid: run 77 is not kept; kept are {first}, {second}, {third}{KEPT}\n"
