"""The spout, and the reader of a bolt, over a topic in memory that is cut, or made again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest

from contract.errors import PositionLost
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.settings import Settings
from serving.day_filters import FilteredDays
from serving.log_check import lost_positions
from speed.day_filters import DayFilters
from speed.dedupe import RecentEvents
from speed.range_counter import Counted, RangeCounter
from speed.range_spout import RangeSpout
from speed.reader import RangeReader
from tests.fixtures.memory import MemoryConsumer, MemoryTopic
from tests.simulate.engines import Admin, Clock
from tests.unit.test_speed import grown

RECORD = (1_763_712_000_000, b"x")


class Spout(RangeSpout):
    """The real spout; what it emits and says is kept."""

    def __init__(self) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger = logging.getLogger("spout")
        self.emitted: list[list[int]] = []

    def emit(self, values: list[int], tup_id: str) -> None:  # type: ignore[override]
        self.emitted.append(values)


class World:
    def __init__(self, records: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topic, self.clock = MemoryTopic({0: [RECORD] * records}), Clock(0.0)
        self.committed = LogPosition(0)
        self.consumers = 0
        self.rows = 1
        """How many partitions the database knows."""

        @contextmanager
        def connection(*arguments: Any) -> Iterator[None]:
            yield None

        for name, stand_in in (
            ("speed.range_spout.AdminClient", lambda config: Admin(self.topic)),
            ("speed.reader.AdminClient", lambda config: Admin(self.topic)),
            ("speed.reader.Consumer", self._consumer),
            ("serving.log_check.Consumer", lambda config: MemoryConsumer(self.topic, report_ends=True)),
            ("speed.range_spout.connect", connection),
            ("speed.range_spout.positions", self._positions),
            ("speed.range_spout.RangePlan", grown),
            ("speed.range_spout.time", self.clock),
            ("speed.range_spout.Settings.from_env", Settings),
        ):
            monkeypatch.setattr(name, stand_in)

    def _consumer(self, config: dict[str, Any]) -> MemoryConsumer:
        self.consumers += 1
        return MemoryConsumer(self.topic, report_ends=True)

    def _positions(self, connection: None, partitions: int) -> dict[int, LogPosition]:
        self.rows = max(self.rows, partitions)
        return {0: self.committed} | {partition: LogPosition(0) for partition in range(1, self.rows)}

    def commit(self, next_offset: int, shift: int = 0) -> None:
        at = next_offset - shift - 1
        self.committed = LogPosition(next_offset, self.topic.topic_id, self.topic.epoch_at(0, at), shift)

    def spout(self) -> Spout:
        spout = Spout()
        spout.initialize({}, {})
        return spout

    def looks(self, spout: Spout, times: int = 5) -> list[list[int]]:
        """What the spout emits while it looks so often, seconds apart."""
        before = len(spout.emitted)
        for _ in range(times):
            spout.next_tuple()
            self.clock.now_s += 3
        return spout.emitted[before:]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(10, monkeypatch)


def started(world: World) -> Spout:
    """A spout whose first range, of all that there is, is committed."""
    spout = world.spout()
    assert world.looks(spout) == [[0, 0, 10]]
    world.commit(10)
    spout.ack("0:0:0")
    return spout


@pytest.mark.parametrize("refilled", [0, 3, 9])
@pytest.mark.parametrize("lives_on", [True, False])
def test_a_spout_emits_nothing_of_a_log_that_was_cut_and_says_so_once(
    world: World, refilled: int, lives_on: bool, caplog: pytest.LogCaptureFixture
):
    spout = started(world)
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [RECORD] * refilled
    spout = spout if lives_on else world.spout()
    assert world.looks(spout) == []
    (said,) = caplog.messages
    assert "the speed layer goes on at offset 10 of partition 0, but topic pageviews" in said


@pytest.mark.parametrize("records", [0, 5, 20])
@pytest.mark.parametrize("lives_on", [True, False])
def test_a_spout_emits_nothing_of_a_topic_that_was_made_again(
    world: World, records: int, lives_on: bool, caplog: pytest.LogCaptureFixture
):
    spout = started(world)
    world.clock.now_s += 10
    world.topic.made_again("second")
    world.topic.partitions[0] += [RECORD] * records
    spout = spout if lives_on else world.spout()
    emitted = world.looks(spout)
    # With the same leader epoch a range may be planned before the next look; its commit is refused.
    assert emitted == [] or (lives_on and emitted == [[0, 10, 20]])
    if not emitted:
        assert "topic pageviews" in caplog.messages[0]
        assert len(caplog.messages) == 1


def test_a_spout_goes_on_when_the_position_was_moved(world: World):
    spout = started(world)
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [RECORD] * 4
    assert world.looks(spout) == []
    # Offset 7 of the log, which is new, shall be 11.
    world.committed = LogPosition(11, world.topic.topic_id, 0, shift=4)
    assert world.looks(spout) == [[0, 11, 15]]


def test_a_reader_gives_nothing_of_a_log_that_was_cut(world: World):
    world.commit(10)
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [RECORD] * 9
    reader = RangeReader(Settings(), 0, print)
    reader.go_on(world.committed)
    with pytest.raises(PositionLost, match="offset 10 of partition 0, but topic pageviews has lost records below it"):
        reader.read(OffsetRange(0, 10, 16))
    assert not reader.stands_at(10)


def test_a_reader_that_lives_on_while_the_log_is_cut_gives_nothing_of_what_came_after(world: World):
    reader = RangeReader(Settings(), 0, print)
    reader.go_on(LogPosition(0))
    part, records = reader.read(OffsetRange(0, 0, 10))
    assert (part, len(records.offsets)) == (OffsetRange(0, 0, 10), 10)
    assert reader.position() == LogPosition(10, "first", 0)
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [RECORD] * 9
    with pytest.raises(PositionLost):
        reader.read(OffsetRange(0, 10, 16))


def test_what_is_read_while_the_topic_is_made_again_is_of_no_topic(world: World):
    reader = RangeReader(Settings(), 0, print)
    reader.go_on(LogPosition(0))
    world.topic.made_again("second")
    world.topic.partitions[0] += [RECORD] * 10
    reader.read(OffsetRange(0, 0, 5))
    # The database, which knows no topic of this partition yet, would take it.
    with pytest.raises(PositionLost, match="has read the topic with the id first, but topic pageviews has the id second"):
        reader.position()
    reader.go_on(LogPosition(0))
    reader.read(OffsetRange(0, 0, 5))
    assert reader.position() == LogPosition(5, "second", 0)


@pytest.mark.parametrize("has_read", [True, False])
def test_a_reader_that_goes_on_once_more_sees_that_the_log_was_cut(world: World, has_read: bool):
    world.commit(10)
    reader = RangeReader(Settings(), 0, print)
    if has_read:
        reader.go_on(LogPosition(0))
        reader.read(OffsetRange(0, 0, 10))
    else:
        assert reader.low_offset() == 0
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [RECORD] * 9
    reader.go_on(world.committed)
    with pytest.raises(PositionLost, match="has lost records below it"):
        reader.read(OffsetRange(0, 10, 16))


def test_a_reader_starts_with_one_client(world: World):
    reader = RangeReader(Settings(), 0, print)
    reader.go_on(LogPosition(0))
    reader.read(OffsetRange(0, 0, 10))
    assert world.consumers == 1


def test_a_reader_counts_as_its_position_does(world: World):
    reader = RangeReader(Settings(), 0, print)
    reader.go_on(LogPosition(104, "first", 0, shift=100))
    assert reader.read(OffsetRange(0, 104, 110))[1].offsets.tolist() == list(range(104, 110))
    assert (reader.position(), reader.low_offset()) == (LogPosition(110, "first", 0, 100), 100)


def event(name: str) -> tuple[int, bytes]:
    fields = f'"event_id":"{name}","event_time":"2025-11-21T08:00:00Z","site":"s","page":"/","visitor_id":"v"'
    return RECORD[0], f'{{{fields},"status":200,"bytes_sent":1,"duration_ms":1.5}}'.encode()


@pytest.mark.parametrize("made_again", [True, False])
def test_a_counter_that_lives_on_forgets_what_a_lost_log_had_and_knows_what_followed(world: World, made_again: bool):
    """A second log follows the first; a run takes its first two records over, and then both of them come again."""
    world.topic.partitions[0] = [event(f"e{number}") for number in range(10)]
    world.committed = LogPosition(0)
    counted: list[int] = []

    def commit(offsets: OffsetRange, range_counted: Counted) -> None:
        counted.append(range_counted.counted)
        world.commit(offsets.next_offset, world.committed.shift)

    def no_filter(*_: Any) -> Any:
        raise AssertionError("no run has written a filter")

    days = DayFilters(lambda: FilteredDays(0, {}), no_filter, 1, print)
    reader = RangeReader(Settings(), 0, print)
    counter = RangeCounter(reader, RecentEvents(100, 1e-9), days, commit, lambda _: world.committed, print, 1_000)
    counter.count(OffsetRange(0, 0, 10))
    if made_again:
        world.topic.made_again("second")
    else:
        world.topic.cut(0, 7)
    log_offset = 0 if made_again else 7
    # Events 8 and 9 are lost, and sent again.
    names = ("n0", "n1", "n0", "n1", "e8", "e9", "e9")
    world.topic.partitions[0] += [event(name) for name in names]
    # The new log's first record is 11, since 10 was the next of the lost one.
    world.commit(13, shift=11 - log_offset)
    counter.count(OffsetRange(0, 13, 11 + len(names)))
    assert counted == [10, 2]


def test_a_spout_plans_partitions_that_are_added_from_their_first_offset_on(world: World):
    spout = started(world)
    for partition in range(1, 4):
        world.topic.add_partition()
        world.topic.partitions[partition] += [RECORD] * partition
    assert world.looks(spout) == [[1, 0, 1], [2, 0, 1], [2, 1, 2], [3, 0, 1], [3, 1, 2], [3, 2, 3]]
    assert world.rows == 4
    # The others were not disturbed: what they have counted stays so, and they go on there.
    world.topic.partitions[0] += [RECORD] * 5
    assert world.looks(spout, 1) == [[0, 10, 15]]


def test_a_spout_that_starts_knows_at_once_how_many_partitions_there_are(world: World):
    world.topic.add_partition()
    assert world.looks(world.spout(), 1) == [[0, 0, 10]]
    assert world.rows == 2


@pytest.mark.parametrize("lives_on", [True, False])
def test_a_spout_refuses_a_topic_with_fewer_partitions_because_it_is_another_one(
    world: World, lives_on: bool, caplog: pytest.LogCaptureFixture
):
    world.topic.add_partition()
    spout = started(world)
    world.topic.made_again("second", partitions=1)
    world.topic.partitions[0] += [RECORD] * 20
    spout = spout if lives_on else world.spout()
    assert world.looks(spout) == []
    assert "has read the topic with the id first, but topic pageviews has the id second" in caplog.messages[-1]
    # Another one gives no partitions to the database, however many it has.
    world.topic.made_again("third", partitions=7)
    assert world.looks(spout) == []
    assert world.rows == 2


def test_a_spout_goes_on_in_a_topic_with_fewer_partitions_once_it_is_resumed(world: World):
    world.topic.add_partition()
    spout = started(world)
    world.topic.made_again("second", partitions=1)
    world.topic.partitions[0] += [RECORD] * 4
    assert world.looks(spout) == []
    world.committed = LogPosition(11, "second", None, shift=11)
    assert world.looks(spout, 1) == [[0, 11, 15]]
    # An answer that comes late is about a partition that nobody plans any more.
    spout.ack("1:0:0")
    spout.fail("1:0:0")


def test_a_position_in_a_partition_that_the_topic_does_not_have_is_lost_unless_nothing_was_read_there(world: World):
    admin = Admin(world.topic)
    held = {0: LogPosition(5, "first"), 1: LogPosition(7), 2: LogPosition(9, "first", None, shift=9), 3: LogPosition(0)}
    lost = lost_positions(Settings(), admin, "the speed layer", held)  # type: ignore[arg-type]
    assert list(lost) == [1]
    # What the audit asks, of whom nobody has asked for the topic's id before.
    assert list(lost_positions(Settings(), admin, "the speed layer", {0: LogPosition(5, "other")})) == [0]  # type: ignore[arg-type]
    assert "offset 7 of partition 1, but topic pageviews has 1 partitions, and Kafka takes none away: it" in str(lost[1])
