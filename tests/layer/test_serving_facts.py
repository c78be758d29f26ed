"""What the exporter asks the database: quarantine, runs, what is live, and whether views had drifted."""

from __future__ import annotations

import time

import polars as pl

from serving.database import Connection, connect
from serving.drift import compare
from serving.facts import read_facts
from serving.handoff import begin_run, fail_run, publish
from tests.fixtures.handoff import TOPIC, commit, compute, full_run
from tests.fixtures.pageviews import events, reject


def test_there_is_nothing_before_the_first_event(reader: Connection):
    facts = read_facts(reader)
    assert (facts.quarantined, facts.runs, facts.live_run_id, facts.published_s) == ({}, {}, None, None)
    assert (facts.last_run, facts.wrong_views) == (None, 0)


def test_they_are_what_layers_have_done(speed: Connection, batch: Connection, reader: Connection):
    frame, bad = events(1, 0, 0, 100), pl.concat([reject(0, 100), reject(0, 101)])
    commit(speed, frame, bad)
    published = full_run(batch, frame, bad)
    failed = begin_run(batch, "incremental")
    fail_run(batch, failed.run_id, "no executor")
    begin_run(batch, "incremental")
    facts = read_facts(reader)
    assert facts.quarantined == {"not_json": 2}
    assert facts.runs == {("full", "published"): 1, ("incremental", "failed"): 1, ("incremental", "running"): 1}
    assert facts.live_run_id == published.run_id
    assert facts.published_s is not None
    assert abs(facts.published_s - time.time()) < 60
    # The one that goes on has not ended well, nor has it failed.
    assert facts.last_run is not None
    assert (facts.last_run["run_id"], facts.last_run["state"]) == (failed.run_id, "failed")


def test_a_view_that_showed_something_else_counts_until_the_next_run_found_it_right(
    database, speed: Connection, batch: Connection, reader: Connection
):
    frame = events(2, 0, 0, 100)
    commit(speed, frame)
    with connect(database, "postgres") as owner:
        (table,) = owner.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'serving'::regnamespace AND relkind = 'r' "
            "AND relname ~ '^speed_site_traffic' ORDER BY relname LIMIT 1"
        ).fetchall()[0]
        owner.execute(f"UPDATE serving.{table} SET views = views + 1".encode())
    for wrong_views in (1, 0):
        run = begin_run(batch, "full")
        days = compute(batch, run, frame)
        list(compare(batch, run.run_id, 1e-6))
        received = {partition: 100 if partition == 0 else 0 for partition in run.cut}
        publish(batch, run.run_id, days, received, [], TOPIC)
        assert read_facts(reader).wrong_views == wrong_views
