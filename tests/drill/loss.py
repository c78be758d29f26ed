"""Which records of a drill are lost with Kafka's log, and which numbers those have that are not.

Kafka uses the offsets of what it lost again. Braid does not: what follows is numbered above all that was read (decision 80).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from contract.master import OffsetRange
from contract.resumption import Resumption
from tests.oracle import Record


@dataclass(frozen=True)
class Loss:
    """`acknowledged` are the records before and after the loss, by Kafka's own offsets, each log's own; `archived` is up to
    where HDFS has those before it, and `shifts` is how Braid counted until then."""

    plan: Resumption
    acknowledged: tuple[Sequence[Record], Sequence[Record]]
    archived: Mapping[int, int]
    shifts: Mapping[int, int]

    def counted(self) -> list[Record]:
        """All that was ever acknowledged, as views hold it until the loss has left them.

        Where the archiver went on by itself, numbers of lost records are used again, but nobody reads them before that.
        """
        used = {part.partition: part.lost_next_offset for part in self.plan.partitions}
        after = (record for record in self._after() if record[1] >= used[record[0]])
        return sorted([*self._before(), *after], key=lambda record: record[:2])

    def kept(self) -> list[Record]:
        """The same without what is announced as lost."""
        kept = (record for record in self._before() if not self._is_announced(record))
        return sorted([*kept, *self._after()], key=lambda record: record[:2])

    def lost(self) -> list[Record]:
        """What is announced as lost, in the order in which it was sent to its partition."""
        return sorted((record for record in self._before() if self._is_announced(record)), key=lambda record: record[:2])

    def first_offsets(self) -> dict[int, int]:
        """Where the log that there is goes on behind what was lost, by Kafka's own offsets."""
        return {
            part.partition: min(part.log_offset, self.archived[part.partition] - self.shifts.get(part.partition, 0))
            for part in self.plan.partitions
        }

    def complaints(self) -> Iterator[str]:
        """What is announced and not lost, or the other way round; every partition must have been resumed."""
        parts = {part.partition: part for part in self.plan.partitions}
        for partition in sorted({partition for partition, *_ in self.acknowledged[0]} - parts.keys()):
            yield f"partition {partition} lost its log, and the plan does not have it"
        for partition, part in sorted(parts.items()):
            if part.archived_offset != self.archived[partition]:
                yield (
                    f"the archive of partition {partition} ended at {self.archived[partition]}, "
                    f"the plan says {part.archived_offset}"
                )
        # Neither on HDFS nor, since Kafka's log ends before that, in Kafka.
        gone = {record[:2] for record in self._before() if record[1] >= self.archived[record[0]]}
        announced = {(p, offset) for p, part in parts.items() for offset in range(part.lost_offset, part.lost_next_offset)}
        if gone != announced:
            yield (
                f"{len(gone)} records are lost and {len(announced)} are announced: "
                f"{sorted(gone - announced)[:3]} are lost without a word, {sorted(announced - gone)[:3]} are not lost"
            )

    def _before(self) -> Iterable[Record]:
        return numbered(self.acknowledged[0], self.shifts)

    def _after(self) -> Iterable[Record]:
        resumed = {part.partition: part for part in self.plan.partitions}
        for partition, offset, kafka_time_ms, value in self.acknowledged[1]:
            part = resumed[partition]
            shift = part.shift if offset >= part.log_offset else self.shifts.get(partition, 0)
            yield partition, offset + shift, kafka_time_ms, value

    def _is_announced(self, record: Record) -> bool:
        partition, offset, *_ = record
        return any(
            part.partition == partition and part.lost_offset <= offset < part.lost_next_offset
            for part in self.plan.partitions
        )


@dataclass(frozen=True)
class LostFile:
    """`acknowledged` are the records of one log, by Kafka's own offsets; those of `offsets`, as Braid counts, are lost."""

    offsets: OffsetRange
    acknowledged: Sequence[Record]
    shifts: Mapping[int, int]

    def counted(self) -> list[Record]:
        """All that was ever acknowledged: what views hold until the loss has left them."""
        return sorted(numbered(self.acknowledged, self.shifts), key=lambda record: record[:2])

    def kept(self) -> list[Record]:
        """The same without what is lost."""
        return [record for record in self.counted() if not self._is_lost(record)]

    def lost(self) -> list[Record]:
        """What is lost."""
        return [record for record in self.counted() if self._is_lost(record)]

    def _is_lost(self, record: Record) -> bool:
        partition, offset, *_ = record
        return partition == self.offsets.partition and self.offsets.first_offset <= offset < self.offsets.next_offset


def numbered(records: Iterable[Record], shifts: Mapping[int, int]) -> Iterator[Record]:
    """The records by Braid's numbers in place of Kafka's."""
    for partition, offset, kafka_time_ms, value in records:
        yield partition, offset + shifts.get(partition, 0), kafka_time_ms, value
