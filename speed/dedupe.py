"""Recent events of one partition in Bloom filters: a repeat within the last N offsets is always recognised.

Two filters, each of the N offsets from a multiple of N on, so their content is a pure function of the offsets and can be
rebuilt by re-reading them. Nothing is added before its commit: a range that has to be counted again must not meet itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.aggregate import days_of, identity_hashes
from contract.columns import integers
from contract.sketches.bloom import BloomFilter
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS


@dataclass(frozen=True)
class Identities:
    """What makes each event itself, as a hash; its offset, in ascending order; its day, since 1970. All of shape (n,)."""

    offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    days: NDArray[np.int64]

    @classmethod
    def of(cls, events: pl.DataFrame, stream: Stream = PAGE_VIEWS) -> Identities:
        """Of each event of the stream; they come in the order of their offsets."""
        return cls(integers(events["offset"]), identity_hashes(events, stream), days_of(events, stream))


class RecentEvents:
    """The identities of events in offsets [start of the filter before the last, next_offset)."""

    def __init__(self, window_offsets: int, filter_false_positive_rate: float) -> None:
        self._window_offsets = window_offsets
        self._filter_rate = filter_false_positive_rate
        self._filters: dict[int, BloomFilter] = {}
        self.next_offset = 0

    def first_needed_offset(self, offset: int) -> int:
        """Where re-reading must start so that an event at `offset` meets all it has to be held against."""
        return max(0, offset // self._window_offsets - 1) * self._window_offsets

    def restart(self, offset: int) -> None:
        """Forget everything; the next range to be added starts at `offset`."""
        self._filters.clear()
        self.next_offset = offset

    def repeats(self, events: Identities) -> NDArray[np.bool_]:
        """Which events, of the range from next_offset on and free of repeats among themselves, were there before."""
        found = np.zeros(len(events.hashes), dtype=np.bool_)
        for number, inside in self._inside(events):
            for held in (number - 1, number):
                if held in self._filters:
                    self._filters[held].find(events.hashes[inside], found[inside])
        return found

    def add(self, events: Identities, next_offset: int) -> None:
        """Add the events of the committed range [self.next_offset, next_offset)."""
        for number, inside in self._inside(events):
            if number not in self._filters:
                self._filters[number] = BloomFilter.for_members(self._window_offsets, self._filter_rate)
            self._filters[number].add(events.hashes[inside])
        oldest = next_offset // self._window_offsets - 1
        self._filters = {key: bloom for key, bloom in self._filters.items() if key >= oldest}
        self.next_offset = next_offset

    def _inside(self, events: Identities) -> Iterator[tuple[int, slice]]:
        """The number of each filter that the events belong to, and which of them do."""
        first = 0
        while first < len(events.offsets):
            number = int(events.offsets[first]) // self._window_offsets
            after = int(np.searchsorted(events.offsets, (number + 1) * self._window_offsets))
            yield number, slice(first, after)
            first = after
