"""What Kafka has acknowledged, in whichever log: the truth that what readers have is held against."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from tests.fixtures.memory import GAP, MemoryTopic
from tests.oracle import Rejected, event_of
from tests.simulate.engines import Clock


@dataclass(frozen=True)
class Sent:
    """A record that was acknowledged, and its offset in the log that took it. No other record has its time.

    It is the event of a day, or none; it repeats the record of time `first_ms`, if it is no new one.
    """

    partition: int
    offset: int
    time_ms: int
    value: bytes | None
    day: date | None
    first_ms: int | None = None


@dataclass(frozen=True)
class Log:
    """The log of a partition from one start of the broker to the next: later ones share what they have not lost of it."""

    topic_id: str
    leader_epoch: int
    records: list[tuple[int, bytes | None] | object]

    def time_at(self, offset: int) -> int | None:
        """The time of the record there; None if the offset holds none, as the end of a transaction."""
        record = self.records[offset]
        return None if record is GAP else record[0]  # type: ignore[index]

    def agrees(self, other: Log, next_offset: int) -> bool:
        """Whether both have the same records below the offset."""
        return self.topic_id == other.topic_id and self.records[:next_offset] == other.records[:next_offset]


class Logs:
    """The topic's logs, those that are lost included. Whatever happens to the topic must happen through this."""

    def __init__(self, topic: MemoryTopic, clock: Clock) -> None:
        self.topic, self.clock = topic, clock
        self.sent: dict[int, Sent] = {}
        """By time."""
        self._logs: dict[int, list[Log]] = {}
        self._last_ms = 0
        self._topics = 1
        for partition in topic.partitions:
            self._begin(partition)

    def append(self, partition: int, value: bytes | None, first_ms: int | None = None) -> None:
        """One more record at the end of a partition's log."""
        self._last_ms = max(self._last_ms + 1, int(self.clock.now_s * 1000))
        records = self.topic.partitions[partition]
        day = None
        with suppress(Rejected):
            _, time = event_of(value, self._last_ms)
            day = time.date()
        self.sent[self._last_ms] = Sent(partition, len(records), self._last_ms, value, day, first_ms)
        records.append((self._last_ms, value))

    def append_gap(self, partition: int) -> None:
        """One more offset that holds no record."""
        self.topic.partitions[partition].append(GAP)

    def cut(self, next_offsets: Mapping[int, int]) -> None:
        """The broker starts, and what the logs had from these offsets on is lost; of other partitions nothing is."""
        for partition, end in self.ends().items():
            self.topic.cut(partition, next_offsets.get(partition, end))
            self._begin(partition)

    def replace(self) -> None:
        """The topic is deleted and made again."""
        self._topics += 1
        self.topic.made_again(f"topic {self._topics}")
        for partition in self.topic.partitions:
            self._begin(partition)

    def add_partition(self) -> None:
        """The topic gets one more."""
        self.topic.add_partition()
        self._begin(max(self.topic.partitions))

    def ends(self) -> dict[int, int]:
        """The high watermark of each partition."""
        return {partition: len(records) for partition, records in self.topic.partitions.items()}

    def there(self, partition: int) -> list[Sent]:
        """The records that Kafka still has of a partition, in order."""
        first = self.topic.low_offsets.get(partition, 0)
        times = map(self.log(partition).time_at, range(first, len(self.topic.partitions[partition])))
        return [self.sent[time_ms] for time_ms in times if time_ms is not None]

    def holds(self, one: Sent) -> bool:
        """Whether Kafka still has the record."""
        return one in self.there(one.partition)

    def log(self, partition: int, topic_id: str | None = None, leader_epoch: int | None = None) -> Log:
        """The one that was there in a leader epoch of a topic; where that is not known, the last one."""
        return next(
            log
            for log in reversed(self._logs[partition])
            if topic_id in (None, log.topic_id) and (leader_epoch is None or log.leader_epoch <= leader_epoch)
        )

    def first_of(self, time_ms: int) -> int:
        """The time of the record that this one repeats, or its own."""
        return self.sent[time_ms].first_ms or time_ms

    def _begin(self, partition: int) -> None:
        epoch, _ = self.topic.epochs_of(partition)[-1]
        self._logs.setdefault(partition, []).append(Log(self.topic.topic_id, epoch, self.topic.partitions[partition]))
