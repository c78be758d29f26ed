"""Drift: what a run computed against what readers had of the same offsets, and each cause of a difference."""

from __future__ import annotations

from datetime import date

import polars as pl
import psycopg
import pytest

from contract.aggregate import aggregate
from contract.errors import RunRefused
from contract.measures import Count
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from serving.database import Connection, connect
from serving.drift import Drift, compare, differing_rows
from serving.handoff import (
    Counts,
    begin_run,
    collect_garbage,
    commit_range,
    end_audit,
    fail_run,
    publish,
    received_below_cut,
)
from serving.migrate import migrate
from tests.fixtures.handoff import TOPIC, assert_merged, batch_rows, commit, compute, full_run
from tests.fixtures.pageviews import NO_REJECTS, Range, events
from tests.fixtures.views import of_page_views

RATE = 1e-6


def compared(batch: Connection, frame: pl.DataFrame) -> tuple[int, dict[str, Drift]]:
    """An audit run of these events, and how it compares, by view."""
    run = begin_run(batch, "audit")
    compute(batch, run, frame)
    drifts = {drift.view_name: drift for drift in compare(batch, run.run_id, RATE)}
    end_audit(batch, run.run_id)
    return run.run_id, drifts


def commit_other(speed: Connection, frame: pl.DataFrame, counted: pl.DataFrame) -> None:
    """A commit of the frame's offsets whose rows are of other events: fewer are drops, more are repeats."""
    part = Range.of(frame)
    counts = Counts(part.count, len(counted), part.count - len(counted))
    commit_range(speed, part.offsets, aggregate(counted), counts, NO_REJECTS, TOPIC)


def one_row(
    batch: Connection, run_id: int, view_name: str, page: str | None = None
) -> dict[str, tuple[int | None, int | None]]:
    (row,) = differing_rows(batch, run_id, view_name, 10)
    assert page is None or row.keys["page"] == page
    return row.values


def test_equal_rows_are_counted_by_bucket_and_measure(speed: Connection, batch: Connection, reader: Connection) -> None:
    old, new = events(1, 0, 0, 400), events(1, 0, 400, 200)
    everything = pl.concat([old, new])
    commit(speed, old)
    full_run(batch, old)
    commit(speed, new)
    run_id, drifts = compared(batch, everything)
    rows = batch_rows(everything)
    for view in with_rollups(VIEWS):
        drift = drifts[view.name]
        assert (drift.verdict, drift.row_count, drift.rows_differ) == ("equal", len(rows[view.name]), 0)
    # Only what was absorbed is there, whole: old and new rows of each key that the new events touch, by bucket.
    touched = aggregate(new)["page_traffic"].select("bucket", "site", "page")
    absorbed = rows["page_traffic"].join(touched, on=["bucket", "site", "page"])
    expected = absorbed.group_by("bucket").agg(pl.len(), pl.sum("views"), pl.sum("bytes_sent")).sort("bucket")
    for measure in ("views", "bytes_sent"):
        stored = reader.execute(
            "SELECT bucket, row_count, batch_value FROM drift WHERE run_id = %s AND view_name = 'page_traffic' "
            "AND measure = %s AND speed_value = batch_value AND difference = 0 AND rows_differ = 0 ORDER BY bucket",
            [run_id, measure],
        ).fetchall()
        assert stored == expected.select("bucket", "len", measure).rows()
    assert reader.execute("SELECT count(DISTINCT measure) FROM drift").fetchone() == (len(VIEWS[0].measures),)
    assert reader.execute("SELECT count(*) FROM drift_rows").fetchone() == (0,)
    assert_merged(reader, everything)


