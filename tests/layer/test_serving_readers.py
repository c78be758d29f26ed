"""What readers may see, how fast they reach it, and what they get from the command line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import polars as pl
import psycopg
import pytest

from contract.errors import BraidError, EngineUnavailable, QueryRefused, SchemaMismatch
from contract.measures import Count
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from serving.__main__ import WELCOME_QUERIES, main
from serving.database import Connection, connect, reader_address, reader_dsn
from serving.handoff import LEDGER_SCHEMA, Counts, begin_run, commit_range, publish, write_task
from serving.migrate import migrate
from serving.query import run_query
from serving.status import read_status
from tests.fixtures.handoff import assert_merged, commit, full_run
from tests.fixtures.pageviews import NO_REJECTS, Range, events, reject
from tests.fixtures.views import of_page_views


@pytest.fixture
def reader(database: Settings) -> Iterator[Connection]:
    with connect(database, "reader") as connection:
        yield connection


@pytest.fixture
def cli(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line on the fresh database; no other server is there."""
    monkeypatch.setenv("BRAID_DATABASE_NAME", database.database_name)
    monkeypatch.setenv("BRAID_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("BRAID_WEBHDFS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("BRAID_NIMBUS_HOST", "127.0.0.2")
    monkeypatch.setenv("SPARK_MASTER", "spark://127.0.0.2:7077")


def fill(database: Settings, count: int = 100) -> None:
    part = Range.of(events(1, 0, 0, count))
    with connect(database, "speed") as speed:
        commit_range(speed, part.offsets, part.rows, Counts(count, count, 0), reject(0, 5), "pageviews")


def test_migrating_again_changes_nothing(empty_database: Settings) -> None:
    assert migrate(empty_database) is True
    fill(empty_database)
    assert migrate(empty_database) is False
    with connect(empty_database, "postgres") as owner:
        # As after an update of the code: everything is applied to what is there.
        owner.execute("COMMENT ON SCHEMA serving IS 'older'")
        assert migrate(empty_database) is True
        assert owner.execute("SELECT sum(views) FROM page_traffic").fetchone() == (100,)


def test_a_view_added_to_the_catalogue_is_there_after_the_next_migration(database: Settings) -> None:
    added = of_page_views("visitor_traffic", keys=("visitor_id",), bucket=VIEWS[0].bucket, measures=(Count("hits"),))
    assert migrate(database, (*VIEWS, added)) is True
    with connect(database, "reader") as reader:
        assert (
            reader.execute("SELECT bucket, visitor_id, hits, batch_hits, speed_hits FROM visitor_traffic").fetchall() == []
        )


def test_a_view_that_changed_before_views_had_versions_is_refused(database: Settings) -> None:
    changed = replace(VIEWS[0], measures=(Count("views"),))
    with connect(database, "postgres") as owner:
        owner.execute("DROP TABLE serving.view_version CASCADE")
    with pytest.raises(
        SchemaMismatch,
        match=r"view site_traffic is stored with the columns .*latency.* but declared with .*stored definition",
    ):
        migrate(database, (changed, *VIEWS[1:]))


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("reader", "SELECT * FROM serving.speed_progress"),
        ("reader", "SELECT * FROM serving.batch_page_traffic"),
        ("reader", "SELECT value FROM serving.quarantined"),
        ("reader", "SELECT * FROM serving.page_traffic_merged"),
        ("reader", "SELECT pg_advisory_lock(1)"),
        ("reader", "SELECT pg_try_advisory_xact_lock_shared(1, 2)"),
        ("reader", "SET default_transaction_read_only = off; SELECT lo_from_bytea(0, 'x')"),
        ("reader", "SET default_transaction_read_only = off; SELECT lo_creat(1)"),
        ("speed", "SELECT pg_advisory_lock(1)"),
        ("batch", "SELECT lo_from_bytea(0, 'x')"),
        ("reader", "SELECT serving.positions(1)"),
        ("reader", "SELECT serving.rollback(1)"),
        ("reader", "SELECT serving.resolve('[]')"),
        ("speed", "SELECT serving.resolve('[]')"),
        ("batch", "INSERT INTO serving.resolution (topic) VALUES ('t')"),
        ("reader", "CREATE TEMP TABLE t ()"),
        ("reader", "SET default_transaction_read_only = off; CREATE TABLE t ()"),
        ("reader", "SELECT pg_read_file('/etc/passwd')"),
        ("speed", "SELECT serving.begin_run('', 'full', '{}', '{}', '{}', '{}', '{}', '{}', '{}')"),
        ("speed", "SELECT serving.publish(1, '{}', '{}', '{}', '{}')"),
        ("speed", "SELECT serving.append_rows(NULL, 0, 1)"),
        ("speed", "SELECT serving.rollback(1)"),
        ("speed", "SELECT serving.drop_version()"),
        ("reader", "SELECT * FROM serving.reject"),
        ("speed", "SELECT serving.add_rejects('batch', NULL)"),
        ("speed", "SELECT serving.judge_rejects(0, 0, 1, '{}', '{}', '{}')"),
        ("speed", "UPDATE serving.speed_progress SET next_offset = 0"),
        ("speed", "SELECT * FROM page_traffic"),
        ("speed", "CREATE TEMP TABLE t ()"),
        ("speed", "SELECT serving.write_filters(1, 0, 1, '{}', '{}', '{}', '{}')"),
        ("reader", "SELECT serving.filtered_days()"),
        ("reader", "SELECT serving.forgotten_statements()"),
        ("reader", "SELECT * FROM serving.forgotten"),
        ("speed", "SELECT serving.record_forgotten('[]', true)"),
        ("reader", "SELECT * FROM serving.day_filter"),
        ("reader", "SELECT * FROM serving.site_traffic_batch"),
        ("speed", "SELECT serving.add_partitions('{9}')"),
        ("batch", "SELECT serving.commit_range('', 0, 0, 1, 1, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL)"),
        ("batch", "SELECT serving.merge_appended(0, 1, 2)"),
        ("batch", "SELECT serving.set_catalogue('', '[]')"),
        ("batch", "SELECT serving.show_views(1)"),
        ("batch", "DELETE FROM serving.batch_page_traffic"),
        ("batch", "INSERT INTO serving.speed_page_traffic DEFAULT VALUES"),
        ("batch", "SELECT * FROM quarantine"),
    ],
)
def test_each_role_may_do_its_own_work_only(database: Settings, role: str, statement: str) -> None:
    with (
        connect(database, role) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)),
    ):  # type: ignore[arg-type]
        connection.execute(statement.encode())


