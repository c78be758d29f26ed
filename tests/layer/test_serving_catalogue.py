"""The catalogue changes while events come: views come, go and change whole, and nobody writes rows of another catalogue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta

import polars as pl
import psycopg
import pytest

from contract.errors import CatalogueChanged, RollbackRefused, RunRefused
from contract.measures import Count, Sum
from contract.settings import Settings
from contract.views import VIEWS, View
from serving.database import Connection, connect
from serving.drift import compare
from serving.handoff import begin_run, collect_garbage, merge_appended, publish
from serving.migrate import migrate
from serving.rollback import rollback
from tests.fixtures.handoff import TOPIC, assert_merged, commit, compute, full_run, ledger
from tests.fixtures.pageviews import events
from tests.fixtures.views import of_page_views

ADDED = of_page_views(
    "visitor_views",
    keys=("site", "visitor_id"),
    bucket=timedelta(hours=6),
    # A name that functions of the schema use for something else.
    measures=(Count("hits"), Sum("total", of="bytes_sent")),
)
CHANGED = replace(VIEWS[0], measures=(*VIEWS[0].measures, Count("bad", where=pl.col("status") >= 400)))
NARROWED = replace(VIEWS[0], keys=(), measures=(Count("views"), Sum("bytes_sent")))
NEXT = "; nothing was changed, `make deploy` brings database and all layers to one definition"


Migrated = Callable[[Sequence[View]], tuple[Connection, Connection]]


@pytest.fixture
def migrated(database: Settings) -> Iterator[Migrated]:
    """Migrates to other views, and gives connections of speed and batch layers that were started with them."""
    with ExitStack() as stack:

        def change(views: Sequence[View]) -> tuple[Connection, Connection]:
            assert migrate(database, views)
            speed, batch = (stack.enter_context(connect(database, role)) for role in ("speed", "batch"))
            return speed, batch

        yield change


def catalogue(reader: Connection) -> dict[tuple[str, int], str]:
    rows = reader.execute("SELECT view_name, version, state FROM catalogue").fetchall()
    return {(name, version): state for name, version, state in rows}


def of_both(name: str, *states: str) -> dict[tuple[str, int], str]:
    """The states of a view's versions, which its rollup shares; the catalogue does not tell of what was dropped."""
    versions = [(number, state) for number, state in enumerate(states, 1) if state != "dropped"]
    return {(view, number): state for view in (name, f"{name}_by_day") for number, state in versions}


OTHERS = of_both("page_traffic", "live") | of_both("referrers", "live")


def is_visible(reader: Connection, view: str) -> bool:
    return reader.execute("SELECT to_regclass(%s)", [f"public.{view}"]).fetchone() != (None,)


def tables(database: Settings) -> set[str]:
    with connect(database, "postgres") as owner:
        rows = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'serving'").fetchall()
    return {name for (name,) in rows if name.startswith(("batch_", "speed_"))} - {
        "batch_ledger",
        "speed_ledger",
        "speed_progress",
    }


