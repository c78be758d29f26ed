"""Kafka records as columns, the form in which decode() takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile

from confluent_kafka import Message

FETCH_BYTES = 1 << 17
"""How much to fetch of a partition at once, as producers have compressed it: a batch at least, whatever its size.

The client unpacks at once all that a fetch brings, before it looks at the limits of its queue. By default that is a MiB, of
which equal characters are 200 times as much.
"""


@dataclass
class Records:
    """Records of one partition, in order: one item a record in each list."""

    offsets: list[int] = field(default_factory=list)
    kafka_times_ms: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    size_bytes: int = 0
    """Of the values alone."""

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Records:
        """Those of messages, none of which is an error."""
        values = list(map(Message.value, messages))
        times_ms = [time_ms for _, time_ms in map(Message.timestamp, messages)]
        # Records, unlike errors, always have an offset.
        return cls(list(map(Message.offset, messages)), times_ms, values, _size_bytes(values))  # type: ignore[arg-type]

    def add(self, records: Records, shift: int = 0) -> None:
        """Append records that follow; `shift` is added to their offsets."""
        self.offsets.extend(records.offsets if shift == 0 else [offset + shift for offset in records.offsets])
        self.kafka_times_ms.extend(records.kafka_times_ms)
        self.values.extend(records.values)
        self.size_bytes += records.size_bytes

    def take(self, count: int) -> Records:
        """Remove the first `count` records and return them."""
        if count == len(self.offsets):
            taken = replace(self)
            self.offsets, self.kafka_times_ms, self.values, self.size_bytes = [], [], [], 0
            return taken
        values = self.values[:count]
        taken = Records(self.offsets[:count], self.kafka_times_ms[:count], values, _size_bytes(values))
        del self.offsets[:count], self.kafka_times_ms[:count], self.values[:count]
        self.size_bytes -= taken.size_bytes
        return taken

    def count_within(self, most_bytes: int) -> int:
        """How many of the first records have at most so many bytes together; one at least, if there is one."""
        if self.size_bytes <= most_bytes:
            return len(self.values)
        sizes = accumulate(len(value or b"") for value in self.values)
        return max(1, sum(1 for _ in takewhile(lambda size: size <= most_bytes, sizes)))


def _size_bytes(values: Iterable[bytes | None]) -> int:
    return sum(map(len, filter(None, values)))
