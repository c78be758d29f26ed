"""The spout: emits ranges of offsets (partition, first_offset, next_offset), never events. It starts from the database."""

from __future__ import annotations

import time
from collections.abc import Set
from typing import Any

import psycopg
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from streamparse import Spout

from contract.errors import BraidError, PositionLost
from contract.log_position import LogPosition
from contract.settings import Settings
from serving.database import connect
from serving.handoff import positions
from serving.log_check import require_positions, require_topic
from speed.logs import speak
from speed.metrics import of_task
from speed.plan import RangePlan

# Asking the broker takes about a millisecond: with traffic four are little, without it twenty are enough.
_LOOK_S, _IDLE_S = 0.004, 0.02
_BUSY_S = 1.0
_RETRY_S = 1.0
_LOOK_AGAIN_S = 5.0
_TIMEOUT_S = 5.0
_READER = "the speed layer"


class RangeSpout(Spout):
    outputs = ("partition", "first_offset", "next_offset")

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        self._settings = Settings.from_env()
        self._metrics = of_task(context, self._settings.metrics_port)
        speak(context, self._settings)
        self._admin: AdminClient | None = None
        self._plan: RangePlan | None = None
        self._not_before = self._busy_until = 0.0
        self._shifts: dict[int, int] = {}
        # In which leader epochs the log was when the committed positions were held against it.
        self._verified_in: dict[int, int] | None = None
        self._seen: dict[int, int] = {}
        self._topic_id: str | None = None
        self._partitions: Set[int] = frozenset()
        self._look_at_s = 0.0
        self._said = ""

    def next_tuple(self) -> None:
        """Emit what became readable; otherwise give way for a moment, since Storm asks again at once."""
        if time.monotonic() < self._not_before:
            time.sleep(_IDLE_S)
            return
        try:
            plan = self._planned()
            # Each look costs the broker and this process a millisecond.
            due = plan.next_look_s <= time.monotonic()
            ranges = plan.next_ranges(self._high_offsets(plan.partitions), time.monotonic()) if due else []
            # While no range may go there is no need to ask, and nothing is in the way.
            self._metrics.plans()
        except (psycopg.Error, BraidError, KafkaException) as error:
            if str(error) != self._said:
                self.logger.warning("cannot plan now: %s", error)
                self._said = str(error)
            self._not_before = time.monotonic() + (_LOOK_AGAIN_S if isinstance(error, PositionLost) else _RETRY_S)
            # A client keeps the leaders' epochs for five minutes, and a broker that has restarted refuses the old ones.
            self._admin = self._verified_in = None
            self._look_at_s = time.monotonic()
            if self._plan is not None and isinstance(error, PositionLost):
                # Whoever settles it moves the positions.
                self._plan.void_all()
            return
        self._said = ""
        for tuple_id, planned in ranges:
            self._metrics.planned(planned)
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
            self._plan.fail(tup_id, time.monotonic())

    def _planned(self) -> RangePlan:
        """Plans every partition that the topic has, those that were added since the last look too. Raises PositionLost."""
        now_s = time.monotonic()
        # guard: partitions that are added are counted
        has_more = self._plan is not None and not self._partitions <= self._plan.partitions
        if self._plan is None or self._plan.may_resume(now_s) or has_more:
            stored = self._stored()
            # A commit may have been refused because it was of another topic.
            self._verified_in = None
            self._topic_id = next((at.topic_id for at in stored.values() if at.topic_id), None)
            # Partitions of another topic are none of ours, and get no rows.
            self._look()
            if not self._partitions <= stored.keys():
                stored = self._stored(1 + max(self._partitions))
            # Of a topic that has followed another there may be fewer.
            stored = {partition: at for partition, at in stored.items() if partition in self._partitions}
            self._shifts = {partition: at.shift for partition, at in stored.items()}
            committed = {partition: at.next_offset for partition, at in stored.items()}
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
                self._plan.resume(committed, now_s)
        return self._plan

    def _stored(self, partitions: int = 0) -> dict[int, LogPosition]:
        with connect(self._settings, "speed") as connection:
            return positions(connection, partitions)

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self._settings.kafka_bootstrap})
        return self._admin

    def _look(self) -> None:
        """Ask whether the topic is the one of the positions, and which partitions it has. Raises PositionLost."""
        found = require_topic(self._settings, self._client(), _READER, self._topic_id)
        # What is planned from here on is of this one, whether the database knows its id yet or not.
        self._topic_id, self._partitions = found.topic_id, found.partitions
        self._look_at_s = time.monotonic() + _LOOK_AGAIN_S

    def _high_offsets(self, partitions: Set[int]) -> dict[int, int]:
        """The last stable offset of each partition: below it, no open transaction keeps a reader waiting.

        A broker that starts begins a new leader epoch. What it has lost, it has lost then, so that is when to look. Raises
        PositionLost.
        """
        # First, because of partitions that another topic does not have there is no offset.
        if time.monotonic() >= self._look_at_s:
            self._look()
        admin = self._client()
        asked = {TopicPartition(self._settings.topic, partition): OffsetSpec.latest() for partition in partitions}
        answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_TIMEOUT_S)
        ends = {place.partition: answer.result() for place, answer in answers.items()}
        epochs = {partition: end.leader_epoch for partition, end in ends.items()}
        has_shrunk = any(end.offset < self._seen.get(partition, 0) for partition, end in ends.items())
        # guard: each leader epoch is looked at
        if epochs != self._verified_in or has_shrunk:
            require_positions(self._settings, admin, _READER, self._stored())
            self._verified_in = epochs
        self._seen = {partition: end.offset for partition, end in ends.items()}
        return {partition: end.offset + self._shifts[partition] for partition, end in ends.items()}
