"""The server's module: the same bytes as SQL and Python, and questions that are answered from rows of days."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psycopg
import pytest

import serving.migrate
from contract.settings import Settings
from contract.sketches import hll
from contract.sketches.hash import hash_texts
from serving.database import Connection, connect
from serving.migrate import migrate
from tests.fixtures.handoff import assert_merged, commit, full_run
from tests.fixtures.pageviews import events
from tests.layer.test_serving_sketches import merged, random_histograms

_SKETCHES = Path(serving.migrate.__file__).parent / "sql" / "10_sketches.sql"
_NATIVE_SUMS = {
    *(f"{name}({kind})" for name in ("sketch_merge", "rollup") for kind in ("bigint[]", "hll")),
    *("hll_merge(hll)", "merged_count(hll)", "merged_percentile(double precision,bigint[])"),
}
_OWN_NAMES = (
    r"(?:public|serving)\.(total|sketch_merge|rollup|hll_merge|merged_\w+|distinct_count|histogram_\w+|percentile_[gcs]\w+"
    r"|approx_\w+|seen\w*)\b"
)


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    """Schema `plain` has the forms in SQL, as a server without the module has them in `public`."""
    with connect(database, "postgres") as connection:
        connection.execute("CREATE SCHEMA plain")
        connection.execute(re.sub(_OWN_NAMES, r"plain.\1", _SKETCHES.read_text(encoding="utf-8")).encode())
        yield connection


def native_sums(connection: Connection) -> set[str]:
    """The aggregates that the module's functions make, and of what."""
    rows = connection.execute(
        "SELECT aggfnoid::regprocedure::text FROM pg_aggregate WHERE aggtransfn::regproc::text LIKE '%native%'"
    )
    return {name for (name,) in rows}


def sketches(seed: int, number: int) -> list[str]:
    chance = random.Random(seed)
    sizes = [0, 1, 2, 638, 639, 640, 700, 30_000]
    return [
        "\\x" + hll.encode(hll.entries_of(hash_texts([f"{n} {i}" for i in range(size)]))).hex()
        for n, size in enumerate(chance.choice([chance.choice(sizes), chance.randrange(60)]) for _ in range(number))
    ]


def test_the_server_has_the_module(owner: Connection) -> None:
    assert native_sums(owner) == _NATIVE_SUMS


@pytest.mark.parametrize(("seed", "number"), [(1, 1), (2, 2), (3, 40), (4, 300)])
def test_the_module_has_the_bytes_of_sql_and_python(owner: Connection, seed: int, number: int) -> None:
    histograms = random_histograms(seed, number)
    owner.execute("CREATE TEMP TABLE part (n int, latency bigint[], visitors hll)")
    with owner.cursor().copy("COPY part FROM STDIN") as copy:
        for row in zip(range(number), histograms, sketches(seed, number), strict=True):
            copy.write_row(row)
    whole = owner.execute("SELECT rollup(latency), plain.rollup(latency) FROM part").fetchone()
    assert whole == (merged(histograms), merged(histograms))
    for groups in (1, 2, 7, 1_000):
        differing = owner.execute(
            "SELECT count(*) FROM (SELECT rollup(latency) AS a, plain.rollup(latency) AS b, rollup(visitors)::text AS c, "
            "hll_merge(visitors)::text AS d, plain.rollup(visitors)::text AS e, sketch_merge(latency) AS f, "
            "sketch_merge(visitors)::text AS g, distinct_count(rollup(visitors)) AS count, merged_count(visitors) AS h, "
            "plain.merged_count(visitors) AS i, approx_percentile(0.95, rollup(latency)) AS percentile, "
            "merged_percentile(0.95, latency) AS j, plain.merged_percentile(0.95, latency) AS k "
            "FROM part GROUP BY n %% %s) AS x "
            "WHERE a IS DISTINCT FROM b OR a IS DISTINCT FROM f OR c <> e OR d <> e OR g <> e OR (h, i) <> (count, count) "
            "OR j IS DISTINCT FROM percentile OR k IS DISTINCT FROM percentile",
            [groups],
        ).fetchone()
        assert differing == (0,)
    differing = owner.execute(
        "SELECT count(*) FROM part AS a JOIN part AS b ON b.n = (a.n + 1) %% %s "
        "WHERE histogram_add(a.latency, b.latency) <> plain.histogram_add(a.latency, b.latency)",
        [number],
    ).fetchone()
    assert differing == (0,)
    answers = owner.execute(
        "SELECT approx_percentile(f, latency), plain.approx_percentile(f, latency) FROM part, "
        "unnest('{0,0.001,0.5,0.95,0.999,1}'::float8[]) AS f"
    ).fetchall()
    assert [one for one, other in answers if one != other] == []


