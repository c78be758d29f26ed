"""A source: a text of which lines are counted, and how its lines are named.

A line's id is the source that names it and its byte offset. That source is the digest of all that the text has up to some
line end: of the first lines up to their own. So ids need no register: they follow from the text, and texts that differ have
different ids from where they differ on. Only where two texts are alike a number, the slot, keeps them apart, and whichever
of them has which, all of them together have the same ids.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Sequence
from itertools import count

import msgspec

from contract.source_ids import IdRange, SourceIds
from contract.sources import CountedSource
from ingest.beginning import START, Mark, name_of, naming
from ingest.tally import Tally

_NAMES_KEPT = 8


class Source(msgspec.Struct, frozen=True):
    """What the register has of one: up to `announced` its lines are sent, or about to be; up to `counted` Kafka has them.

    `points` are those of the text up to `announced`, and `slots` from which byte on which slot is its own, 0 before them.
    One that `is_forgotten` was taken back, so that its lines do not count although they are known.
    """

    number: int
    site: str
    names: tuple[str, ...]
    first_counted_at: str
    counted_at: str
    announced: Mark = START
    counted: Mark = START
    points: tuple[Mark, ...] = ()
    slots: tuple[tuple[int, int], ...] = ()
    tally: Tally = Tally()
    is_forgotten: bool = False

    def slot_at(self, end: int) -> int:
        """The slot of the lines that a point names."""
        number = bisect_right(self.slots, end, key=lambda slot: slot[0])
        return self.slots[number - 1][1] if number else 0

    def renamed(self, name: str) -> tuple[str, ...]:
        """Its names, and this one last."""
        return (*(one for one in self.names if one != name), name)[-_NAMES_KEPT:]

    def ids(self, group: str) -> SourceIds:
        """Those of all that is announced; what the text has behind it, now or later, is new."""
        # A Parquet file's ids have numbers of rows, and a row may take less than a byte.
        next_byte = max(self.announced.end, self.tally.lines)
        names = [START, *naming(self.points)]
        return SourceIds(tuple(IdRange(id_of(group, self, name), 0, next_byte) for name in names))

    def row(self, group: str) -> CountedSource:
        """For those who ask what was counted."""
        tally = self.tally
        return CountedSource(
            f"{group}.{self.number}",
            self.site,
            self.names,
            self.counted.end,
            tally.lines,
            tally.events,
            tally.repeats,
            tally.empty,
            tally.rejected,
            self.first_counted_at,
            self.counted_at,
            self.is_forgotten,
        )


class Group(msgspec.Struct):
    """All sources with the same first line, as the register has them in one of its versions: 0 if there is none.

    `stale` are files of it that nobody needs any more.
    """

    name: str
    version: int = 0
    sources: dict[int, Source] = {}
    stale: tuple[str, ...] = ()

    def slots_for(self, source: Source, points: Sequence[Mark]) -> tuple[tuple[int, int], ...]:
        """The slots of a source that gets these points behind those it has: where others have a point too, a free one."""
        others = [one for one in self.sources.values() if one.number != source.number and one.site == source.site]
        shared = [(one, {START, *naming(one.points)}) for one in others]
        slots = list(source.slots)
        new = naming([*source.points, *points], len(source.points))
        for mark in new if source.points else [START, *new]:
            taken = {one.slot_at(mark.end) for one, marks in shared if mark in marks}
            slot = _least_free(taken)
            if slot != (slots[-1][1] if slots else 0):
                slots.append((mark.end, slot))
        return tuple(slots)


def id_of(group: str, source: Source, names: Mark) -> str:
    """What ids of the lines that a point names begin with."""
    slot = source.slot_at(names.end)
    return f"{group}~{name_of(names, source.site)}" + (f".{slot}" if slot else "")


def _least_free(taken: Container[int]) -> int:
    return next(slot for slot in count() if slot not in taken)
