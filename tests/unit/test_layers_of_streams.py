"""Any declaration with any views: batch and speed make the same rows of its records, byte for byte those of Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.fold import LEDGER
from contract.aggregate import merge
from contract.decoder import Decoder, decoder_of
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.records import Records
from contract.stream import Stream
from serving.day_filters import FilteredDays
from speed.day_filters import DayFilters
from speed.dedupe import RecentEvents
from speed.range_counter import Counted, RangeCounter
from tests.fixtures.corpus import KAFKA_TIME_MS
from tests.fixtures.drawn_streams import damaged, judgement, rows
from tests.fixtures.drawn_views import Drawn, streams_with_views
from tests.fixtures.measured import bits
from tests.fixtures.shares import in_shares

PARTITIONS = 2
IDS = st.sampled_from([f"id-{number}" for number in range(12)])
TIMES = st.integers(0, 9).map(lambda number: datetime(2026, 5, 16, 20, 3, tzinfo=UTC) + timedelta(minutes=47 * number))
NEVER_EQUAL, ALWAYS_EQUAL = 2**61, 1


@dataclass
class Log:
    """One partition in memory, its reader, and what was committed of it."""

    partition: int
    values: list[bytes] = field(default_factory=list)
    commits: list[Counted] = field(default_factory=list)
    at: int = 0

    def records(self, first_offset: int, next_offset: int) -> Records:
        inside = self.values[first_offset:next_offset]
        return Records.of(range(first_offset, next_offset), [KAFKA_TIME_MS] * len(inside), inside)

    def read(self, wanted: OffsetRange) -> tuple[OffsetRange, Records]:
        self.at = wanted.next_offset
        return wanted, self.records(wanted.first_offset, wanted.next_offset)

    def low_offset(self) -> int:
        return 0

    def stands_at(self, offset: int) -> bool:
        return self.at == offset

    def go_on(self, position: LogPosition) -> None:
        self.at = position.next_offset

    def position(self) -> LogPosition:
        return LogPosition(self.at, "id", 0)

    def commit(self, committed: OffsetRange, counted: Counted) -> None:
        self.commits.append(counted)

    def count(self, stream: Stream, every: int) -> None:
        """The speed layer counts all of it, in ranges of so many offsets."""
        no_days = DayFilters(lambda: FilteredDays(0, {}), lambda asked: [], 1 << 20, str)
        recent = RecentEvents(1_000, 1e-12)
        counter = RangeCounter(self, recent, no_days, self.commit, self._committed, str, 100, stream=stream)
        for first in range(0, len(self.values), every):
            counter.count(OffsetRange(self.partition, first, min(first + every, len(self.values))))

    def _committed(self, partition: int) -> LogPosition:
        return LogPosition(0)


@st.composite
def logs_of(draw: st.DrawFn, stream: Stream) -> list[Log]:
    """Events, damaged ones and repeats; the key decides the partition, as a producer's does."""
    logs = [Log(partition) for partition in range(PARTITIONS)]
    decoder, count = Decoder(stream), draw(st.sampled_from([1, 4, 10]))
    # Few different values, so that rows have several events, and bounds and conditions meet some.
    some = draw(st.lists(rows(stream), min_size=1, max_size=count))
    events = [draw(st.sampled_from(some)) | {"id": draw(IDS), "at": draw(TIMES)} for _ in range(count)]
    values = [*map(decoder.encode_row, events), *draw(st.lists(damaged(decoder), max_size=2))]
    for value in [*values, *draw(st.lists(st.sampled_from(values), max_size=3))]:
        event = judgement(stream, value)
        key = event[stream.key] if isinstance(event, dict) else ""
        logs[crc32(key.encode()) % PARTITIONS].values.append(value)
    return logs


def first_of_each(stream: Stream, log: Log) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The events of a partition and the repeats among its records, in order."""
    seen: set[tuple[Any, ...]] = set()
    events, repeats = [], []
    for offset, value in enumerate(log.values):
        event = judgement(stream, value)
        if isinstance(event, dict):
            identity = (event[stream.time].date(), *(event[name] for name in stream.identity))
            (repeats if identity in seen else events).append(event | {"partition": log.partition, "offset": offset})
            seen.add(identity)
    return events, repeats


@settings(deadline=None)
@given(streams_with_views(), st.data())
def test_batch_and_speed_make_the_rows_of_plain_python(drawn: Drawn, data: st.DataObject):
    stream = drawn.stream
    logs = data.draw(logs_of(stream))
    judged = [first_of_each(stream, log) for log in logs]
    expected = {view.name: drawn.rows(view, [event for events, _ in judged for event in events]) for view in stream.views}

    decode = decoder_of(stream).decode_records
    everything = pl.concat([decode(log.partition, log.records(0, len(log.values))).events for log in logs])
    count = data.draw(st.integers(1, 3))
    shares = [everything[number::count] for number in range(count)]
    hash_count = data.draw(st.sampled_from([ALWAYS_EQUAL, 3, NEVER_EQUAL]))
    batch = in_shares(shares, hash_count, data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)), stream)

    every = data.draw(st.sampled_from([1, 4, 100]))
    for log in logs:
        log.count(stream, every)
    commits = [counted for log in logs for counted in log.commits]
    for view in stream.views:
        found = batch[view.name]
        assert found.schema == view.schema
        assert found.rows() == expected[view.name]
        assert bits(merge(view, [counted.rows[view.name] for counted in commits])).equals(bits(found))

    ledger = batch[LEDGER].select("day", "partition", "counted", "duplicate").rows()
    counted, repeated = (
        Counter((event[stream.time].date(), event["partition"]) for of_log in judged for event in of_log[which])
        for which in (0, 1)
    )
    assert ledger == [(*place, counted[place], repeated[place]) for place in sorted(counted | repeated)]
    assert sum(one.counted for one in commits) == counted.total()
    assert sum(one.duplicate for one in commits) == repeated.total()
    assert sum(len(one.rejects) for one in commits) == sum(len(log.values) for log in logs) - len(everything)
