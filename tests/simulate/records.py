"""What happens to the topic: records that are new, late, malformed, held back, sent again, replayed or deleted."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from tests.fixtures.memory import GAP, MemoryTopic
from tests.oracle import Record, Rejected, event_of
from tests.simulate.engines import Clock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
_MALFORMED = (b"", b"{", b"\xff\xfe", b"[]", b'{"event_id":"x"}', b"null", b"not an event", None)


class Producers:
    """Whoever writes to the topic, and Kafka that deletes from it. They know which records are others once more."""

    def __init__(self, topic: MemoryTopic, window_offsets: int, clock: Clock, chance: random.Random) -> None:
        self._topic, self._window_offsets, self._clock, self._chance = topic, window_offsets, clock, chance
        self._repeats: dict[tuple[int, int], int] = {}
        """(partition, offset) of a repeat: the offset of its first copy."""
        self._replayed: set[tuple[int, int]] = set()
        """(partition, offset) of repeats of what a batch run had counted; their first copy may be in another partition."""
        self._held: list[tuple[int, bytes | None]] = []
        self._events = 0

    def produce(self) -> None:
        """A few new events, some late, some malformed; some are held back and arrive after later ones."""
        for _ in range(self._chance.randint(1, 6)):
            partition, value = self._chance.randrange(len(self._topic.partitions)), self._value()
            if self._chance.random() < 0.1:
                self._held.append((partition, value))
            else:
                self._append(partition, value)
        while self._held and self._chance.random() < 0.3:
            self._append(*self._held.pop(self._chance.randrange(len(self._held))))

    def send_again(self) -> None:
        """Records of the window once more, as a producer that heard no answer, or a client, does."""
        for _ in range(self._chance.randint(1, 4)):
            partition = self._chance.randrange(len(self._topic.partitions))
            records = self._topic.partitions[partition]
            first = max(self._topic.low_offsets.get(partition, 0), len(records) - self._window_offsets)
            known = [o for o in range(first, len(records)) if records[o] is not GAP and not self.is_again(partition, o)]
            if known:
                offset = self._chance.choice(known)
                self._repeats[partition, len(records)] = offset
                records.append((self._now_ms(), records[offset][1]))  # type: ignore[index]

    def replay(self, days: set[date], cut: dict[str, int]) -> None:
        """Events of these days below the cut, of any age, once more and in any partition, as a replay of history does."""
        counted = []
        for partition, next_offset in cut.items():
            for place in self.records(int(partition), 0, next_offset):
                with suppress(Rejected):
                    _, time = event_of(place[3], place[2])
                    if time.date() in days and not self.is_again(*place[:2]):
                        counted.append(place)
        for partition, _, _, value in self._chance.sample(counted, min(len(counted), self._chance.randint(1, 5))):
            # Batch counts the copy that is first by (partition, offset); so the ledger's partitions stay what they were.
            target = self._chance.randrange(partition, len(self._topic.partitions))
            self._replayed.add((target, len(self._topic.partitions[target])))
            self._append(target, value)

    def end_a_transaction(self) -> None:
        """A producer's transaction leaves an offset without a record."""
        self._topic.partitions[self._chance.randrange(len(self._topic.partitions))].append(GAP)

    def retention(self, safe_offset: Callable[[int], int]) -> None:
        """Kafka deletes a partition's old records below `safe_offset`; only where no first copy goes whose repeat stays."""
        partition = self._chance.randrange(len(self._topic.partitions))
        low = self._topic.low_offsets.get(partition, 0)
        target = self._chance.randint(low, max(low, safe_offset(partition)))
        if not any(p == partition and first < target <= again for (p, again), first in self._repeats.items()):
            self._topic.low_offsets[partition] = target

    def release(self) -> None:
        """What was held back arrives."""
        for held in self._held:
            self._append(*held)
        self._held.clear()

    def ends(self) -> dict[int, int]:
        """The high watermark of each partition."""
        return {partition: len(records) for partition, records in self._topic.partitions.items()}

    def records(self, partition: int, first_offset: int = 0, next_offset: int | None = None) -> Iterator[Record]:
        """The records of a partition that were ever produced, deleted ones included."""
        for offset, record in enumerate(self._topic.partitions[partition][:next_offset]):
            if record is not GAP and offset >= first_offset:
                yield partition, offset, record[0], record[1]  # type: ignore[index]

    def is_again(self, partition: int, offset: int) -> bool:
        """Whether the record is another one once more."""
        return (partition, offset) in self._repeats or (partition, offset) in self._replayed

    def replayed_since(self, next_offsets: Mapping[int, int]) -> bool:
        """Whether an offset from these on, or of another partition, is of a repeat that only a batch run's count shows."""
        return any(offset >= next_offsets.get(partition, 0) for partition, offset in self._replayed)

    def _append(self, partition: int, value: bytes | None) -> None:
        self._topic.partitions[partition].append((self._now_ms(), value))

    def _now_ms(self) -> int:
        return int(self._clock.now_s * 1000)

    def _value(self) -> bytes | None:
        chance = self._chance
        if chance.random() < 0.1:
            return chance.choice(_MALFORMED)
        self._events += 1
        late = timedelta(days=chance.choice([0, 0, 0, 0, 1, 30]), minutes=chance.choice([0, 1, 61]))
        event = {
            "event_id": f"e:{self._events}",
            "event_time": (START - late).isoformat(),
            "site": chance.choice(["demo", "shop"]),
            "page": chance.choice(["/", "/cart"]),
            "visitor_id": f"v{chance.randrange(20)}",
            "status": chance.choice([200, 200, 404, 503]),
            "bytes_sent": chance.randrange(10_000),
        }
        if chance.random() < 0.7:
            event["duration_ms"] = chance.choice([0.0, 1.5, 80.0, 3_000.0])
        return json.dumps(event).encode()
