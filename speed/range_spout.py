"""The spout: emits ranges of offsets (partition, first_offset, next_offset), never events. It starts from the database."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from streamparse import Spout

from contract.errors import BraidError
from contract.settings import Settings
from serving.database import connect
from serving.handoff import positions
from speed.plan import RangePlan

# Asking the broker takes about a millisecond: with traffic four are little, without it twenty are enough.
_LOOK_S, _IDLE_S = 0.004, 0.02
_BUSY_S = 1.0
_RETRY_S = 1.0
_TIMEOUT_S = 5.0


class RangeSpout(Spout):
    outputs = ("partition", "first_offset", "next_offset")

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        self._settings = Settings.from_env()
        self._admin: AdminClient | None = None
        self._plan: RangePlan | None = None
        self._not_before = self._busy_until = 0.0

    def next_tuple(self) -> None:
        """Emit what became readable; otherwise give way for a moment, since Storm asks again at once."""
        if time.monotonic() < self._not_before:
            time.sleep(_IDLE_S)
            return
        try:
            plan = self._planned()
            # Each look costs the broker and this process a millisecond.
            due = plan.next_look_s <= time.monotonic()
            ranges = plan.next_ranges(self._high_offsets(), time.monotonic()) if due else []
        except (psycopg.Error, BraidError, KafkaException) as error:
            self.logger.warning("cannot plan now, next try in %.0f s: %s", _RETRY_S, error)
            self._not_before = time.monotonic() + _RETRY_S
            # A client keeps the leaders' epochs for five minutes, and a broker that has restarted refuses the old ones.
            self._admin = None
            return
        for tuple_id, planned in ranges:
            self.emit([planned.partition, planned.first_offset, planned.next_offset], tup_id=tuple_id)
        if ranges:
            self._busy_until = time.monotonic() + _BUSY_S
        else:
            time.sleep(_LOOK_S if time.monotonic() < self._busy_until else _IDLE_S)

    def ack(self, tup_id: str) -> None:
        if self._plan is not None:
            self._plan.ack(tup_id, time.monotonic())

    def fail(self, tup_id: str) -> None:
        if self._plan is not None:
            self._plan.fail(tup_id)
            # The cause of a failure, a server that is down for instance, is seldom over at once.
            self._not_before = time.monotonic() + _RETRY_S

    def _planned(self) -> RangePlan:
        if self._plan is None or self._plan.is_void:
            with connect(self._settings, "speed") as connection:
                committed = positions(connection, self._settings.topic_partitions)
            if self._plan is None:
                settings = self._settings
                self._plan = RangePlan(
                    committed,
                    settings.range_max_offsets,
                    settings.ranges_in_flight,
                    settings.range_linger_ms / 1000,
                    settings.topic,
                )
            else:
                self._plan.resume(committed)
        return self._plan

    def _high_offsets(self) -> dict[int, int]:
        """The last stable offset of each partition: below it, no open transaction keeps a reader waiting."""
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self._settings.kafka_bootstrap})
        asked = {
            TopicPartition(self._settings.topic, partition): OffsetSpec.latest()
            for partition in range(self._settings.topic_partitions)
        }
        answers = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_TIMEOUT_S)
        return {asked_of.partition: answer.result().offset for asked_of, answer in answers.items()}
