"""Whole stack: each party is frozen in turn, and whoever waits for it says so and ends. docs/operations.md has the table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.drill.faults import BATCH, Faults
from tests.fixtures.stack import Stack


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


def test_who_waits_for_the_speed_layer_says_where_it_stands_still(stack: Stack, faults: Faults):
    ahead = json.dumps({"0": 10**12})
    with faults.frozen("supervisor"):
        said = r"for \d+ s the speed layer has stood still at offset \d+ of partition 0, \d+ before 1000000000000"
        command = ("tools", "-m", "serving", "wait", "--partition-offsets", ahead, "--timeout-s", "5")
        ends(stack, 1, said, *BATCH, *command)
