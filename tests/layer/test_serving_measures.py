"""Measures in SQL: merged there, stored values are those that Python merges, and plain columns are what they say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Exactly
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from psycopg import sql

from contract.aggregate import aggregate, merge
from contract.measures import Count, Measure, decimal_sql
from contract.measures_of_many import Histogram, Mean
from contract.measures_of_one import First, Last, Max, Min
from contract.settings import Settings
from contract.sketches import hll
from contract.sketches.hash import hash_texts
from contract.views import VIEWS
from serving.database import Connection, connect
from serving.migrate import migrate
from tests.fixtures.handoff import assert_merged, commit, full_run
from tests.fixtures.pageviews import events as page_views
from tests.fixtures.trips import OF_ANY, OF_ONE, TRIPS, VIEW, frame
from tests.fixtures.views import of_page_views


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with connect(database, "postgres") as connection:
        yield connection


def drawn(seed: int, count: int) -> pl.DataFrame:
    """Events of few times, some without this or that."""
    chance = random.Random(seed)

    def some(value: Any) -> Any:
        return None if chance.random() < 0.3 else value

    def moment() -> datetime:
        minutes, microseconds = 13 * chance.randrange(9), chance.randrange(2)
        return datetime(2026, 5, 17, 12, tzinfo=UTC) + timedelta(minutes=minutes, microseconds=microseconds)

    return frame(
        [
            {
                "at": moment(),
                "note": some(chance.choice(["", "b", "B", "ä", "a\tb", "\U0001f600"])),
                "floor": some(chance.randint(-9, 9)),
                "fare": some(Exactly(chance.randint(-10_000, 10_000)).scaleb(-2)),
                "load": some(chance.choice([0.0, -0.0, 1e300, -1e300, chance.gauss(0, 9), 1 / 3])),
                "is_member": some(chance.random() < 0.5),
                "kind": some(chance.choice("ab")),
                "ended_at": some(moment()),
                "huge": chance.randrange(1 << 62),
            }
            for _ in range(count)
        ]
    )


def stored(owner: Connection, parts: list[pl.DataFrame]) -> None:
    """The rows of all parts in a table, as batch and speed tables have them."""
    columns = [sql.SQL("{} {}").format(sql.Identifier(m.name), sql.SQL(m.sql_type)) for m in VIEW.measures]
    table = sql.SQL("CREATE TEMP TABLE part (n int, bucket timestamptz, kind text, {})")
    owner.execute(table.format(sql.SQL(", ").join(columns)))
    with owner.cursor().copy("COPY part FROM STDIN") as copy:
        for number, part in enumerate(parts):
            for row in part.iter_rows():
                copy.write_row((number, *row))


def measures(template: str, *tables: str) -> sql.Composed:
    """Of each measure its SQL of that name, of the column of each table."""

    def one(measure: Measure) -> sql.Composed:
        columns = [sql.Identifier(table, measure.name) for table in tables]
        return sql.SQL("{} AS {}").format(sql.SQL(getattr(measure, template)).format(*columns), sql.Identifier(measure.name))

    return sql.SQL(", ").join(map(one, VIEW.measures))


def asked(owner: Connection, query: sql.Composed) -> list[tuple[Any, ...]]:
    return [tuple(map(bits, row)) for row in owner.execute(query).fetchall()]


def bits(value: Any) -> Any:
    """What tells zeros apart that are equal, and sketches as the database prints them."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value.hex() if isinstance(value, float) else value


def rows_of(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(map(bits, row)) for row in rows.iter_rows()]


@pytest.mark.parametrize("seed", range(3))
def test_stored_values_merge_in_sql_as_in_python(owner: Connection, seed: int) -> None:
    events = drawn(seed, 300)
    parts = [aggregate(events[first : first + 40], TRIPS.views)["trips"] for first in range(0, 300, 40)]
    stored(owner, parts)
    whole = rows_of(aggregate(events, TRIPS.views)["trips"])
    assert rows_of(merge(VIEW, parts)) == whole
    merged = sql.SQL('SELECT bucket, kind, {} FROM {} AS p GROUP BY bucket, kind ORDER BY bucket, kind COLLATE "C"')
    assert asked(owner, merged.format(measures("sql_merge", "p"), sql.SQL("part"))) == whole
    nested = sql.SQL("(SELECT bucket, kind, {} FROM part AS p GROUP BY n / 3, bucket, kind)").format(
        measures("sql_merge", "p")
    )
    assert asked(owner, merged.format(measures("sql_merge", "p"), nested)) == whole
    added = sql.SQL(
        "SELECT bucket, kind, {} FROM part AS a JOIN part AS b USING (bucket, kind) WHERE a.n = 0 AND b.n = 1 "
        'ORDER BY bucket, kind COLLATE "C"'
    ).format(measures("sql_add", "a", "b"))
    in_both = parts[0].join(parts[1], on=["bucket", "kind"], how="semi").select("bucket", "kind")
    expected = merge(VIEW, parts[:2]).join(in_both, on=["bucket", "kind"], how="semi", maintain_order="left")
    assert asked(owner, added) == rows_of(expected)
    assert len(expected) > 2


