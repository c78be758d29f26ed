"""A stack's past, written where it would have left something: Kafka, the archive on HDFS, the database.

Each part comes from the code that writes it in a running stack, called in this process: the archive's files, the counting
of ranges and their commits, the hand-off of runs. Left out is what nobody has any more: files that are merged away, rows
that a later run replaced, records below Kafka's retention, for which records of no bytes stand that are deleted again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import islice, repeat

from contract.event import Decoded, decode_records
from contract.log_position import LogPosition
from contract.master import OffsetRange, Slice
from contract.records import Records
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.sender import connect as connect_to_kafka
from ingest.topics import topic_of
from serving.database import Connection, connect
from serving.handoff import MERGED_ROWS, Counts, commit_range, merge_appended, positions
from speed.day_filters import DayFilters
from speed.dedupe import RecentEvents
from speed.range_counter import Counted, RangeCounter
from tests.age.layout import Layout, flushes
from tests.age.nights import Night, Nights, dates_of
from tests.age.past import LATE_DAYS, Past, Sent
from tests.fixtures.kafka import expire, senders_times

RETENTION_DAYS = 7
"""As compose/conf/kafka has it."""
_AHEAD = LATE_DAYS + 2
"""Of so many days that follow some event may be on a day that has one now."""
_WRITERS = 8
_SMALL_RANGE = 1_000
"""Rows of ranges of so many offsets are merged later, as those of live traffic are."""
_LEADER_EPOCH = 0
"""Of a topic that is new, on a broker that was not started since."""


@dataclass(frozen=True)
class Made:
    """How much there is of a past: records in all, files of the archive, runs."""

    records: int
    files: int
    runs: int


@dataclass(frozen=True)
class _Day:
    """What came on a day, by partition, and what it is; the days that its events are on."""

    sent: list[Sent]
    decoded: list[Decoded]
    dates: set[date]

    @classmethod
    def of(cls, sent: list[Sent]) -> _Day:
        decoded = [_decoded(partition, one.records()) for partition, one in enumerate(sent)]
        return cls(sent, decoded, dates_of([one.events for one in decoded]))


def make(settings: Settings, past: Past, say: Callable[[str], None]) -> Made:
    """The past is there when this returns: a topic, an archive and a database that were empty. Neither archiver nor speed
    layer may run meanwhile; they go on from there."""
    topic_id = topic_of(settings)().topic_id
    archive, kafka = _Archive(settings, past, topic_id), _Kafka(settings, past)
    with senders_times(settings), connect(settings, "speed") as speed, connect(settings, "batch") as batch:
        speed_layer = _SpeedLayer(settings, past, topic_id, speed)
        nights = Nights(settings, past.days - 1)
        days = map(_Day.of, past.sent())
        ahead = deque(islice(days, _AHEAD))
        for number in range(past.days):
            day = ahead.popleft()
            ahead.extend(islice(days, 1))
            before = archive.next_offsets()
            archive.take(day.sent)
            kafka.take(number, day.sent)
            speed_layer.count(day.sent, nights.keeps_speed_rows(number))
            if number < past.days - 1:
                # The last day has no run.
                following = [later.dates for later in islice(ahead, past.days - 2 - number)]
                nights.run(batch, Night(day.decoded, day.dates, archive.slices(before), archive.positions()), following)
            say(f"day {number + 1} of {past.days}: {sum(archive.next_offsets()):,} records")
        kafka.finish()
    say("writing the archive's last files")
    files = archive.finish()
    return Made(sum(archive.next_offsets()), files, past.days - 1)


def _decoded(partition: int, records: Records) -> Decoded:
    return decode_records(partition, records, compare=True)


class _Archive:
    """The files of all partitions. A file is written once it stays, the others in the end."""

    def __init__(self, settings: Settings, past: Past, topic_id: str) -> None:
        self._settings = settings
        self._files = self._open()
        self._flush_ms, self._topic_id = settings.archive_flush_ms, topic_id
        self._layouts = [Layout(settings, partition) for partition in range(past.partitions)]
        self._held = [Sent(0, [], []) for _ in range(past.partitions)]
        self._next_offsets = [0] * past.partitions
        self._settled = [0] * past.partitions

    def next_offsets(self) -> list[int]:
        """Up to where each partition is archived."""
        return list(self._next_offsets)

    def positions(self) -> dict[int, LogPosition]:
        """The same, as the files say it."""
        return {partition: self._position(offset) for partition, offset in enumerate(self._next_offsets)}

    def slices(self, before: Sequence[int]) -> list[Slice]:
        """What a run reads that has read all up to these offsets."""
        return [
            piece
            for layout, first, after in zip(self._layouts, before, self._next_offsets, strict=True)
            for piece in layout.slices(first, after)
        ]

    def take(self, of_day: Sequence[Sent]) -> None:
        """Archive a day's records."""
        for partition, sent in enumerate(of_day):
            layout, held = self._layouts[partition], self._held[partition]
            for offsets, at_ms in flushes(partition, sent.first_offset, sent.kafka_times_ms, self._flush_ms):
                layout.put(offsets, at_ms)
            held.kafka_times_ms.extend(sent.kafka_times_ms)
            held.values.extend(sent.values)
            self._next_offsets[partition] = sent.next_offset
            for file in layout.settled()[self._settled[partition] :]:
                self._put(self._files, file)
                self._settled[partition] += 1
            needed = min((file.first_offset for file in layout.others()), default=self._next_offsets[partition])
            self._held[partition] = held.between(needed, sent.next_offset)

    def finish(self) -> int:
        """Write what is not written yet; returns how many files there are."""
        others = [file for layout in self._layouts for file in layout.others()]
        # They are thousands of small ones, and HDFS lets each writer wait.
        with ThreadPoolExecutor(_WRITERS) as pool:
            list(pool.map(self._put_all, (others[number::_WRITERS] for number in range(_WRITERS))))
        return sum(len(layout.settled()) for layout in self._layouts) + len(others)

    def _open(self) -> ArchiveFiles:
        return ArchiveFiles(Hdfs(self._settings.webhdfs_url), self._settings.archive_root)

    def _put_all(self, files: Iterable[OffsetRange]) -> None:
        opened = self._open()
        for file in files:
            self._put(opened, file)

    def _put(self, files: ArchiveFiles, file: OffsetRange) -> None:
        records = self._held[file.partition].between(file.first_offset, file.next_offset).records()
        files.put(file, records, _decoded(file.partition, records), self._position(file.next_offset))

    def _position(self, next_offset: int) -> LogPosition:
        return LogPosition(next_offset, self._topic_id, _LEADER_EPOCH)


