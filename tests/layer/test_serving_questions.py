"""Questions that the server's module answers from fewer rows: random ones, asked with and without it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

import polars as pl
import pytest

from contract.measures import Count
from contract.measures_of_one import First, Last, Max, Min
from contract.settings import Settings
from contract.views import VIEWS, View, with_rollups
from serving.database import Connection, connect
from serving.migrate import MODULE, migrate
from serving.rollback import rollback
from tests.fixtures.handoff import commit, full_run
from tests.fixtures.pageviews import events
from tests.fixtures.views import of_page_views

_SUMS = (
    "sum(views)",
    "total(errors) FILTER (WHERE site = 'shop')",
    "sum(bytes_sent)",
    "sum(batch_views) + total(speed_views)",
)
_SKETCHES = (
    "distinct_count(rollup(visitors))",
    "hll_merge(visitors)::text",
    "sketch_merge(latency)",
    "merged_count(visitors)",
    "merged_percentile(0.9, latency)",
)
_OTHERS = (
    # None of these may be answered from rows of days.
    "count(*)",
    "max(views)",
    "sum(views * 2)",
    "min({first})",
    "sum(DISTINCT views)",
    # What the rows are ordered by is no sum of it.
    "sum(1 ORDER BY views)",
)
# Nor of these, of plain views alone: they are worked out of a row's sketch.
_WORKED_OUT = ("sum(visitors)", "total(visitors)", "sum(latency_p95)", "count(latency_p50)")
_OF_KEYS = ("true", "site = 'shop'", "site IN ('demo', 'nowhere')", "left(site, 1) = 's'")
_CONDITIONS = (
    *_OF_KEYS,
    "{first} >= '2026-11-20 06:00'",
    "{first} < '2026-11-20 06:00'",
    "views > 1",
    "random() < 2",
    "site IN (SELECT site FROM site_traffic WHERE views > 2)",
)
_WRAPPED = (
    # In each of them the whole answer is seen: a count of its rows would hide a wrong sum.
    "{0}",
    "SELECT * FROM ({0}) AS x",
    "WITH x AS MATERIALIZED ({0}) SELECT * FROM x",
    "SELECT * FROM ({0}) AS x UNION ALL SELECT * FROM ({0}) AS y",
    "SELECT x.* FROM generate_series(1, 2) AS n CROSS JOIN LATERAL ({0}) AS x",
    "SELECT (SELECT array_agg(x::text ORDER BY x::text) FROM ({0}) AS x)",
)


def of_its_measures(view: View, parts: Sequence[str]) -> list[str]:
    """Those parts of a question that the view has columns for."""
    lacks = {"errors", "bytes_sent", "latency"} - {measure.name for measure in view.measures}
    return [part for part in parts if not any(name in part for name in lacks)]


def of_sums(chance: random.Random, view: View) -> str:
    # Half of them may be answered from rows of days.
    is_of_days = chance.random() < 0.5
    plain = chance.random() < 0.5
    sums, others = (_SUMS, _OTHERS + _WORKED_OUT) if plain else (_SUMS + _SKETCHES, _OTHERS)
    sums, others = of_its_measures(view, sums), of_its_measures(view, others)
    groups = [*view.keys, *([] if is_of_days else ["date_trunc('hour', {first})"])]
    by = chance.sample(groups, chance.randint(0, min(2, len(groups))))
    asked = [*by, *chance.sample(sums, chance.randint(1, 2))]
    if not is_of_days and chance.random() < 0.8:
        asked.append(chance.choice(others))
    if chance.random() < 0.2:
        asked.append("sum(sum(views)) OVER ()")
    name = view.name if plain else view.sketches
    question = f"SELECT {', '.join(f'{part} AS c{n}' for n, part in enumerate(asked))} FROM {name}"
    question += f" WHERE {chance.choice(_OF_KEYS if is_of_days else _CONDITIONS)}"
    if by:
        question += f" GROUP BY {chance.choice(['', '', 'CUBE '])}({', '.join(by)})"
    if chance.random() < 0.3:
        question += f" HAVING sum(views) > {chance.randint(0, 80)}"
    return question.replace("{first}", view.shown_group[0])


def of_first_rows(chance: random.Random, view: View) -> str:
    # With all keys in the order, or it would be open which rows these are.
    order = [f"{{first}} {chance.choice(['', 'DESC'])}", *view.keys]
    if chance.random() < 0.2:
        order.insert(0, "views DESC")
    rows = f"{chance.choice(['', f'OFFSET {chance.randint(0, 9)} '])}"
    limit = chance.choice([f"LIMIT {chance.choice([0, 1, 5, 40, 100_000])}", "FETCH FIRST 3 ROWS WITH TIES"])
    name, measures = chance.choice(
        [(view.name, ["visitors", "latency_p95"]), (view.sketches, ["visitors::text AS visitors", "latency"])]
    )
    columns = ", ".join([*view.shown_group, "views", *of_its_measures(view, measures)])
    question = f"SELECT {columns} FROM {name} WHERE {chance.choice(_CONDITIONS)} ORDER BY {', '.join(order)} {rows}{limit}"
    return question.replace("{first}", view.shown_group[0])


def questions(seed: str, number: int) -> Sequence[str]:
    chance = random.Random(seed)
    views = with_rollups(VIEWS)
    asked = [chance.choice([of_sums, of_first_rows])(chance, chance.choice(views)) for _ in range(number)]
    return [chance.choice(_WRAPPED).format(question) for question in asked]


def answers(reader: Connection, question: str) -> tuple[list[str], str]:
    """The rows in an order of their own, and the plan."""
    rows = reader.execute(question.encode(), prepare=False).fetchall()
    plan = reader.execute(f"EXPLAIN (VERBOSE, COSTS OFF) {question}".encode(), prepare=False).fetchall()
    return sorted(map(str, rows)), str(plan)


@pytest.mark.parametrize("seed", range(4))
def test_random_questions_have_the_same_answers_without_the_module(
    speed: Connection, batch: Connection, reader: Connection, seed: int
) -> None:
    frame, other = events(seed, 0, 0, 600, days=5), events(seed, 2, 0, 200, days=9)
    of_days = bounded = 0
    for state in ("fresh rows alone", "a run", "fresh rows", "another run", "gone back"):
        match state:
            case "fresh rows alone":
                commit(speed, frame[:200])
            case "a run":
                full_run(batch, frame[:200])
            case "fresh rows":
                commit(speed, other)
                commit(speed, frame[200:])
            case "another run":
                full_run(batch, pl.concat([frame, other]))
            case _:
                rollback(batch)
        for question in questions(f"{seed} {state}", 40):
            reader.execute("SET braid.fewer_rows = on")
            rows, plan = answers(reader, question)
            reader.execute("SET braid.fewer_rows = off")
            whole_rows, whole_plan = answers(reader, question)
            assert (question, rows) == (question, whole_rows)
            of_days += plan.count("date_bin") > whole_plan.count("date_bin")
            bounded += plan.count("COALESCE((InitPlan") > whole_plan.count("COALESCE((InitPlan")
    # Or nothing was tried.
    assert of_days > 20
    assert bounded > 40


@pytest.mark.parametrize(
    ("question", "of_days"),
    [
        ("SELECT first_page, sum(views) FROM {view} GROUP BY first_page", False),
        ("SELECT sum(views) FROM {view} WHERE last_page <> '/'", False),
        ("SELECT DISTINCT last_page FROM {view}", False),
        ("SELECT sum(least), total(greatest) FROM {view}", False),
        ("SELECT bucket, views FROM {view} WHERE first_page <> '/' ORDER BY bucket DESC LIMIT 3", False),
        ("SELECT site, sum(views) FROM {view} GROUP BY site", True),
    ],
)
def test_a_measure_that_is_a_text_is_no_key_and_a_least_value_no_sum(
    database: Settings, question: str, of_days: bool
) -> None:
    measures = (
        Count("views"), First("first_page", of="page"), Last("last_page", of="page"), Min("least", of="bytes_sent"),
        Max("greatest", of="bytes_sent"),
    )  # fmt: skip
    views = (*VIEWS, of_page_views("pages", ("site",), timedelta(hours=1), measures, by_day=True))
    assert migrate(database, views)
    frame = events(1, 0, 0, 600, days=5)
    with connect(database, "speed") as speed, connect(database, "batch") as batch, connect(database, "reader") as reader:
        commit(speed, frame[:400], views=views)
        full_run(batch, frame[:400], views=views)
        commit(speed, frame[400:], views=views)
        for view in ("pages", "pages_sketches"):
            asked = question.format(view=view)
            reader.execute("SET braid.fewer_rows = on")
            rows, plan = answers(reader, asked)
            reader.execute("SET braid.fewer_rows = off")
            whole_rows, whole_plan = answers(reader, asked)
            assert rows == whole_rows
            assert (plan.count("date_bin") > whole_plan.count("date_bin")) == of_days


def test_a_question_of_somebody_who_is_not_let_into_our_schemas_is_answered_as_ever(
    database: Settings, speed: Connection, batch: Connection
) -> None:
    frame = events(1, 0, 0, 300)
    commit(speed, frame)
    full_run(batch, frame)
    with connect(database, "postgres") as owner, owner.transaction(force_rollback=True):
        owner.execute(f"LOAD '{MODULE}'")
        owner.execute("CREATE ROLE stranger")
        owner.execute(
            "CREATE SCHEMA theirs CREATE VIEW newest AS SELECT * FROM site_traffic ORDER BY bucket DESC, site LIMIT 3"
        )
        owner.execute("CREATE VIEW theirs.total AS SELECT sum(views) AS views FROM site_traffic")
        owner.execute("GRANT USAGE ON SCHEMA theirs TO stranger")
        owner.execute("GRANT SELECT ON theirs.newest, theirs.total TO stranger")
        questions = ("SELECT views FROM theirs.total", "SELECT bucket, site, views FROM theirs.newest")
        asked = [owner.execute(question).fetchall() for question in questions]
        owner.execute("SET LOCAL ROLE stranger")
        assert [owner.execute(question).fetchall() for question in questions] == asked
        assert asked[0] == [(300,)]
