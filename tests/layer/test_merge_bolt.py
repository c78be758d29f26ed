"""The bolt that merges appended rows, on a real database."""

from __future__ import annotations

import logging
from dataclasses import replace
from io import BytesIO

from pystorm.component import Tuple

from contract.settings import Settings
from contract.views import VIEWS
from serving.database import Connection, connect
from serving.handoff import MERGED_ROWS
from speed.merge_bolt import MergeBolt
from tests.fixtures.handoff import assert_merged, commit
from tests.fixtures.pageviews import events


def test_of_more_rows_than_one_call_takes_none_is_left_as_it_came(
    database: Settings, speed: Connection, reader: Connection
) -> None:
    frame = events(1, 0, 0, MERGED_ROWS * 5 // 4, days=200)
    half = len(frame) // 2
    for part in (frame[:half], frame[half:]):
        commit(speed, part)
    bolt = MergeBolt(BytesIO(), BytesIO(), rdb_signal=None)
    bolt.initialize({}, {})
    bolt.logger = logging.getLogger(__name__)
    bolt.settings = replace(database, speed_merge_rows=1_000)
    bolt.process(Tuple("", "", "", "", [0, 999]))
    with connect(database, "postgres") as owner:
        levels = "SELECT level, count(*) FROM serving.speed_site_traffic GROUP BY level ORDER BY level"
        ((level, as_they_came),) = owner.execute(levels).fetchall()
        assert level == 0
        assert as_they_came > MERGED_ROWS
        bolt.process(Tuple("", "", "", "", [0, 1]))
        for view in VIEWS:
            left = owner.execute(f"SELECT count(*) FROM serving.speed_{view.name} WHERE level = 0".encode()).fetchone()
            assert left == (0,), view.name
    bolt.disconnect()
    assert_merged(reader, frame)
