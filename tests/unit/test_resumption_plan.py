"""How readers go on in a log that followed the one they read: numbered above all that was read, and what is lost named."""

from __future__ import annotations

import pytest

from contract.errors import PositionLost
from contract.log_position import LogPosition, Topic
from contract.resumption import ResumedPartition, Unarchived
from serving.resume import Standing, resumed

TOPIC = Topic("first", frozenset({0}))


def cut(reader: str, next_offset: int, at: int) -> PositionLost:
    lost = PositionLost.cut(reader, "pageviews", 0, next_offset, f"broker end offset is {at}: cut")
    lost.cut_offset = at
    return lost


def replaced(reader: str) -> PositionLost:
    return PositionLost.topic(reader, "pageviews", "before", "first")


def plan(archive: Standing, speed: Standing, low_offset: int = 0) -> tuple[tuple[int, int], ...]:
    """From which archived offset on what is which; Kafka's offset that goes on, and its shift; what is lost."""
    part = resumed(0, TOPIC, low_offset, archive, speed)
    assert isinstance(part, ResumedPartition)
    assert part.topic_id == "first"
    return (
        (part.archived_offset, part.next_offset),
        (part.log_offset, part.shift),
        (part.lost_offset, part.lost_next_offset),
    )


def test_a_log_that_was_cut_below_both_goes_on_where_it_was_cut_and_the_speed_layer_alone_has_lost():
    archive = Standing(LogPosition(8, "first", 0), cut("the archiver", 8, 5))
    speed = Standing(LogPosition(10, "first", 0), cut("the speed layer", 10, 5))
    assert plan(archive, speed) == ((8, 11), (5, 6), (8, 10))
    # Of what the archive has nothing is lost.
    assert plan(archive, Standing(LogPosition(7, "first", 0), cut("the speed layer", 7, 5))) == ((8, 9), (5, 4), (8, 8))


def test_what_retention_has_deleted_of_the_log_is_not_read():
    archive = Standing(LogPosition(8, "first", 0), cut("the archiver", 8, 5))
    assert plan(archive, Standing(LogPosition(8, "first", 0), cut("the speed layer", 8, 5)), low_offset=6)[1] == (6, 3)


@pytest.mark.parametrize(("archived", "next_offset"), [(5, 9), (8, 9), (20, 21)])
def test_an_archive_that_went_on_is_numbered_anew_too(archived: int, next_offset: int):
    # Its offsets from 5 on may mean other records than the speed layer has read there, and forgets only by the shift.
    archive = Standing(LogPosition(archived, "first", 2))
    speed = Standing(LogPosition(8, "first", 0), cut("the speed layer", 8, 5))
    assert plan(archive, speed) == ((archived, next_offset), (archived, next_offset - archived), (5, 8))


def test_what_kafka_kept_of_a_lost_log_is_archived_first():
    speed = Standing(LogPosition(8, "first", 0), cut("the speed layer", 8, 5))
    archive = Standing(LogPosition(4, "first", 0))
    assert resumed(0, TOPIC, 0, archive, speed) == Unarchived(0, 4, 5)
    # But for what retention has deleted since.
    assert plan(archive, speed, low_offset=5) == ((4, 9), (4, 5), (5, 8))
    # As the archive counts, which is of the new log already; the speed layer has come farther since then.
    ahead = Standing(LogPosition(40, "first", 2), cut("the speed layer", 40, 30))
    assert resumed(0, TOPIC, 0, Standing(LogPosition(11, "first", None, 6)), ahead) == Unarchived(0, 11, 36)


def test_of_a_topic_that_was_made_again_all_is_read_and_what_the_speed_layer_alone_has_read_is_lost():
    archive = Standing(LogPosition(8, "before", 0), replaced("the archiver"))
    speed = Standing(LogPosition(10, "before", 0), replaced("the speed layer"))
    assert plan(archive, speed) == ((8, 11), (0, 11), (8, 10))
    assert plan(Standing(LogPosition(0)), speed) == ((0, 11), (0, 11), (0, 10))
    # Of the one before the archive had nothing, so it has begun with this one, under the same offsets.
    for archived, next_offset in ((7, 11), (12, 13)):
        began = Standing(LogPosition(archived, "first", 0))
        assert plan(began, speed) == ((archived, next_offset), (archived, next_offset - archived), (0, 10))


def test_what_a_speed_layer_has_read_that_can_go_on_is_not_lost():
    # It was behind the place where the log was cut, and has read on in the log that there is.
    archive = Standing(LogPosition(8, "first", 0), cut("the archiver", 8, 5))
    assert plan(archive, Standing(LogPosition(20, "first", 2))) == ((8, 21), (5, 16), (20, 20))
    # Where nobody knows which topic that was of, it may have been the one that is gone.
    gone = Standing(LogPosition(8, "before", 0), replaced("the archiver"))
    assert plan(gone, Standing(LogPosition(20)))[2] == (8, 20)


def test_where_the_archive_goes_on_in_the_new_log_only_the_run_is_missing():
    # A command that was broken off has done so much, and the file there says what was lost.
    archive = Standing(LogPosition(11, "first", None, 6))
    for topic_id, lost in (("first", cut("the speed layer", 10, 5)), ("before", replaced("the speed layer"))):
        assert resumed(0, TOPIC, 0, archive, Standing(LogPosition(10, topic_id, 0), lost)) == 0
    # If the speed layer has come farther since, it cannot be brought to the archive's end.
    ahead = Standing(LogPosition(40, "first", 2), cut("the speed layer", 40, 30))
    assert plan(Standing(LogPosition(38, "first", None, 6)), ahead) == ((38, 41), (32, 9), (30, 40))
