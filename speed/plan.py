"""Which offsets to count next: each partition's offsets in order, in ranges that grow with lag, a bounded number in flight.

Pure: positions, watermarks and the time come in, ranges go out. A failed range makes the plan of its partition void, because
a commit is refused unless it starts where the one before it ended; the partition goes on from its committed position.

Nothing is planned again as it has failed: the next range is half as long, down to one offset, and each that is committed
allows one twice as long. So a record that cannot be counted is soon alone in its range, and holds up no record before it. A
plan begins with one offset, because whoever planned before it may have ended with the worker that such a record has killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from contract.errors import PositionLost
from contract.master import OffsetRange

# From so many on, what a commit costs whatever its size hardly shows.
_WORTHWHILE_OFFSETS = 1_000
# The first range after a restart takes as long as it takes to read the window of recent events again.
_LONGEST_REST_S = 0.25
# The cause of a failure, a server that is down for instance, is seldom over at once.
_RETRY_S = 1.0


@dataclass
class _PartitionPlan:
    next_offset: int
    attempt: int = 0
    emitted_s: float = float("-inf")
    not_before_s: float = float("-inf")
    limit_offsets: int = 1
    in_flight: dict[str, OffsetRange] = field(default_factory=dict)
    lags: bool = False
    few: bool = False
    void: bool = False


class RangePlan:
    """The ranges in flight of every partition; a range's tuple id is `partition:attempt:first_offset`."""

    def __init__(
        self, positions: Mapping[int, int], max_offsets: int, max_in_flight: int, linger_s: float, topic: str
    ) -> None:
        self._topic = topic
        self._max_offsets = max_offsets
        self._linger_s = linger_s
        self._max_in_flight = max_in_flight
        self._partitions = {partition: _PartitionPlan(offset) for partition, offset in positions.items()}

    def next_ranges(self, high_offsets: Mapping[int, int], now_s: float) -> list[tuple[str, OffsetRange]]:
        """Tuple ids and ranges to emit now, given the first offset of each partition that is not yet readable.

        A range as long as may be goes at once, a shorter one when the one before it is committed. If it has less than a
        thousand offsets it also waits until that one is `linger_s` old and half as much time has passed as that one took: a
        commit costs about as much for ten events as for a thousand, and so few must leave a third of a bolt's time free.
        Raises PositionLost if a partition ends before its position.
        """
        ranges: list[tuple[str, OffsetRange]] = []
        for partition, plan in self._partitions.items():
            high_offset = high_offsets.get(partition, 0)
            if plan.next_offset > high_offset and not plan.void:
                raise PositionLost.shorter("the speed layer", self._topic, partition, plan.next_offset, high_offset)
            while not plan.void and plan.next_offset < high_offset and len(plan.in_flight) < self._max_in_flight:
                waiting = high_offset - plan.next_offset
                if waiting < plan.limit_offsets and plan.in_flight:
                    break
                few = waiting < min(_WORTHWHILE_OFFSETS, self._max_offsets)
                if few and now_s < plan.not_before_s:
                    break
                planned = OffsetRange(partition, plan.next_offset, min(high_offset, plan.next_offset + plan.limit_offsets))
                tuple_id = f"{partition}:{plan.attempt}:{planned.first_offset}"
                plan.in_flight[tuple_id] = planned
                plan.next_offset = planned.next_offset
                plan.emitted_s = now_s
                plan.lags = waiting >= plan.limit_offsets
                plan.few = few
                ranges.append((tuple_id, planned))
        return ranges

    def ack(self, tuple_id: str, now_s: float) -> None:
        """The range is committed."""
        plan = self._plan_of(tuple_id)
        if plan and tuple_id in plan.in_flight:
            del plan.in_flight[tuple_id]
            plan.limit_offsets = min(2 * plan.limit_offsets, self._max_offsets)
            rest_s = min((now_s - plan.emitted_s) / 2, _LONGEST_REST_S)
            plan.not_before_s = max(plan.emitted_s + self._linger_s, now_s + rest_s)

    def fail(self, tuple_id: str, now_s: float) -> None:
        """The range, and so every range after it, is not; unless it belongs to an earlier attempt."""
        plan = self._plan_of(tuple_id)
        if plan and tuple_id in plan.in_flight and not plan.void:
            # guard: a failed range voids its plan
            plan.void = True
            plan.not_before_s = now_s + _RETRY_S
            failed = plan.in_flight[tuple_id]
            # guard: a failed range is planned shorter
            plan.limit_offsets = max(1, (failed.next_offset - failed.first_offset) // 2)

    @property
    def next_look_s(self) -> float:
        """From when on a range may go, if there are offsets for it; infinite while every partition waits for an ack.

        After a range of few offsets the next one will hardly be of many, so there is no need to look before it may go.
        """
        return min(
            (
                plan.not_before_s if plan.few else float("-inf")
                for plan in self._partitions.values()
                if not plan.void and (not plan.in_flight or (plan.lags and len(plan.in_flight) < self._max_in_flight))
            ),
            default=float("inf"),
        )

    def may_resume(self, now_s: float) -> bool:
        """Whether a partition waits for `resume`, and has waited for a second; the others go on meanwhile."""
        return any(plan.void and plan.not_before_s <= now_s for plan in self._partitions.values())

    def void_all(self) -> None:
        """Every partition waits for `resume`: where they stand may have been moved."""
        for partition in self._partitions.values():
            partition.void = True

    @property
    def partitions(self) -> Set[int]:
        """Those that it plans."""
        return self._partitions.keys()

    def resume(self, positions: Mapping[int, int], now_s: float) -> None:
        """Partitions that may resume go on from their committed position, and new ones begin; late acks change nothing.

        One that may resume and has no position any more is of a topic that another has followed.
        """
        for partition, plan in list(self._partitions.items()):
            if plan.void and plan.not_before_s <= now_s:
                del self._partitions[partition]
                if partition in positions:
                    again = _PartitionPlan(positions[partition], plan.attempt + 1, limit_offsets=plan.limit_offsets)
                    self._partitions[partition] = again
        for partition in positions.keys() - self._partitions.keys():
            self._partitions[partition] = _PartitionPlan(positions[partition])

    def _plan_of(self, tuple_id: str) -> _PartitionPlan | None:
        return self._partitions.get(int(tuple_id.split(":", 1)[0]))
