"""What the files of a partition cover: up to where, in which log, and what is missing below that.

A missing offset is archived again as long as Kafka has it; one that Kafka has no more is lost, unless its file comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Self

from contract.log_position import LogPosition
from contract.master import OffsetRange, gaps, last_file


@dataclass(frozen=True)
class Extent:
    """The files of a partition end at `end`, and lack `gaps` below that.

    Missing offsets from same_log_offset on are numbered as Kafka's log is now, shifted by end.shift. Those before are of
    a log that this one has followed, and nobody can read them there by their number.
    """

    partition: int
    end: LogPosition
    gaps: tuple[OffsetRange, ...] = ()
    same_log_offset: int = 0
    earlier: LogPosition | None = None
    """A position in the log before, if same_log_offset is above 0."""

    @classmethod
    def of(cls, partition: int, files: Collection[OffsetRange], position_of: Callable[[OffsetRange], LogPosition]) -> Self:
        """`position_of` gives the position at the end of a file, as its footer says; few are asked for."""
        last = last_file(files)
        if last is None:
            return cls(partition, LogPosition(0))
        end, missing = position_of(last), gaps(files)
        for gap in reversed(missing):
            before = min((file for file in files if file.next_offset == gap.first_offset), default=None)
            # guard: a gap of an earlier log is not read from this one
            if (at := position_of(before) if before else LogPosition(0)).shift != end.shift:
                return cls(partition, end, tuple(missing), gap.next_offset, at)
        return cls(partition, end, tuple(missing))

    @property
    def whole_next_offset(self) -> int:
        """Up to where nothing is missing."""
        return self.gaps[0].first_offset if self.gaps else self.end.next_offset

    def ends_at(self, next_offset: int) -> LogPosition:
        """The position at another offset: in the log of the end, or in one before if the offset is of that."""
        if self.earlier and next_offset <= self.same_log_offset:
            return replace(self.earlier, next_offset=next_offset, leader_epoch=None)
        # The epoch at the end has not ended before an earlier offset; of a later one nobody knows.
        is_known = next_offset <= self.end.next_offset
        return replace(self.end, next_offset=next_offset, leader_epoch=self.end.leader_epoch if is_known else None)

    def go_on(self, low_offset: int) -> LogPosition:
        """Where an archiver goes on: at the first missing offset that Kafka has; its own first one is low_offset."""
        kept, end = self._first_kept(low_offset), self.end.next_offset
        # guard: what Kafka still has of a gap is archived
        first = next((max(gap.first_offset, kept) for gap in self.gaps if gap.next_offset > kept), max(end, kept))
        return self.ends_at(first)

    def lost(self, low_offset: int) -> list[OffsetRange]:
        """Missing offsets that Kafka has no more, those between the end and Kafka's first one included."""
        kept, end = self._first_kept(low_offset), self.end.next_offset
        missing = [*self.gaps, OffsetRange(self.partition, end, kept)] if end < kept else self.gaps
        return [replace(gap, next_offset=min(gap.next_offset, kept)) for gap in missing if gap.first_offset < kept]

    def kept(self, low_offset: int) -> list[OffsetRange]:
        """Missing offsets below the end that Kafka still has."""
        kept = self._first_kept(low_offset)
        return [replace(gap, first_offset=max(gap.first_offset, kept)) for gap in self.gaps if gap.next_offset > kept]

    def _first_kept(self, low_offset: int) -> int:
        return max(low_offset + self.end.shift, self.same_log_offset)
