"""A batch run publishes only what both layers have read in one log, and the speed layer follows the archive into another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from batch.cut import Rescue, require_one_log, rescue
from contract.errors import EngineUnavailable, PositionLost
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.settings import Settings
from serving.log_check import require_positions
from tests.fixtures.memory import MemoryConsumer, MemoryTopic, cut_topic
from tests.simulate.engines import Admin


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> MemoryTopic:
    topic = cut_topic(6)
    monkeypatch.setattr("batch.cut.AdminClient", lambda config: Admin(topic))
    monkeypatch.setattr("batch.cut.connect", lambda settings, role: nullcontext())
    monkeypatch.setattr("serving.log_check.Consumer", lambda config: MemoryConsumer(topic, report_ends=True))
    return topic


def require(monkeypatch: pytest.MonkeyPatch, archived: LogPosition, counted: LogPosition) -> None:
    monkeypatch.setattr("batch.cut.positions", lambda connection: {0: counted, 1: LogPosition(5, "first", 0)})
    archive: Any = SimpleNamespace(extents=lambda: {0: Extent(0, archived)})
    require_one_log(Settings(), archive)


def test_an_archive_that_went_on_where_the_speed_layer_could_not_is_not_published(
    topic: MemoryTopic, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(
        PositionLost, match=r"the speed layer goes on at offset 8 of partition 0, but .* `make resume-topic`"
    ):
        require(monkeypatch, LogPosition(9, "first", 2), LogPosition(8, "first", 0))
    with pytest.raises(PositionLost, match="the archiver goes on at offset 9 of partition 0"):
        require(monkeypatch, LogPosition(9, "first", 0), LogPosition(7, "first", 2))


def test_both_have_read_one_log_in_one_leader_epoch_or_if_kafka_has_what_both_have_read(
    topic: MemoryTopic, monkeypatch: pytest.MonkeyPatch
):
    require(monkeypatch, LogPosition(9, "first", 2), LogPosition(6, "first", 0))
    require(monkeypatch, LogPosition(6, "first", 0), LogPosition(12, "first", 2))
    # In another log the speed layer stands by now where the archive goes on.
    require(monkeypatch, LogPosition(12, "first", 0, 6), LogPosition(12, "first", 2, 6))
    # Kafka need not have it any more, and is not asked.
    monkeypatch.setattr("batch.cut.AdminClient", None)
    require(monkeypatch, LogPosition(9, "first", 0), LogPosition(8, "first", 0))
    require(monkeypatch, LogPosition(9, "gone", 4), LogPosition(8, "gone", 4))
    # Of files and rows of older versions nobody knows.
    require(monkeypatch, LogPosition(9), LogPosition(8))


def test_where_kafka_does_not_say_a_run_goes_on(topic: MemoryTopic, monkeypatch: pytest.MonkeyPatch):
    def down(*arguments: Any) -> None:
        raise EngineUnavailable.at("Kafka", "kafka:29092", "refused")

    monkeypatch.setattr("batch.cut.require_positions", down)
    require(monkeypatch, LogPosition(9, "first", 2), LogPosition(8, "first", 0))


@pytest.mark.parametrize(
    ("archived", "counted", "expected"),
    [
        ({0: LogPosition(50)}, {0: LogPosition(40)}, {}),
        ({0: LogPosition(50)}, {0: LogPosition(39)}, {0: 50}),
        ({0: LogPosition(11)}, {}, {0: 11}),
        ({0: LogPosition(11, "first", 0, 6)}, {0: LogPosition(10, "first", 0, 6)}, {}),
    ],
)
def test_offsets_are_taken_over_from_a_speed_layer_that_is_far_behind(
    archived: Mapping[int, LogPosition], counted: Mapping[int, LogPosition], expected: Mapping[int, int]
):
    said: list[str] = []
    extents = {partition: Extent(partition, at) for partition, at in archived.items()}
    taken_over = rescue(Settings(rescue_offsets=11), extents, counted, said.append)
    assert {partition: at.next_offset for partition, at in taken_over.ends.items()} == expected
    assert len(said) == bool(expected)


@pytest.mark.parametrize(
    ("archived", "counted", "expected", "goes_on"),
    [
        # However near it is: by itself the speed layer does not come there.
        (LogPosition(11, "first", 0, 5), LogPosition(10, "first", 0), LogPosition(11, "first", 0, 5), False),
        # The archive was behind where the log was cut, and offsets 2 to 5 of it are read again, under other numbers.
        (LogPosition(11, "first", 0, 9), LogPosition(10, "first", 0), LogPosition(15, "first", 0, 9), False),
        (LogPosition(17, "first", 2, 9), LogPosition(10, "first", 0), LogPosition(17, "first", 2, 9), False),
        # The speed layer could go on, and has counted all that the log has.
        (LogPosition(14, "first", 2, 8), LogPosition(12, "first", 2), LogPosition(20, "first", 2, 8), True),
        # The archive was resumed where the log was cut, and no record of the later epoch is in it yet.
        (LogPosition(14, "first", 0, 8), LogPosition(12, "first", 2), LogPosition(20, "first", 2, 8), True),
        # Of another topic nothing is in this one.
        (LogPosition(11, "first", None, 11), LogPosition(10, "gone", 0), LogPosition(11, "first", None, 11), False),
        (LogPosition(11, "first", None, 11), LogPosition(0), LogPosition(11, "first", None, 11), True),
    ],
)
def test_what_the_speed_layer_has_counted_of_the_log_is_below_the_cut(
    topic: MemoryTopic, archived: LogPosition, counted: LogPosition, expected: LogPosition, goes_on: bool
):
    taken_over = rescue(Settings(), {0: Extent(0, archived)}, {0: counted}, lambda line: None)
    # Where Kafka has all that the speed layer has read it may read more of it before the run begins.
    assert taken_over == Rescue({0: expected}, frozenset({0} if goes_on else ()))
    # It goes on from there, in the log that there is.
    require_positions(Settings(), Admin(topic), "the speed layer", {0: expected})  # type: ignore[arg-type]
