"""What is sent to the topic: records that are new, late, malformed, held back, sent again or replayed; what expires."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from tests.simulate.logs import Logs, Sent

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
_SOURCES = ("a", "b", "c")
_MALFORMED = (b"", b"{", b"\xff\xfe", b"[]", b'{"event_id":"x"}', b"null", b"not an event", None)


class Producers:
    """Whoever writes to the topic. They know which records are others once more."""

    def __init__(self, logs: Logs, window_offsets: int, chance: random.Random) -> None:
        self._logs, self._window_offsets, self._chance = logs, window_offsets, chance
        self._replayed: set[int] = set()
        """The times of repeats of what a batch run had counted; their first copy may be in another partition."""
        self._held: list[bytes | None] = []
        self._events = 0

    def produce(self) -> None:
        """A few new events, some late, some malformed; some are held back and arrive after later ones."""
        for _ in range(self._chance.randint(1, 6)):
            value = self._value()
            if self._chance.random() < 0.1:
                self._held.append(value)
            else:
                self._logs.append(self._partition(), value)
        while self._held and self._chance.random() < 0.3:
            self._logs.append(self._partition(), self._held.pop(self._chance.randrange(len(self._held))))

    def send_again(self, unwanted: Collection[int]) -> None:
        """Records of the window once more, as a producer that heard no answer, or a client, does; none of these times."""
        for _ in range(self._chance.randint(1, 4)):
            partition = self._partition()
            first = len(self._logs.topic.partitions[partition]) - self._window_offsets
            known = [
                one
                for one in self._logs.there(partition)
                if one.offset >= first and one.first_ms is None and one.time_ms not in unwanted
            ]
            if known:
                self._again(partition, self._chance.choice(known))

    def replay(self, counted: Collection[Sent]) -> None:
        """Some of these events, of any age, once more and in any partition, as a replay of history does."""
        ordered = sorted(counted, key=lambda one: one.time_ms)
        for one in self._chance.sample(ordered, min(len(ordered), self._chance.randint(1, 5))):
            # Batch counts the copy that is first by (partition, offset); so the ledger's partitions stay what they were.
            targets = [partition for partition in self._logs.topic.partitions if partition >= one.partition]
            self._again(self._chance.choice(targets), one)
            self._replayed.add(max(self._logs.sent))

    def send_lost(self, lost: Iterable[Sent]) -> None:
        """What was lost, by who still has it."""
        for one in lost:
            self._again(self._partition(), one)

    def send_same(self, records: Iterable[Sent]) -> None:
        """The same once more, each where it was."""
        for one in records:
            self._again(one.partition, one)

    def end_a_transaction(self) -> None:
        """A producer's transaction leaves an offset without a record."""
        self._logs.append_gap(self._partition())

    def release(self) -> None:
        """What was held back arrives."""
        while self._held:
            self._logs.append(self._partition(), self._held.pop(0))

    def may_expire(self, partition: int, next_offset: int) -> bool:
        """Whether no record expires with the offsets below this one whose repeat stays."""
        there = self._logs.there(partition)
        expiring = {one.time_ms for one in there if one.offset < next_offset}
        return not any(one.first_ms in expiring for one in there if one.offset >= next_offset)

    def are_apart(self, times: Collection[int]) -> bool:
        """Whether none of these records is another one once more, or was sent once more, unless that is among them too."""
        firsts = {self._logs.first_of(time_ms) for time_ms in times}
        return not any(self._logs.first_of(time_ms) in firsts for time_ms in self._logs.sent.keys() - set(times))

    def replayed(self) -> list[Sent]:
        """The repeats that only a batch run's count shows, as far as Kafka still has them."""
        there = (one for partition in self._logs.topic.partitions for one in self._logs.there(partition))
        return [one for one in there if one.time_ms in self._replayed]

    def _partition(self) -> int:
        return self._chance.choice(list(self._logs.topic.partitions))

    def _again(self, partition: int, one: Sent) -> None:
        self._logs.append(partition, one.value, self._logs.first_of(one.time_ms))

    def _value(self) -> bytes | None:
        chance = self._chance
        if chance.random() < 0.07:
            return chance.choice(_MALFORMED)
        self._events += 1
        now = START + timedelta(seconds=int(self._logs.clock.now_s - START.timestamp()))
        late = timedelta(days=chance.choice([0, 0, 0, 0, 1, 30]), minutes=chance.choice([0, 0, 1, 61, -20]))
        event = {
            "event_id": f"{chance.choice(_SOURCES)}:{self._events}",
            "event_time": (now - late).isoformat(),
            "site": chance.choice(["demo", "shop"]),
            "page": chance.choice(["/", "/cart"]),
            "visitor_id": f"v{chance.randrange(20)}",
            "status": chance.choice([200, 200, 404, 503]),
            "bytes_sent": chance.randrange(10_000),
        }
        if chance.random() < 0.7:
            event["duration_ms"] = chance.choice([0.0, 1.5, 80.0, 3_000.0])
        # No event, and names its site and visitor all the same.
        if chance.random() < 0.02:
            event["event_time"] = "yesterday"
        if chance.random() < 0.5:
            value = json.dumps(event)
        else:
            # As our own producers write it, and as it is left out in the archive.
            value = json.dumps(event, separators=(",", ":")).replace("+00:00", "Z")
        return (value[:-1] if chance.random() < 0.02 else value).encode()
