"""What is forgotten, on a real database: commits and runs keep to it, and nothing that had it can be gone back to."""

from __future__ import annotations

import polars as pl
import psycopg
import pytest

from contract.errors import RollbackRefused, RunRefused, StatementsRefused
from contract.forgotten import KEY, Digest, Keyed, Rules, Said, Statement
from contract.master import OffsetRange
from contract.settings import Settings
from serving.database import Connection, connect
from serving.drift import compare
from serving.forgotten import forgotten_rules, forgotten_statements, record_forgotten
from serving.handoff import Counts, Run, begin_run, collect_garbage, commit_range, fail_run, publish
from serving.rollback import rollback
from tests.fixtures.handoff import TOPIC, assert_merged, commit, compute, ledger
from tests.fixtures.pageviews import NO_REJECTS, Range, events, reject


def said(database: Settings, *sites: str) -> Said:
    """Of each of the sites all, whenever it was."""
    keyed = Keyed(database.secret(KEY))
    return Said(
        tuple(
            Statement(
                number,
                "site",
                "2026-11-21T00:00:00+00:00",
                keyed.check,
                4_000_000_000_000_000,
                (Digest(keyed.digest("site", site)),),
                events=7,
                rejects=1,
            )
            for number, site in enumerate(sites, 1)
        )
    )


def kept(frame: pl.DataFrame, *sites: str) -> pl.DataFrame:
    return frame.filter(~pl.col("site").is_in(sites))


def commit_knowing(
    speed: Connection, frame: pl.DataFrame, statement: int | None, rejects: pl.DataFrame = NO_REJECTS, forgotten: int = 0
) -> bool:
    """A commit of all offsets of the frame, of which so many records are forgotten and not in it."""
    part = Range.of(frame)
    counts = Counts(part.count + len(rejects) + forgotten, part.count, 0, forgotten)
    return commit_range(speed, part.offsets, part.rows, counts, rejects, TOPIC, known_statement=statement)


def run_of(batch: Connection, frame: pl.DataFrame, gone: int, rejects: pl.DataFrame = NO_REJECTS, full: bool = False) -> Run:
    """A run that is published: of partition 0 these events, and so many that are forgotten, of what it has read."""
    run = begin_run(batch, "full" if full else "incremental")
    is_full = run.kind == "full"
    first = 0 if is_full or not run.base else run.base[0].next_offset
    read = frame.filter(pl.col("offset") >= first)
    before = 0 if is_full else run.base_received.get(0, 0)
    # All days, so that all rows are the run's.
    days = compute(batch, run, frame)
    judged = [(OffsetRange(0, first, run.cut[0].next_offset), rejects)]
    received = dict.fromkeys(run.cut, 0) | {0: before + len(read) + len(rejects) + gone}
    publish(batch, run.run_id, days, received, judged, TOPIC, forgotten={0: gone})
    return run


def sides(reader: Connection) -> tuple[int, ...]:
    state = ledger(reader)[0]
    return tuple(state[name] for name in ("received", "counted", "duplicate", "quarantined", "forgotten", "difference"))


