"""Whole stack: the merged views equal the oracle before, during and after a batch run, and after a bolt is killed."""

from __future__ import annotations

import signal
import subprocess

from contract.views import VIEWS, with_rollups
from tests.fixtures.stack import ROOT, Stack
from tests.oracle import Outcome, expected_rows

TOTALS = (
    "SELECT sum(views), sum(errors), sum(bytes_sent), merged_count(visitors), "
    "merged_percentile(0.5, latency) FROM page_traffic_sketches"
)
BATCH = ("compose/engine", "compose", "run", "--rm", "-T", "--no-deps", "batch")


def assert_equals_oracle(stack: Stack) -> Outcome:
    truth = stack.truth()
    for view in with_rollups(VIEWS):
        assert stack.merged(view) == expected_rows(truth, view.name), view.name
    ledger = stack.ask("SELECT sum(received), sum(counted), sum(duplicate), sum(quarantined) FROM ledger")
    assert ledger == [(truth.received, truth.counted, truth.duplicate, truth.rejects.total())]
    assert stack.ask("SELECT partition FROM ledger WHERE difference <> 0 OR in_flight <> 0") == []
    assert dict(stack.ask("SELECT reason, count(*) FROM quarantine GROUP BY reason")) == dict(truth.rejects)
    return truth


def test_exact_before_during_and_after_a_batch_run(stack: Stack):
    stack.simulate(30_000, seed=7)
    truth = assert_equals_oracle(stack)
    assert truth.duplicate > 100
    assert truth.rejects.total() > 10
    speed_only = stack.everything()
    assert stack.ask("SELECT sum(batch_views) FROM page_traffic") == [(0,)]

    before = stack.ask(TOTALS)
    polls = 0
    with subprocess.Popen(BATCH, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as batch:
        while batch.poll() is None:
            assert stack.ask(TOTALS) == before
            polls += 1
            try:
                batch.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
        assert batch.stdout is not None
        said = batch.stdout.read()
    assert batch.returncode == 0, said
    assert polls > 20

    assert stack.ask("SELECT count(*) FROM page_traffic WHERE batch_views <> views OR speed_views <> 0") == [(0,)]
    # The same rows, to the byte, from the other layer: sketches and histograms included.
    assert stack.everything() == speed_only
    assert_equals_oracle(stack)


def test_sketches_are_the_databases_own(stack: Stack):
    truth = stack.truth()
    rows = sorted(truth.rows["page_traffic"].items(), key=lambda item: -len(item[1].visitors))
    for (bucket, site, page), row in [*rows[:5], *rows[-5:]]:
        visitors = ",".join(row.visitors)
        own = stack.ask(
            f"SELECT (SELECT hll_add_agg(hll_hash_text(v), 11, 5, 0, 1) FROM unnest('{{{visitors}}}'::text[]) AS v)::text "
            f"= visitors::text FROM page_traffic_sketches WHERE bucket = '{bucket}' AND site = '{site}' AND page = '{page}'"
        )
        assert own == [(True,)]


def test_exact_after_a_bolt_is_killed_under_traffic(stack: Stack):
    simulate = ("run", "--rm", "-T", "--no-deps", "tools", "-m", "ingest", "simulate", "--events", "20000", "--rate", "4000")
    command = ["compose/engine", "compose", *simulate, "--seed", "8"]
    counted = "SELECT sum(counted) FROM ledger"
    before = stack.ask(counted)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as traffic:
        # In the middle: some of the new events are counted, most are not.
        while traffic.poll() is None and stack.ask(counted) == before:
            continue
        assert traffic.poll() is None, "the traffic ended before anything was counted"
        stack.compose("exec", "-T", "supervisor", "pkill", "-9", "-f", "speed.sketch_bolt.SketchBolt")
    assert traffic.returncode == 0
    stack.wait_until_counted()
    assert_equals_oracle(stack)


def test_a_batch_part_and_a_speed_part_make_one(stack: Stack):
    stack.run(*BATCH)
    stack.simulate(5_000, seed=9)
    # Late events of the simulator make rows that both parts have a share in.
    assert stack.ask("SELECT count(*) > 0 FROM page_traffic WHERE batch_views > 0 AND speed_views > 0") == [(True,)]
    assert stack.ask("SELECT count(*) FROM page_traffic WHERE batch_views + speed_views <> views") == [(0,)]
    assert_equals_oracle(stack)


def test_an_interrupted_run_changes_nothing(stack: Stack):
    before, live = stack.everything(), stack.ask("SELECT max(run_id) FROM runs WHERE state = 'published'")
    runs = stack.ask("SELECT count(*) FROM runs")[0][0]
    with subprocess.Popen([*BATCH], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as batch:
        while stack.ask("SELECT count(*) FROM runs")[0][0] == runs:
            assert batch.poll() is None
        batch.send_signal(signal.SIGINT)
        assert batch.stdout is not None
        said = batch.stdout.read()
    assert batch.returncode == 130, said
    assert "the published views are as they were" in said
    assert "Traceback" not in said
    assert stack.ask("SELECT state, error FROM runs ORDER BY run_id DESC LIMIT 1") == [("failed", "interrupted")]
    assert stack.ask("SELECT max(run_id) FROM runs WHERE state = 'published'") == live
    assert stack.everything() == before
    stack.run(*BATCH)
    assert stack.everything() == before