@pytest.mark.parametrize("precision", range(hll.LEAST_LOG2M, hll.MOST_LOG2M + 1))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 500, 5_000, 50_000])
def test_a_sketch_of_another_precision_has_the_bytes_of_the_extension(owner: Connection, precision: int, count: int) -> None:
    texts = [f"visitor ü {number}" for number in range(count)]
    ours = bits(hll.encode(hll.entries_of(hash_texts(texts), precision), precision))
    raw = f"coalesce(hll_add_agg(hll_hash_text(t), {precision}, 5, 0, 1), hll_empty({precision}, 5, 0, 1))"
    theirs = f"SELECT {raw}::text FROM unnest(%s::text[]) AS t"
    assert owner.execute(theirs.encode(), [texts]).fetchone() == (ours,)
    halves = f"SELECT {raw} AS half FROM unnest(%s::text[]) WITH ORDINALITY AS u (t, n) GROUP BY n %% 3"
    merged = f"SELECT hll_union_agg(half)::text FROM ({halves}) AS h"
    assert owner.execute(merged.encode(), [texts]).fetchone() == (ours if count else None,)
    (found,) = owner.execute(b"SELECT distinct_count(%s::hll)", [ours]).fetchone() or (None,)
    assert abs(found - count) <= 4 * hll.standard_error(precision) * count


def test_plain_columns_are_what_they_say(owner: Connection) -> None:
    events = drawn(7, 200)
    stored(owner, [aggregate(events, TRIPS.views)["trips"]])
    columns = [(column, sql.SQL(column.sql).format(sql.Identifier(m.name))) for m in VIEW.measures for column in m.plain]
    of_types = sql.SQL(", ").join(sql.SQL("pg_typeof({})::text").format(value) for _, value in columns)
    types = owner.execute(sql.SQL("SELECT {} FROM part LIMIT 1").format(of_types)).fetchone()
    spelled = {"timestamptz": "timestamp with time zone"}
    assert types == tuple(spelled.get(column.sql_type, column.sql_type) for column, _ in columns)
    question = sql.SQL("SELECT bucket, kind, {} FROM part").format(sql.SQL(", ").join(value for _, value in columns))
    for bucket, kind, *values in owner.execute(question).fetchall():
        row = dict(zip((column.name for column, _ in columns), values, strict=True))
        its = events.filter(
            (pl.col("at").dt.truncate("1h") == pl.lit(bucket)) & (pl.col("kind").fill_null("") == kind)
        ).sort("at", "offset", "partition")
        for name in OF_ANY:
            known = its[name].drop_nulls().to_list()
            assert (row[f"first_{name}"], row[f"last_{name}"]) == ((known[0], known[-1]) if known else (None, None))
            if name in OF_ONE:
                least, greatest = min(known, default=None), max(known, default=None)
                assert (row[f"least_{name}"], row[f"greatest_{name}"]) == (least, greatest)
        fares = its["fare"].drop_nulls().to_list()
        assert row["fare"] == sum(fares)
        assert row["mean_fare"] == (pytest.approx(float(sum(fares) / len(fares))) if fares else None)
        bounds = [-Exactly("Infinity"), Exactly("-0.5"), Exactly(0), Exactly("9.99"), Exactly("Infinity")]
        in_ranges = [sum(low <= fare < high for fare in fares) for low, high in pairwise(bounds)]
        assert [row[f"fares_{place}"] for place in range(4)] == in_ranges


@pytest.mark.parametrize("units", [0, 5, -5, 123_456_789_123_456_789, -(10**18) + 1, (1 << 63) - 1])
@pytest.mark.parametrize("places", [1, 2, 9])
def test_a_decimal_is_shown_with_all_its_digits(owner: Connection, units: int, places: int) -> None:
    shown = sql.SQL("SELECT {}").format(sql.SQL(decimal_sql("{0}", places)).format(sql.Literal(str(units))))
    assert owner.execute(shown).fetchone() == (Exactly(units).scaleb(-places),)


def test_a_view_with_them_is_committed_computed_and_merged(database: Settings, reader: Connection) -> None:
    measures = (
        Count("views"), Min("least", of="duration_ms"), Max("greatest", of="bytes_sent"), Mean("size", of="bytes_sent"),
        Histogram("sizes", of="bytes_sent", bounds=(1_000, 100_000)), First("first_referrer", of="referrer"),
        Last("last_status", of="status"), Min("earliest", of="event_time"),
    )  # fmt: skip
    views = (*VIEWS, of_page_views("sizes_and_times", ("site",), timedelta(hours=1), measures, by_day=True))
    assert migrate(database, views)
    frame = pl.concat(page_views(1, 0, first, 100) for first in (0, 100, 200))
    with connect(database, "speed") as speed, connect(database, "batch") as batch:
        commit(speed, frame[:100], views=views)
        full_run(batch, frame[:100], views=views)
        commit(speed, frame[100:], views=views)
        assert_merged(reader, frame, views)
        # Rows are compared with those that readers had, nulls among them.
        full_run(batch, frame, views=views)
        assert_merged(reader, frame, views)


def test_numbers_of_other_lengths_are_refused(owner: Connection) -> None:
    with pytest.raises(Exception, match="numbers_add takes as many numbers of each, not 1 and 2"):
        owner.execute("SELECT numbers_add('{1}', '{1, 2}')")