def test_the_reader_sees_why_but_not_what_was_quarantined(database: Settings, reader: Connection) -> None:
    fill(database)
    assert reader.execute('SELECT reason, "offset", value_bytes FROM quarantine').fetchall() == [("not_json", 5, 1)]
    assert reader.execute("SHOW statement_timeout").fetchone() == ("1min",)


def test_everything_that_a_reader_may_see_can_be_asked_whole_and_says_what_it_is(
    database: Settings, reader: Connection, batch: Connection
) -> None:
    fill(database)
    relations = reader.execute(
        "SELECT c.oid::regclass::text, obj_description(c.oid) FROM pg_class AS c WHERE relkind IN ('r', 'v', 'p', 'm') "
        "AND relnamespace IN ('public'::regnamespace, 'serving'::regnamespace) AND has_any_column_privilege(c.oid, 'SELECT')"
    ).fetchall()
    names = {name for name, _ in relations}
    assert names >= {"quarantine", "quarantine_state", "ledger", "runs", "site_traffic", "page_traffic_by_day_sketches"}
    for name in names:
        reader.execute(f"SELECT * FROM {name}".encode())
        reader.execute(f"SELECT count(*), count(one) FROM {name} AS one".encode())
    assert [name for name, comment in relations if not comment] == []
    columns = reader.execute(
        "SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
        "AND attrelid = ANY(%s::regclass[]) AND col_description(attrelid, attnum) IS NULL",
        [sorted(names)],
    )
    assert columns.fetchall() == []
    functions = reader.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE pronamespace = 'public'::regnamespace "
        "AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e') "
        "AND obj_description(p.oid, 'pg_proc') IS NULL"
    )
    assert functions.fetchall() == []