@pytest.mark.parametrize(
    "histograms",
    [
        ["{}", "{}"],
        ["{}", "{-90353467675901951}"],
        ["{281474976710657}", "{281474976710657,9223090561878065152}", "{-9223372036854775807}"],
        ["{281474976710656}", "{281474976710656}"],
        ["{562949953421313,281474976710657,281474976710658}", "{281474976710657}"],
        ["{281474976710657,NULL}", "{844424930131969}", "{1125899906842625}"],
        [
            "{" + ",".join(str((b << 48) + 1) for b in range(-400, 900)) + "}",
            "{" + ",".join(str((b << 48) + 2) for b in range(30)) + "}",
        ],
    ],
)
def test_odd_histograms_add_up_alike(owner: Connection, histograms: list[str]) -> None:
    # The forms in SQL sort a group of many rows as a whole, whatever was in it; empty ones make it many.
    everything = histograms + ["{" + ",".join(str((b << 48) + 1) for b in range(30)) + "}"] * 2
    row = owner.execute("SELECT rollup(one::bigint[]) FROM unnest(%s::text[]) AS t (one)", [everything]).fetchone()
    # A null is no entry.
    entries = [int(entry) for one in everything for entry in re.findall(r"-?[0-9]+", one)]
    compact = owner.execute("SELECT plain.histogram_compact(%s::bigint[])", [entries]).fetchone()
    assert row
    assert compact
    assert row[0] == compact[0]


@pytest.mark.parametrize(
    "call",
    [
        # Nobody's events make any of these.
        "approx_percentile(0.5, '{NULL}')",
        "approx_percentile(0.5, '{281474976710657,NULL,562949953421315}')",
        "approx_percentile(0, '{281474976710656}')",
        "approx_percentile(0.5, ARRAY[(16383::bigint << 48) + 1])",
        "approx_percentile(0.5, ARRAY[(16384::bigint << 48) + 1])",
        "approx_percentile(0.5, ARRAY[(32767::bigint << 48) + 1])",
        "approx_percentile(0.5, '{-9223372036854775807}')",
        "approx_percentile(0.5, array_fill(281474976710655, '{32768}'))",
        "approx_percentile(1, array_fill(281474976710655, '{32768}'))",
        "approx_percentile(0.5, array_fill(281474976710655, '{32769}'))",
        "histogram_add('{281474976710655}', '{281474976710655}')",
        "histogram_add('{9223372036854775806}', '{9223372036854775806}')",
        "rollup(h) FROM (VALUES ('{9223372036854775806}'::bigint[]), ('{9223372036854775806}')) AS v (h)",
    ],
)
def test_where_numbers_end_both_forms_answer_or_refuse_alike(owner: Connection, call: str) -> None:
    def told(schema: str) -> object:
        try:
            return owner.execute(f"SELECT {schema}.{call}".encode()).fetchone()
        except psycopg.errors.NumericValueOutOfRange as error:
            return error.diag.message_primary

    assert told("public") == told("plain")


def test_parallel_workers_give_the_same_bytes(owner: Connection) -> None:
    owner.execute(
        "CREATE TABLE part AS SELECT n % 3 AS rest, ARRAY[((n % 300)::bigint << 48) + n % 9 + 1] AS latency, "
        "hll_add(hll_empty(11, 5, 0, 1), hll_hash_text(n::text)) AS visitors FROM generate_series(1, 30000) AS n"
    )
    owner.execute("ANALYZE part")
    query = (
        "SELECT rest, rollup(latency), rollup(visitors)::text, merged_count(visitors), merged_percentile(0.9, latency), "
        "total(rest) FROM part GROUP BY 1 ORDER BY 1"
    )
    alone = owner.execute(query.encode()).fetchall()
    owner.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
    assert "Partial" in str(owner.execute(f"EXPLAIN {query}".encode()).fetchall())
    assert owner.execute(query.encode()).fetchall() == alone


def test_what_is_no_sketch_of_ours_is_refused(owner: Connection) -> None:
    other = "SELECT sketch_merge(hll_add(hll_empty(12, 5, 0, 1), hll_hash_text(t))) FROM unnest('{a,b}'::text[]) AS t"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"sketches of the type hll\(11, 5, 0, 1\)"):
        owner.execute(other)


