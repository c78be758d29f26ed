"""What is taken from librdkafka's queue is what the consumer's own call gives, with a real Kafka's logs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from contract.fetcher import BatchFetcher, Fetcher, fetcher
from contract.settings import Settings
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import expire, next_offsets_of
from tests.fixtures.kafka_records import Taken, consumer_of, taken

PARTITIONS = (0, 1)
VALUES: tuple[bytes | None, ...] = (b"{}", None, b"", b"x" * 70_000, b"a" * 300, "é".encode() * 9)


def send(producer: Producer, topic: str, count: int) -> None:
    for number in range(count):
        value, headers = VALUES[number % len(VALUES)], [("name", b"value")] if number % 3 else None
        producer.produce(topic, value, key=b"key", headers=headers, partition=number % 2)
        producer.poll(0)
    assert producer.flush(30) == 0


def in_transaction(topic: Settings, compression: str, end: str, count: int) -> None:
    """Until its end is in the log: that is a control record, which nobody is given and no producer waits for."""
    before = next_offsets_of(topic)
    options: dict[str, Any] = {"transactional.id": f"test-{uuid.uuid4().hex[:12]}", "compression.type": compression}
    producer = Producer({"bootstrap.servers": topic.kafka_bootstrap, "log_level": 2, **options})
    producer.init_transactions(60)
    producer.begin_transaction()
    send(producer, topic.topic, count)
    getattr(producer, end)(30)
    ends = {partition: before[partition] + count // 2 + 1 for partition in PARTITIONS}
    eventually(lambda: _equal({one: next_offsets_of(topic)[one] for one in PARTITIONS}, ends), within_s=30)


def both(topic: Settings, first_offset: int = 0) -> Taken:
    """What is taken either way, which is the same."""
    found = []
    for most_messages in (7, 10_000):
        one, other = consumer_of(topic.kafka_bootstrap), consumer_of(topic.kafka_bootstrap)
        ordinary, by = Fetcher(one), fetcher(other, pytest.fail)
        assert type(by) is BatchFetcher
        found.append(taken(one, ordinary, topic.topic, PARTITIONS, most_messages, first_offset))
        found.append(taken(other, by, topic.topic, PARTITIONS, most_messages, first_offset))
        ordinary.close()
        by.close()
    assert found[1:] == found[:1] * 3
    return found[0]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_of_transactions_and_the_gaps_between_them_are_the_same(topic: Settings, compression: str):
    plain = Producer({"bootstrap.servers": topic.kafka_bootstrap, "log_level": 2, "compression.type": compression})
    send(plain, topic.topic, 60)
    in_transaction(topic, compression, "commit_transaction", 30)
    in_transaction(topic, compression, "abort_transaction", 24)
    send(plain, topic.topic, 12)
    in_transaction(topic, compression, "commit_transaction", 6)
    found = both(topic)
    # Each of the three transactions has its end in the log.
    assert [(partition, offset) for partition, offset, *_ in found.positions] == [(one, 66 + 3) for one in PARTITIONS]
    offsets = [*range(45), *range(46 + 12 + 1, 46 + 12 + 1 + 6), *range(65, 68)]
    for partition in PARTITIONS:
        assert [offset for offset, _, _ in found.records[partition]] == offsets
        assert [value for _, _, value in found.records[partition]][:30] == [*VALUES[partition::2]] * 10
    assert [code for _, _, code, *_ in found.failures] == [KafkaError._PARTITION_EOF] * 2
    assert [len(rows) for rows in both(topic, 50).records.values()] == [9, 9]


def test_a_log_that_begins_later_is_the_same_error(topic: Settings):
    plain = Producer({"bootstrap.servers": topic.kafka_bootstrap, "log_level": 2})
    send(plain, topic.topic, 20)
    expire(topic, {0: 5, 1: 5})
    found = both(topic)
    assert [code for _, _, code, *_ in found.failures] == [KafkaError._AUTO_OFFSET_RESET] * 2
    assert not any(found.records.values())
    assert [len(rows) for rows in both(topic, 5).records.values()] == [5, 5]


def _equal(found: object, expected: object) -> None:
    assert found == expected
