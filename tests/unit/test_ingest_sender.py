"""A visitor's key goes to the partition that the Java client chooses, whatever client else sends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from confluent_kafka import KafkaError, Message, Producer

from contract.settings import Settings
from ingest.sender import Record, Sender, connect
from ingest.stop import Stop

# What Kafka's own test of org.apache.kafka.common.utils.Utils.murmur2 expects.
MURMUR2 = {
    "21": -973_932_308,
    "foobar": -790_332_482,
    "a-little-bit-long-string": -985_981_536,
    "a-little-bit-longer-string": -1_486_304_829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58_897_971,
    "abc": 479_470_107,
}


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Of a broker that librdkafka itself brings, for as long as its client lives."""
    owner = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = owner.list_topics(timeout=30).brokers.values()
    yield replace(Settings(), kafka_bootstrap=f"{broker.host}:{broker.port}")
    owner.purge()


def test_a_key_goes_where_the_java_client_sends_it(settings: Settings) -> None:
    producer = connect(settings, report_all=True)
    partitions = len(producer.list_topics(settings.topic, timeout=30).topics[settings.topic].partitions)
    assert partitions > 2
    arrived: dict[str, int | None] = {}

    def report(key: str, error: KafkaError | None, message: Message) -> None:
        assert error is None
        arrived[key] = message.partition()

    sender = Sender(settings, producer, Stop())
    records: list[Record] = [(key, b"{}") for key in MURMUR2]
    sender.send(records, reports=[partial(report, key) for key in MURMUR2])
    sender.finish()
    assert arrived == {key: (hashed & 0x7FFFFFFF) % partitions for key, hashed in MURMUR2.items()}
