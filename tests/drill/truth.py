"""What the merged views must show at any position of the speed layer: the oracle, kept up to every offset."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.oracle import Outcome, Record, histogram_of, sketch_of

Holes = Mapping[int, tuple[int, int]]
"""Offsets [first, next) by partition that are in nobody's rows."""
NO_HOLES: Holes = {}


@dataclass(frozen=True)
class Totals:
    """Sums over records; views is also what the ledger calls counted."""

    views: int = 0
    errors: int = 0
    bytes_sent: int = 0
    received: int = 0
    duplicate: int = 0
    quarantined: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def __sub__(self, other: Totals) -> Totals:
        return Totals(*(a - b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[int, ...]:
        """In the order of the fields."""
        return (self.views, self.errors, self.bytes_sent, self.received, self.duplicate, self.quarantined)


@dataclass
class _Partition:
    """totals[i], visitors[:counted[i]] and durations[:timed[i]] are those of the records before offsets[i].

    times_ms[i] is when Kafka took that record.
    """

    offsets: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=lambda: [Totals()])
    visitors: list[str] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    timed: list[int] = field(default_factory=lambda: [0])


class Truth:
    """The oracle's answer for a drill's records, whole (`outcome`) and below given positions.

    Records come by offset within their partition. A repeat must be in the partition of its first copy, as with every
    producer that keys by visitor.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.outcome = Outcome()
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)
        # One after the other: a drill may send more of them than fit into memory.
        for partition, offset, kafka_time_ms, value in records:
            part = self._partitions[partition]
            duplicates, rejects = self.outcome.duplicate, self.outcome.rejects.total()
            event = self.outcome.take(value, kafka_time_ms)
            change = Totals(
                views=event is not None,
                errors=event is not None and event["status"] >= 500,
                bytes_sent=event["bytes_sent"] if event else 0,
                received=1,
                duplicate=self.outcome.duplicate - duplicates,
                quarantined=self.outcome.rejects.total() - rejects,
            )
            if event:
                part.visitors.append(event["visitor_id"])
                if event.get("duration_ms") is not None:
                    part.durations.append(float(event["duration_ms"]))
            part.offsets.append(offset)
            part.times_ms.append(kafka_time_ms)
            part.totals.append(part.totals[-1] + change)
            part.timed.append(len(part.durations))

    def totals(self, positions: Mapping[int, int], holes: Holes = NO_HOLES) -> Totals:
        """Over the records below `positions` and in none of the `holes`, by partition."""
        return sum(
            (part.totals[after] - part.totals[first] for part, first, after in self._seen(positions, holes)), Totals()
        )

    def sketches(self, positions: Mapping[int, int], holes: Holes = NO_HOLES) -> tuple[bytes, list[int]]:
        """The visitors' hll and the latency's histogram of the same records."""
        visitors: set[str] = set()
        durations: list[float] = []
        for part, first, after in self._seen(positions, holes):
            visitors.update(part.visitors[part.totals[first].views : part.totals[after].views])
            durations += part.durations[part.timed[first] : part.timed[after]]
        return sketch_of(visitors), histogram_of(durations)

    def lag_s(self, positions: Mapping[int, int], at_ms: float) -> float:
        """How long Kafka had had the oldest record that is not below `positions`; 0 if it had none then."""
        waiting = (
            part.times_ms[first]
            for partition, part in self._partitions.items()
            if (first := bisect_left(part.offsets, positions.get(partition, 0))) < len(part.offsets)
        )
        return max((at_ms - since_ms for since_ms in waiting if since_ms < at_ms), default=0) / 1_000

    def _seen(self, positions: Mapping[int, int], holes: Holes) -> Iterator[tuple[_Partition, int, int]]:
        """Which records of a partition are seen: those from the first index up to the second."""
        for partition, part in self._partitions.items():
            position = positions.get(partition, 0)
            first, after = holes.get(partition, (position, position))
            yield part, 0, bisect_left(part.offsets, min(first, position))
            yield part, bisect_left(part.offsets, min(after, position)), bisect_left(part.offsets, position)