def test_a_dropped_event_is_named_and_explained(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 300)
    # An event alone in its row, so that readers had no such row, and then one among others.
    for view_rows, alone in ((1, True), (2, False)):
        groups = frame.with_columns(bucket=pl.col("event_time").dt.truncate("1h"))
        sizes = pl.len().over("bucket", "site", "page")
        victim = groups.filter((sizes == 1) if alone else (sizes > 1))[0]
        first = 300 * (view_rows - 1)
        moved = frame.with_columns(offset=pl.col("offset") + first)
        commit_other(speed, moved, frame.filter(pl.col("event_id") != victim["event_id"][0]))
        everything = pl.concat([frame] * view_rows)
        run_id, drifts = compared(batch, everything)
        for view in with_rollups(VIEWS):
            drift = drifts[view.name]
            assert (drift.verdict, drift.dropped, drift.repeated) == ("explained", view_rows, 0)
            assert drift.ledger_difference == -view_rows
        if alone:
            values = one_row(batch, run_id, "page_traffic", victim["page"][0])
            assert values["views"] == (None, 1)
            assert values["bytes_sent"] == (None, victim["bytes_sent"][0])
        summary = reader.execute(
            "SELECT kind, speed_counted, expected_drops FROM drift_summary WHERE run_id = %s AND view_name = 'site_traffic'",
            [run_id],
        ).fetchone()
        counted = 300 * view_rows - view_rows
        assert summary == ("audit", counted, pytest.approx(counted * RATE))


def test_a_repeat_that_the_speed_layer_counted_is_explained(speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 50)
    commit(speed, frame)
    commit(speed, frame[:1].with_columns(offset=pl.lit(50, pl.Int64)))
    run_id, drifts = compared(batch, frame)
    assert {(d.verdict, d.repeated, d.dropped, d.ledger_difference) for d in drifts.values()} == {("explained", 1, 0, 1)}
    had, new = one_row(batch, run_id, "page_traffic", frame["page"][0])["views"]
    assert (had or 0) - (new or 0) == 1


def test_rows_that_only_readers_have_are_rows_too(speed: Connection, batch: Connection) -> None:
    frame, gone = events(1, 0, 0, 200), events(2, 0, 200, 1).with_columns(page=pl.lit("/gone"))
    everything = pl.concat([frame, gone])
    commit(speed, everything)
    full_run(batch, everything)
    _, drifts = compared(batch, frame)
    for view in with_rollups(VIEWS):
        drift = drifts[view.name]
        assert (drift.verdict, drift.unexplained, drift.rows_differ) == ("wrong", 1, 1)
        assert drift.row_count == len(batch_rows(everything)[view.name])


