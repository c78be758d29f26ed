"""Whole stack, after all other tests: database and Kafka are emptied, and the master dataset alone gives every view back."""

from __future__ import annotations

import os
from typing import Any

from batch.archive import Archive
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import expire, next_offsets_of
from tests.fixtures.stack import Stack

KEPT = {
    "ledger": "SELECT partition, next_offset, received, counted, duplicate, quarantined, difference FROM ledger ORDER BY 1",
    "quarantine": 'SELECT * FROM quarantine ORDER BY topic, partition, "offset"',
}


def kept(stack: Stack) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every merged view, the ledger and the quarantine."""
    return stack.everything() | {name: stack.ask(query, role="postgres") for name, query in KEPT.items()}


def lose_the_database(stack: Stack) -> None:
    """Its container and its volume."""
    stack.compose("rm", "--stop", "--force", "timescaledb")
    stack.run("compose/engine", "docker", "volume", "rm", f"{os.environ['COMPOSE_PROJECT_NAME']}_timescaledb")


def test_every_view_comes_back_from_the_master_dataset_alone(stack: Stack):
    stack.simulate(10_000, seed=40)
    archive = Archive(stack.settings)

    def archived() -> None:
        assert archive.next_offsets() == next_offsets_of(stack.settings)

    eventually(archived, within_s=60)
    before = kept(stack)
    assert len(before["page_traffic"]) > 100
    assert len(before["quarantine"]) > 10

    expire(stack.settings, next_offsets_of(stack.settings))
    lose_the_database(stack)
    stack.run("make", "--silent", "up", "TRAFFIC=none")
    assert stack.ask("SELECT count(*) FROM page_traffic") == [(0,)]
    # What docs/operations.md says under "The database is lost".
    stack.run("env", "BRAID_RESCUE_OFFSETS=1", "make", "--silent", "batch")
    assert kept(stack) == before

    # And it goes on from there.
    views = "SELECT sum(views), sum(batch_views) FROM page_traffic"
    ((rebuilt, of_batch),) = stack.ask(views)
    assert rebuilt == of_batch
    stack.simulate(1_000, seed=41)
    ((after, of_batch_after),) = stack.ask(views)
    assert after > rebuilt
    assert of_batch_after == of_batch
