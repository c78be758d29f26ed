"""How readers go on where the speed layer alone has read what Kafka has lost; the rest needs servers (tests/layer)."""

from __future__ import annotations

import pytest

from contract.errors import PositionLost
from contract.log_position import LogPosition, Topic
from contract.settings import Settings
from serving.resume import _in_the_speed_layer

TOPIC = Topic("id", frozenset({1}))


@pytest.mark.parametrize(("archived", "next_offset"), [(95, 101), (100, 101), (130, 131)])
def test_numbers_change_where_something_is_lost_also_if_the_archive_is_ahead(archived: int, next_offset: int):
    error = PositionLost.cut("the speed layer", "pageviews", 1, 100, "epoch 0 ends at 90")
    error.cut_offset = 90
    ends = LogPosition(archived, "id", 2), LogPosition(100, "id", 0)
    part = _in_the_speed_layer(Settings.from_env(), TOPIC, 1, *ends, error)
    assert (part.archived_offset, part.log_offset, part.next_offset) == (archived, archived, next_offset)
    # A bolt forgets what it knew of a log when this grows.
    assert part.shift > 0
    assert (part.lost_offset, part.lost_next_offset) == (90, 100)
