"""Which records of a drill are lost with Kafka's log, and which numbers those have that are not.

Kafka uses the offsets of what it lost again. Braid does not: what follows is numbered above all that was read (decision 80).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from contract.resumption import Resumption
from tests.oracle import Record


@dataclass(frozen=True)
class Loss:
    """`acknowledged` are the records before and after the loss, by Kafka's own offsets, each log's own; `archived` is up to
    where HDFS had them when Kafka lost its own, and `shifts` is how Braid counted until then."""

    plan: Resumption
    acknowledged: tuple[Sequence[Record], Sequence[Record]]
    archived: Mapping[int, int]
    shifts: Mapping[int, int]

    def counted(self) -> list[Record]:
        """All that was ever acknowledged, as Braid numbers it: what views hold until the loss has left them."""
        return sorted([*self._before(), *self._after()], key=lambda record: record[:2])

    def kept(self) -> list[Record]:
        """The same without what is announced as lost."""
        return [record for record in self.counted() if not self._is_announced(record)]

    def lost(self) -> list[Record]:
        """What is announced as lost, in the order in which it was sent to its partition."""
        return [record for record in self.counted() if self._is_announced(record)]

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
        return numbered(
            self.acknowledged[1], dict(self.shifts) | {part.partition: part.shift for part in self.plan.partitions}
        )

    def _is_announced(self, record: Record) -> bool:
        partition, offset, *_ = record
        return any(
            part.partition == partition and part.lost_offset <= offset < part.lost_next_offset
            for part in self.plan.partitions
        )


def numbered(records: Iterable[Record], shifts: Mapping[int, int]) -> Iterator[Record]:
    """The records by Braid's numbers in place of Kafka's."""
    for partition, offset, kafka_time_ms, value in records:
        yield partition, offset + shifts.get(partition, 0), kafka_time_ms, value
