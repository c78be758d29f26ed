"""What must be true of losses: what leaves the views was announced, and what is announced is what is lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.simulate.archive_check import ArchiveChecker

if TYPE_CHECKING:
    from tests.simulate.world import World


@dataclass(frozen=True)
class Progress:
    """Where the speed layer stands in a partition, and in which log, as the database says."""

    next_offset: int = 0
    epoch: int = 1
    topic_id: str | None = None
    leader_epoch: int | None = None
    shift: int = 0


@dataclass(frozen=True)
class Member:
    """A record that readers see counted, rejected or taken for a repeat."""

    partition: int
    offset: int
    time_ms: int


class Lost(NamedTuple):
    """A range of offsets that the ledger calls lost: by the archive too (is_gap), and by which run out of the views."""

    partition: int
    first_offset: int
    next_offset: int
    is_gap: bool
    run_id: int | None

    @property
    def places(self) -> set[tuple[int, int]]:
        """Partition and offset of each."""
        return {(self.partition, offset) for offset in range(self.first_offset, self.next_offset)}


class LossChecker:
    """Holds what a world has lost against what is said of it."""

    def __init__(self, world: World, archive: ArchiveChecker) -> None:
        self._world, self._archive = world, archive
        self._members: Mapping[int, Member] = {}
        self._known: set[tuple[int, int, int, bool]] = set()

    def check(self, lost: Iterable[Lost], members: Mapping[int, Member], progress: Mapping[int, Progress]) -> None:
        """`members` are what readers see, by time. AssertionError that says what differs."""
        out = {place for one in lost if one.run_id is not None for place in one.places}
        gone = [one for time_ms, one in self._members.items() if time_ms not in members]
        silent = [one for one in gone if (one.partition, one.offset) not in out and not self._is_ahead(one, progress)]
        assert not silent, f"{silent} left the views, and nothing says that they are lost"
        self._members = members
        self._check_announced([one for one in lost if one[:4] not in self._known])
        self._known.update(one[:4] for one in lost)

    def check_end(self, lost: list[Lost]) -> None:
        """At the end each record is archived, unless an offset that it was read at, or would have been, is announced.

        Without a word are lost those that nobody had read before their log was.
        """
        announced = {place for one in lost for place in one.places}
        archived = {
            one.time_ms
            for partition in self._world.archived_partitions()
            for one in self._world.stored.records(partition).values()
        }
        archived.update(time_ms for marks in self._world.marked.values() for time_ms in marks.values())
        places: dict[int, set[tuple[int, int]]] = defaultdict(set)
        for readers in (self._archive.records, self._world.read):
            for partition, times in readers.items():
                for offset, time_ms in times.items():
                    if time_ms is not None:
                        places[time_ms].add((partition, offset))
        for partition, end in self._world.ends().items():
            log = self._world.logs.log(partition)
            for offset in range(len(log.records)):
                time_ms = log.time_at(offset)
                if time_ms is not None and time_ms not in places:
                    places[time_ms] = {(partition, offset + end.shift)}
        silent = [self._world.logs.sent[one] for one in places.keys() - archived if not places[one] & announced]
        assert not silent, f"lost, and nothing says so: {silent}"
        self._check_announced(lost)

    def _check_announced(self, lost: Iterable[Lost]) -> None:
        for one in lost:
            stored = self._world.stored.records(one.partition)
            read = self._world.read.get(one.partition, {})
            there = {held.time_ms for held in (*stored.values(), *self._world.logs.there(one.partition))}
            found = [
                offset
                for offset in range(one.first_offset, one.next_offset)
                if (offset in stored if one.is_gap else read.get(offset) in there)
            ]
            assert not found, f"{one}: {found} are not lost"

    def _is_ahead(self, one: Member, progress: Mapping[int, Progress]) -> bool:
        """Whether the speed layer comes to it again: in a log that is numbered anew it may stand before it."""
        at, sent = progress[one.partition], self._world.logs.sent[one.time_ms]
        return sent.offset + at.shift >= at.next_offset and sent in self._world.logs.there(one.partition)
