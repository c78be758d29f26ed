"""L1, the limit for the speed layer: one Python process without Storm, consume -> kernel -> COPY, partition by partition.

It is Braid's own code called in a plain loop: what it does more cheaply than the topology is what Storm costs, and what it
cannot do is use a second core.
"""

from __future__ import annotations

import sys

from contract.master import OffsetRange
from contract.settings import Settings
from serving.database import connect
from serving.handoff import Counts, commit_range, positions
from speed.day_filters import DayFilters
from speed.dedupe import RecentEvents
from speed.range_counter import Counted, RangeCounter
from speed.reader import RangeReader
from tests.fixtures.kafka import next_offsets_of


def main() -> None:
    """Counts all that is in the topic now, a range of each partition in turn, and ends."""
    settings = Settings.from_env()
    with connect(settings, "speed") as connection:

        def commit(offsets: OffsetRange, counted: Counted) -> None:
            counts = Counts(counted.received, counted.counted, counted.duplicate)
            commit_range(
                connection,
                offsets,
                counted.rows,
                counts,
                counted.rejects,
                settings.topic,
                counted.generation,
                position=counted.position,
            )

        counted_days = DayFilters.of_database(
            lambda: connection, settings.day_filter_mb << 20, lambda text: print(text, file=sys.stderr)
        )
        next_offsets = {p: at.next_offset for p, at in positions(connection, settings.topic_partitions).items()}
        counters = {
            partition: RangeCounter(
                RangeReader(settings, partition, lambda text: print(text, file=sys.stderr)),
                RecentEvents(settings.dedupe_window_offsets, settings.filter_false_positive_rate),
                counted_days,
                commit,
                lambda partition: positions(connection)[partition],
                lambda text: print(text, file=sys.stderr),
                settings.range_max_offsets,
            )
            for partition in next_offsets
        }
        ends = next_offsets_of(settings)
        while any(next_offsets[partition] < end for partition, end in ends.items()):
            for partition, end in ends.items():
                first_offset, next_offset = (
                    next_offsets[partition],
                    min(end, next_offsets[partition] + settings.range_max_offsets),
                )
                if first_offset < next_offset:
                    counters[partition].count(OffsetRange(partition, first_offset, next_offset))
                    next_offsets[partition] = next_offset


if __name__ == "__main__":
    main()
