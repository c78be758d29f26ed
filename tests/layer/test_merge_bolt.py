"""The bolt that merges appended rows, on a real database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from pystorm.component import Tuple

from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, connect
from serving.handoff import MERGED_ROWS, merge_appended
from speed.merge_bolt import MergeBolt
from tests.fixtures.handoff import assert_merged, commit
from tests.fixtures.pageviews import events

LEAST_ROWS = 1_000


@pytest.fixture
def bolt(database: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[MergeBolt]:
    """It gives up for no reason of time, however slow the machine is."""
    monkeypatch.setattr("speed.merge_bolt._PATIENCE_S", 1_000)
    bolt = MergeBolt(BytesIO(), BytesIO(), rdb_signal=None)
    bolt.initialize({}, {})
    bolt.logger = logging.getLogger(__name__)
    bolt.settings = replace(database, speed_merge_rows=LEAST_ROWS)
    yield bolt
    bolt.disconnect()


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with connect(database, "postgres") as connection:
        yield connection


def appended(bolt: MergeBolt, rows: int) -> None:
    bolt.process(Tuple("", "", "", "", [0, rows]))


def levels(owner: Connection) -> dict[int, int]:
    """How many rows of all views were merged so many times."""
    tables = " UNION ALL ".join(f"SELECT level FROM serving.speed_{view.name}" for view in VIEWS)
    return dict(owner.execute(f"SELECT level, count(*) FROM ({tables}) AS rows GROUP BY level".encode()).fetchall())


def test_of_more_rows_than_one_call_takes_none_is_left_as_it_came(
    bolt: MergeBolt, speed: Connection, reader: Connection, owner: Connection
) -> None:
    frame = events(1, 0, 0, MERGED_ROWS * 5 // 4, days=200)
    half = len(frame) // 2
    for part in (frame[:half], frame[half:]):
        commit(speed, part)
    appended(bolt, LEAST_ROWS - 1)
    assert list(levels(owner)) == [0]
    assert levels(owner)[0] > MERGED_ROWS
    appended(bolt, 1)
    assert 0 not in levels(owner)
    assert_merged(reader, frame)


def test_when_its_time_is_over_the_next_commit_goes_on(
    bolt: MergeBolt, speed: Connection, reader: Connection, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = events(1, 0, 0, MERGED_ROWS * 5 // 4, days=200)
    commit(speed, frame)
    monkeypatch.setattr("speed.merge_bolt._PATIENCE_S", -1)
    whole = levels(owner)[0]
    appended(bolt, LEAST_ROWS)
    assert levels(owner)[0] == whole - MERGED_ROWS
    appended(bolt, 1)
    assert levels(owner)[0] < whole - MERGED_ROWS
    assert_merged(reader, frame)


def test_while_others_merge_it_does_not_wait_and_the_next_commit_goes_on(
    bolt: MergeBolt, database: Settings, speed: Connection, reader: Connection, owner: Connection
) -> None:
    frame = events(1, 0, 0, 4 * LEAST_ROWS)
    commit(speed, frame)
    # One that waits ends with an error, which it logs, and forgets what it knows.
    bolt.database().execute("SET lock_timeout = '10s'")
    with connect(database, "speed") as other, other.transaction():
        merge_appended(other, 1, least_rows=1)
        appended(bolt, LEAST_ROWS)
        assert list(levels(owner)) == [0]
    appended(bolt, 1)
    assert 1 in levels(owner)
    assert_merged(reader, frame)