def test_more_drops_than_the_rate_allows_are_wrong(speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit_other(speed, frame, frame[4:])
    _, drifts = compared(batch, frame)
    assert {(d.verdict, d.dropped, d.allowed_drops) for d in drifts.values()} == {("wrong", 4, 3)}


@pytest.mark.parametrize("absorbed", [False, True], ids=["batch only", "with speed part"])
@pytest.mark.parametrize(
    ("measure", "change"),
    [
        ("views", "views + 1"),
        ("views", "views - 1"),
        ("bytes_sent", "bytes_sent + 1"),
        ("visitors", "hll_add(visitors, hll_hash_text('somebody else'))"),
        # The same value, so only the bytes tell.
        ("latency", "array_replace(latency, latency[1], latency[1] + (1::bigint << 48))"),
    ],
)
def test_one_changed_batch_row_is_wrong_and_named(
    database: Settings, speed: Connection, batch: Connection, absorbed: bool, measure: str, change: str
) -> None:
    frame = events(1, 0, 0, 200)
    commit(speed, frame)
    full_run(batch, frame)
    again = frame.with_columns(offset=pl.col("offset") + 200, event_id=pl.col("event_id") + " again")
    if absorbed:
        commit(speed, again)
    with connect(database, "postgres") as owner:
        (changed,) = owner.execute(
            f"UPDATE serving.batch_page_traffic SET {measure} = {change} WHERE (tableoid, ctid) IN "
            "(SELECT tableoid, ctid FROM serving.batch_page_traffic WHERE views > 2 AND cardinality(latency) > 1 "
            "ORDER BY bucket LIMIT 1) RETURNING bucket, site, page".encode()
        ).fetchall()
    run_id, drifts = compared(batch, pl.concat([frame, again]) if absorbed else frame)
    assert (drifts["page_traffic"].verdict, drifts["page_traffic"].rows_differ) == ("wrong", 1)
    assert drifts["site_traffic"].verdict == "equal"
    (row,) = differing_rows(batch, run_id, "page_traffic", 10)
    assert (row.bucket, row.keys["site"], row.keys["page"]) == changed
    assert list(row.values) == [measure]
    assert f"page={changed[2]!r}" in row.place()


def test_a_batch_row_that_is_gone_is_wrong(database: Settings, speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 200)
    commit(speed, frame)
    full_run(batch, frame)
    with connect(database, "postgres") as owner:
        owner.execute(
            "DELETE FROM serving.batch_site_traffic WHERE (bucket, site) IN "
            "(SELECT bucket, site FROM serving.batch_site_traffic LIMIT 1)"
        )
    _, drifts = compared(batch, frame)
    assert {name: (drift.verdict, drift.rows_differ) for name, drift in drifts.items()} == {
        **{view.name: ("equal", 0) for view in with_rollups(VIEWS)},
        "site_traffic": ("wrong", 1),
    }


@pytest.mark.parametrize("absorbed", [False, True], ids=["of the base", "of the base and absorbed"])
def test_a_changed_row_of_a_rollup_is_wrong_there_and_nowhere_else(
    database: Settings, speed: Connection, batch: Connection, absorbed: bool
) -> None:
    frame = events(1, 0, 0, 400)
    half = frame[:200] if absorbed else frame
    commit(speed, half)
    full_run(batch, half)
    if absorbed:
        commit(speed, frame[200:])
    with connect(database, "postgres") as owner:
        ((bucket, site),) = owner.execute(
            "UPDATE serving.batch_site_traffic_by_day SET views = views + 1 WHERE (tableoid, ctid) IN "
            "(SELECT tableoid, ctid FROM serving.batch_site_traffic_by_day LIMIT 1) RETURNING bucket, site"
        ).fetchall()
    run_id, drifts = compared(batch, frame)
    assert [name for name, drift in drifts.items() if drift.verdict != "equal"] == ["site_traffic_by_day"]
    (row,) = differing_rows(batch, run_id, "site_traffic_by_day", 10)
    assert (row.bucket, row.keys["site"]) == (bucket, site)
    rows = batch_rows(frame)["site_traffic_by_day"].filter(bucket=bucket, site=site)
    assert row.values == {"views": (rows["views"].item() + 1, rows["views"].item())}


def test_an_incremental_run_is_compared_on_its_days(speed: Connection, batch: Connection) -> None:
    old = events(1, 0, 0, 200)
    commit(speed, old)
    full_run(batch, old)
    day: date = old["event_time"].dt.date().min()  # type: ignore[assignment]
    new = events(1, 0, 200, 100, days=1).with_columns(
        event_time=pl.lit(day).cast(pl.Datetime("us", "UTC"))
        + (pl.col("event_time") - pl.col("event_time").dt.truncate("1d"))
    )
    commit(speed, new)
    run = begin_run(batch, "incremental")
    compute(batch, run, pl.concat([old, new]).filter(pl.col("event_time").dt.date() == day))
    assert {drift.verdict for drift in compare(batch, run.run_id, RATE)} == {"equal"}
    # A day that was touched and not computed again shows.
    forgetful = begin_run(batch, "incremental")
    assert {drift.verdict for drift in compare(batch, forgetful.run_id, RATE)} == {"wrong"}


def test_what_comes_after_the_cut_does_not_matter(speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    run = begin_run(batch, "audit")
    commit(speed, events(1, 0, 100, 100))
    compute(batch, run, frame)
    assert {drift.verdict for drift in compare(batch, run.run_id, RATE)} == {"equal"}
    # Repeated after a lost answer, it records nothing twice.
    assert {drift.verdict for drift in compare(batch, run.run_id, RATE)} == {"equal"}


def test_offsets_in_flight_are_not_compared(speed: Connection, batch: Connection, reader: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame[:50])
    run = begin_run(batch, "full", {0: 100})
    compute(batch, run, frame)
    assert compare(batch, run.run_id, RATE) == []
    assert reader.execute("SELECT count(*) FROM drift_summary").fetchone() == (0,)


def test_a_run_that_another_one_overtook_is_not_compared(speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    late = begin_run(batch, "audit")
    compute(batch, late, frame)
    full_run(batch, frame)
    # Until garbage is collected all that it is compared with is there.
    assert {drift.verdict for drift in compare(batch, late.run_id, RATE)} == {"equal"}
    collect_garbage(batch, keep_runs=1)
    with pytest.raises(RunRefused, match="is failed, not running"):
        compare(batch, late.run_id, RATE)


def test_an_audit_run_leaves_nothing_behind(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    full_run(batch, frame)
    run_id, _ = compared(batch, frame)
    fail_run(batch, run_id, "too late")
    collect_garbage(batch, keep_runs=1)
    assert reader.execute("SELECT kind, state, error FROM runs WHERE run_id = %s", [run_id]).fetchone() == (
        "audit",
        "audited",
        None,
    )
    with connect(database, "postgres") as owner:
        for view in with_rollups(VIEWS):
            query = f"SELECT count(*) FROM serving.batch_{view.name} WHERE run_id = {run_id}"
            assert owner.execute(query.encode()).fetchone() == (0,)
    assert_merged(reader, frame)


def test_drift_of_buckets_goes_with_its_run_and_the_summary_stays(
    speed: Connection, batch: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, 300)
    for first in range(0, 300, 100):
        commit(speed, frame[first : first + 100])
        run = begin_run(batch, "full")
        days = compute(batch, run, frame[: first + 100])
        drifts = compare(batch, run.run_id, RATE)
        publish(batch, run.run_id, days, {0: first + 100, 1: 0, 2: 0, 3: 0}, [], TOPIC)
    collect_garbage(batch, keep_runs=1)
    assert reader.execute("SELECT count(DISTINCT run_id) FROM drift").fetchone() == (2,)
    assert reader.execute("SELECT count(*) FROM drift_summary WHERE verdict = 'equal'").fetchone() == (3 * len(drifts),)


def test_received_below_the_cut_adds_both_layers(speed: Connection, batch: Connection) -> None:
    frame = events(1, 0, 0, 100)
    commit(speed, frame)
    full_run(batch, frame)
    commit(speed, events(1, 0, 100, 20))
    run = begin_run(batch, "audit")
    commit(speed, events(1, 0, 120, 20))
    assert received_below_cut(batch, run.run_id) == {0: 120, 1: 0, 2: 0, 3: 0}


def test_a_view_added_to_the_catalogue_is_compared(database: Settings, batch: Connection) -> None:
    added = of_page_views("totals", keys=(), bucket=VIEWS[0].bucket, measures=(Count("hits"),))
    views = (*VIEWS, added)
    migrate(database, views)
    assert {d.view_name: d.verdict for d in compare(batch, begin_run(batch, "audit", views=views).run_id, RATE)} == {
        **{view.name: "equal" for view in with_rollups(views)},
    }


@pytest.mark.parametrize("role", ["speed", "reader"])
def test_only_batch_may_compare(database: Settings, role: str) -> None:
    with connect(database, role) as connection:  # type: ignore[arg-type]
        for call in ("compare(1, 0)", "end_audit(1)", "received_below(1)", "compare_views(1, now(), now(), 0, 0, 0)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT serving.{call}".encode())
