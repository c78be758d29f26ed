"""Whole stack: each party is frozen in turn, and whoever waits for it says so and ends. docs/operations.md has the table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from tests.drill.faults import BATCH, BatchRun, Faults
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import Stack

# A limit of each wait passes.
pytestmark = pytest.mark.long


@pytest.fixture
def faults(stack: Stack) -> Faults:
    return Faults(stack, os.environ["COMPOSE_PROJECT_NAME"])


@pytest.fixture
def with_events(stack: Stack) -> Iterator[None]:
    """A run has something to read: one without new records asks no Spark."""
    stack.simulate(200, seed=31)
    yield
    # What the frozen party held up is caught up with, for the tests that follow.
    stack.run(*BATCH, "batch")


def ends(stack: Stack, status: int, said: str, *command: str) -> None:
    done = stack.run(*command, check=False)
    assert done.returncode == status, done.stderr
    assert re.search(said, done.stdout + done.stderr), done.stderr
    assert "Traceback" not in done.stderr


FROZEN = [
    ("timescaledb", r"TimescaleDB at \S+ does not answer", ("tools", "-m", "serving", "query", "SELECT 1")),
    ("kafka", r"Kafka at \S+ does not answer", ("tools", "-m", "ingest", "simulate", "--events", "10")),
    ("namenode", r"HDFS at \S+ does not answer", ("batch", "python", "-m", "batch", "run")),
    ("nimbus", r"Nimbus at \S+ does not answer", ("topology",)),
]


@pytest.mark.parametrize(("service", "said", "command"), FROZEN, ids=lambda value: value if isinstance(value, str) else "")
def test_who_asks_a_frozen_server_says_which_one_does_not_answer(
    stack: Stack, faults: Faults, service: str, said: str, command: tuple[str, ...]
):
    with faults.frozen(service):
        ends(stack, 1, said, *BATCH, *command)


def test_a_run_names_the_archive_that_stands_still(stack: Stack, faults: Faults):
    with faults.frozen("archiver"):
        stack.simulate(200, seed=32)
        said = r"the archive of partition \d+ ends at \d+ but the cut is \d+, and nothing came for \d+ s; is the archiver"
        ends(stack, 1, said, "env", "BRAID_BATCH_WAIT_S=5", *BATCH, "batch")
    stack.run(*BATCH, "batch")


@pytest.mark.usefixtures("with_events")
def test_a_run_whose_worker_is_frozen_says_that_it_has_no_executor(stack: Stack, faults: Faults):
    with faults.frozen("spark-worker"):
        ends(stack, 1, r"run \d+ waited \d+ s for an executor of Spark and got none: ", *BATCH, "batch")


@pytest.mark.usefixtures("with_events")
def test_a_run_whose_worker_is_frozen_while_it_computes_says_that_it_has_no_executor(stack: Stack, faults: Faults):
    last = stack.ask("SELECT max(run_id) FROM runs")[0][0] or 0
    batch = BatchRun(faults)
    eventually(lambda: _assert(stack.ask("SELECT max(run_id) FROM runs")[0][0] > last), within_s=60)
    # Its task waits for another one with its claim, and no longer than until the worker is frozen: it locks the run's row.
    claim = f"day={datetime.now(UTC).date()} page_traffic/0"
    with ExitStack() as frozen, faults.held("INSERT INTO serving.run_task VALUES (%s, %s)", last + 1, claim):
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%serving.write_task%'"
        )
        eventually(lambda: _assert(faults.owner_asks(waiting)[0][0] > 0 and not batch.has_ended), within_s=120)
        frozen.enter_context(faults.frozen("spark-worker"))
        afterwards = frozen.pop_all()
    with afterwards:
        status, said = batch.finish()
    assert status == 1, said
    assert re.search(r"run \d+ waited \d+ s for an executor of Spark and got none: ", said), said
    assert "Traceback" not in said


def _assert(true: bool) -> None:
    assert true


def test_who_waits_for_the_speed_layer_says_where_it_stands_still(stack: Stack, faults: Faults):
    ahead = json.dumps({"0": 10**12})
    with faults.frozen("supervisor"):
        said = r"for \d+ s the speed layer has stood still at offset \d+ of partition 0, \d+ before 1000000000000"
        command = ("tools", "-m", "serving", "wait", "--partition-offsets", ahead, "--timeout-s", "5")
        ends(stack, 1, said, *BATCH, *command)
