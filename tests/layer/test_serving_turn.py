"""One batch run computes at a time, says how far it is, and blocks nobody once its driver is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from batch.turn import turn
from batch.watch import Watch
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


def _assert(true: bool) -> None:
    assert true


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
        assert str(told.value).startswith(f"run {run_id} (full) goes on since {run.started_at:%Y-%m-%d %H:%M:%S} UTC, for ")
        assert "computing, 34 of 61 tasks done" in str(told.value)
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


def test_a_watch_whose_session_is_lost_takes_the_turn_again_and_goes_on_telling(
    database: Settings, owner: Connection, batch: Connection, reader: Connection
):
    def holder() -> int | None:
        rows = owner.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
        return rows[0][0] if rows else None

    def step_is(wanted: str) -> Callable[[], None]:
        return lambda: _assert([run.step for run in going_on(reader)] == [wanted])

    with turn(database, lambda line: None, wait=False) as session, Watch(database, lambda line: None, session) as watch:
        run_id = begin_run(batch, "full").run_id
        watch.begun(run_id)
        watch.step("computing")
        eventually(step_is("computing"), within_s=20)
        first = holder()
        owner.execute("SELECT pg_terminate_backend(%s)", [first])
        watch.step("publishing")
        eventually(step_is("publishing"), within_s=20)
        eventually(lambda: _assert(holder() not in (None, first)), within_s=20)
        assert state_of(reader, run_id) == ("running", None)
    began_s = time.monotonic()
    with turn(database, lambda line: None, wait=True):
        assert time.monotonic() - began_s < 20
