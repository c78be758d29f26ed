"""The spout and the bolt of the naive topology."""

from __future__ import annotations

import json
import math
from typing import Any

from confluent_kafka import Consumer, Message
from datasketch import HyperLogLog
from pystorm.component import Tuple
from streamparse import Bolt, Spout

from contract.settings import Settings
from serving.database import connect

_FETCH_MESSAGES = 1_000
_UPSERT = """
INSERT INTO naive_{view} VALUES ({values}) ON CONFLICT ({keys}) DO UPDATE SET
    views = excluded.views, errors = excluded.errors, bytes_sent = excluded.bytes_sent, visitors = excluded.visitors,
    latency = excluded.latency"""


class EventSpout(Spout):
    outputs = ("site", "event")

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        settings = Settings.from_env()
        config = {"bootstrap.servers": settings.kafka_bootstrap, "group.id": "naive", "auto.offset.reset": "earliest"}
        self._consumer = Consumer(config)
        self._consumer.subscribe([settings.topic])
        self._fetched: list[Message] = []

    def next_tuple(self) -> None:
        if not self._fetched:
            self._fetched = self._consumer.consume(_FETCH_MESSAGES, 0.1)
        if self._fetched:
            message = self._fetched.pop()
            try:
                event = json.loads(message.value() or b"")
                self.emit([event["site"], event], tup_id=f"{message.partition()}:{message.offset()}")
            except (ValueError, TypeError, KeyError):
                return


class CountBolt(Bolt):
    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        self._rows: dict[tuple[str, ...], list[Any]] = {}
        self._connection = connect(Settings.from_env(), "speed")
        self._connection.execute("SET synchronous_commit = off")

    def process(self, tup: Tuple) -> None:
        _, event = tup.values
        self._count("site_traffic", (event["event_time"][:16], event["site"]), event)
        self._count("page_traffic", (event["event_time"][:13] + ":00", event["site"], event["page"]), event)

    def _count(self, view: str, key: tuple[str, ...], event: dict[str, Any]) -> None:
        row = self._rows.setdefault((view, *key), [0, 0, 0, HyperLogLog(p=11), {}])
        row[0] += 1
        row[1] += event["status"] >= 500
        row[2] += event["bytes_sent"]
        row[3].update(event["visitor_id"].encode())
        if event.get("duration_ms"):
            bin_of = str(math.ceil(math.log2(event["duration_ms"]) * 32))
            row[4][bin_of] = row[4].get(bin_of, 0) + 1
        stored = [*key, *row[:3], row[3].digest().tobytes(), json.dumps(row[4])]
        keys = ", ".join(("bucket", "site", "page")[: len(key)])
        self._connection.execute(_UPSERT.format(view=view, values=", ".join(["%s"] * len(stored)), keys=keys), stored)
