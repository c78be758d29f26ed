"""Days of other time zones, and times between two moments as panels ask for them: right, or refused."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import polars as pl
import psycopg
import pytest

from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection
from tests.fixtures.handoff import commit, full_run
from tests.fixtures.pageviews import events

DAY = timedelta(days=1)
NEW_YORK, KOLKATA, KATHMANDU = "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"


def at(frame: pl.DataFrame, *times: str) -> pl.DataFrame:
    """As many of these events as there are times, at those times."""
    moments = [datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times]
    return frame[: len(times)].with_columns(event_time=pl.Series(moments, dtype=pl.Datetime("us", "UTC")))


@pytest.fixture
def across_midnight(speed: Connection, batch: Connection) -> pl.DataFrame:
    """Of two days in New York, where midnight is an hour of UTC, and of two in India, where it is at half past."""
    frame = pl.concat(
        [
            at(events(1, 0, 0, 3), *["2026-01-15T02:00"] * 3),
            at(events(1, 0, 3, 5), *["2026-01-15T15:00"] * 5),
        ]
    )
    commit(speed, frame)
    full_run(batch, frame)
    return frame


def days(reader: Connection, view: str, zone: str, *bounds: str) -> dict[date, int]:
    statement = f"SELECT day, total(views) FROM {view}_local_days({', '.join(['%s'] * (1 + len(bounds)))}) GROUP BY day"
    return dict(reader.execute(statement.encode(), [zone, *bounds]).fetchall())


@pytest.mark.usefixtures("across_midnight")
def test_days_of_a_zone_of_whole_hours_are_right_from_each_view(reader: Connection) -> None:
    for view in ("site_traffic", "page_traffic", "referrers", "site_traffic_sketches", "page_traffic_sketches"):
        assert days(reader, view, NEW_YORK) == {date(2026, 1, 14): 3, date(2026, 1, 15): 5}, view


@pytest.mark.parametrize("zone", [KOLKATA, KATHMANDU])
def test_days_of_a_zone_of_half_hours_are_right_from_minutes_and_refused_from_hours(
    speed: Connection, batch: Connection, reader: Connection, zone: str
) -> None:
    # Before and after midnight in Kolkata (18:30 UTC) and in Kathmandu (18:15 UTC), in one hour of UTC.
    frame = at(events(1, 0, 0, 6), *["2026-01-14T18:14"] * 2, *["2026-01-14T18:30"] * 4)
    commit(speed, frame[:4])
    full_run(batch, frame[:4])
    commit(speed, frame[4:])
    assert days(reader, "site_traffic", zone) == {date(2026, 1, 14): 2, date(2026, 1, 15): 4}
    assert days(reader, "site_traffic", zone, "2026-01-15") == {date(2026, 1, 15): 4}
    for view in ("page_traffic", "page_traffic_sketches"):
        with pytest.raises(psycopg.errors.InvalidParameterValue) as refused:
            days(reader, view, zone)
        assert f"a day in {zone} begins within a row of page_traffic, the 01:00:00 from 2026-01-14 18:00:00+00 on" in str(
            refused.value
        )
        assert "Ask a view with shorter rows" in str(refused.value)
    # On whatever side of the question's bounds the row lies.
    for bounds in (["2026-01-15"], ["2026-01-14", "2026-01-15"]):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            days(reader, "page_traffic", zone, *bounds)


@pytest.mark.parametrize("zone", [NEW_YORK, KOLKATA, KATHMANDU, "Australia/Lord_Howe", "Europe/Berlin", "UTC"])
def test_days_of_any_zone_have_the_events_of_that_day(
    speed: Connection, batch: Connection, reader: Connection, zone: str
) -> None:
    # Over the ends and beginnings of summer time in each of them, where days have 23 and 25 hours.
    autumn = events(1, 0, 0, 400, days=30).with_columns(pl.col("event_time").dt.offset_by("-20d"))
    spring = events(2, 0, 400, 400, days=30).with_columns(pl.col("event_time").dt.offset_by("-229d"))
    frame = pl.concat([autumn, spring])
    commit(speed, frame[:500])
    full_run(batch, frame[:500])
    commit(speed, frame[500:])
    local = frame.with_columns(day=pl.col("event_time").dt.convert_time_zone(zone).dt.date())
    expected = dict(local.group_by("day").len().iter_rows())
    assert days(reader, "site_traffic", zone) == expected
    first, next_day = sorted(expected)[3], sorted(expected)[-2]
    some = {day: count for day, count in expected.items() if first <= day < next_day}
    assert days(reader, "site_traffic", zone, str(first), str(next_day)) == some
    visitors = local.filter(pl.col("day") == first, pl.col("site") == "shop")["visitor_id"].n_unique()
    rows = reader.execute(
        "SELECT visitors FROM site_traffic_local_days(%s) WHERE site = 'shop' AND day = %s", [zone, first]
    ).fetchall()
    assert rows == [(pytest.approx(visitors, rel=0.1, abs=2),)]


@pytest.mark.usefixtures("across_midnight")
@pytest.mark.parametrize("view", ["site_traffic_by_day", "page_traffic_by_day_sketches"])
def test_rows_of_days_cannot_be_taken_for_those_of_another_zone(reader: Connection, view: str) -> None:
    with pytest.raises((psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)):
        reader.execute(f"SELECT time_bucket('1 day', bucket, '{NEW_YORK}') FROM {view}".encode())
    with pytest.raises(psycopg.Error):
        reader.execute(f"SELECT time_bucket('1 day', day, '{NEW_YORK}') FROM {view}".encode())
    # Nor does the session's zone move a date.
    reader.execute(f"SET timezone = '{NEW_YORK}'".encode())
    answer = reader.execute(f"SELECT day::text, total(views) FROM {view} GROUP BY 1".encode()).fetchall()
    assert answer == [("2026-01-15", 8)]


CUTS = (
    "time_bucket('1 day', bucket, '{}')",
    "date_trunc('day', bucket, '{}')",
    "date_trunc('day', bucket AT TIME ZONE '{}')",
    "(bucket AT TIME ZONE '{}')::date",
    "time_bucket('1 hour', bucket AT TIME ZONE '{}')",
)
BY_SESSION = ("bucket::date", "date_trunc('day', bucket)", "date_trunc('hour', bucket)")


@pytest.mark.usefixtures("across_midnight")
@pytest.mark.parametrize("view", ["page_traffic", "page_traffic_sketches"])
def test_rows_of_hours_are_not_cut_where_a_zones_days_begin_within_them(reader: Connection, view: str) -> None:
    questions = (
        "SELECT {} AS local, total(views) FROM {} GROUP BY 1",
        "SELECT total(views) FROM {1} WHERE {0} IS NOT NULL",
        "SELECT * FROM (SELECT {} AS local, views FROM {}) AS x",
    )
    for cut in CUTS:
        for question in questions:
            with pytest.raises(
                psycopg.errors.InvalidParameterValue, match=f"rows of {view} are of 60 minutes of UTC"
            ) as refused:
                reader.execute(question.format(cut.format(KOLKATA), view).encode())
            assert "site_traffic_local_days('Asia/Kolkata')" in str(refused.value)
            # Where rows are whole there is nothing to refuse.
            reader.execute(question.format(cut.format(NEW_YORK), view).encode())
            reader.execute(question.format(cut.format(KOLKATA), "site_traffic").encode())
        joined = cut.format(KOLKATA).replace("bucket,", "p.bucket,").replace("bucket AT", "p.bucket AT")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="begin within them"):
            reader.execute(f"SELECT {joined} FROM {view} AS p JOIN site_traffic AS s USING (site)".encode())
    # As clients with parameters send it.
    given = f"SELECT date_trunc('day', bucket, %s), total(views) FROM {view} GROUP BY 1".encode()
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="begin within them"):
        reader.execute(given, [KOLKATA])
    reader.execute(given, [NEW_YORK])
    for zone, refused_there in ((KOLKATA, True), (NEW_YORK, False)):
        reader.execute(f"SET timezone = '{zone}'".encode())
        for cut in BY_SESSION:
            statement = questions[0].format(cut, view).encode()
            if refused_there:
                with pytest.raises(psycopg.errors.InvalidParameterValue, match="begin within them"):
                    reader.execute(statement)
            else:
                reader.execute(statement)
    reader.execute(f"SET timezone = '{KOLKATA}'".encode())
    # Rows as they are, and a cut in UTC, are right in any session.
    reader.execute(f"SELECT bucket, bucket AT TIME ZONE '{KOLKATA}', time_bucket('1 day', bucket) FROM {view}".encode())
    reader.execute("SET braid.whole_rows = off")
    reader.execute(questions[0].format(BY_SESSION[0], view).encode())


def test_a_question_for_some_days_reads_their_rows_only(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 300, days=300)
    commit(speed, frame)
    full_run(batch, frame)
    plan = "SELECT * FROM site_traffic_local_days('Asia/Kolkata', '2026-11-10', '2026-11-12')"
    rows = reader.execute(f"EXPLAIN (COSTS OFF) {plan}".encode()).fetchall()
    text = "\n".join(line for (line,) in rows)
    # The function is taken apart, and the rows' own index is asked for the days.
    assert "Function Scan" not in text
    assert "bucket >= " in text
    chunks = {line.split(" on ")[1].split()[0] for (line,) in rows if "_chunk" in line and " on " in line}
    assert len(chunks) <= 2, text


def panel(template: str, begin: datetime, end: datetime) -> str:
    """What Grafana sends, as its documentation has it: its macros become SQL, and times texts in UTC."""
    form = "%Y-%m-%dT%H:%M:%S.%fZ"
    first, last = f"'{begin:{form}}'", f"'{end:{form}}'"

    def grouped(match: re.Match[str]) -> str:
        width_s = int(match[3]) * {"m": 60, "h": 3_600, "d": 86_400}[match[4]]
        return f"floor(extract(epoch from {match[2]})/{width_s})*{width_s}" + ' AS "time"' * bool(match[1])

    template = re.sub(r"\$__timeGroup(Alias)?\((\w+), ?'(\d+)([mhd])'\)", grouped, template)
    template = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {first} AND {last}", template)
    template = re.sub(r"\$__time\((\w+)\)", r'\1 AS "time"', template)
    return template.replace("$__timeFrom()", first).replace("$__timeTo()", last)


PANELS = {
    "site_traffic": "bucket >= date_trunc('minute', $__timeFrom()::timestamptz) AND bucket <= $__timeTo()",
    "page_traffic": "bucket >= date_trunc('hour', $__timeFrom()::timestamptz) AND bucket <= $__timeTo()",
    "site_traffic_by_day": "day BETWEEN ($__timeFrom()::timestamptz AT TIME ZONE 'UTC')::date "
    "AND ($__timeTo()::timestamptz AT TIME ZONE 'UTC')::date",
}


@pytest.mark.parametrize("view", PANELS)
@pytest.mark.parametrize("minutes", [5, 30, 90, 1_500])
def test_a_panel_for_the_last_minutes_shows_every_row_that_reaches_into_them(
    speed: Connection, reader: Connection, view: str, minutes: int
) -> None:
    end = datetime(2026, 11, 20, 14, 40, 30, tzinfo=UTC)
    begin = end - timedelta(minutes=minutes)
    frame = events(1, 0, 0, 400)
    commit(speed, frame)
    (declared,) = [one for one in (*VIEWS, VIEWS[0].rollup) if one and one.name == view]
    inside = frame.filter(
        pl.col("event_time")
        .dt.truncate(f"{declared.bucket // timedelta(seconds=1)}s")
        .is_between(begin - declared.bucket, end, "right")
    )
    answer = reader.execute(f"SELECT coalesce(total(views), 0) FROM {view} WHERE {panel(PANELS[view], begin, end)}".encode())
    assert answer.fetchone() == (inside.height,)
    if declared.bucket > timedelta(minutes=minutes):
        # What Grafana's own filter asks, and what it answers.
        between = panel("$__timeFilter(bucket)", begin, end) if declared.bucket < DAY else "false"
        assert inside.height > 0
        assert reader.execute(f"SELECT total(views) FROM {view} WHERE {between}".encode()).fetchone() == (None,)


@pytest.mark.parametrize(
    ("view", "time", "truncated"),
    [
        ("site_traffic", "$__timeGroupAlias(bucket, '5m')", "5m"),
        ("page_traffic", "$__timeGroupAlias(bucket, '6h')", "6h"),
        ("page_traffic", "$__time(bucket)", "1h"),
        ("site_traffic_by_day", "$__timeGroupAlias(day, '1d')", "1d"),
        ("site_traffic_by_day", 'day::timestamp AS "time"', "1d"),
    ],
)
def test_a_series_of_grafanas_macros_is_that_of_the_events(
    speed: Connection, reader: Connection, view: str, time: str, truncated: str
) -> None:
    frame = events(1, 0, 0, 400)
    commit(speed, frame)
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    asked = panel(f"SELECT {time}, total(views) FROM {view} WHERE {PANELS[view]} GROUP BY 1 ORDER BY 1", begin, end)
    assert "$__" not in asked
    cursor = reader.execute(asked.encode())
    assert [column.name for column in cursor.description or ()] == ["time", "total"]
    rows = [(_epoch_s(value), views) for value, views in cursor]
    groups = frame.group_by(pl.col("event_time").dt.truncate(truncated)).len().sort("event_time")
    assert rows == [(int(value.timestamp()), count) for value, count in groups.rows()]


def _epoch_s(value: object) -> int:
    """A time as Grafana draws it: of a time with a zone, one in UTC without, or seconds since 1970."""
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    return int(str(value))
