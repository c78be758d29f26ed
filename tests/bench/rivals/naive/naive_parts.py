"""The spout and the bolts of the naive topology. They run where Storm unpacks them, with no other file of the bench."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from datasketch import HyperLogLog
from pystorm.component import Tuple
from streamparse import Bolt, Spout

from contract.settings import Settings
from serving.database import connect

_FETCH_MESSAGES = 100
_UPSERT = """
INSERT INTO naive_{view} VALUES ({values}) ON CONFLICT ({keys}) DO UPDATE SET
    views = excluded.views, errors = excluded.errors, bytes_sent = excluded.bytes_sent, visitors = excluded.visitors,
    latency = excluded.latency"""


class EventSpout(Spout):
    """Each partition's events before offset `naive.next_offset` of the topology's configuration."""

    outputs = ("site", "page", "event")

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        settings = Settings.from_env()
        self._next_offset = int(storm_conf["naive.next_offset"])
        self._consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": "naive"})
        self._consumer.assign(
            [TopicPartition(settings.topic, partition, 0) for partition in range(settings.topic_partitions)]
        )

    def next_tuple(self) -> None:
        for message in self._consumer.consume(_FETCH_MESSAGES, 0.1):
            place = f"{message.partition()}:{message.offset()}"
            for event in _events(message) if (message.offset() or 0) < self._next_offset else ():
                self.emit([event["site"], event["page"], event], tup_id=place)


def _events(message: Message) -> Iterator[dict[str, Any]]:
    """The event, or nothing if it lacks what the bolts need."""
    try:
        event = json.loads(message.value() or b"")
        sent = datetime.fromtimestamp(message.timestamp()[1] / 1_000, UTC)
        stored = event["site"] and 0 < len(event["page"]) <= 2_048 and "\0" not in event["page"] and event["visitor_id"]
        counted = 100 <= event["status"] <= 599 and event["bytes_sent"] >= 0
        if stored and counted and datetime.fromisoformat(event["event_time"]) <= sent + timedelta(days=1):
            yield event
    except (ValueError, TypeError, KeyError):
        return


class _CountBolt(Bolt):
    """Counts by `keys` and by as much of the time's text as `time_letters` says."""

    view: str
    keys: tuple[str, ...]
    time_letters: int

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        self._rows: dict[tuple[str, ...], list[Any]] = {}
        self._connection = connect(Settings.from_env(), "speed")
        self._connection.execute("SET synchronous_commit = off")
        self._upsert = _UPSERT.format(
            view=self.view, values=", ".join(["%s"] * (len(self.keys) + 6)), keys=", ".join(("bucket", *self.keys))
        )

    def process(self, tup: Tuple) -> None:
        event = tup.values[-1]
        key = (event["event_time"][: self.time_letters] + ":00Z", *(event[name] for name in self.keys))
        row = self._rows.setdefault(key, [0, 0, 0, HyperLogLog(p=11), {}])
        row[0] += 1
        row[1] += event["status"] >= 500
        row[2] += event["bytes_sent"]
        row[3].update(event["visitor_id"].encode())
        if event.get("duration_ms"):
            bin_of = str(math.ceil(math.log2(event["duration_ms"]) * 32))
            row[4][bin_of] = row[4].get(bin_of, 0) + 1
        self._connection.execute(self._upsert, [*key, *row[:3], row[3].digest().tobytes(), json.dumps(row[4])])


class SiteBolt(_CountBolt):
    view, keys, time_letters = "site_traffic", ("site",), len("2026-05-17T10:05")


class PageBolt(_CountBolt):
    view, keys, time_letters = "page_traffic", ("site", "page"), len("2026-05-17T10")