def test_no_name_of_ours_is_a_keyword(reader: Connection) -> None:
    # Of SQL:2023, of PostgreSQL and of what parses questions for others (Calcite, sqlglot).
    words = {word for (word,) in reader.execute("SELECT word FROM pg_get_keywords()")}
    words |= {"approx_count_distinct", "approx_quantile", "cube", "merge", "percentile_cont", "percentile_disc"}
    rows = reader.execute(
        "SELECT proname FROM pg_proc AS p WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS "
        "(SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')"
    )
    # The old name, for those who know it.
    assert {name for (name,) in rows} & words == {"rollup"}


def test_sums_are_integers(database: Settings, reader: Connection) -> None:
    fill(database)
    row = reader.execute(
        "SELECT total(views), pg_typeof(total(views))::text, total(views) FILTER (WHERE false) FROM site_traffic"
    )
    assert row.fetchone() == (100, "bigint", None)
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        reader.execute("SELECT total(n) FROM (VALUES (9223372036854775807), (1)) AS v (n)")


OF_SKETCHES = {
    "views": "s.views",
    "visitors": "distinct_count(s.visitors)",
    "latency_p50": "approx_percentile(0.5, s.latency)",
    "latency_p95": "approx_percentile(0.95, s.latency)",
    "latency_p99": "approx_percentile(0.99, s.latency)",
}


def test_plain_views_have_only_types_that_any_client_reads(database: Settings, reader: Connection) -> None:
    fill(database, 300)
    for view in with_rollups(VIEWS):
        types = dict(
            reader.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = %s::regclass AND attnum > 0",
                [view.name],
            ).fetchall()
        )
        assert set(types.values()) <= {"timestamp with time zone", "date", "text", "bigint", "double precision"}
        assert ("day" in types, "bucket" in types) == (view.rollup_of is not None, view.rollup_of is None)
        plain = {name: of_sketch for name, of_sketch in OF_SKETCHES.items() if name in types}
        assert {"views", "visitors"} <= plain.keys()
        same = (
            f"SELECT count(*), count(*) FILTER (WHERE ROW({', '.join(f'p.{name}' for name in plain)}) "
            f"IS NOT DISTINCT FROM ROW({', '.join(plain.values())})) "
            f"FROM {view.name} AS p JOIN {view.sketches} AS s USING ({', '.join(view.shown_group)})"
        )
        (rows, equal) = reader.execute(same.encode()).fetchone() or (0, 0)
        assert rows == equal > 3


def test_the_average_is_that_of_the_values(database: Settings, speed: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 400)
    commit(speed, frame)
    for site, mean, known in (
        frame.group_by("site").agg(mean=pl.col("duration_ms").mean(), known=pl.col("duration_ms").count()).iter_rows()
    ):
        row = reader.execute(
            "SELECT approx_average(sketch_merge(latency)) FROM site_traffic_sketches WHERE site = %s", [site]
        ).fetchone()
        assert row
        assert known > 0
        assert row[0] == pytest.approx(mean, rel=0.011)
    assert reader.execute("SELECT approx_average('{}')").fetchone() == (None,)


