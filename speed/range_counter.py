"""A range of offsets becomes one commit: read, decode, drop repeats, fold, hand over; twice is the same as once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from contract.aggregate import aggregate, first_of_each
from contract.errors import OffsetRefused, PublicationRefused
from contract.event import decode
from contract.master import OffsetRange
from contract.records import Records
from speed.day_filters import DayFilters
from speed.dedupe import Identities, RecentEvents

_SAY_EVERY_CHUNKS = 10


class Reader(Protocol):
    """Where records come from; RangeReader is the real one."""

    def read(self, wanted: OffsetRange) -> Records: ...

    def low_offset(self) -> int: ...


@dataclass(frozen=True)
class Counted:
    """What a range holds: rows of every view, how its records were judged, and its rejects.

    Repeats were judged by the day filters of publication `generation`.
    """

    rows: Mapping[str, pl.DataFrame]
    received: int
    counted: int
    duplicate: int
    rejects: pl.DataFrame
    generation: int


class RangeCounter:
    """Counts the ranges of one partition and commits each through `commit(range, counted)`."""

    def __init__(
        self,
        reader: Reader,
        recent: RecentEvents,
        counted_days: DayFilters,
        commit: Callable[[OffsetRange, Counted], object],
        committed_offset: Callable[[int], int],
        log: Callable[[str], None],
        chunk_offsets: int,
    ) -> None:
        self._reader, self._recent, self._commit, self._log = reader, recent, commit, log
        self._counted_days = counted_days
        self._committed_offset = committed_offset
        self._chunk_offsets = chunk_offsets

    def count(self, wanted: OffsetRange) -> int:
        """Commit the range unless it was committed before; OffsetRefused says where the partition really stands.

        Returns how many rows were brought to the views.
        """
        if self._recent.next_offset != wanted.first_offset:
            committed_offset = self._committed_offset(wanted.partition)
            if committed_offset >= wanted.next_offset:
                return 0
            if committed_offset != wanted.first_offset:
                # Offsets that are not committed must not be remembered: they would be taken for repeats later.
                raise OffsetRefused(wanted.partition, wanted.first_offset, committed_offset)
            # guard: dedupe across restarts
            self._remember_until(wanted)
        events, rejects, received = self._decoded(wanted)
        # guard: dedupe within a range
        distinct = first_of_each(events)
        identities = Identities.of(distinct)
        # guard: dedupe across ranges
        recent = self._recent.repeats(identities)
        while True:
            # guard: dedupe against counted days
            repeats = recent | self._counted_days.repeats(identities)
            fresh = distinct.filter(~repeats) if repeats.any() else distinct
            rows = aggregate(fresh)
            generation = self._counted_days.generation
            try:
                self._commit(wanted, Counted(rows, received, len(fresh), len(events) - len(fresh), rejects, generation))
            except PublicationRefused:
                self._counted_days.refresh()
            else:
                break
        self._recent.add(identities, wanted.next_offset)
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
        for number, first in enumerate(range(self._recent.next_offset, wanted.first_offset, self._chunk_offsets), 1):
            chunk = OffsetRange(wanted.partition, first, min(first + self._chunk_offsets, wanted.first_offset))
            events, _, _ = self._decoded(chunk)
            self._recent.add(Identities.of(events), chunk.next_offset)
            if number % _SAY_EVERY_CHUNKS == 0:
                # To Storm every message is a sign of life, and nothing else is heard of a bolt while it re-reads.
                self._log(
                    f"partition {wanted.partition}: recent events re-read up to {chunk.next_offset} of {wanted.first_offset}"
                )
        self._log(f"partition {wanted.partition}: recent events are known up to offset {wanted.first_offset}")

    def _decoded(self, wanted: OffsetRange) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        records = self._reader.read(wanted)
        decoded = decode(wanted.partition, records.offsets, records.kafka_times_ms, records.values)
        return decoded.events, decoded.rejects, len(records.values)
