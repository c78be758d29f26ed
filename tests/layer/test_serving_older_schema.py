"""A database of the schema before absorbed rows had an index and chunks 90 days goes on with all that is in it."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import psycopg
import pytest
from psycopg import sql

from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from serving.database import Connection, connect
from serving.forgotten import record_forgotten
from serving.handoff import begin_run, merge_appended
from serving.migrate import migrate
from serving.rollback import rollback
from tests.fixtures.handoff import assert_merged, commit, full_run
from tests.fixtures.pageviews import events
from tests.layer.test_serving_forgotten import said


def set_chunks(owner: Connection, length: str) -> None:
    for view in with_rollups(VIEWS):
        owner.execute("SELECT set_chunk_time_interval(%s::regclass, %s::interval)", [f"serving.batch_{view.name}", length])


def make_older(owner: Connection) -> None:
    """What the schema of today has beside or in place of the earlier one is as it was in that."""
    for view in with_rollups(VIEWS):
        for name in (view.name, view.sketches):
            owner.execute(f"DROP FUNCTION {name}_as_of".encode())
            owner.execute(f"DROP FUNCTION IF EXISTS {name}_local_days".encode())
            owner.execute(f"DROP VIEW {name}".encode())
        # The sketches had the plain name.
        owner.execute(f"ALTER VIEW serving.{view.name}_merged SET SCHEMA public".encode())
        owner.execute(f"ALTER VIEW {view.name}_merged RENAME TO {view.name}".encode())
        owner.execute(f"GRANT SELECT ON {view.name} TO reader".encode())
        owner.execute(
            f"CREATE FUNCTION {view.name}_as_of(bigint) RETURNS SETOF {view.name} LANGUAGE sql STABLE "
            f"AS 'SELECT * FROM {view.name}'".encode()
        )
        owner.execute(f"ALTER FUNCTION {view.name}_as_of OWNER TO braid_owner".encode())
        row = owner.execute("SELECT pg_get_viewdef(%s::regclass)", [view.name]).fetchone()
        assert row
        shown = row[0].replace(" AND (s.epoch > serving.absorbed_floor())", "")
        assert shown != row[0]
        owner.execute(f"CREATE OR REPLACE VIEW {view.name} AS {shown}".encode())
        owner.execute(f"DROP VIEW serving.{view.name}_batch".encode())
        if view.rollup_of:
            for index in ("day", "keys_day"):
                owner.execute(f"DROP INDEX serving.batch_{view.name}_{index}".encode())
            owner.execute(f"CREATE INDEX batch_{view.name}_keys ON serving.batch_{view.name} (site, bucket)".encode())
    for view in VIEWS:
        table, name = sql.Identifier("serving", f"speed_{view.name}"), f"speed_{view.name}"
        owner.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier("serving", f"{name}_epoch_level")))
        owner.execute(
            sql.SQL("CREATE INDEX {} ON {} (partition, level, epoch)").format(sql.Identifier(f"{name}_level_epoch"), table)
        )
    owner.execute(
        "DROP FUNCTION serving.absorbed_floor, serving.read_absorbed_floor, serving.add_partitions, serving.merge_appended"
    )
    owner.execute("CREATE FUNCTION serving.merge_appended(int, int) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'")
    owner.execute("COMMENT ON SCHEMA serving IS 'the schema before'")


def index_names(owner: Connection) -> set[str]:
    return {name for (name,) in owner.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'speed%level%'")}


def test_a_database_of_the_schema_before_goes_on_with_what_it_has(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    first, more, other = events(1, 0, 0, 300, days=40), events(1, 0, 300, 100), events(2, 7, 0, 100)
    before, everything = pl.concat([first, more, other]), pl.concat([first, more, other, late := events(1, 0, 400, 200, 60)])
    with connect(database, "postgres") as owner:
        set_chunks(owner, "7 days")
        commit(speed, first)
        full_run(batch, first[:300])
        # As a new partition began.
        owner.execute("INSERT INTO serving.speed_progress (partition, epoch) VALUES (7, 1)")
        commit(speed, more)
        commit(speed, other)
        make_older(owner)
        # Somebody's own view of one that has the sketches under another name from now on.
        owner.execute("CREATE VIEW mine AS SELECT site, distinct_count(rollup(visitors)) FROM site_traffic GROUP BY site")
        owner.execute("GRANT SELECT ON mine TO reader")
        mine = reader.execute("SELECT * FROM mine ORDER BY site").fetchall()
        assert migrate(database)
        assert not migrate(database)
        assert_merged(reader, before)
        assert reader.execute("SELECT * FROM mine ORDER BY site").fetchall() == mine != []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT * FROM serving.site_traffic_merged")
        indexes = "SELECT indexname FROM pg_indexes WHERE tablename = 'batch_page_traffic_by_day' ORDER BY 1"
        assert [name.removeprefix("batch_page_traffic_by_day_") for (name,) in owner.execute(indexes)] == [
            "bucket", "day", "keys_day", "page",
        ]  # fmt: skip
        lengths = owner.execute(
            "SELECT DISTINCT time_interval FROM timescaledb_information.dimensions WHERE hypertable_schema = 'serving'"
        ).fetchall()
        assert lengths == [(timedelta(days=90),)]
        assert index_names(owner) == {f"speed_{view.name}_epoch_level" for view in VIEWS}
        # On days of the older chunks, and before and after them.
        commit(speed, late)
        assert merge_appended(speed, 0, least_rows=1) > 0
        assert_merged(reader, everything)
        full_run(batch, everything)
        assert_merged(reader, everything)
        rollback(batch)
        assert_merged(reader, everything)
        assert owner.execute("SELECT count(*), min(epoch) = max(epoch) FROM serving.speed_progress").fetchone() == (5, True)


def test_what_was_said_to_be_forgotten_before_leaves_with_the_next_run(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 300)
    commit(speed, frame)
    full_run(batch, frame)
    record_forgotten(batch, said(database, "shop"))
    with connect(database, "postgres") as owner:
        make_older(owner)
    assert migrate(database)
    assert_merged(reader, frame)
    assert begin_run(batch, "incremental").kind == "full"
    left = frame.filter(pl.col("site") != "shop")
    full_run(batch, left)
    assert_merged(reader, left)
    assert reader.execute("SELECT run_id IS NOT NULL FROM forgotten").fetchall() == [(True,)]
