"""The last step of the job on a real database: many days in one task, written once however often it is tried."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from batch.fold import fold_alone, outputs_of, packed
from batch.job import DayBlocks, Sent, send_merged, write
from contract.errors import RunRefused
from contract.settings import Settings
from contract.streams.page_views import PAGE_VIEWS
from serving.database import Connection
from serving.handoff import begin_run, fail_run, publish
from tests.fixtures.handoff import TOPIC, assert_merged
from tests.fixtures.pageviews import events

FRAME = events(1, 0, 0, 2_000, days=20)
DAYS = FRAME["event_time"].dt.date().unique().to_list()


def sent_to(blocks: DayBlocks) -> list[Sent]:
    """What two groups, each with half of the events, send to the writers."""
    return [
        one
        for half in (FRAME[::2], FRAME[1::2])
        for one in send_merged(PAGE_VIEWS, blocks, [(0, (part, packed(rows))) for part, rows in fold_alone(half).items()])
    ]


@pytest.mark.parametrize("count", [1, 3, len(DAYS)])
def test_a_task_of_many_days_that_is_tried_again_writes_them_once(
    database: Settings, batch: Connection, reader: Connection, count: int
) -> None:
    run, blocks = begin_run(batch, "full", {0: len(FRAME)}), DayBlocks.of(DAYS, count)
    sent = sent_to(blocks)
    assert {number for number, _ in sent} == set(range(count * len(outputs_of())))
    first = list(write(database, PAGE_VIEWS, run.run_id, blocks, sent))
    # The other half may come first when it is tried again, and a part of it may be written that was not yet.
    assert sorted(write(database, PAGE_VIEWS, run.run_id, blocks, sent[::-1]), key=astuple) == sorted(first, key=astuple)
    assert sorted(day.day for day in first) == sorted(DAYS)
    assert sum(day.counted for day in first) == len(FRAME)
    publish(batch, run.run_id, DAYS, {p: len(FRAME) * (p == 0) for p in run.cut}, [], TOPIC)
    assert_merged(reader, FRAME)


def test_what_a_broken_off_task_has_written_is_not_written_again(
    database: Settings, batch: Connection, reader: Connection
) -> None:
    run, blocks = begin_run(batch, "full", {0: len(FRAME)}), DayBlocks.of(DAYS, 3)
    sent = sent_to(blocks)
    some = [one for one in sent if one[0] < blocks.count]
    assert 0 < len(some) < len(sent)
    list(write(database, PAGE_VIEWS, run.run_id, blocks, some))
    list(write(database, PAGE_VIEWS, run.run_id, blocks, sent))
    publish(batch, run.run_id, DAYS, {p: len(FRAME) * (p == 0) for p in run.cut}, [], TOPIC)
    assert_merged(reader, FRAME)


def test_a_run_that_has_ended_writes_no_block(database: Settings, batch: Connection) -> None:
    run, blocks = begin_run(batch, "full", {0: len(FRAME)}), DayBlocks.of(DAYS, 3)
    fail_run(batch, run.run_id, "killed")
    with pytest.raises(RunRefused, match=rf"run {run.run_id} is failed, not running \(killed\)"):
        list(write(database, PAGE_VIEWS, run.run_id, blocks, sent_to(blocks)))
