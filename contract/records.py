"""Kafka records as columns, the form in which decode() takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from confluent_kafka import Message

CONSUME_MESSAGES = 500
"""How many messages to ask the client for at once.

Each is an object that Python's cyclic collector knows. These are too few to wake it, and stay in the processor's cache: of
10,000 at once each takes half as long again.
"""


@dataclass
class Records:
    """Records of one partition, in order: one item a record in each list."""

    offsets: list[int] = field(default_factory=list)
    kafka_times_ms: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)

    def add(self, messages: Sequence[Message]) -> None:
        """Append messages, none of which is an error."""
        # Records, unlike errors, always have an offset.
        self.offsets.extend(map(Message.offset, messages))  # type: ignore[arg-type]
        self.kafka_times_ms.extend([time_ms for _, time_ms in map(Message.timestamp, messages)])
        self.values.extend(map(Message.value, messages))

    def take(self, count: int) -> Records:
        """Remove the first `count` records and return them."""
        taken = Records(self.offsets[:count], self.kafka_times_ms[:count], self.values[:count])
        del self.offsets[:count], self.kafka_times_ms[:count], self.values[:count]
        return taken


def parted(messages: Sequence[Message]) -> tuple[Sequence[Message], Sequence[Message]]:
    """Those that are records, and those that are errors."""
    if not any(map(Message.error, messages)):
        return messages, ()
    return [one for one in messages if one.error() is None], [one for one in messages if one.error() is not None]
