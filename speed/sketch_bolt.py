"""The bolt: each tuple is a range of offsets, its ack is a committed transaction. The database is the state."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import psycopg
from confluent_kafka import KafkaException
from pystorm.component import Tuple

from contract.errors import BraidError, OffsetRefused
from contract.log_position import LogPosition
from contract.master import OffsetRange
from serving.handoff import Counts, commit_range, positions
from speed.database_bolt import DatabaseBolt
from speed.day_filters import DayFilters
from speed.dedupe import RecentEvents
from speed.forgotten import Forgotten
from speed.range_counter import Counted, RangeCounter
from speed.reader import RangeReader


class SketchBolt(DatabaseBolt):
    outputs = ("partition", "rows")
    auto_ack = False
    auto_anchor = False

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        super().initialize(storm_conf, context)
        # Submitting the topology imports this module too, and compiles nothing.
        from contract.compiled import load_all

        load_all()
        self._counters: dict[int, RangeCounter] = {}
        self._counted_days = DayFilters.of_database(self.database, self.settings.day_filter_mb << 20, self.logger.info)
        self._forgotten = Forgotten.of_database(self.database, self.settings)

    def process(self, tup: Tuple) -> None:
        """Ack what is committed; fail what is not, and the spout plans less of it again from the committed position."""
        wanted = OffsetRange(*tup.values)
        try:
            rows = self._counter_of(wanted.partition).count(wanted)
        except OffsetRefused as refused:
            self.logger.warning("%s", refused)
            self.metrics.failed(wanted.partition, "refused")
            self.fail(tup)
        except (psycopg.Error, BraidError, KafkaException) as error:
            self.logger.warning("%s; %s", _not_counted(wanted), error)
            self.metrics.failed(wanted.partition, "failed")
            self.disconnect()
            self.fail(tup)
        except Exception:
            # A mistake of ours, which some record brings to light. The bolt lives on, and the spout finds the record.
            # guard: a bolt outlives a record
            self.logger.exception("%s", _not_counted(wanted))
            self.metrics.failed(wanted.partition, "failed")
            self.disconnect()
            self.fail(tup)
        else:
            self.metrics.counted(wanted.partition)
            self.ack(tup)
            self.emit([wanted.partition, rows])

    def _counter_of(self, partition: int) -> RangeCounter:
        if partition not in self._counters:
            settings = self.settings
            self._counters[partition] = RangeCounter(
                RangeReader(settings, partition, self.logger.info),
                RecentEvents(settings.dedupe_window_offsets, settings.filter_false_positive_rate),
                self._counted_days,
                self._commit,
                self._committed,
                self.logger.info,
                settings.range_max_offsets,
                self._forgotten,
            )
        return self._counters[partition]

    def _committed(self, partition: int) -> LogPosition:
        return positions(self.database())[partition]

    def _commit(self, committed: OffsetRange, counted: Counted) -> None:
        counts = Counts(counted.received, counted.counted, counted.duplicate, counted.forgotten)
        began_s = time.monotonic()
        commit_range(
            self.database(),
            committed,
            counted.rows,
            counts,
            counted.rejects,
            self.settings.topic,
            counted.generation,
            position=counted.position,
            known_statement=counted.statement,
        )
        seconds = time.monotonic() - began_s
        outcomes = {
            "counted": counted.counted,
            "duplicate": counted.duplicate,
            "quarantined": len(counted.rejects),
            "forgotten": counted.forgotten,
        }
        self.metrics.committed(committed.partition, outcomes, counted.first_ms, seconds)
        # Storm's own debug lines would come with a line of that level.
        if self.settings.logs_commits:
            place = asdict(committed)
            self.logger.info("partition %s: offsets [%s, %s) are counted", *place.values(), extra=place | outcomes)


def _not_counted(wanted: OffsetRange) -> str:
    """For the log, where it names a single record as soon as the spout has got that far."""
    partition, first, after = wanted.partition, wanted.first_offset, wanted.next_offset
    if after - first > 1:
        return f"partition {partition}: not all of offsets [{first}, {after}) is counted, and the rest is read again"
    return (
        f"partition {partition}: the record at offset {first} is not counted and is read again; "
        "if it alone fails, see 'A record cannot be counted' in docs/operations.md"
    )
