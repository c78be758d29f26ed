"""The nightly runs of a past: the hand-off's own calls, made as batch/run.py and the tasks of its job make them.

What a later run has replaced, garbage collection has taken away, so it is not written in the first place: rows and filters
of a day are written by those runs alone that readers, or a rollback, still reach in the end. tests/layer/test_age.py holds
what is left against real runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from batch.fold import LEDGER, filter_of, fold, hashes_by_day, ranges_of, with_rollup
from contract.columns import integers
from contract.event import Decoded
from contract.log_position import LogPosition
from contract.master import OffsetRange, Slice
from contract.settings import Settings
from contract.sketches.bloom import BloomFilter
from serving.database import Connection
from serving.day_filters import write_filters
from serving.drift import compare
from serving.handoff import LEDGER_SCHEMA, Run, add_surveyed, begin_run, collect_garbage, publish, vacuum, write_task

_CORES = 2
"""Of Spark: each has a part of a day's filter."""


@dataclass(frozen=True)
class Night:
    """What a run finds: of each partition what is new to it, the days of that, its slices; and where the archive ends."""

    new: Sequence[Decoded]
    dates: set[date]
    slices: Sequence[Slice]
    archive: Mapping[int, LogPosition]

    def surveyed(self) -> Iterator[tuple[OffsetRange, Iterable[date]]]:
        """Each slice, and the days of its events."""
        for piece in self.slices:
            events = self.new[piece.file.partition].events
            first, after = np.searchsorted(integers(events["offset"]), [piece.first_offset, piece.next_offset])
            offsets = OffsetRange(piece.file.partition, piece.first_offset, piece.next_offset)
            yield offsets, sorted(dates_of([events[first:after]]))


class Nights:
    """So many runs, one after the other, each planned on the one before."""

    def __init__(self, settings: Settings, runs: int) -> None:
        self._settings = settings
        self._number = 0
        self._events: defaultdict[date, list[pl.DataFrame]] = defaultdict(list)
        # Of each publication that is kept all days can be gone back to.
        self._oldest_kept = runs - 1 - settings.keep_runs

    def run(self, connection: Connection, night: Night, following: Sequence[set[date]]) -> Run:
        """The next run, published. Role batch. `following` are the days of the runs after it that may share one with it."""
        for decoded in night.new:
            for day, events in _by_day(decoded.events):
                self._events[day].append(events)
        begun = begin_run(connection, "incremental", archive=night.archive)
        add_surveyed(connection, night.surveyed())
        replaced = {
            day: next((number for number, others in enumerate(following, self._number + 1) if day in others), None)
            for day in night.dates
        }
        reached = [day for day, later in replaced.items() if later is None or later > self._oldest_kept]
        self._write(connection, begun.run_id, {day: pl.concat(self._events[day]) for day in sorted(reached)})
        for day in (day for day, later in replaced.items() if later is None):
            del self._events[day]
        # It compares with what an earlier publication shows, which must be whole.
        if self._number > self._oldest_kept:
            compare(connection, begun.run_id, self._settings.dedupe_false_positive_rate)
        received = {
            partition: begun.base_received.get(partition, 0) + len(decoded.events) + len(decoded.rejects)
            for partition, decoded in enumerate(night.new)
        }
        first = {partition: cut.next_offset for partition, cut in begun.base.items()}
        rejects = [
            (OffsetRange(partition, first.get(partition, 0), begun.cut[partition].next_offset), decoded.rejects)
            for partition, decoded in enumerate(night.new)
        ]
        publish(connection, begun.run_id, night.dates, received, rejects, self._settings.topic)
        collect_garbage(connection, self._settings.keep_runs)
        vacuum(connection)
        self._number += 1
        return begun

    def keeps_speed_rows(self, day_of_past: int) -> bool:
        """Whether rows of what the speed layer counted on a day of the past are left after the last run."""
        return day_of_past > self._oldest_kept

    def _write(self, connection: Connection, run_id: int, days: Mapping[date, pl.DataFrame]) -> None:
        """The rows and filters of these days."""
        filters: list[dict[date, tuple[int, BloomFilter]]] = [{} for _ in range(_CORES)]
        for day, events in days.items():
            (hashes,) = hashes_by_day(events).values()
            for of_part, some in zip(filters, ranges_of(hashes, _CORES), strict=True):
                if len(some):
                    of_part[day] = filter_of(some, self._settings.filter_false_positive_rate)
        for part, of_part in enumerate(filters):
            if of_part:
                # All days at once: a part is a task, and who claims it again writes nothing.
                write_filters(connection, run_id, part, _CORES, of_part)
        for day, events in days.items():
            for part_name, rows in fold(events).items():
                is_ledger = part_name == LEDGER
                views, ledger = (
                    ({}, rows) if is_ledger else (with_rollup(part_name, rows), pl.DataFrame(schema=LEDGER_SCHEMA))
                )
                write_task(connection, run_id, f"day={day} {part_name}", views, ledger)


def _by_day(events: pl.DataFrame) -> Iterator[tuple[date, pl.DataFrame]]:
    parts = events.with_columns(events["event_time"].dt.date().alias("of_day")).partition_by(
        "of_day", as_dict=True, include_key=False
    )
    yield from ((day, part) for (day,), part in parts.items())


def dates_of(frames: Iterable[pl.DataFrame]) -> set[date]:
    """The days that an event is on."""
    return {day for events in frames for day in events["event_time"].dt.date().unique().to_list()}
