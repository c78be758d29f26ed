"""What batch runs have counted, by day, in their Bloom filters: an event that comes again is recognised however late it is.

Which run's filter is asked is settled by the commit: it is refused if another publication is live than the one that is known
here. So the database is asked which filters there are once a publication, and never by a range that nothing has changed for.

A range on many days costs what its events cost, and not what their days have: of each filter only the blocks are read in
which its events would be. Parts of filters that are asked again and again are fetched whole, and kept.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from contract.sketches.bloom import BloomFilter, find_in_blocks, range_of
from serving.database import Connection
from serving.day_filters import DayFilter, FilteredDays, PartAnswer, PartQuestion, ask_filters, filtered_days
from speed.dedupe import Identities

_QUESTION_BYTES = 600
"""To ask for one block takes the database as long as to give so many bytes of a whole part."""
_HELD_BYTES = 400
"""What a part that is kept takes of memory beside its words."""
_PART_BITS = 32
_ASK_HASHES = 2_000
"""After so many hashes the next question waits for the answers, so what is in flight is some megabytes."""
_SAY_EVERY_S = 5.0


@dataclass(frozen=True)
class _Unanswered:
    """A question, how many bits a member sets, and where the answer goes: whether each hash was found."""

    question: PartQuestion
    probes: int
    known: NDArray[np.bool_]


class DayFilters:
    """The live filters. Kept of them are parts of at most `most_bytes` together; those not met for longest go first."""

    def __init__(
        self,
        list_days: Callable[[], FilteredDays],
        ask: Callable[[Sequence[PartQuestion]], Sequence[PartAnswer | None]],
        most_bytes: int,
        log: Callable[[str], None],
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._list_days, self._ask, self._most_bytes, self._log = list_days, ask, most_bytes, log
        self._chance, self._clock = chance or random.Random(), clock
        self._kept: OrderedDict[tuple[int, date, int], BloomFilter] = OrderedDict()
        self.size_bytes = 0
        """What the kept parts take of memory."""
        self._know(FilteredDays(0, {}))

    @classmethod
    def of_database(cls, database: Callable[[], Connection], most_bytes: int, log: Callable[[str], None]) -> DayFilters:
        """Those that runs have written; `database` gives a connection of role speed each time one is needed."""
        return cls(lambda: filtered_days(database()), lambda asked: ask_filters(database(), asked), most_bytes, log)

    @property
    def generation(self) -> int:
        """The publication whose filters are asked; 0, as long as none is known, has none."""
        return self._generation

    def refresh(self) -> None:
        """From now on the filters are asked that are live now."""
        self._know(self._list_days())
        # A filter never changes, so what is still live is kept.
        live = {(written.run_id, day) for day, written in self._filters}
        for run_id, day, part in [key for key in self._kept if key[:2] not in live]:
            self._forget((run_id, day, part))

    def repeats(self, events: Identities) -> NDArray[np.bool_]:
        """Which events the live run of their day has counted below its cut."""
        found = np.zeros(len(events.hashes), np.bool_)
        if not self._filters:
            return found
        numbers = np.minimum(np.searchsorted(self._days, events.days), len(self._days) - 1)
        inside = np.flatnonzero(self._days[numbers] == events.days)
        numbers, hashes = numbers[inside], events.hashes[inside]
        places = numbers << _PART_BITS | range_of(hashes, self._parts[numbers])
        order = np.argsort(places)
        places, hashes = places[order], hashes[order]
        known = np.zeros(len(order), np.bool_)
        unanswered: list[_Unanswered] = []
        for first, after in pairwise([*np.flatnonzero(np.diff(places, prepend=-1)).tolist(), len(places)]):
            number, part = divmod(int(places[first]), 1 << _PART_BITS)
            day, written = self._filters[number]
            key = (written.run_id, day, part)
            kept = self._kept.get(key)
            if kept is None:
                question = PartQuestion(*key, hashes[first:after], self._worth_bytes(after - first))
                unanswered.append(_Unanswered(question, written.probes, known[first:after]))
            else:
                self._kept.move_to_end(key)
                kept.find(hashes[first:after], known[first:after])
        self._ask_for(unanswered)
        found[inside[order]] = known
        return found

    def _worth_bytes(self, count: int) -> int:
        """How large a part may be to be fetched whole for so many hashes.

        Drawn so that fetching takes on average no longer than asking does: what is asked often is soon kept, though nothing
        is remembered of what was asked, and filters that do not fit cost at most twice what asking alone would.
        """
        return int(min(self._most_bytes - _HELD_BYTES, count * _QUESTION_BYTES / (1 - self._chance.random())))

    def _ask_for(self, unanswered: Sequence[_Unanswered]) -> None:
        """Set what the database finds."""
        said_s = self._clock()
        bounds = np.cumsum([len(one.known) for one in unanswered]) // _ASK_HASHES
        for first, after in pairwise([*np.flatnonzero(np.diff(bounds, prepend=-1)).tolist(), len(unanswered)]):
            some = unanswered[first:after]
            for one, answer in zip(some, self._ask([one.question for one in some]), strict=True):
                self._take(one, answer)
            if self._clock() > said_s + _SAY_EVERY_S:
                # To Storm every message is a sign of life, and a cold disk takes its time.
                self._log(f"filters of earlier days: {after} of {len(unanswered)} parts are asked")
                said_s = self._clock()

    def _take(self, one: _Unanswered, answer: PartAnswer | None) -> None:
        if answer is None:
            return
        if not answer.is_whole:
            find_in_blocks(answer.words, one.probes, one.question.hashes, one.known)
            return
        part = BloomFilter(answer.words, one.probes)
        part.find(one.question.hashes, one.known)
        self._keep((one.question.run_id, one.question.day, one.question.part), part)

    def _keep(self, key: tuple[int, date, int], part: BloomFilter) -> None:
        self._kept[key] = part
        self.size_bytes += part.size_bytes + _HELD_BYTES
        # guard: memory for filters is bounded
        while self.size_bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: tuple[int, date, int]) -> None:
        self.size_bytes -= self._kept.pop(key).size_bytes + _HELD_BYTES

    def _know(self, live: FilteredDays) -> None:
        self._generation = live.generation
        self._filters: list[tuple[date, DayFilter]] = sorted(live.filters.items())
        self._days = np.array([day for day, _ in self._filters], "datetime64[D]").astype(np.int64)
        self._parts = np.array([written.parts for _, written in self._filters], np.int64)
