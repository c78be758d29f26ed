"""Partitions of the topic that have records and that a reader has not begun with: they were added, and must be found."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from contract.settings import Settings
from serving.log_ends import LogEnds, came_at

WITHIN = timedelta(minutes=1)
"""So soon each reader has begun with a partition that was added."""
READERS = {"the archiver": "archiver", "the speed layer": "supervisor"}
"""And the service whose log says why one has not."""


@dataclass(frozen=True)
class Unread:
    """One partition, who has not begun with it, Kafka's own offsets that wait there, and when the first of them came.

    `since` is None if Kafka did not show it.
    """

    partition: int
    readers: tuple[str, ...]
    first_offset: int
    high_watermark: int
    since: datetime | None

    def is_overdue(self, now: datetime) -> bool:
        """Whether whoever has not begun with it by now does not find it."""
        return self.since is None or now - self.since >= WITHIN

    def text(self) -> str:
        """For people."""
        who = "nobody reads" if len(self.readers) == len(READERS) else f"{self.readers[0]} does not read"
        age = f", the first of which came at {self.since:%Y-%m-%d %H:%M:%S}Z" if self.since else ""
        return (
            f"{who} partition {self.partition} yet, and the topic has its offsets "
            f"[{self.first_offset}, {self.high_watermark}){age}"
        )

    def next(self) -> str:
        """What to do about it."""
        logs = " and ".join(f"`make logs S={READERS[reader]}`" for reader in self.readers)
        return f"{logs} if it stays so for a minute: readers find partitions that were added by themselves"


def unread_partitions(settings: Settings, ends: Mapping[int, LogEnds], known: Mapping[str, Set[int]]) -> list[Unread]:
    """Of the topic's partitions those with records that a reader does not know. `known` has, by reader, which it does.

    Raises EngineUnavailable.
    """
    found = ((partition, end, _missing(partition, known)) for partition, end in sorted(ends.items()))
    return [
        Unread(partition, readers, end.first_offset, end.high_watermark, came_at(settings, partition, end.first_offset))
        for partition, end, readers in found
        if readers and end.high_watermark > end.first_offset
    ]


def _missing(partition: int, known: Mapping[str, Set[int]]) -> tuple[str, ...]:
    return tuple(reader for reader, partitions in known.items() if partition not in partitions)
