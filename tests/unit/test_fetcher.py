"""What is taken from librdkafka's queue is what the consumer's own call gives: records, errors, positions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from contract import fetcher as module
from contract.fetcher import BatchFetcher, Fetcher, fetcher
from contract.records import Records
from tests.fixtures.memory import MemoryConsumer, MemoryTopic

TOPIC = "pageviews"
PARTITIONS = (0, 1, 2)
FIRST_TIME_MS = 1_779_000_000_000
SPECIAL: tuple[bytes | None, ...] = (None, b"", b"\0", b"\0" * 300, bytes(range(256)) * 400, "日本".encode())


def value(number: int) -> bytes | None:
    return SPECIAL[number // 40 % len(SPECIAL)] if number % 40 == 7 else f"value {number}".encode() * (number % 5)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """The address of librdkafka's own broker in memory, with records in three partitions."""
    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0, "linger.ms": 5})
    known = next(iter(producer.list_topics(timeout=10).brokers.values()))
    for number in range(9_000):
        place = {"partition": number * number % 3, "timestamp": FIRST_TIME_MS + number // 2}
        producer.produce(TOPIC, value(number), key=f"key {number}".encode(), **place)
        producer.poll(0)
    assert producer.flush(30) == 0
    yield f"{known.host}:{known.port}"
    # The broker ends with it.
    del producer


def connected(broker: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": "test",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )


@dataclass
class Taken:
    """All that came up to the end of each partition, and where the consumer stood then."""

    records: dict[int, Records]
    failures: list[tuple[int, int, int, str]]
    positions: list[tuple[int, int, int | None]]


def taken(consumer: Consumer, by: Fetcher, most_messages: int = 10_000, first_offset: int = 0) -> Taken:
    consumer.assign([TopicPartition(TOPIC, partition, first_offset) for partition in PARTITIONS])
    result = Taken({partition: Records() for partition in PARTITIONS}, [], [])
    while len(result.failures) < len(PARTITIONS):
        fetched = by.fetch(most_messages, 0.2)
        assert sum(len(records.offsets) for _, records in fetched.records) + len(fetched.failures) <= most_messages
        for partition, records in fetched.records:
            result.records[partition].add(records)
        for one in fetched.failures:
            text = re.sub(r"after [0-9]+ms|127\.0\.0\.1:[0-9]+", "", one.error.str())
            result.failures.append((one.partition, one.offset, one.error.code(), text))
    result.failures.sort()
    places = consumer.position([TopicPartition(TOPIC, partition) for partition in PARTITIONS])
    result.positions = [(place.partition, place.offset, place.leader_epoch) for place in places]
    return result


@pytest.mark.parametrize("most_messages", [1_999, 10_000])
@pytest.mark.parametrize("first_offset", [0, 1_234])
def test_batches_hold_the_records_and_leave_the_consumer_where_its_own_call_does(
    broker: str, most_messages: int, first_offset: int
):
    one, other = connected(broker), connected(broker)
    by = fetcher(other)
    assert type(by) is BatchFetcher
    ordinary = taken(one, Fetcher(one), most_messages, first_offset)
    batches = taken(other, by, most_messages, first_offset)
    assert batches == ordinary
    assert [code for _, _, code, _ in batches.failures] == [KafkaError._PARTITION_EOF] * 3
    if first_offset == 0:
        sent = [number for number in range(9_000) if number * number % 3 == 1]
        assert batches.records[1].values == [value(number) for number in sent]
        assert batches.records[1].kafka_times_ms == [FIRST_TIME_MS + number // 2 for number in sent]
        assert batches.records[1].offsets == list(range(len(sent)))
    for records in batches.records.values():
        assert records.size_bytes == sum(len(one or b"") for one in records.values)
    one.close()
    by.close()
    with pytest.raises(RuntimeError, match="closed"):
        by.fetch(1, 0)


def test_errors_are_those_of_the_consumers_own_call(broker: str):
    one, other = connected(broker), connected(broker)
    by = fetcher(other)
    ordinary = taken(one, Fetcher(one), first_offset=1_000_000)
    assert taken(other, by, first_offset=1_000_000) == ordinary
    assert {code for _, _, code, _ in ordinary.failures} == {KafkaError._AUTO_OFFSET_RESET}
    one.close()
    by.close()


def test_a_consumer_that_was_assigned_anew_gives_nothing_of_what_it_had_fetched_before(broker: str):
    consumer = connected(broker)
    by = fetcher(consumer)
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    while not (before := by.fetch(10, 0.2)):
        pass
    assert before.records[0][1].offsets[0] == 0
    consumer.assign([TopicPartition(TOPIC, 0, 500)])
    while not (after := by.fetch(10, 0.2)):
        pass
    assert after.records[0][1].offsets[0] == 500
    by.close()


def test_what_is_not_known_is_read_by_the_consumers_own_call(broker: str, monkeypatch: pytest.MonkeyPatch):
    stand_in: Any = MemoryConsumer(MemoryTopic({0: [(FIRST_TIME_MS, b"a")]}))
    assert type(fetcher(stand_in)) is Fetcher
    consumer = connected(broker)
    with monkeypatch.context() as patch:
        # The pointer in the object is not one to a consumer.
        patch.setattr(module, "_NAME", re.compile(rb"something else\0"))
        assert type(fetcher(consumer)) is Fetcher
    with monkeypatch.context() as patch:
        patch.setattr(module, "_library", lambda: None)
        by = fetcher(consumer)
    assert type(by) is Fetcher
    assert taken(consumer, by).records[2].offsets == list(range(len(taken(consumer, by).records[2].offsets)))
    by.close()