def test_a_reader_cannot_lift_its_limits(database: Settings) -> None:
    with connect(database, "reader") as reader:
        for setting, allowed, refused in (
            ("statement_timeout", "10min", "0"),
            ("statement_timeout", "1s", "11min"),
            ("work_mem", "64MB", "65MB"),
            ("hash_mem_multiplier", "2", "2.1"),
        ):
            reader.execute(f"SET {setting} = '{allowed}'".encode())
            for statement in (f"SET {setting} = '{refused}'", f"SELECT set_config('{setting}', '{refused}', false)"):
                with pytest.raises(psycopg.errors.InvalidParameterValue, match="outside the valid range"):
                    reader.execute(statement.encode())
        reader.execute("SET statement_timeout = '50ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            reader.execute("SELECT pg_sleep(60)")
    # Nor by what a connection brings along, nor by going back to that.
    options = "-c statement_timeout=0 -c work_mem=4GB -c hash_mem_multiplier=100"
    with psycopg.connect(
        reader_dsn(database, database.database_host, database.database_port), options=options, autocommit=True
    ) as brought:
        for reset in ("SELECT 1", "RESET ALL", "DISCARD ALL"):
            brought.execute(reset.encode())
            settings = ("statement_timeout", "work_mem", "hash_mem_multiplier")
            shown = [(brought.execute(f"SHOW {setting}".encode()).fetchone() or ("",))[0] for setting in settings]
            assert shown == ["10min", "64MB", "2"], reset
    with connect(database, "batch") as batch:
        assert batch.execute("SHOW statement_timeout").fetchone() == ("0",)
        batch.execute("SET work_mem = '1GB'")


def test_readers_leave_connections_for_the_layers(database: Settings) -> None:
    with connect(database, "postgres") as owner:
        row = owner.execute(
            "SELECT rolconnlimit, current_setting('max_connections')::int FROM pg_roles WHERE rolname = 'reader'"
        )
        limit, most = row.fetchone() or (0, 0)
    assert 0 < limit <= most - 30


def test_predicates_reach_the_indexes_of_both_halves(database: Settings, reader: Connection) -> None:
    with connect(database, "batch") as batch, connect(database, "postgres") as owner:
        run = begin_run(batch, "full")
        days = pl.date_range(pl.date(2026, 10, 10), pl.date(2026, 11, 20), eager=True)
        ledger = pl.DataFrame({"day": days, "partition": 0, "counted": 1, "duplicate": 0}).cast(dict(LEDGER_SCHEMA))
        write_task(batch, run.run_id, "all", {}, ledger)
        columns = "1, 0, 1, hll_empty(11, 5, 0, 1), '{}'"
        for half, front in (("batch", run.run_id), ("speed", "0, 2")):
            owner.execute(
                f"INSERT INTO serving.{half}_page_traffic SELECT {front}, bucket, site, page, {columns} FROM "
                "(SELECT bucket, 'site ' || s AS site, '/page/' || p AS page FROM "
                "generate_series('2026-10-10'::timestamptz, '2026-11-20', '6 hours') AS bucket, "
                "generate_series(1, 10) AS s, generate_series(1, 80) AS p) AS rows".encode()
            )
        publish(batch, run.run_id, days, dict.fromkeys(run.cut, 0), [], "pageviews")
        owner.execute("ANALYZE")
    plans = {
        "key": "site = 'site 3' AND page = '/page/4'",
        "key and bucket": "site = 'site 3' AND bucket >= '2026-11-10' AND bucket < '2026-11-11'",
        "bucket": "bucket >= '2026-11-10' AND bucket < '2026-11-10 06:00'",
    }
    for name, predicate in plans.items():
        lines = [row[0] for row in reader.execute(f"EXPLAIN SELECT * FROM page_traffic WHERE {predicate}".encode())]
        plan = "\n".join(lines)
        # Each half is read through an index, and of the chunks only the one that holds the bucket's day.
        assert "Seq Scan on batch" not in plan, f"{name}:\n{plan}"
        assert "Seq Scan on speed_page" not in plan, f"{name}:\n{plan}"
        assert "Seq Scan on _hyper" not in plan, f"{name}:\n{plan}"
        assert "speed_page_traffic_" in plan
        chunks = set(re.findall(r"_hyper_[0-9]+_[0-9]+_chunk(?= b\b)", plan))
        assert len(chunks) == 1 or name == "key", f"{name}:\n{plan}"
    days = reader.execute(
        "EXPLAIN SELECT * FROM page_traffic_by_day WHERE site = 'site 3' AND day >= '2026-11-10'"
    ).fetchall()
    assert "Seq Scan on batch" not in str(days), days
    # Rows of days were not written, as a run writes them.
    reader.execute("SET braid.fewer_rows = off")
    count = reader.execute(
        "SELECT sum(batch_views), sum(speed_views) FROM page_traffic WHERE site = 'site 3' AND page = '/page/4'"
    )
    assert count.fetchone() == (165, 165)


def test_absorbed_rows_are_passed_over_by_their_index(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 300)
    commit(speed, frame[:200])
    full_run(batch, frame[:200])
    commit(speed, frame[200:])
    with connect(database, "postgres") as owner:
        for view in VIEWS:
            # As many again in the epoch that the run has absorbed, as a large run leaves them for a rollback.
            owner.execute(
                f"INSERT INTO serving.speed_{view.name} SELECT s.* FROM serving.speed_{view.name} AS s, "
                "generate_series(1, 200) WHERE s.epoch = 1".encode()
            )
        owner.execute("VACUUM ANALYZE")
    for view in with_rollups(VIEWS):
        plan = str(reader.execute(f"EXPLAIN SELECT * FROM {view.name}".encode()).fetchall())
        assert "Seq Scan on speed_" not in plan, plan
        assert "absorbed_floor" in plan, plan
    assert_merged(reader, frame)


@pytest.mark.parametrize(("first_epoch", "floors"), [(None, [3, 4, 5]), (1, [0, 1, 5])])
def test_a_partition_that_comes_later_does_not_bring_absorbed_rows_back(
    database: Settings,
    speed: Connection,
    batch: Connection,
    reader: Connection,
    first_epoch: int | None,
    floors: Sequence[int],
) -> None:
    frame, other = events(1, 0, 0, 300), events(2, 7, 0, 100)
    everything = pl.concat([frame, other])
    for first in range(0, 300, 100):
        commit(speed, frame[first : first + 100])
        full_run(batch, frame[: first + 100])
    seen = []
    with connect(database, "postgres") as owner:
        if first_epoch is not None:
            # As an older schema began with it.
            owner.execute("INSERT INTO serving.speed_progress (partition, epoch) VALUES (7, %s)", [first_epoch])
        commit(speed, other)
        for _ in floors:
            assert_merged(reader, everything)
            seen += owner.execute("SELECT serving.absorbed_floor()").fetchall()
            full_run(batch, everything)
    assert [floor for (floor,) in seen] == floors
    assert_merged(reader, everything)


@pytest.mark.parametrize(
    "question",
    [
        "SELECT * FROM {} ORDER BY bucket DESC, {} LIMIT 5",
        "SELECT * FROM {} ORDER BY bucket DESC, views DESC, {} LIMIT 7 OFFSET 3",
        "SELECT * FROM {} ORDER BY bucket, {} LIMIT 2",
        "SELECT * FROM {} WHERE site = 'shop' ORDER BY bucket DESC, {} LIMIT 3",
        "SELECT * FROM {} WHERE bucket < '2026-11-20' ORDER BY bucket DESC FETCH FIRST 3 ROWS WITH TIES",
        "SELECT * FROM {} ORDER BY bucket DESC LIMIT 100000",
        "SELECT * FROM {} WHERE site = 'nowhere' ORDER BY bucket DESC LIMIT 3",
        "SELECT * FROM {} ORDER BY bucket DESC LIMIT 0",
        "SELECT * FROM {} WHERE views > 1 ORDER BY bucket DESC, {} LIMIT 5",
        "SELECT bucket, sum(views) FROM {} GROUP BY bucket ORDER BY bucket DESC LIMIT 5",
        "SELECT * FROM {} ORDER BY views DESC, bucket, {} LIMIT 5",
        "SELECT DISTINCT bucket FROM {} ORDER BY bucket DESC LIMIT 5",
        "SELECT bucket FROM {} GROUP BY bucket ORDER BY bucket DESC LIMIT 5",
        "SELECT bucket, count(*) OVER () FROM {} ORDER BY bucket DESC, {} LIMIT 5",
        "SELECT bucket, generate_series(1, views::int - 1) FROM {} ORDER BY bucket DESC, {} LIMIT 5",
        "SELECT count(*) FROM (SELECT FROM {} ORDER BY bucket DESC, {} LIMIT 5) AS x",
        "SELECT o.s, x.bucket FROM (VALUES ('demo'), ('shop')) AS o (s) "
        "CROSS JOIN LATERAL (SELECT bucket FROM {} WHERE site = o.s ORDER BY bucket DESC LIMIT 1) AS x",
        "SELECT o.b, x.bucket FROM (VALUES ('2026-11-19'::timestamptz), ('2026-11-21')) AS o (b) "
        "CROSS JOIN LATERAL (SELECT bucket FROM {} ORDER BY o.b, bucket DESC LIMIT 1) AS x",
    ],
)
def test_the_newest_rows_are_the_same_as_of_a_whole_view(
    speed: Connection, batch: Connection, reader: Connection, question: str
) -> None:
    frame = events(1, 0, 0, 900, days=5)
    for known in (300, 600, 900):
        commit(speed, frame[known - 300 : known])
        for view, name in [(one, name) for one in with_rollups(VIEWS) for name in (one.name, one.sketches)]:
            # The keys in the order: without them it leaves open which rows these are.
            statement = question.format(name, ", ".join(view.keys)).replace("bucket", view.shown_group[0]).encode()
            reader.execute("SET braid.fewer_rows = on")
            answer = reader.execute(statement).fetchall()
            reader.execute("SET braid.fewer_rows = off")
            assert sorted(map(str, reader.execute(statement).fetchall())) == sorted(map(str, answer))
        if known < 900:
            full_run(batch, frame[:known])


def test_a_prepared_number_of_newest_rows_is_that_of_each_call(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 900, days=5)
    commit(speed, frame)
    full_run(batch, frame)
    reader.execute(
        "PREPARE newest (int, int) AS SELECT bucket, site FROM site_traffic ORDER BY bucket DESC, site LIMIT $1 OFFSET $2"
    )
    reader.execute("SET braid.fewer_rows = off")
    everything = reader.execute("SELECT bucket, site FROM site_traffic ORDER BY bucket DESC, site").fetchall()
    reader.execute("SET braid.fewer_rows = on")
    for mode in ("force_custom_plan", "force_generic_plan", "auto"):
        reader.execute(f"SET plan_cache_mode = {mode}".encode())
        for limit, offset in ((1, 0), (7, 3), (200, 0), (0, 0), (1_000_000, 0), (3, 90)):
            asked = reader.execute(f"EXECUTE newest ({limit}, {offset})".encode()).fetchall()
            assert asked == everything[offset : offset + limit]


@pytest.mark.parametrize(
    ("question", "is_bounded"),
    [
        ("SELECT * FROM site_traffic WHERE site = 'demo' ORDER BY bucket DESC LIMIT 5", True),
        ("SELECT views FROM site_traffic WHERE bucket > '2026-11-01' ORDER BY bucket, views DESC LIMIT 5 OFFSET 5", True),
        ("SELECT * FROM site_traffic_sketches WHERE site = 'demo' ORDER BY bucket DESC LIMIT 5", True),
        ("SELECT * FROM page_traffic_by_day WHERE site = 'demo' ORDER BY day DESC LIMIT 5", True),
        ("SELECT * FROM site_traffic WHERE visitors > 1 ORDER BY bucket LIMIT 5", False),
        ("SELECT bucket, random() FROM site_traffic ORDER BY bucket LIMIT 5", False),
        ("SELECT * FROM site_traffic WHERE random() < 2 ORDER BY bucket LIMIT 5", False),
        ("SELECT * FROM site_traffic WHERE views > 1 ORDER BY bucket LIMIT 5", False),
        ("SELECT * FROM site_traffic ORDER BY date_trunc('hour', bucket) LIMIT 5", False),
        ("SELECT * FROM site_traffic ORDER BY bucket", False),
        ("SELECT * FROM site_traffic LIMIT 5", False),
    ],
)
def test_a_question_for_the_newest_rows_reads_no_more_than_their_buckets(
    speed: Connection, batch: Connection, reader: Connection, question: str, is_bounded: bool
) -> None:
    frame = events(1, 0, 0, 900, days=5)
    commit(speed, frame)
    full_run(batch, frame)
    query = f"EXPLAIN {question}".encode()
    assert ("= COALESCE((InitPlan" in str(reader.execute(query).fetchall())) == is_bounded
    reader.execute("SET braid.fewer_rows = off")
    assert "COALESCE((InitPlan" not in str(reader.execute(query).fetchall())


@pytest.mark.usefixtures("cli")
def test_query_prints_only_the_result(database: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    fill(database)
    query = (
        "SELECT sum(views) AS views, merged_count(visitors) AS visitors, NULL AS nothing, '' AS empty, "
        "E'a \"q\", [b]\\x1b[31m\\n' AS odd, 1.5::float8 AS half, true AS yes, 50 % 7 AS modulo FROM page_traffic_sketches"
    )
    assert main(["query", query, "--format", "csv"]) == 0
    out, talk = capsys.readouterr()
    visitors = out.splitlines()[1].split(",")[1]
    assert out == f'views,visitors,nothing,empty,odd,half,yes,modulo\n100,{visitors},,,"a ""q"", [b]\x1b[31m\n",1.5,t,1\n'
    assert talk == "1 row\n"
    assert list(csv.reader(io.StringIO(out)))[1][4] == 'a "q", [b]\x1b[31m\n'
    assert main(["query", query, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"views": 100, "visitors": int(visitors), "nothing": None, "empty": "", "odd": 'a "q", [b]\x1b[31m\n',
         "half": 1.5, "yes": True, "modulo": 1}
    ]  # fmt: skip
    assert main(["query", query]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[b]" in out
    assert len(out.splitlines()) == 3
    assert "distinct" not in out
    assert "views   visitors   nothing   empty" in out
    assert main(["query", "SELECT visitors FROM page_traffic_sketches LIMIT 1", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("visitors\n\\x13")
    assert main(["query", "SELECT 1 AS one WHERE false", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.usefixtures("cli")
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT viws FROM page_traffic", 'braid: column "viws" does not exist'),
        ("SELEC 1", 'braid: syntax error at or near "SELEC"'),
        ("SELECT 1; SELECT 2", "braid: cannot insert multiple commands into a prepared statement"),
        ("SELECT value FROM serving.quarantined", "braid: permission denied for view quarantined"),
        ("COPY (SELECT 1) TO STDOUT", "braid: "),
        ("DELETE FROM quarantine", "braid: "),
        ("", "braid: "),
    ],
)
def test_a_bad_statement_ends_with_the_databases_message(
    statement: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", statement]) == 1
    out, talk = capsys.readouterr()
    assert out == ""
    assert talk.startswith(message)
    assert len(talk.splitlines()) <= 4
    assert "Traceback" not in talk


@pytest.mark.usefixtures("cli")
def test_json_has_every_column_and_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    query = (
        "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a, 12345678901234567.123456789::numeric AS n, 9007199254740993 AS i, "
        "1e300::float8 AS f, 1e-7::float8 AS small, 'NaN'::float8 AS no, '-Infinity'::float8 AS less, "
        '\'{"k": 0.12345678901234567890}\'::jsonb AS j, false AS b, \'é"\' AS "t"""'
    )
    assert main(["query", query, "--format", "json"]) == 0
    out = capsys.readouterr().out
    (row,) = json.loads(out, parse_float=Decimal)
    assert row == {
        "a": 1, "a_2": 3, "a_3": 2, "a_4": 4, "n": Decimal("12345678901234567.123456789"), "i": 9007199254740993,
        "f": Decimal("1e300"), "small": Decimal("1e-7"), "no": "NaN", "less": "-Infinity",
        "j": {"k": Decimal("0.12345678901234567890")}, "b": False, 't"': 'é"',
    }  # fmt: skip


@pytest.mark.usefixtures("cli")
def test_a_statement_comes_from_the_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("-- A question.\nSELECT '\\.html$' AS pattern, $$5$$ AS price;\n"))
    assert main(["query", "-", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "pattern,price\n\\.html$,5\n"


def test_several_results_cannot_hide_in_one_statement(reader: Connection) -> None:
    with pytest.raises(QueryRefused):
        run_query(reader, "SELECT 1; SELECT 2")


@pytest.mark.usefixtures("cli")
def test_status_shows_what_is_down_and_what_is_known(database: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    fill(database)
    with connect(database, "batch") as batch:
        begin_run(batch, "full")
    assert main(["status", "--format", "json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert {part["name"]: part["up"] for part in status["health"]} == {
        "Kafka": False, "HDFS NameNode": False, "Storm Nimbus": False, "Spark master": False, "TimescaleDB": True,
    }  # fmt: skip
    assert status["positions"][0] == {
        "partition": 0, "kafka": None, "last_stable_offset": None, "archive": None, "speed": 100, "batch": 0,
        "held_back": None, "archive_lag": None, "speed_lag": None,
    }  # fmt: skip
    assert (status["last_run"]["state"], status["last_run"]["kind"]) == ("running", "full")
    assert status["ledger"][0]["received"] == 100
    assert status["addresses"]["Kafka bootstrap"] == f"127.0.0.1:{database.port_kafka}"
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "DOWN" in out
    address = f"127.0.0.1:{database.port_database}/{database.database_name}"
    assert f"postgresql://reader@{address}?sslmode=disable" in out
    assert f"jdbc:postgresql://{address}?user=reader&sslmode=disable" in out
    password = database.secret("database_reader_password")
    assert password not in out + json.dumps(status)
    assert main(["status", "--show-password"]) == 0
    assert f"postgresql://reader:{password}@{address}" in capsys.readouterr().out


def test_status_of_nothing_is_no_error() -> None:
    settings = Settings(
        kafka_bootstrap="127.0.0.1:1", database_host="127.0.0.1", database_port=1, webhdfs_url="http://127.0.0.1:1",
        nimbus_host="127.0.0.2", spark_master="spark://127.0.0.2:1", secrets_dir=Settings.from_env().secrets_dir,
    )  # fmt: skip
    status = read_status(settings)
    assert not any(part.up for part in status.health)
    assert all(part.detail for part in status.health)
    password = settings.secret("database_reader_password")
    assert not any(password in part.detail for part in status.health)


@pytest.mark.usefixtures("cli")
def test_wait_returns_when_offsets_are_counted_and_says_what_is_missing(
    database: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(database)
    assert main(["wait", "--partition-offsets", '{"0": 100, "1": 0}']) == 0
    assert capsys.readouterr().out == ""
    assert main(["wait", "--partition-offsets", '{"0": 101}', "--timeout-s", "0.3"]) == 1
    assert "has stood still at offset 100 of partition 0, 1 before 101; is the topology running?" in capsys.readouterr().err
    assert main(["wait", "--partition-offsets", "[1]"]) == 1
    assert "is not a JSON object" in capsys.readouterr().err


@pytest.mark.usefixtures("cli")
def test_wait_goes_on_while_the_speed_layer_advances(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock_s, commits = 0.0, [Range.of(events(1, 0, first, 10)) for first in (100, 110, 120)]
    fill(database)

    def sleep(_: float) -> None:
        nonlocal clock_s
        clock_s += 400
        if commits:
            with connect(database, "speed") as speed:
                commit_range(speed, (part := commits.pop(0)).offsets, part.rows, Counts(10, 10, 0), NO_REJECTS, "pageviews")

    monkeypatch.setattr("serving.progress.time", SimpleNamespace(monotonic=lambda: clock_s, sleep=sleep))
    # Each step takes less than the 600 s that are the default, all together take twice as long.
    assert main(["wait", "--partition-offsets", '{"0": 130}']) == 0
    assert clock_s == 1_200
    capsys.readouterr()
    assert main(["wait", "--partition-offsets", '{"0": 140}']) == 1
    assert "for 800 s the speed layer has stood still at offset 130 of partition 0, 10 before 140" in capsys.readouterr().err


@pytest.mark.usefixtures("cli")
def test_welcome_shows_addresses_and_three_queries(database: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    fill(database)
    assert main(["welcome", "--traffic", "none"]) == 0
    out = capsys.readouterr().out
    assert reader_address(Settings.from_env(), "127.0.0.1", database.port_database, show_password=False) in out
    assert database.secret("database_reader_password") not in out
    assert all(query in out for _, query in WELCOME_QUERIES)
    assert main(["welcome", "--timeout-s", "0.3"]) == 1
    assert "has not both batch and speed rows (0 views from batch, 100 from speed)" in capsys.readouterr().err


def test_the_printed_dsn_connects(database: Settings) -> None:
    dsn = reader_dsn(database, database.database_host, database.database_port)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM site_traffic").fetchone() == (0,)


def test_a_missing_server_is_one_clear_error_without_the_password(database: Settings) -> None:
    with pytest.raises(EngineUnavailable, match=r"TimescaleDB at 127\.0\.0\.1:1 does not answer") as refused:
        connect(replace(database, database_host="127.0.0.1", database_port=1), "reader")
    assert database.secret("database_reader_password") not in str(refused.value)
    assert isinstance(refused.value, BraidError)