def test_a_commit_that_does_not_know_all_that_is_forgotten_changes_nothing(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    first, second = events(1, 0, 0, 100), events(1, 0, 100, 100)
    assert commit_knowing(speed, first, 0)
    record_forgotten(batch, said(database, "shop"))
    with pytest.raises(StatementsRefused, match="held against statement 0 of what is forgotten, but there is statement 1"):
        commit_knowing(speed, second, 0)
    assert sides(reader) == (100, 100, 0, 0, 0, 0)
    rules = forgotten_rules(speed, database)
    assert rules.version == 1
    left = second.filter(~rules.events(second))
    assert left.equals(kept(second, "shop"))
    part = Range.of(left)
    counts = Counts(100, len(left), 0, 100 - len(left))
    assert commit_range(speed, OffsetRange(0, 100, 200), part.rows, counts, NO_REJECTS, TOPIC, known_statement=1)
    # What was counted before is shown until the next run.
    assert_merged(reader, pl.concat([first, left]))
    assert sides(reader) == (200, 100 + len(left), 0, 0, 100 - len(left), 0)


def test_the_next_run_takes_it_out_of_all_days_and_nothing_that_had_it_is_kept(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    first, second = events(1, 0, 0, 100), events(1, 0, 101, 100)
    commit(speed, first)
    commit_range(speed, OffsetRange(0, 100, 101), {}, Counts(1, 0, 0), reject(0, 100), TOPIC)
    run_of(batch, first, 0, reject(0, 100))
    commit(speed, second)
    older = run_of(batch, pl.concat([first, second]), 0)
    assert older.kind == "incremental"
    slow = begin_run(batch, "incremental")
    record_forgotten(batch, said(database, "shop"))
    # It may have read what is forgotten.
    with pytest.raises(RunRefused, match=r"is failed, not running \(something was to be forgotten meanwhile\)"):
        compute(batch, slow, first)
    left = kept(pl.concat([first, second]), "shop")
    gone = 200 - len(left)
    run = begin_run(batch, "incremental")
    assert run.kind == "full"
    # Readers had more, and rows of it are not written down.
    days = compute(batch, run, left)
    assert compare(batch, run.run_id, 1e-6) == []
    judged = [(OffsetRange(0, 0, run.cut[0].next_offset), NO_REJECTS)]
    received = dict.fromkeys(run.cut, 0) | {0: 201}
    publish(batch, run.run_id, days, received, judged, TOPIC, forgotten={0: gone + 1})
    assert_merged(reader, left)
    assert sides(reader) == (201, len(left), 0, 0, gone + 1, 0)
    assert reader.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
    for asked in (older.run_id, None):
        with pytest.raises(RollbackRefused):
            rollback(batch, asked)
    collect_garbage(batch, 3)
    with connect(database, "postgres") as owner:
        for query in (
            f"SELECT count(*) FROM serving.batch_page_traffic WHERE run_id <> {run.run_id}",
            "SELECT count(*) FROM serving.speed_page_traffic",
            "SELECT count(*) FROM serving.reject",
            "SELECT count(*) FROM serving.drift_row",
            f"SELECT count(*) FROM serving.day_filter WHERE run_id <> {run.run_id}",
        ):
            assert owner.execute(query.encode()).fetchone() == (0,), query
    # From then on runs are as ever, and what is forgotten adds up.
    third = events(1, 0, 201, 50)
    whole = Range.of(kept(third, "shop"))
    lacking = 50 - whole.count
    counts = Counts(50, whole.count, 0, lacking)
    assert commit_range(speed, OffsetRange(0, 201, 251), whole.rows, counts, NO_REJECTS, TOPIC, known_statement=1)
    everything = pl.concat([left, kept(third, "shop")])
    assert run_of(batch, everything, lacking).kind == "incremental"
    assert_merged(reader, everything)
    assert sides(reader) == (251, len(everything), 0, 0, gone + 1 + lacking, 0)


def test_a_statement_is_known_once_and_to_all_again_if_asked(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    commit(speed, events(1, 0, 0, 10))
    run_of(batch, events(1, 0, 0, 10), 0)
    record_forgotten(batch, said(database, "shop"))
    (first,) = reader.execute("SELECT run_id FROM forgotten").fetchall()
    assert first == (None,)
    run = run_of(batch, kept(events(1, 0, 0, 10), "shop"), 0)
    running = begin_run(batch, "incremental")
    assert running.kind == "incremental"
    record_forgotten(batch, said(database, "shop"))
    assert reader.execute("SELECT number, run_id FROM forgotten").fetchall() == [(1, run.run_id)]
    # The run is as it was.
    compute(batch, running, events(1, 0, 0, 1))
    fail_run(batch, running.run_id, "over")
    record_forgotten(batch, said(database, "shop"), again=True)
    assert reader.execute("SELECT number, run_id FROM forgotten").fetchall() == [(1, None)]
    again = begin_run(batch, "incremental")
    assert again.kind == "full"
    fail_run(batch, again.run_id, "over")
    # What it knows it says to an archive that was lost.
    assert record_forgotten(batch, Said()) == 1
    assert forgotten_statements(batch) == said(database, "shop").statements
    assert record_forgotten(batch, said(database, "shop", "demo")) == 2
    assert reader.execute("SELECT number, run_id FROM forgotten ORDER BY 1").fetchall() == [(1, None), (2, None)]


def test_readers_see_that_something_was_forgotten_and_not_what(
    database: Settings, speed: Connection, batch: Connection, reader: Connection
) -> None:
    told = said(database, "shop")
    lift = Statement(2, "lift", "2026-11-22T00:00:00+00:00", "", lifts=1)
    record_forgotten(batch, Said((*told.statements, lift)))
    rows = reader.execute(
        "SELECT number, kind, events, rejects, lifted_by, until IS NULL FROM forgotten ORDER BY 1"
    ).fetchall()
    assert rows == [(1, "site", 7, 1, 2, False), (2, "lift", 0, 0, None, True)]
    for query in ("SELECT statement FROM serving.forgotten", "SELECT serving.forgotten_statements()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(query.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        speed.execute("SELECT serving.record_forgotten('[]', false)")
    assert not forgotten_rules(speed, database)
    assert forgotten_rules(speed, database).version == 2


def test_a_database_that_has_nothing_needs_no_key(database: Settings, speed: Connection) -> None:
    assert forgotten_rules(speed, database).version == Rules().version == 0