@pytest.mark.parametrize("schema", ["public", "plain"])
def test_percentiles_of_a_group_are_of_one_fraction_and_of_what_is_there(owner: Connection, schema: str) -> None:
    of = f"SELECT {schema}.merged_percentile(f, h) FROM (VALUES {{}}) AS t (f, h)"
    with pytest.raises(
        psycopg.errors.InvalidParameterValue, match=r"one fraction for all rows of a group, not 0\.5 and 0\.9"
    ):
        owner.execute(of.format("(0.5, '{1}'::bigint[]), (0.9, '{1}')").encode())
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"95th percentile is 0\.95"):
        owner.execute(of.format("(95, '{1}'::bigint[])").encode())
    for nothing in ("(0.5, '{}'::bigint[])", "(0.5, NULL::bigint[])", "(NULL::float8, '{1}'::bigint[])"):
        assert owner.execute(of.format(nothing).encode()).fetchone() == (None,)
    assert owner.execute(f"SELECT {schema}.merged_count(v) FROM (VALUES (NULL::hll)) AS t (v)".encode()).fetchone() == (
        None,
    )
    known = of.format("(0.5, NULL::bigint[]), (0.5, '{1}'::bigint[]), (NULL, '{1}')")
    assert owner.execute(known.encode()).fetchone() == owner.execute("SELECT approx_percentile(0.5, '{1}')").fetchone()


