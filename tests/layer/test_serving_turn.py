"""One batch run computes at a time, says how far it is, and blocks nobody once its driver is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from py4j.protocol import Py4JError
from pyspark import SparkContext

from batch import job
from batch.__main__ import GOES_ON
from batch.turn import turn
from batch.watch import Watch, counted
from contract.errors import AnotherRun, RunRefused
from contract.settings import Settings
from serving.database import Connection, connect
from serving.handoff import begin_run, fail_run
from serving.turn import going_on, record_progress, take_turn
from tests.fixtures.eventually import eventually


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with connect(database, "postgres") as connection:
        yield connection


def state_of(reader: Connection, run_id: int) -> tuple[str, str | None]:
    return reader.execute("SELECT state, error FROM runs WHERE run_id = %s", [run_id]).fetchall()[0]


def test_one_session_has_the_turn_and_gives_it_back_when_it_ends(database: Settings, batch: Connection):
    with closing(connect(database, "batch")) as first:
        assert take_turn(first)
        assert not take_turn(batch)
    eventually(lambda: _assert(take_turn(batch)), within_s=10)


@pytest.mark.parametrize("role", ["reader", "speed", "batch"])
def test_no_layer_can_keep_the_turn_or_another_lock_from_others(role: str, request: pytest.FixtureRequest):
    connection: Connection = request.getfixturevalue(role)
    locking = connection.execute(
        "SELECT oid::regprocedure::text, has_function_privilege(oid, 'EXECUTE') FROM pg_proc "
        "WHERE proname LIKE 'pg_%advisory%' ORDER BY 1"
    ).fetchall()
    assert len(locking) > 16
    # A connection pool lets go of all that it may have.
    assert {name for name, may in locking if may} == {name for name, _ in locking if "unlock" in name}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT pg_advisory_lock(x'7475726e'::int, 1)")


def _assert(true: bool) -> None:
    assert true


def waits_for_a_lock(owner: Connection, pid: int) -> bool:
    return owner.execute("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [pid]).fetchall() == [
        (True,)
    ]


def test_a_dead_run_is_marked_when_the_next_one_has_the_turn_and_an_audit_and_ones_own_are_not(
    database: Settings, batch: Connection, reader: Connection
):
    dead, audit = begin_run(batch, "full").run_id, begin_run(batch, "audit").run_id
    with turn(database, lambda line: None, wait=False) as session:
        assert state_of(reader, dead) == ("failed", "its driver was gone when the next run began")
        assert state_of(reader, audit) == ("running", None)
        own = begin_run(session, "full").run_id
        # As a watch does whose session was lost.
        assert take_turn(session, own)
        assert state_of(reader, own) == ("running", None)


def test_who_is_refused_sees_no_run_that_whoever_has_the_turn_is_about_to_mark(
    database: Settings, batch: Connection, owner: Connection
):
    begin_run(batch, "full")
    with closing(connect(database, "batch")) as second, ThreadPoolExecutor(1) as pool:
        with batch.transaction():
            assert take_turn(batch)
            told = pool.submit(lambda: (take_turn(second), going_on(second)))
            eventually(lambda: _assert(told.done() or waits_for_a_lock(owner, second.info.backend_pid)), within_s=10)
        assert told.result(10) == (False, [])


def test_who_comes_second_is_told_which_run_goes_on_and_how_far_it_is(database: Settings, reader: Connection):
    with turn(database, lambda line: None, wait=False) as session:
        with pytest.raises(AnotherRun, match="about to begin"), turn(database, lambda line: None, wait=False):
            pass
        run_id = begin_run(session, "full").run_id
        record_progress(session, run_id, "computing", 34, 61)
        with pytest.raises(AnotherRun) as told, turn(database, lambda line: None, wait=False):
            pass
        (run,) = going_on(reader)
        assert (run.run_id, run.kind, run.step, run.tasks_done, run.tasks) == (run_id, "full", "computing", 34, 61)
        begins = f"run {run_id} (full) goes on since {run.started_at:%Y-%m-%d %H:%M:%S} UTC, for "
        assert str(told.value).startswith(begins)
        assert "computing, 34 of 61 tasks done" in str(told.value)
        second = subprocess.run(
            [sys.executable, "-m", "batch", "run"], env=os.environ | {"BRAID_DATABASE_NAME": database.database_name},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (second.returncode, second.stdout) == (GOES_ON, "")
        assert second.stderr.startswith(f"error: {begins}")
        assert state_of(reader, run_id) == ("running", None)


def test_who_waits_begins_when_the_other_one_has_ended(database: Settings, batch: Connection):
    other = connect(database, "batch")
    assert take_turn(other)
    run_id = begin_run(other, "full").run_id
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        fail_run(batch, run_id, "it has ended")
        other.close()

    with turn(database, say, wait=True) as session:
        assert take_turn(session)
    assert len(said) == 1
    assert said[0].startswith(f"waiting: run {run_id} (full) goes on since ")


def test_who_waits_bears_that_the_database_is_gone_for_a_while(database: Settings, owner: Connection):
    other = connect(database, "batch")
    assert take_turn(other)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        # All sessions of the layer, as a restart ends them.
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'batch'"
        )

    with closing(other), turn(database, say, wait=True) as session:
        assert take_turn(session)
    assert said == ["waiting: another batch run is about to begin, or clears up behind its publication"]


def test_a_driver_that_says_nothing_any_more_is_not_waited_for(database: Settings, owner: Connection, reader: Connection):
    with turn(database, lambda line: None, wait=False) as session:
        run_id = begin_run(session, "full").run_id
        record_progress(session, run_id, "computing", 0, 1)
        owner.execute("UPDATE serving.run_progress SET seen_at = seen_at - interval '3 minutes'")
        with pytest.raises(AnotherRun, match="its driver has said nothing for 3 min"), turn(database, print, wait=True):
            pass


def test_only_an_advance_is_one_and_an_ended_run_is_refused(batch: Connection, reader: Connection):
    run_id = begin_run(batch, "full").run_id

    def times() -> tuple[object, object]:
        return reader.execute("SELECT advanced_at, seen_at FROM runs WHERE run_id = %s", [run_id]).fetchall()[0]

    record_progress(batch, run_id, "computing", 3, 9)
    advanced, seen = times()
    record_progress(batch, run_id, "computing", 3, 10)
    assert times()[0] == advanced
    assert times()[1] > seen
    record_progress(batch, run_id, "computing", 4, 10)
    assert times()[0] > advanced
    fail_run(batch, run_id, "enough")
    with pytest.raises(RunRefused, match=f"run {run_id} is failed"):
        record_progress(batch, run_id, "computing", 5, 10)


def holder(owner: Connection) -> int | None:
    """Which session has the turn."""
    rows = owner.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND objsubid = 2 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchall()
    return rows[0][0] if rows else None


def step_is(reader: Connection, wanted: str) -> Callable[[], None]:
    return lambda: _assert([run.step for run in going_on(reader)] == [wanted])


def test_a_watch_whose_word_is_refused_keeps_the_turn_and_says_it_again(
    database: Settings, owner: Connection, batch: Connection, reader: Connection
):
    with turn(database, lambda line: None, wait=False) as session, Watch(database, lambda line: None, session) as watch:
        first = session.info.backend_pid
        run_id = begin_run(batch, "full").run_id
        # Within a transaction one would see the same activities again and again.
        with connect(database, "postgres") as locking, locking.transaction():
            locking.execute("LOCK TABLE serving.run_progress IN ACCESS EXCLUSIVE MODE")
            watch.begun(run_id)
            watch.step("computing")
            for _ in range(2):
                eventually(lambda: _assert(waits_for_a_lock(owner, first)), within_s=20)
                owner.execute("SELECT pg_cancel_backend(%s)", [first])
                eventually(lambda: _assert(not waits_for_a_lock(owner, first)), within_s=20)
        eventually(step_is(reader, "computing"), within_s=20)
        assert holder(owner) == first
        assert state_of(reader, run_id) == ("running", None)


def test_a_watch_asks_for_a_turn_that_it_lost_until_it_is_free(
    database: Settings, owner: Connection, batch: Connection, reader: Connection
):
    with turn(database, lambda line: None, wait=False) as session, Watch(database, lambda line: None, session) as watch:
        run_id = begin_run(batch, "full").run_id
        watch.begun(run_id)
        with closing(connect(database, "batch")) as other:
            owner.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
            # It marks nothing, as one that has only begun to ask.
            eventually(lambda: _assert(take_turn(other, run_id)), within_s=20)
            watch.step("computing")
            eventually(step_is(reader, "computing"), within_s=20)
            others = other.info.backend_pid
            assert holder(owner) == others
        # The other's session ends in its own time.
        eventually(lambda: _assert(holder(owner) not in (None, others)), within_s=20)
        assert not take_turn(batch, run_id)


def test_a_watch_keeps_the_turn_of_a_run_that_was_published_until_it_has_cleared_up(database: Settings, batch: Connection):
    with turn(database, lambda line: None, wait=False) as session, Watch(database, lambda line: None, session) as watch:
        run_id = begin_run(batch, "full").run_id
        watch.begun(run_id)
        fail_run(batch, run_id, "it has ended, as a published one has")
        watch.step("clearing up")

        def has_heard() -> None:
            try:
                with watch.on_spark(None):  # type: ignore[arg-type]
                    raise Py4JError("a job")
            except Py4JError as error:
                raise AssertionError("not yet") from error
            except RunRefused:
                pass

        eventually(has_heard, within_s=20)
        assert not take_turn(batch)


def test_the_job_of_a_run_that_was_marked_as_ended_is_broken_off(database: Settings, batch: Connection, reader: Connection):
    """Real tasks: one ends, and the run is told so; the other one would last for two minutes."""

    def work(number: int) -> None:
        if number:
            time.sleep(120)

    def compute(spark: SparkContext) -> None:
        with watch.on_spark(spark):
            watch.step("computing")
            watch.planned(2)
            spark.parallelize([0, 1], 2).foreach(work)

    def mark() -> None:
        eventually(lambda: _assert([(run.tasks_done, run.tasks) for run in going_on(reader)] == [(1, 2)]), within_s=90)
        fail_run(batch, run_id, "something was forgotten")

    local = replace(database, spark_master="local[2]")
    with turn(local, lambda line: None, wait=False) as session, Watch(local, lambda line: None, session) as watch:
        run_id = begin_run(batch, "full").run_id
        watch.begun(run_id)
        spark = job.context(local)
        try:
            with ThreadPoolExecutor(1) as pool:
                marked = pool.submit(mark)
                with pytest.raises(RunRefused, match=f"run {run_id} is failed"):
                    compute(spark)
                marked.result()
            assert counted(spark, "computing").tasks_done == 1
        finally:
            spark.stop()


def test_a_watch_whose_session_is_lost_takes_the_turn_again_and_goes_on_telling(
    database: Settings, owner: Connection, batch: Connection, reader: Connection
):
    with turn(database, lambda line: None, wait=False) as session, Watch(database, lambda line: None, session) as watch:
        run_id = begin_run(batch, "full").run_id
        watch.begun(run_id)
        watch.step("computing")
        eventually(step_is(reader, "computing"), within_s=20)
        first = holder(owner)
        owner.execute("SELECT pg_terminate_backend(%s)", [first])
        watch.step("publishing")
        eventually(step_is(reader, "publishing"), within_s=20)
        eventually(lambda: _assert(holder(owner) not in (None, first)), within_s=20)
        assert state_of(reader, run_id) == ("running", None)
    began_s = time.monotonic()
    with turn(database, lambda line: None, wait=True):
        assert time.monotonic() - began_s < 20
