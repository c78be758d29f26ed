"""What came in Kafka in a stack's past: made by seed, day after day, the same for the same arguments.

Readers of sites as tests/age/database.py makes them, and what real producers do: some of it is late, sent twice, malformed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.records import Records
from contract.sketches.hash import hash_texts
from contract.wire_writer import encode_all
from ingest.simulate import MISTAKES, RESENT_WITHIN, Shares
from tests.age.database import visits

LATE_DAYS = 3
"""An event of the past is that late at most; one that is later would let each night compute all days."""
_SHARES = Shares()


@dataclass(frozen=True)
class Sent:
    """What a partition got, in the order in which it came: of each record its time in Kafka and its value, offsets going on
    from `first_offset`."""

    first_offset: int
    kafka_times_ms: list[int]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next_offset(self) -> int:
        """The offset after the last one."""
        return self.first_offset + len(self)

    def between(self, first_offset: int, next_offset: int) -> Sent:
        """What of it is in [first_offset, next_offset)."""
        first = min(max(self.first_offset, first_offset), self.next_offset)
        inside = slice(first - self.first_offset, max(0, next_offset - self.first_offset))
        return Sent(first, self.kafka_times_ms[inside], self.values[inside])

    def records(self) -> Records:
        """The same as who reads Kafka has it."""
        return Records.of(range(self.first_offset, self.next_offset), self.kafka_times_ms, self.values)


@dataclass(frozen=True)
class Past:
    """Days of 24 hours up to `end`; of each, what was sent in it, and a run at its end but for the last one's."""

    end: datetime
    days: int
    events_a_day: int
    partitions: int
    seed: int = 1

    def __post_init__(self) -> None:
        if self.days < 2 or self.events_a_day < 1:
            raise ValueError(
                f"{self.days} days of {self.events_a_day} events are no past: 2 days and an event are the least"
            )

    @property
    def events(self) -> int:
        """How many there are, repeats and what is malformed apart."""
        return self.days * self.events_a_day

    def start_of(self, day: int) -> datetime:
        """When the day begins, counted from the oldest, 0."""
        return self.end - timedelta(days=self.days - day)

    def sent(self) -> Iterator[list[Sent]]:
        """Day by day what each partition got, in the order in which it came, offsets going on."""
        next_offsets = [0] * self.partitions
        for day in range(self.days):
            of_day = self._sent_on(day, next_offsets)
            next_offsets = [sent.next_offset for sent in of_day]
            yield of_day

    def _sent_on(self, day: int, next_offsets: list[int]) -> list[Sent]:
        chance = np.random.default_rng([self.seed, day])
        seed, first = self.seed * 10_000 + day, day * self.events_a_day
        frame = visits(seed, first, self.events_a_day, self.start_of(day), timedelta(days=1))
        came_ms = frame["event_time"].dt.epoch("ms").to_numpy()
        late = np.where(chance.random(len(frame)) < _SHARES.late, chance.uniform(0, LATE_DAYS * 86_400e6, len(frame)), 0)
        happened = frame["event_time"] - pl.Series(late.astype(np.int64)).cast(pl.Duration("us"))
        # What a producer writes: milliseconds, and durations of as many decimals.
        events = frame.with_columns(
            happened.dt.truncate("1ms").dt.cast_time_unit("us").alias("event_time"), pl.col("duration_ms").round(3)
        )
        values = encode_all(events)
        mistake = random.Random(seed)
        for place in np.flatnonzero(chance.random(len(values)) < _SHARES.malformed).tolist():
            values[place] = mistake.choice(MISTAKES)(values[place])
        order = _with_repeats(chance, len(values))
        dealt = (hash_texts(events["visitor_id"].to_list()) % np.uint64(self.partitions)).astype(np.int64)[order]
        # A repeat comes when it comes, and never before the one that it follows.
        times_ms = np.maximum.accumulate(came_ms[order])
        return [
            Sent(
                next_offset, times_ms[dealt == partition].tolist(), [values[at] for at in order[dealt == partition].tolist()]
            )
            for partition, next_offset in enumerate(next_offsets)
        ]


def _with_repeats(chance: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Numbers of events in the order in which they are sent: all once, and some again a while later."""
    again = np.flatnonzero(chance.random(count) < _SHARES.twice)
    places = np.concatenate([np.arange(count), again + chance.integers(1, RESENT_WITHIN, len(again)) + 0.5])
    every: NDArray[np.int64] = np.concatenate([np.arange(count), again])[np.argsort(places, kind="stable")]
    return every
