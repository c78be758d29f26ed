"""Whatever the records are: how much a bolt reads at once is bounded, and a record that cannot be counted is soon found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pystorm.component import Tuple

from contract.fetcher import Fetcher
from contract.master import OffsetRange
from contract.settings import Settings
from speed.metrics import SpeedMetrics
from speed.plan import RangePlan
from speed.reader import RangeReader
from speed.sketch_bolt import SketchBolt
from tests.fixtures.kafka_records import rows_of
from tests.fixtures.memory import GAP, MemoryConsumer, MemoryTopic
from tests.simulate.engines import Admin

MB = 1 << 20
# What was fetched when the bound was reached may be as many records more as are asked for at once.
SIZES = st.sampled_from([None, 0, 1, 250, 5_000, 64 << 10, MB - 1, MB, MB + 1])


def reader_of(records: list[object], monkeypatch: pytest.MonkeyPatch, asked: list[int] | None = None) -> RangeReader:
    topic = MemoryTopic({0: records})  # type: ignore[dict-item]

    class Consumer(MemoryConsumer):
        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__(topic, report_ends=True)

        def consume(self, count: int, timeout: float) -> Any:
            if asked is not None:
                asked.append(count)
            return super().consume(count, timeout)

    monkeypatch.setattr("speed.reader.Consumer", Consumer)
    monkeypatch.setattr("speed.reader.AdminClient", lambda config: Admin(topic))
    return RangeReader(replace(Settings(), range_max_mb=1), 0, print)


@given(sizes=st.lists(st.one_of(SIZES, st.just(-1)), max_size=30), first=st.integers(0, 10), length=st.integers(1, 40))
def test_a_range_is_read_in_parts_that_hold_all_its_records_once(sizes: list[int | None], first: int, length: int):
    topic = [GAP if size == -1 else (1, None if size is None else bytes(size)) for size in sizes]
    after = min(first + length, len(topic))
    with pytest.MonkeyPatch.context() as patch:
        reader = reader_of(topic, patch)
        offset, found = first, []
        while offset < after:
            part, records = reader.read(OffsetRange(0, offset, after))
            assert part.first_offset == offset < part.next_offset <= after
            rows = rows_of(records)
            assert records.size_bytes == sum(len(value or b"") for _, _, value in rows)
            assert records.size_bytes <= MB or len(rows) == 1
            assert all(part.first_offset <= one < part.next_offset for one, _, _ in rows)
            found += [(one, value) for one, _, value in rows]
            offset = part.next_offset
    expected = [(place, one[1]) for place, one in enumerate(topic) if one is not GAP and first <= place < after]  # type: ignore[index]
    assert found == expected


def test_no_more_is_asked_for_than_fits_by_the_size_of_the_last_ones(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    reader = reader_of([(1, bytes(100_000))] * 100, monkeypatch, asked)
    offset = 0
    while offset < 100:
        part, records = reader.read(OffsetRange(0, offset, 100))
        assert len(records) == min(10, 100 - offset)
        offset = part.next_offset
    assert max(asked) <= 1 + MB // (64 << 10)
    assert sum(asked) < 200
    asked.clear()
    small = reader_of([(1, bytes(100))] * 2_000, monkeypatch, asked)
    small.read(OffsetRange(0, 0, 2_000))
    assert asked[1:3] == [Fetcher.MOST_MESSAGES] * 2


@given(
    poison=st.integers(0, 5_000),
    max_offsets=st.integers(1, 2_000),
    in_flight=st.integers(1, 4),
    restarts=st.sets(st.integers(0, 60)),
)
def test_a_record_that_cannot_be_counted_is_soon_alone_and_all_before_it_is_counted(
    poison: int, max_offsets: int, in_flight: int, restarts: set[int]
):
    def new_plan() -> RangePlan:
        return RangePlan({0: position}, max_offsets, in_flight, 0, "t")

    position, now_s, rounds = 0, 0.0, 0
    plan = new_plan()
    while True:
        planned = plan.next_ranges({0: 10_000}, now_s)
        assert planned[0][1].first_offset == position
        assert len(planned) <= in_flight
        for tuple_id, offsets in planned:
            assert offsets.next_offset - offsets.first_offset <= max_offsets
            if offsets.first_offset == position and poison >= offsets.next_offset:
                position = offsets.next_offset
                plan.ack(tuple_id, now_s)
            else:
                plan.fail(tuple_id, now_s)
        if planned[0][1] == OffsetRange(0, poison, poison + 1):
            break
        rounds += 1
        # As many commits as there must be, and some twenty for each time that it all begins anew.
        assert rounds <= 10_000 // max_offsets + 30 * (len(restarts) + 2), (position, planned[0][1])
        now_s += 1
        if plan.may_resume(now_s):
            # Such a record may also end the worker, and the plan with it.
            if rounds in restarts:
                plan = new_plan()
            else:
                plan.resume({0: position}, now_s)
    # What holds the partition up may be over: then ranges get longer again.
    now_s += 1
    plan.resume({0: position}, now_s)
    for _ in range(2 * max_offsets.bit_length() + 2):
        planned = plan.next_ranges({0: 1_000_000}, now_s)
        for tuple_id, _ in planned:
            plan.ack(tuple_id, now_s)
    assert planned[0][1].next_offset - planned[0][1].first_offset == max_offsets


class _Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def exception(self, text: str, *arguments: object) -> None:
        self.lines.append(text % arguments)


def test_a_bolt_outlives_a_record_that_cannot_be_counted_and_names_it():
    class Bolt(SketchBolt):
        def __init__(self) -> None:
            self.logger, self.failed, self._connection = _Said(), [], None
            self.metrics = SpeedMetrics()

        def _counter_of(self, partition: int) -> Any:
            raise ZeroDivisionError

        def fail(self, tup: Tuple) -> None:
            self.failed.append(tup.id)

    bolt = Bolt()
    bolt.process(Tuple("a", "", "", "", [3, 10, 20]))
    bolt.process(Tuple("b", "", "", "", [3, 17, 18]))
    assert bolt.failed == ["a", "b"]
    assert "partition 3: not all of offsets [10, 20) is counted" in bolt.logger.lines[0]
    assert "partition 3: the record at offset 17 is not counted" in bolt.logger.lines[1]
