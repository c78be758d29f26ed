"""An open transaction of some producer keeps what came after it from all readers; who waits for it is told so."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer

import serving.log_ends
from contract.settings import Settings
from ingest.topics import next_offsets
from serving.__main__ import main
from serving.database import connect
from serving.handoff import Counts, commit_range
from serving.log_ends import LogEnds, in_the_way, log_ends, open_transactions
from tests.fixtures.eventually import eventually
from tests.fixtures.pageviews import NO_REJECTS, Range, events


def send(settings: Settings, count: int, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    for _ in range(count):
        producer.produce(settings.topic, b"{}", partition=partition)
    assert producer.flush(30) == 0


@pytest.fixture
def transaction(topic: Settings) -> Iterator[Producer]:
    """A producer with a transaction that is open, and nothing in it yet; whoever leaves it open leaves it to the broker."""
    options: dict[str, Any] = {"transactional.id": f"test-{uuid.uuid4().hex[:12]}", "transaction.timeout.ms": 120_000}
    producer = Producer({"bootstrap.servers": topic.kafka_bootstrap, "log_level": 2, **options})
    producer.init_transactions(60)
    producer.begin_transaction()
    yield producer
    producer.purge()


def begin(settings: Settings, transaction: Producer, partition: int = 0) -> None:
    """The transaction's first record."""
    transaction.produce(settings.topic, b"{}", partition=partition)
    assert transaction.flush(30) == 0


def end_in_log(settings: Settings, end: Callable[[float], None]) -> None:
    """The transaction's end: the coordinator answers when it has decided, and writes the end into partitions after that."""
    end(30)

    def is_there() -> None:
        at = log_ends(settings)[0]
        assert at.last_stable_offset == at.high_watermark, at

    eventually(is_there, within_s=30)


@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
def test_what_an_open_transaction_holds_back_is_known_until_it_ends(
    topic: Settings, transaction: Producer, end: str
) -> None:
    send(topic, 3)
    before = datetime.now(UTC) - timedelta(seconds=1)
    begin(topic, transaction)
    send(topic, 4)
    send(topic, 2, partition=1)
    ends = log_ends(topic)
    assert ends[0] == LogEnds(0, 3, 8)
    assert (ends[1], ends[0].held_back, ends[1].held_back) == (LogEnds(0, 2, 2), 5, 0)
    # Where ingest stops is behind it, whoever's records these are.
    assert next_offsets(topic) == {"0": 8, "1": 2}
    (found,) = open_transactions(topic, ends)
    assert (found.partition, found.first_offset, found.held_back) == (0, 3, 5)
    assert found.since is not None
    assert before <= found.since <= datetime.now(UTC)
    assert in_the_way(topic, {0: 3}) == found
    assert in_the_way(topic, {0: 2}) is None, "there is more to be had for who stands there"
    assert in_the_way(topic, {0: 3, 1: 1}) is None, "one of two has no reason to wait"
    assert in_the_way(topic, {}) is None
    end_in_log(topic, getattr(transaction, end))
    ends = log_ends(topic)
    # The end of a transaction takes an offset too.
    assert ends[0] == LogEnds(0, 9, 9)
    assert open_transactions(topic, ends) == []


def test_traffic_without_transactions_never_seems_held_back(topic: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = serving.log_ends._offsets
    send(topic, 1)

    def while_records_come(*question: Any) -> dict[int, int]:
        send(topic, 1)
        return ask(*question)

    monkeypatch.setattr(serving.log_ends, "_offsets", while_records_come)
    ends = log_ends(topic)
    assert ends[0].last_stable_offset > ends[0].high_watermark > 0, "nothing came meanwhile"
    assert ends[0].held_back == 0
    assert open_transactions(topic, ends) == []


def test_a_broker_that_is_not_there_is_no_reason(topic: Settings) -> None:
    assert in_the_way(replace(topic, kafka_bootstrap="127.0.0.1:1"), {0: 0}) is None
    assert in_the_way(replace(topic, topic="no-such-topic"), {0: 0}) is None


@pytest.fixture
def cli(database: Settings, topic: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The command line on a fresh database and topic. The speed layer stands at offset 3 of partition 0."""
    monkeypatch.setenv("BRAID_DATABASE_NAME", database.database_name)
    monkeypatch.setenv("BRAID_TOPIC", topic.topic)
    monkeypatch.setenv("BRAID_WEBHDFS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("BRAID_NIMBUS_HOST", "127.0.0.2")
    monkeypatch.setenv("SPARK_MASTER", "spark://127.0.0.2:7077")
    part = Range.of(events(1, 0, 0, 3))
    with connect(database, "speed") as speed:
        commit_range(speed, part.offsets, part.rows, Counts(3, 3, 0), NO_REJECTS, topic.topic)
    return topic


def test_status_counts_lag_behind_the_high_watermark_and_says_what_is_held_back(
    cli: Settings, transaction: Producer, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> Any:
        assert main(["status", "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    send(cli, 3)
    begin(cli, transaction)
    send(cli, 4)
    held = status()
    at = held["positions"][0]
    assert {name: at[name] for name in ("kafka", "last_stable_offset", "speed", "speed_lag", "held_back")} == {
        "kafka": 8, "last_stable_offset": 3, "speed": 3, "speed_lag": 5, "held_back": 5,
    }  # fmt: skip
    (shown,) = held["open_transactions"]
    assert (shown["partition"], shown["first_offset"], shown["held_back"]) == (0, 3, 5)
    assert datetime.fromisoformat(shown["since"]) <= datetime.now(UTC)
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"a transaction of some producer, open since \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ, holds back 5 offsets of partition 0 "
        r"from 3 on: readers wait until it ends; `make transactions` names its producer\n",
        out,
    ), out
    end_in_log(cli, transaction.commit_transaction)
    after = status()
    assert after["open_transactions"] == []
    assert (after["positions"][0]["held_back"], after["positions"][0]["speed_lag"]) == (0, 6)
    assert main(["status"]) == 0
    assert "transaction" not in capsys.readouterr().out


def test_a_wait_that_gives_up_names_the_open_transaction_or_asks_for_the_topology(
    cli: Settings, transaction: Producer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock_s = 0.0

    def sleep(_: float) -> None:
        nonlocal clock_s
        clock_s += 25

    monkeypatch.setattr("serving.progress.time", SimpleNamespace(monotonic=lambda: clock_s, sleep=sleep))
    send(cli, 3)
    begin(cli, transaction)
    send(cli, 4)
    assert main(["wait", "--partition-offsets", '{"0": 8}']) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "counted by the speed layer: a transaction of some producer, open since " in said, "while it waits"
    assert re.search(
        r"braid: for 625 s the speed layer has stood still at offset 3 of partition 0, 5 before 8; a transaction of some "
        r"producer, open since [^,]+, holds back 5 offsets of partition 0 from 3 on; all of it counts once that ends, "
        r"`make transactions` names the producer$",
        said,
    ), said
    end_in_log(cli, transaction.commit_transaction)
    assert main(["wait", "--partition-offsets", '{"0": 8}']) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith("at offset 3 of partition 0, 5 before 8; is the topology running? `make status`"), said
