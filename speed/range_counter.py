"""A range of offsets becomes one commit: read, decode, drop repeats, fold, hand over; twice is the same as once.

One whose records or rows are too many bytes becomes several, one after the other: each is whole, and the fence allows any
offsets to end at. What is in memory is bounded so, whatever the records are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.aggregate import aggregate, first_of_each
from contract.decoder import decoder_of
from contract.errors import OffsetRefused, PublicationRefused, StatementsRefused
from contract.forgotten import Rules
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.records import Records
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS
from serving.handoff import STORED_VALUE_BYTES
from speed.day_filters import DayFilters
from speed.dedupe import Identities, RecentEvents
from speed.forgotten import Forgotten

_SAY_EVERY_CHUNKS = 10
_SAY_EVERY_READS = 4
COMMIT_BYTES = 8 << 20
"""What a commit brings to the database, which takes several times as much for it; 100,000 usual events are 1 MB."""


class Reader(Protocol):
    """Where records come from; RangeReader is the real one. It may give the beginning of a range alone."""

    def read(self, wanted: OffsetRange) -> tuple[OffsetRange, Records]: ...

    def low_offset(self) -> int: ...

    def stands_at(self, offset: int) -> bool: ...

    def go_on(self, position: LogPosition) -> None: ...

    def position(self) -> LogPosition: ...


@dataclass(frozen=True)
class Counted:
    """What a range holds: rows of every view, how its records were judged, and its rejects; the position at its end.

    Repeats were judged by the day filters of publication `generation`, and what is forgotten by the statements up to
    `statement`.
    """

    rows: Mapping[str, pl.DataFrame]
    received: int
    counted: int
    duplicate: int
    rejects: pl.DataFrame
    generation: int
    position: LogPosition
    forgotten: int = 0
    statement: int = 0
    first_ms: int | None = None
    """When Kafka got the first of its records; None if there is none."""

    @property
    def size_bytes(self) -> int:
        """About what the database is given of it."""
        stored = self.rejects["value_bytes"].clip(upper_bound=STORED_VALUE_BYTES).sum()
        return int(stored) + sum(int(rows.estimated_size()) for rows in self.rows.values())


@dataclass(frozen=True)
class _Read:
    """The records of a range, or of its beginning, that were read at once: their offsets, and what they are."""

    offsets: OffsetRange
    record_offsets: NDArray[np.int64]
    kafka_times_ms: NDArray[np.int64]
    events: pl.DataFrame
    rejects: pl.DataFrame

    @property
    def received(self) -> int:
        """How many there are, which is counted apart from how they were judged."""
        return len(self.record_offsets)

    def without(self, rules: Rules) -> _Read:
        """The same records, but for events and rejects that are forgotten."""
        gone, gone_rejects = rules.events(self.events), rules.rejects(self.rejects)
        if not gone.any() and not gone_rejects.any():
            return self
        return replace(self, events=self.events.filter(~gone), rejects=self.rejects.filter(~gone_rejects))

    def halves(self) -> tuple[_Read, _Read]:
        """Both have a record; there must be two."""
        middle = int(self.record_offsets[self.received // 2])
        p, first, after = self.offsets.partition, self.offsets.first_offset, self.offsets.next_offset
        return self._between(OffsetRange(p, first, middle)), self._between(OffsetRange(p, middle, after))

    def _between(self, offsets: OffsetRange) -> _Read:
        first, after = np.searchsorted(self.record_offsets, (offsets.first_offset, offsets.next_offset))
        inside = pl.col("offset").is_between(offsets.first_offset, offsets.next_offset, closed="left")
        places = slice(first, after)
        arrays = (self.record_offsets[places], self.kafka_times_ms[places])
        return _Read(offsets, *arrays, self.events.filter(inside), self.rejects.filter(inside))


class RangeCounter:
    """Counts the ranges of one partition of a stream and commits each through `commit(range, counted)`."""

    def __init__(
        self,
        reader: Reader,
        recent: RecentEvents,
        counted_days: DayFilters,
        commit: Callable[[OffsetRange, Counted], object],
        committed: Callable[[int], LogPosition],
        log: Callable[[str], None],
        chunk_offsets: int,
        forgotten: Forgotten | None = None,
        stream: Stream = PAGE_VIEWS,
    ) -> None:
        self._stream, self._decoder = stream, decoder_of(stream)
        self._reader, self._recent, self._commit, self._log = reader, recent, commit, log
        self._counted_days = counted_days
        self._forgotten = forgotten or Forgotten()
        self._committed = committed
        self._chunk_offsets = chunk_offsets
        self._shift = 0

    def count(self, wanted: OffsetRange) -> int:
        """Commit what of the range was not committed before; OffsetRefused says where the partition really stands.

        Whatever fails, what is committed by then stays so. Returns how many rows were brought to the views.
        """
        first_offset = wanted.first_offset
        if self._recent.next_offset != first_offset or not self._reader.stands_at(first_offset):
            committed = self._committed(wanted.partition)
            first_offset = committed.next_offset
            if first_offset >= wanted.next_offset:
                return 0
            if first_offset < wanted.first_offset:
                # Offsets that are not committed must not be remembered: they would be taken for repeats later.
                raise OffsetRefused(wanted.partition, wanted.first_offset, first_offset)
            self._reader.go_on(committed)
            if committed.shift != self._shift:
                # Another log follows, and events of the one before that are lost are new if they are sent again.
                # guard: what a lost log had is forgotten
                self._recent.restart(0)
                self._shift = committed.shift
            if self._recent.next_offset != first_offset:
                # guard: dedupe across restarts
                self._remember_until(OffsetRange(wanted.partition, first_offset, wanted.next_offset))
                # What was re-read came without a look at the log's epochs.
                # guard: re-reading proves no position
                self._reader.go_on(committed)
        rows = reads = 0
        while first_offset < wanted.next_offset:
            read = self._decoded(OffsetRange(wanted.partition, first_offset, wanted.next_offset))
            rows += self._count_read(read)
            first_offset = read.offsets.next_offset
            reads += 1
            if reads % _SAY_EVERY_READS == 0:
                # To Storm every message is a sign of life.
                self._log(f"partition {wanted.partition}: counted up to {first_offset} of {wanted.next_offset}")
        return rows

    def _count_read(self, read: _Read) -> int:
        """Commit it, in halves if it is too much at once. It is of what the reader has read last, or a half of that."""
        rules = self._forgotten.rules
        # guard: what is forgotten is not counted
        kept = read.without(rules)
        # guard: dedupe within a range
        distinct = first_of_each(kept.events, self._stream)
        identities = Identities.of(distinct, self._stream)
        # guard: dedupe across ranges
        recent = self._recent.repeats(identities)
        while True:
            # guard: dedupe against counted days
            repeats = recent | self._counted_days.repeats(identities)
            fresh = distinct.filter(~repeats) if repeats.any() else distinct
            rows = aggregate(fresh, self._stream.views)
            duplicate = len(kept.events) - len(fresh)
            forgotten = len(read.events) + len(read.rejects) - len(kept.events) - len(kept.rejects)
            generation = self._counted_days.generation
            # Kafka was asked for it while this was computed, and its answer is seldom waited for.
            position = replace(self._reader.position(), next_offset=read.offsets.next_offset)
            first_ms = int(read.kafka_times_ms.min()) if read.received else None
            judged = (len(fresh), duplicate, kept.rejects, generation, position, forgotten, rules.version, first_ms)
            counted = Counted(rows, read.received, *judged)
            # guard: a commit is bounded
            if counted.size_bytes > COMMIT_BYTES and read.received > 1:
                return sum(self._count_read(half) for half in read.halves())
            try:
                self._commit(read.offsets, counted)
            except PublicationRefused:
                self._counted_days.refresh()
            except StatementsRefused:
                self._forgotten.refresh()
                # Which of them are the first of their identity may be another question now.
                return self._count_read(read)
            else:
                break
        self._recent.add(identities, read.offsets.next_offset)
        return sum(map(len, rows.values()))

    def _remember_until(self, wanted: OffsetRange) -> None:
        """After a restart or a skip: make `recent` what it would be had it seen all offsets before the range."""
        first = self._recent.first_needed_offset(wanted.first_offset)
        if not first <= self._recent.next_offset <= wanted.first_offset or self._recent.next_offset == 0:
            available = max(first, min(self._reader.low_offset(), wanted.first_offset))
            if available > first:
                self._log(
                    f"partition {wanted.partition}: offsets [{first}, {available}) are gone from Kafka, "
                    "repeats of events in them are counted until the next batch run"
                )
            self._recent.restart(available)
        number = 0
        while (first := self._recent.next_offset) < wanted.first_offset:
            until = min(first + self._chunk_offsets, wanted.first_offset)
            chunk = self._decoded(OffsetRange(wanted.partition, first, until))
            self._recent.add(Identities.of(chunk.events, self._stream), chunk.offsets.next_offset)
            number += 1
            if number % _SAY_EVERY_CHUNKS == 0:
                # A sign of life too: nothing else is heard of a bolt while it re-reads.
                reached = self._recent.next_offset
                self._log(f"partition {wanted.partition}: recent events re-read up to {reached} of {wanted.first_offset}")
        self._log(f"partition {wanted.partition}: recent events are known up to offset {wanted.first_offset}")

    def _decoded(self, wanted: OffsetRange) -> _Read:
        """The range, or its beginning if that is all that fits into memory."""
        offsets, records = self._reader.read(wanted)
        decoded = self._decoder.decode_records(wanted.partition, records)
        return _Read(offsets, records.offsets, records.kafka_times_ms, decoded.events, decoded.rejects)
