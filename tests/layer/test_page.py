"""The live page's questions on a real database: what they answer, what they may not do, and a connection that breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from contract.errors import BraidError, QueryRefused
from contract.measures import Count, Distinct
from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, connect
from serving.handoff import positions
from serving.migrate import migrate
from serving.page import questions
from serving.page.line import Line, Refused
from serving.page.scope import RANGES, Scope
from serving.page.sql_box import LIMIT_S, MOST_BYTES, MOST_ROWS, SqlBox
from tests.fixtures.cookbook import events, fill
from tests.fixtures.handoff import commit
from tests.fixtures.views import of_page_views
from tests.oracle import host_of

SHOP, ALL = "shop", ""
SINCE = datetime(2026, 11, 10, tzinfo=UTC)


@pytest.fixture
def filled(database: Settings, speed: Connection, batch: Connection) -> pl.DataFrame:
    """The events of docs/sql.md, in the database; the second of the last day is no event there."""
    fill(speed, batch)
    return events()


@pytest.mark.parametrize("site", [SHOP, ALL])
@pytest.mark.parametrize("name", ["15m", "6h", "24h", "7d", "30d"])
def test_rows_of_a_range_are_the_events_of_its_steps(reader: Connection, filled: pl.DataFrame, site: str, name: str):
    rows = questions.series(reader, Scope(site, name), SINCE)
    step_s = int(RANGES[name].step.total_seconds())
    at = pl.col("event_time").dt.epoch("s") // step_s * step_s
    chosen = filled.filter((pl.col("event_time") >= SINCE) & ((pl.col("site") == site) | (site == ALL)))
    expected = chosen.group_by(at.alias("at_s")).agg(
        pl.len().alias("views"), (pl.col("status") >= 500).sum().alias("errors"), pl.col("visitor_id").n_unique()
    )
    assert [(row.at_s, row.batch + row.speed, row.errors) for row in rows] == expected.sort("at_s").select(
        "at_s", "views", "errors"
    ).rows()
    # Of so few visitors the sketch knows nearly each one.
    for row, visitors in zip(rows, expected.sort("at_s")["visitor_id"], strict=True):
        assert abs(row.visitors - visitors) <= max(1, 0.07 * visitors)
        assert row.p50_ms is None or row.p50_ms <= (row.p95_ms or 0) <= (row.p99_ms or 0)
    assert {row.speed > 0 for row in rows} == {True, False}


def test_what_a_page_has_is_merged_over_its_rows(reader: Connection, filled: pl.DataFrame):
    scope = Scope(SHOP, "7d")
    (first, *_) = found = questions.top_pages(reader, scope, SINCE)
    chosen = filled.filter((pl.col("event_time") >= SINCE) & (pl.col("site") == SHOP))
    expected = chosen.group_by("page").agg(pl.len()).sort("len", "page", descending=[True, False])
    assert [(page["page"], page["views"]) for page in found] == expected.rows()
    visitors = chosen.filter(pl.col("page") == first["page"])["visitor_id"].n_unique()
    assert abs(first["visitors"] - visitors) <= 3
    total = questions.totals(reader, scope, SINCE)
    assert abs(total["visitors"] - chosen["visitor_id"].n_unique()) <= 5
    assert total["bytes_sent"] == chosen["bytes_sent"].sum()
    assert questions.sites(reader) == ["shop", "blog"]


@pytest.mark.parametrize("name", ["24h", "30d"])
def test_referrers_are_those_of_other_sites_and_direct_visits(reader: Connection, filled: pl.DataFrame, name: str) -> None:
    found = questions.top_referrers(reader, Scope(SHOP, name), SINCE)
    outcome = [
        (host_of(referrer), visitor)
        for time, site, referrer, visitor in filled.select("event_time", "site", "referrer", "visitor_id").iter_rows()
        if time >= SINCE and site == SHOP and host_of(referrer) != SHOP
    ]
    views = Counter(host for host, _ in outcome)
    assert [(row["referrer_host"], row["views"]) for row in found] == sorted(
        views.items(), key=lambda item: (-item[1], item[0])
    )
    assert {row["referrer_host"] for row in found} > {"", "search.example"}
    for row in found:
        visitors = len({visitor for host, visitor in outcome if host == row["referrer_host"]})
        assert abs(row["visitors"] - visitors) <= max(1, 0.07 * visitors)


def test_referrers_of_another_catalogue_are_those_of_the_view_that_has_them(
    empty_database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "VIEWS", VIEWS[:1])
    assert questions.referrer_view() is None
    view = of_page_views(
        "origins", ("site", "referrer_host"), timedelta(hours=1), (Count("views"), Distinct("visitors", of="visitor_id"))
    )
    views = (*VIEWS[:1], view)
    migrate(empty_database, views)
    frame = events().with_columns(
        referrer=pl.when(pl.col("site") == "blog").then(pl.lit("https://news.example/a")),
        partition=0,
        offset=pl.int_range(pl.len()),
    )
    with connect(empty_database, "speed") as speed:
        positions(speed, 1)
        commit(speed, frame, views=views)
    monkeypatch.setattr(questions, "VIEWS", views)
    with connect(empty_database, "reader") as reader:
        # It has no rows of days.
        of_hours, of_days = (
            questions.top_referrers(reader, Scope(ALL, name), datetime(2026, 1, 1, tzinfo=UTC)) for name in ("24h", "30d")
        )
    expected = frame.group_by(pl.col("referrer").is_null()).len().sort("len", descending=True)
    assert [row["views"] for row in of_hours] == expected["len"].to_list()
    assert [row["referrer_host"] for row in of_hours] == ["", "news.example"]
    assert of_days == of_hours


def test_the_ledger_and_what_is_quarantined_are_those_of_the_views(reader: Connection, filled: pl.DataFrame):
    found = questions.ledger(reader)
    assert sum(row["received"] for row in found["partitions"]) == len(filled) + 1
    last_day = filled.filter(pl.col("event_time") >= datetime(2026, 11, 14, tzinfo=UTC))
    assert found["batch_counted"] == len(filled) - len(last_day)
    (reason,) = questions.quarantine(reader)
    assert (reason["reason"], reason["records"], len(reason["samples"])) == ("not_json", 1, 1)
    # What is in a record may be anything, and is not a reader's.
    assert set(reason["samples"][0]) == {"partition", "offset", "at_s", "detail", "value_bytes"}
    runs = questions.runs(reader)
    assert (len(runs["runs"]), runs["live"]["run_id"]) == (1, runs["runs"][0]["run_id"])
    assert set(questions.positions(reader)) >= {0, 1}


def test_questions_of_an_empty_database_have_answers(reader: Connection):
    scope = Scope(ALL, "1h")
    assert questions.series(reader, scope, SINCE) == []
    assert questions.totals(reader, scope, SINCE)["visitors"] is None
    assert questions.top_pages(reader, scope, SINCE) == questions.quarantine(reader) == questions.sites(reader) == []
    assert questions.top_referrers(reader, scope, SINCE) == []
    assert questions.ledger(reader)["batch_counted"] == 0
    assert questions.runs(reader) == {"runs": [], "live": None}


def test_a_site_with_any_name_is_asked_for_and_nothing_else(reader: Connection):
    for name in ("'; drop table runs; --", "%s", "{site}", 'a"b', "\\"):
        assert questions.series(reader, Scope(name, "1h"), SINCE) == []


@pytest.fixture
def line(database: Settings) -> Iterator[Line]:
    made = Line(database)
    yield made
    made.close()


def test_a_line_that_breaks_is_made_again_and_one_that_is_refused_is_kept(line: Line, database: Settings):
    def pid(connection: Connection) -> Any:
        return connection.execute("SELECT pg_backend_pid()").fetchall()[0][0]

    def wrong(connection: Connection) -> None:
        connection.execute("SELECT * FROM no_such_view")

    async def story() -> None:
        first, took_s = await line.ask(pid)
        assert took_s >= 0
        with pytest.raises(Refused, match="no_such_view"):
            await line.ask(wrong)
        assert (await line.ask(pid))[0] == first
        with connect(database, "postgres") as owner:
            owner.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
        with pytest.raises(BraidError):
            await line.ask(pid)
        assert (await line.ask(pid))[0] != first

    asyncio.run(story())


def test_the_box_gives_text_as_the_database_has_it(database: Settings):
    answer = SqlBox(database).answer(
        "select 1 as a, 2.50 as a, 'infinity'::date, '-infinity'::timestamptz, null, '{1,2}'::int[], '\\x00ff'::bytea, "
        "'0001-01-01 BC'::date, 'NaN'::float8, '100%' as percent"
    )
    assert answer["rows"] == [
        ("1", "2.50", "infinity", "-infinity", None, "{1,2}", "\\x00ff", "0001-01-01 BC", "NaN", "100%"),
    ]
    assert answer["columns"][:2] == ("a", "a")
    assert answer["numeric"][:3] == [True, True, False]
    assert SqlBox(database).answer("select 1 as one where false") | {"took_s": 0} == {
        "columns": ("one",),
        "numeric": [True],
        "rows": [],
        "cut": False,
        "took_s": 0,
    }


def test_the_box_gives_no_more_than_a_page_shows(database: Settings):
    box = SqlBox(database)
    many = box.answer("select n from generate_series(1, 5000000) as n")
    assert (len(many["rows"]), many["cut"]) == (MOST_ROWS, True)
    exactly = box.answer(f"select n from generate_series(1, {MOST_ROWS}) as n")
    assert (len(exactly["rows"]), exactly["cut"]) == (MOST_ROWS, False)
    wide = box.answer(f"select repeat('x', {MOST_BYTES // 3}) from generate_series(1, 1000)")
    assert (len(wide["rows"]), wide["cut"]) == (3, True)


@pytest.mark.parametrize(
    "statement",
    [
        "select 1; select 2", "", ";", "set statement_timeout = 0", "create table t (a int)", "delete from ledger",
        "copy (select 1) to stdout", "select pg_advisory_lock(1)", "select lo_from_bytea(0, 'x')", "create temp table t ()",
        "select * from serving.run", "select pg_read_file('/etc/passwd')", "select 'é\ud800'",
    ],
)  # fmt: skip
def test_the_box_refuses_what_is_no_question_of_a_reader(database: Settings, statement: str):
    with pytest.raises(QueryRefused):
        SqlBox(database).answer(statement)


def test_a_statement_of_the_box_ends_whatever_it_sets(database: Settings):
    before = datetime.now(UTC)
    with pytest.raises(QueryRefused, match="timeout"):
        SqlBox(database).answer("select set_config('statement_timeout', '0', false), pg_sleep(600)")
    assert datetime.now(UTC) - before < timedelta(seconds=6 * LIMIT_S)
