"""What batch runs have counted, by day, in their Bloom filters: an event that comes again is recognised however late it is.

Which run's filter is asked is settled by the commit: it is refused if another publication is live than the one that is known
here. So the database is asked once a publication, and never by a range that nothing has changed for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import date

import numpy as np
from numpy.typing import NDArray

from contract.sketches.bloom import BloomFilter
from serving.database import Connection
from serving.day_filters import FilteredDays, day_filter, filtered_days
from speed.dedupe import Identities


class DayFilters:
    """The live filters that events have met, at most `most_bytes` of them, or one; those not met for longest go first."""

    def __init__(
        self, list_days: Callable[[], FilteredDays], load: Callable[[int, date], BloomFilter], most_bytes: int
    ) -> None:
        self._list_days, self._load, self._most_bytes = list_days, load, most_bytes
        self._live = FilteredDays(0, {})
        self._days: NDArray[np.int64] = np.zeros(0, np.int64)
        self._loaded: OrderedDict[tuple[int, date], BloomFilter] = OrderedDict()

    @classmethod
    def of_database(cls, database: Callable[[], Connection], most_bytes: int) -> DayFilters:
        """Those that runs have written; `database` gives a connection of role speed each time one is needed."""
        return cls(lambda: filtered_days(database()), lambda run_id, day: day_filter(database(), run_id, day), most_bytes)

    @property
    def generation(self) -> int:
        """The publication whose filters are asked; 0, as long as none is known, has none."""
        return self._live.generation

    @property
    def size_bytes(self) -> int:
        """What the loaded ones take of memory."""
        return sum(bloom.size_bytes for bloom in self._loaded.values())

    def refresh(self) -> None:
        """From now on the filters are asked that are live now."""
        self._live = self._list_days()
        self._days = np.array(sorted(self._live.run_of_day), "datetime64[D]").astype(np.int64)
        # A filter never changes, so what is still live stays loaded.
        live = {(run_id, day) for day, run_id in self._live.run_of_day.items()}
        for key in self._loaded.keys() - live:
            del self._loaded[key]

    def repeats(self, events: Identities) -> NDArray[np.bool_]:
        """Which events the live run of their day has counted below its cut."""
        found = np.zeros(len(events.hashes), np.bool_)
        for number in self._days_of(events):
            inside = np.flatnonzero(events.days == number)
            known = np.zeros(len(inside), np.bool_)
            self._filter_of(np.datetime64(number, "D").item()).find(events.hashes[inside], known)
            found[inside] = known
        return found

    def _days_of(self, events: Identities) -> list[int]:
        """The days of the events that have a filter."""
        if not len(self._days) or not len(events.days):
            return []
        first = events.days.min()
        of_events = first + np.flatnonzero(np.bincount(events.days - first))
        return np.intersect1d(of_events, self._days, assume_unique=True).tolist()

    def _filter_of(self, day: date) -> BloomFilter:
        key = (self._live.run_of_day[day], day)
        if key not in self._loaded:
            self._loaded[key] = self._load(*key)
            while self.size_bytes > self._most_bytes and len(self._loaded) > 1:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]