def test_a_new_view_is_shown_with_all_its_history_and_never_with_less(
    database: Settings, migrated: Migrated, speed: Connection, batch: Connection, reader: Connection
) -> None:
    views = (*VIEWS, ADDED)
    frame = pl.concat(events(1, 0, first, 100) for first in (0, 100, 200, 300))
    commit(speed, frame[:100])
    full_run(batch, frame[:100])
    commit(speed, frame[100:200])
    speed, batch = migrated(views)
    # Commits of the new catalogue go on where those of the old one ended; the other views never miss one.
    assert_merged(reader, frame[:200])
    commit(speed, frame[200:300], views=views)
    assert_merged(reader, frame[:300])
    assert not is_visible(reader, "visitor_views")
    assert catalogue(reader)["visitor_views", 1] == "building"
    run = begin_run(batch, "incremental", views=views)
    assert run.kind == "full"
    commit(speed, frame[300:], views=views)
    days = compute(batch, run, frame[:300], views=views)
    # Of what readers have now, and not of what is on its way.
    assert {drift.view_name: drift.verdict for drift in compare(batch, run.run_id, 1e-6)} == {
        view.name: "equal" for view in VIEWS
    }
    assert not is_visible(reader, "visitor_views")
    publish(batch, run.run_id, days, {0: 300, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    assert catalogue(reader)["visitor_views", 1] == "live"
    assert_merged(reader, frame, views)
    assert begin_run(batch, "incremental", views=views).kind == "incremental"
    assert migrate(database, views) is False
    assert ledger(reader)[0]["difference"] == 0
    as_of = reader.execute(f"SELECT sum(hits), sum(batch_hits) FROM visitor_views_as_of({run.run_id})".encode())
    assert as_of.fetchone() == (400, 300)


@pytest.mark.parametrize("changed", [CHANGED, NARROWED], ids=["measure added", "key and measures removed"])
def test_a_changed_view_answers_as_it_was_until_its_history_is_there(
    database: Settings, migrated: Migrated, speed: Connection, batch: Connection, reader: Connection, changed: View
) -> None:
    views = (changed, *VIEWS[1:])
    frame = pl.concat(events(1, 0, first, 100) for first in (0, 100, 200))
    commit(speed, frame[:100])
    full_run(batch, frame[:100])
    speed, batch = migrated(views)
    commit(speed, frame[100:200], views=views)
    assert_merged(reader, frame[:200], VIEWS[1:])
    assert_merged(reader, frame[:100], VIEWS[:1])
    assert catalogue(reader) == of_both("site_traffic", "leaving", "building") | OTHERS
    run = full_run(batch, frame[:200], views=views)
    assert_merged(reader, frame[:200], views)
    commit(speed, frame[200:], views=views)
    merge_appended(speed, 0, least_rows=1)
    assert_merged(reader, frame, views)
    assert tables(database) >= {"batch_site_traffic", "batch_site_traffic_v2"}
    assert collect_garbage(batch, keep_runs=3)["view_versions"] == 2
    assert tables(database) == {
        *("batch_site_traffic_v2", "batch_site_traffic_by_day_v2", "speed_site_traffic_v2"),
        *("batch_page_traffic", "batch_page_traffic_by_day", "speed_page_traffic"),
        *("batch_referrers", "batch_referrers_by_day", "speed_referrers"),
    }
    assert catalogue(reader) == of_both("site_traffic", "dropped", "live") | OTHERS
    # Earlier runs have no rows of it.
    with pytest.raises(RollbackRefused, match=f"no run before run {run.run_id}, the live one, is kept"):
        rollback(batch)


def test_a_view_that_is_removed_goes_with_the_next_publication(
    database: Settings, migrated: Migrated, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 200)
    commit(speed, frame[:100])
    full_run(batch, frame[:100])
    speed, batch = migrated(VIEWS[:1])
    commit(speed, frame[100:], views=VIEWS[:1])
    assert is_visible(reader, "page_traffic")
    assert begin_run(batch, "incremental", views=VIEWS[:1]).kind == "incremental"
    full_run(batch, frame, views=VIEWS[:1])
    assert not is_visible(reader, "page_traffic")
    assert_merged(reader, frame, VIEWS[:1])
    collect_garbage(batch, keep_runs=3)
    assert tables(database) == {"batch_site_traffic", "batch_site_traffic_by_day", "speed_site_traffic"}


def test_a_view_that_comes_back_begins_anew(
    migrated: Migrated, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = pl.concat(events(1, 0, first, 100) for first in (0, 100, 200))
    commit(speed, frame[:100])
    full_run(batch, frame[:100])
    changed = (CHANGED, *VIEWS[1:])
    speed, batch = migrated(changed)
    commit(speed, frame[100:200], views=changed)
    speed, batch = migrated(VIEWS)
    commit(speed, frame[200:])
    # The first version lacks what came while the second one was filled.
    states = of_both("site_traffic", "leaving", "retired", "building") | OTHERS
    assert catalogue(reader) == states
    full_run(batch, frame)
    assert_merged(reader, frame)
    assert collect_garbage(batch, keep_runs=3)["view_versions"] == 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (VIEWS, (*VIEWS, ADDED)),
        ((*VIEWS, ADDED), VIEWS),
        (VIEWS, (CHANGED, *VIEWS[1:])),
        ((CHANGED, *VIEWS[1:]), VIEWS),
        (VIEWS, (NARROWED, *VIEWS[1:])),
        (VIEWS, VIEWS[::-1]),
    ],
    ids=["added", "removed", "wider", "narrower", "other keys", "other order"],
)
def test_layers_with_another_catalogue_are_refused(
    empty_database: Settings, old: Sequence[View], new: Sequence[View]
) -> None:
    migrate(empty_database, old)
    frame = events(1, 0, 0, 200)
    with connect(empty_database, "speed") as speed, connect(empty_database, "batch") as batch:
        commit(speed, frame[:100], views=old)
        begun = begin_run(batch, "full", views=old)
        migrate(empty_database, new)
        # On a connection that knows the types as they were, and on new ones.
        with connect(empty_database, "speed") as later:
            for connection in (speed, later):
                with pytest.raises(CatalogueChanged) as refused:
                    commit(connection, frame[100:], views=old)
                assert "this process has catalogue " in str(refused.value)
                assert str(refused.value).endswith(NEXT)
        with pytest.raises(CatalogueChanged, match="but the database has"):
            begin_run(batch, "full", views=old)
        with pytest.raises((CatalogueChanged, RunRefused), match=r"catalogue"):
            compute(batch, begun, frame[:100], views=old)
        with pytest.raises(RunRefused, match=r"is failed, not running \(the catalogue of views has changed\)"):
            publish(batch, begun.run_id, [], {}, [], TOPIC)
        with connect(empty_database, "speed") as later:
            commit(later, frame[100:], views=new)
        with connect(empty_database, "batch") as later, connect(empty_database, "reader") as reader:
            full_run(later, frame, views=new)
            assert_merged(reader, frame, new)


def test_the_same_views_after_a_migration_need_a_new_connection_at_most(
    database: Settings, speed: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 200)
    commit(speed, frame[:100])
    with connect(database, "postgres") as owner:
        owner.execute("COMMENT ON SCHEMA serving IS 'older'")
    migrate(database)
    # Row types are made anew, and this connection may remember the old ones.
    with suppress(psycopg.Error):
        commit(speed, frame[100:])
    with connect(database, "speed") as again:
        commit(again, frame[100:])
    assert_merged(reader, frame)


def test_in_a_database_that_has_counted_nothing_a_change_shows_at_once(database: Settings, reader: Connection) -> None:
    migrate(database, (CHANGED, ADDED))
    assert not is_visible(reader, "page_traffic")
    assert_merged(reader, events(1, 0, 0, 0), (CHANGED, ADDED))


@pytest.mark.parametrize("named", [("page_traffic", "ledger"), ("ledger", "page_traffic")], ids=" then ".join)
def test_a_change_does_not_fail_queries_that_never_stop_being_asked(
    database: Settings, speed: Connection, reader: Connection, named: tuple[str, str]
) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    done = threading.Event()
    sums: list[object] = []
    columns = {"page_traffic": "views", "ledger": "counted"}
    query = "SELECT " + ", ".join(f"(SELECT sum({columns[view]}) FROM {view})" for view in named)

    def ask() -> None:
        with connect(database, "reader") as connection:
            while not done.is_set():
                sums.append(connection.execute(query).fetchone())

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    try:
        for views in ((*VIEWS, ADDED), VIEWS, (CHANGED, *VIEWS[1:])):
            migrate(database, views)
    finally:
        done.set()
        for thread in asking:
            thread.join()
    assert set(sums) == {(100, 100)}


@pytest.mark.parametrize("by", ["a migration", "a publication"])
def test_who_stands_still_in_a_transaction_is_ended_only_where_it_is_in_the_way(
    database: Settings, migrated: Migrated, speed: Connection, batch: Connection, by: str
) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    full_run(batch, frame)
    views = (CHANGED, *VIEWS[1:])
    if by == "a publication":
        speed, batch = migrated(views)
    with (
        connect(database, "reader") as in_the_way,
        connect(database, "reader") as elsewhere,
        in_the_way.transaction(force_rollback=True),
        elsewhere.transaction(force_rollback=True),
    ):
        in_the_way.execute("SELECT * FROM site_traffic")
        elsewhere.execute("SELECT 1")
        if by == "a publication":
            full_run(batch, frame, views=views)
        else:
            assert migrate(database, views)
        assert elsewhere.execute("SELECT 2").fetchone() == (2,)
        with pytest.raises(psycopg.errors.AdminShutdown):
            in_the_way.execute("SELECT 1")
        # There is nothing to roll back in a session that is gone.
        in_the_way.close()
