"""The collector's process against a real broker: what it acknowledges is there, and what it refuses may be sent again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from contract.settings import Settings
from ingest.sender import Sender, connect
from ingest.stop import Stop
from ingest.topics import ensure_topic
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import records_of


@dataclass(frozen=True)
class Running:
    """A process of the collector, and a client of it."""

    process: subprocess.Popen[str]
    client: httpx2.Client

    def post(self, events: list[dict[str, Any]]) -> int:
        """The status of one request."""
        return int(self.client.post("/events", json=events).status_code)

    def is_ready(self) -> bool:
        """What a balancer asks."""
        return bool(self.client.get("/readyz").status_code == 200)

    def becomes_ready(self) -> None:
        def ready() -> None:
            assert self.is_ready()

        eventually(ready, within_s=60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[Running]:
    """Answers, whether Kafka does or not; ends with SIGTERM and without a word of complaint."""
    (folder / "visitor_key").write_text("a key")
    port = free_port()
    environment = {
        "BRAID_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "BRAID_TOPIC": settings.topic,
        "BRAID_SECRETS_DIR": str(folder),
    }
    command = [sys.executable, "-m", "ingest", "collect", "--port", str(port), "--agent-port", str(free_port())]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        def answers() -> None:
            try:
                assert client.get("/healthz").status_code == 200
            except httpx2.ConnectError as error:
                raise AssertionError(error) from error

        try:
            eventually(answers, within_s=60)
            yield Running(process, client)
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGTERM), said
    assert "Traceback" not in said


@pytest.fixture
def collector(topic: Settings, tmp_path: Path) -> Iterator[Running]:
    with running(topic, tmp_path) as collector:
        collector.becomes_ready()
        yield collector


def events(first: int, count: int, visitors: int = 20) -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    return [
        {
            "event_id": f"id-{number}",
            "event_time": now,
            "site": "demo",
            "page": f"/{number}",
            "visitor_id": f"visitor-{number % visitors}",
            "status": 200,
            "bytes_sent": number,
        }
        for number in range(first, first + count)
    ]


def test_what_is_acknowledged_is_there_once_and_where_our_producers_put_it(topic: Settings, collector: Running):
    requests = [events(first, 50) for first in range(0, 5_000, 50)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(collector.post, requests)) == {202}
    records = records_of(topic)
    sent = [event for request in requests for event in request]
    found = [json.loads(record.value() or b"") for record in records]
    assert sorted(found, key=json.dumps) == sorted(sent, key=json.dumps)
    places = {record.key(): record.partition() for record in records}
    assert {(record.key(), record.partition()) for record in records} == set(places.items())
    assert {name.decode() for name in places if name} == {event["visitor_id"] for event in sent}
    sender = Sender(topic, connect(topic), Stop())
    sender.send((f"visitor-{number}", b"x") for number in range(20))
    sender.finish()
    ours = {record.key(): record.partition() for record in records_of(topic) if record.value() == b"x"}
    assert ours == places


def takes_at_most(topic: Settings, message_bytes: int) -> None:
    """What the broker takes: with 1 it says who leads each partition, as ever, and refuses all records."""
    entry = ConfigEntry("max.message.bytes", str(message_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic.topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": topic.kafka_bootstrap})
    admin.incremental_alter_configs([resource])[resource].result()


def test_while_kafka_takes_nothing_it_says_so_and_then_goes_on_by_itself(topic: Settings, collector: Running):
    assert collector.post(events(0, 10)) == 202
    takes_at_most(topic, 1)
    taken_meanwhile = 0  # until the broker has heard of it

    def refuses() -> None:
        nonlocal taken_meanwhile
        answer = collector.client.post("/events", json=events(1_000, 1))
        taken_meanwhile += answer.status_code == 202
        assert answer.status_code == 503
        assert answer.json()["reason"] == "kafka"
        assert int(answer.headers["retry-after"]) >= 1
        # Open, it does not ask Kafka any more.
        assert "nothing was sent" in answer.json()["detail"]

    eventually(refuses, within_s=30)
    # As every client does it: each request again until it is taken.
    left = [events(first, 10) for first in range(10, 200, 10)]
    takes_at_most(topic, 1 << 20)

    def taken() -> None:
        left[:] = [request for request in left if collector.post(request) != 202]
        assert left == []

    eventually(taken, within_s=60)
    assert collector.is_ready()
    found = Counter(json.loads(record.value() or b"")["event_id"] for record in records_of(topic))
    # The broker took none of what was refused.
    assert found == Counter({f"id-{number}": 1 for number in range(200)} | {"id-1000": taken_meanwhile})


def test_a_topic_that_is_missing_is_said_and_found_when_it_is_made(no_topic: Settings, tmp_path: Path):
    with running(no_topic, tmp_path) as collector:

        def says_so() -> None:
            answer = collector.client.get("/readyz")
            assert answer.status_code == 503
            assert f"Kafka has no topic {no_topic.topic}" in answer.json()["detail"]

        eventually(says_so, within_s=30)
        assert collector.post(events(0, 1)) == 503
        ensure_topic(no_topic)
        collector.becomes_ready()
        assert collector.post(events(0, 1)) == 202
        assert len(records_of(no_topic)) == 1


def test_without_a_broker_it_answers_at_once(topic: Settings, tmp_path: Path):
    with running(replace(topic, kafka_bootstrap="127.0.0.1:1"), tmp_path) as collector:
        answer = collector.client.post("/events", json=events(0, 1))
        assert answer.status_code == 503
        assert "nothing was sent" in answer.json()["detail"]
        assert not collector.is_ready()


def test_what_is_acknowledged_while_it_ends_is_there(topic: Settings, tmp_path: Path):
    acknowledged: list[str] = []
    with running(topic, tmp_path) as collector:
        collector.becomes_ready()

        def send_on(worker: int) -> None:
            for number in range(worker * 100_000, worker * 100_000 + 100_000):
                try:
                    if collector.post(events(number, 1)) != 202:
                        return
                except httpx2.TransportError:
                    return
                acknowledged.append(f"id-{number}")

        def some_are_taken() -> None:
            assert len(acknowledged) > 100

        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(send_on, worker) for worker in range(4)]
            eventually(some_are_taken, within_s=60)
            collector.process.send_signal(signal.SIGTERM)
            for one in done:
                one.result()
    assert set(acknowledged) <= {json.loads(record.value() or b"")["event_id"] for record in records_of(topic)}