def test_a_server_without_the_module_has_the_forms_in_sql(
    database: Settings, speed: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = events(1, 0, 0, 300)
    commit(speed, frame[:200])
    monkeypatch.setattr(serving.migrate, "MODULE", "no_such_module")
    assert migrate(database)
    assert not migrate(database)
    commit(speed, frame[200:])
    with connect(database, "reader") as reader:
        assert native_sums(reader) == set()
        assert_merged(reader, frame)
    monkeypatch.undo()
    assert migrate(database)
    with connect(database, "reader") as reader:
        assert native_sums(reader) == _NATIVE_SUMS
        assert_merged(reader, frame)


def reads_days(connection: Connection, statement: bytes) -> bool:
    """Whether the plan is of a view of days, which alone puts speed rows into other buckets than their own."""
    return "date_bin" in str(connection.execute(b"EXPLAIN (VERBOSE) " + statement).fetchall())


@pytest.mark.parametrize(
    ("query", "of_days"),
    [
        ("SELECT sum(views), distinct_count(rollup(visitors)) FROM site_traffic_sketches WHERE site = 'demo'", True),
        ("SELECT total(views), merged_count(visitors) FROM site_traffic_sketches WHERE site = 'demo'", True),
        ("SELECT site, merged_percentile(0.9, latency) FROM page_traffic_sketches GROUP BY site", True),
        ("SELECT page, total(views) AS n, sum(bytes_sent)::bigint FROM page_traffic GROUP BY page ORDER BY n, page", True),
        # These are worked out of a row's sketch, and are not those of a day's.
        ("SELECT sum(visitors) FROM site_traffic", False),
        ("SELECT total(visitors) FROM site_traffic WHERE site = 'demo'", False),
        ("SELECT sum(latency_p50) FROM site_traffic", False),
        ("SELECT site, total(views) FROM site_traffic GROUP BY site HAVING max(visitors) > 0", False),
        ("SELECT merged_percentile(views * 0 + 0.5, latency) FROM site_traffic_sketches", False),
        (
            "SELECT site, sum(views) AS n FROM page_traffic GROUP BY site HAVING sum(errors) > 1 ORDER BY n DESC LIMIT 1",
            True,
        ),
        ("SELECT page, rollup(latency) FROM page_traffic_sketches WHERE page LIKE '/%' GROUP BY page", True),
        ("SELECT sum(views) FILTER (WHERE site = 'shop'), sum(batch_views), sum(speed_views) FROM site_traffic", True),
        ("SELECT DISTINCT site FROM page_traffic", True),
        ("WITH s AS (SELECT sum(bytes_sent) AS b FROM site_traffic) SELECT b FROM s", True),
        ("SELECT site, sum(sum(views)) OVER () FROM site_traffic GROUP BY site", True),
        ("SELECT count(*) FROM site_traffic", False),
        ("SELECT max(views) FROM site_traffic", False),
        ("SELECT min(views) FROM site_traffic", False),
        ("SELECT count(views) FROM site_traffic", False),
        ("SELECT avg(views) FROM site_traffic", False),
        ("SELECT bit_or(views) FROM site_traffic", False),
        ("SELECT rollup(latency ORDER BY bucket) FROM site_traffic_sketches", False),
        ("SELECT sum(1 ORDER BY views) FROM site_traffic", False),
        ("SELECT total(views ORDER BY views) FROM site_traffic", True),
        ("SELECT page FROM page_traffic GROUP BY page", True),
        ("SELECT site FROM site_traffic", False),
        ("SELECT sum(views) FROM site_traffic WHERE views > 2", False),
        ("SELECT sum(views * 2) FROM site_traffic", False),
        ("SELECT sum(DISTINCT views) FROM site_traffic", False),
        ("SELECT sum(views) FROM site_traffic HAVING count(*) > 1", False),
        ("SELECT sum(views) FROM site_traffic WHERE bucket > '2026-11-20 12:00'", False),
        ("SELECT time_bucket('1 hour', bucket) AS h, sum(views) FROM site_traffic GROUP BY h", False),
        ("SELECT sum(views) FROM site_traffic WHERE random() < 2", False),
        ("SELECT sum(a.views) FROM site_traffic AS a JOIN site_traffic AS b USING (site)", False),
        ("SELECT sum(views) FROM site_traffic WHERE site IN (SELECT site FROM page_traffic)", False),
        ("SELECT site, views FROM site_traffic", False),
        ("SELECT DISTINCT site, count(*) OVER () FROM site_traffic", False),
        ("SELECT DISTINCT site, rank() OVER (ORDER BY site) FROM site_traffic", False),
    ],
)
def test_sums_of_all_rows_are_read_from_rows_of_days(
    database: Settings, speed: Connection, batch: Connection, reader: Connection, query: str, of_days: bool
) -> None:
    frame = events(1, 0, 0, 900, days=5)
    commit(speed, frame[:600])
    full_run(batch, frame[:600])
    commit(speed, frame[600:])
    statement = query.encode()
    answer = reader.execute(statement).fetchall()
    assert reads_days(reader, statement) == of_days
    reader.execute("SET braid.fewer_rows = off")
    assert sorted(map(str, reader.execute(statement).fetchall())) == sorted(map(str, answer))
    assert not reads_days(reader, statement)


def test_the_bound_of_absorbed_rows_is_looked_up_once_in_a_statement(
    database: Settings, speed: Connection, batch: Connection
) -> None:
    frame = events(1, 0, 0, 300)
    commit(speed, frame[:10])
    full_run(batch, frame[:10])
    commit(speed, frame[10:])
    with connect(database, "postgres") as owner, owner.transaction():
        owner.execute(
            "SET LOCAL track_functions = 'all'; SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off"
        )

        def calls(explain: str) -> int:
            """So many since the transaction began."""
            plan = str(owner.execute(f"{explain} SELECT * FROM page_traffic".encode()).fetchall())
            assert "Filter: (epoch > serving.absorbed_floor())" in plan
            row = owner.execute("SELECT pg_stat_get_xact_function_calls('serving.read_absorbed_floor'::regproc)").fetchone()
            assert row
            return int(row[0])

        planning = calls("EXPLAIN")
        assert planning
        assert calls("EXPLAIN ANALYZE") == 2 * planning + 1


def test_what_is_only_called_a_sum_is_not_answered_from_rows_of_days(database: Settings, speed: Connection) -> None:
    commit(speed, events(1, 0, 0, 900, days=5))
    with connect(database, "postgres") as owner:
        owner.execute(
            "LOAD 'braid'; CREATE SCHEMA theirs; CREATE AGGREGATE theirs.sum(bigint) (sfunc = int8larger, stype = bigint);"
            "CREATE AGGREGATE theirs.rollup(bigint) (sfunc = int8larger, stype = bigint)"
        )
        for name in ("sum", "rollup"):
            question = f"SELECT theirs.{name}(views) FROM site_traffic".encode()
            assert not reads_days(owner, question)
            assert owner.execute(question).fetchone() == owner.execute("SELECT max(views) FROM site_traffic").fetchone()
        assert reads_days(owner, b"SELECT sum(views) FROM site_traffic")


def test_views_that_have_only_the_names_of_ours_are_asked_as_they_are(
    database: Settings, speed: Connection, batch: Connection
) -> None:
    frame = events(1, 0, 0, 900, days=5)
    commit(speed, frame)
    full_run(batch, frame)
    with connect(database, "postgres") as owner:
        copied = "SELECT bucket, site, views, errors FROM serving.site_traffic_merged"
        of_days = {
            # Not of days: other columns, more, other types, no view, and of another owner.
            "reordered": "VIEW {} AS SELECT bucket, site, errors, views FROM serving.site_traffic_merged",
            "wider": "VIEW {} AS SELECT bucket, site, views, errors, 1 AS more FROM serving.site_traffic_merged WHERE false",
            "narrower": "VIEW {} AS SELECT bucket, site, views, errors::int FROM serving.site_traffic_merged",
            "stored": f"TABLE {{}} AS {copied} WHERE false",
            "foreign_days": f"VIEW {{}} AS {copied} WHERE false",
        }
        of_days |= dict.fromkeys(("part", "foreign_rows", "foreign_batch", "renamed"), of_days["foreign_days"])
        owner.execute("LOAD 'braid'; CREATE SCHEMA tenant AUTHORIZATION braid_owner; SET ROLE braid_owner")
        for name, created in of_days.items():
            owner.execute(f"CREATE VIEW serving.{name}_merged AS {copied}".encode())
            owner.execute(f"CREATE {created.format(f'serving.{name}_by_day_merged')}".encode())
            owner.execute(f"CREATE VIEW {name} AS SELECT * FROM serving.{name}_merged".encode())
        # It shows not all rows, and those of a view that has not its name.
        owner.execute("CREATE OR REPLACE VIEW part AS SELECT * FROM serving.part_merged WHERE site = 'demo'")
        owner.execute("ALTER VIEW renamed RENAME TO other_name")
        owner.execute("CREATE VIEW serving.foreign_batch_batch AS SELECT 'infinity'::timestamptz AS bucket, 'x' AS site")
        # Of the same owner, with the same names and columns, and with rows that are older than the newest of all.
        for name in ("site_traffic", "site_traffic_by_day"):
            owner.execute(
                f"CREATE VIEW tenant.{name}_merged AS SELECT * FROM serving.{name}_merged WHERE site = 'demo' "
                "AND bucket < '2026-11-19'".encode()
            )
        for schema in ("public", "tenant"):
            owner.execute(
                f"CREATE {'OR REPLACE ' * (schema == 'public')}VIEW {schema}.site_traffic_sketches AS "
                "SELECT * FROM tenant.site_traffic_merged".encode()
            )
        owner.execute("RESET ROLE")
        for name in ("foreign_days_by_day_merged", "foreign_rows_merged", "foreign_batch_batch"):
            owner.execute(f"ALTER VIEW serving.{name} OWNER TO postgres".encode())
            owner.execute(f"GRANT SELECT ON serving.{name} TO braid_owner".encode())
        for question in (
            "SELECT sum(views) FROM tenant.site_traffic_sketches",
            "SELECT sum(views) FROM site_traffic_sketches",
            "SELECT bucket, views FROM tenant.site_traffic_sketches ORDER BY bucket DESC LIMIT 3",
            "SELECT bucket, views FROM site_traffic_sketches ORDER BY bucket DESC LIMIT 3",
            "SELECT bucket, views FROM foreign_batch ORDER BY bucket DESC LIMIT 3",
            "SELECT sum(views) FROM reordered",
            *(f"SELECT sum(errors) FROM {name}" for name in ("wider", "narrower", "stored", "foreign_days")),
            *(f"SELECT sum(views) FROM {name}" for name in ("part", "foreign_rows", "other_name")),
        ):
            owner.execute("SET braid.fewer_rows = on")
            answer = owner.execute(question.encode()).fetchall()
            owner.execute("SET braid.fewer_rows = off")
            assert owner.execute(question.encode()).fetchall() == answer
            assert answer[0][-1] is not None, question


def test_a_prepared_question_follows_what_comes_and_whoever_may_ask_the_view_may_ask_it(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 900, days=5)
    commit(speed, frame[:600])
    reader.execute("PREPARE asked (text) AS SELECT sum(views) FROM site_traffic WHERE site = $1")
    for end in (600, 750, 900):
        if end > 600:
            commit(speed, frame[end - 150 : end])
        full_run(batch, frame[:end])
        expected = frame[:end].filter(pl.col("site") == "demo").height
        for _ in range(6):
            assert reader.execute("EXECUTE asked ('demo')").fetchone() == (expected,)
    with connect(database, "postgres") as owner:
        owner.execute("REVOKE SELECT ON site_traffic_by_day, site_traffic_by_day_sketches FROM reader")
    assert reader.execute("SELECT sum(views) FROM site_traffic").fetchone() == (900,)