class _Kafka:
    """The topic: what is within the retention, at its offsets."""

    def __init__(self, settings: Settings, past: Past) -> None:
        self._settings, self._producer = settings, connect_to_kafka(settings)
        self._first_kept = max(0, past.days - RETENTION_DAYS)
        self._expired = [0] * past.partitions

    def take(self, day: int, of_day: Sequence[Sent]) -> None:
        """What came on a day of the past is in Kafka, or was."""
        for partition, sent in enumerate(of_day):
            if day < self._first_kept:
                self._expired[partition] = sent.next_offset
                self._send(partition, repeat(b"", len(sent)), sent.kafka_times_ms)
            else:
                self._send(partition, sent.values, sent.kafka_times_ms)

    def finish(self) -> None:
        """Kafka has acknowledged all, and has nothing more of what is expired."""
        undelivered = self._producer.flush(120)
        assert undelivered == 0, f"Kafka did not acknowledge {undelivered:,} records"
        if any(self._expired):
            expire(self._settings, dict(enumerate(self._expired)))

    def _send(self, partition: int, values: Iterable[bytes], times_ms: Iterable[int]) -> None:
        topic, produce = self._settings.topic, self._producer.produce
        for value, time_ms in zip(values, times_ms, strict=True):
            while True:
                try:
                    produce(topic, value, None, partition, timestamp=time_ms)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.poll(0)


class _Given:
    """A speed.range_counter.Reader of records that are there already."""

    def __init__(self, topic_id: str) -> None:
        self._topic_id, self._next_offset = topic_id, 0
        self.sent = Sent(0, [], [])

    def read(self, wanted: OffsetRange) -> tuple[OffsetRange, Records]:
        self._next_offset = wanted.next_offset
        return wanted, self.sent.between(wanted.first_offset, wanted.next_offset).records()

    def low_offset(self) -> int:
        return 0

    def stands_at(self, offset: int) -> bool:
        return self._next_offset == offset

    def go_on(self, position: LogPosition) -> None:
        self._next_offset = position.next_offset

    def position(self) -> LogPosition:
        return LogPosition(self._next_offset, self._topic_id, _LEADER_EPOCH)


class _SpeedLayer:
    """What bolts do with each range, one after the other."""

    def __init__(self, settings: Settings, past: Past, topic_id: str, connection: Connection) -> None:
        self._settings, self._connection = settings, connection
        days = DayFilters.of_database(lambda: connection, settings.day_filter_mb << 20, _say_nothing)
        rate = settings.filter_false_positive_rate
        positions(connection, past.partitions)
        self._readers = [_Given(topic_id) for _ in range(past.partitions)]
        self._counters = [
            RangeCounter(
                reader,
                RecentEvents(settings.dedupe_window_offsets, rate),
                days,
                self._commit,
                lambda partition: positions(connection)[partition],
                _say_nothing,
                settings.range_max_offsets,
            )
            for reader in self._readers
        ]
        self._keeps_rows = True

    def count(self, of_day: Sequence[Sent], keeps_rows: bool) -> None:
        """Count a day's records. Rows that would be deleted before the last run ends are not brought to the views."""
        self._keeps_rows = keeps_rows
        step = _SMALL_RANGE if keeps_rows else self._settings.range_max_offsets
        for partition, (reader, counter, sent) in enumerate(zip(self._readers, self._counters, of_day, strict=True)):
            reader.sent = sent
            appended = 0
            for first in range(sent.first_offset, sent.next_offset, step):
                appended += counter.count(OffsetRange(partition, first, min(first + step, sent.next_offset)))
                if keeps_rows and appended >= self._settings.speed_merge_rows:
                    appended = 0
                    self._merge(partition)

    def _merge(self, partition: int) -> None:
        least_rows = self._settings.speed_merge_rows
        while merge_appended(self._connection, partition, least_rows) == MERGED_ROWS:
            pass

    def _commit(self, offsets: OffsetRange, counted: Counted) -> None:
        commit_range(
            self._connection,
            offsets,
            counted.rows if self._keeps_rows else {},
            Counts(counted.received, counted.counted, counted.duplicate, counted.forgotten),
            counted.rejects,
            self._settings.topic,
            counted.generation,
            position=counted.position,
            known_statement=counted.statement,
        )


def _say_nothing(line: str) -> None:
    """What a bolt says of itself is of no interest here."""
