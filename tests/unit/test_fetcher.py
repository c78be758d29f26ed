"""What is taken from librdkafka's queue is what the consumer's own call gives: records, errors, positions."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from contract import fetcher as module
from contract import records as limits
from contract.fetcher import BatchFetcher, Fetcher, fetcher
from contract.records import Records
from tests.fixtures.kafka_records import Taken, consumer_of, rows_of, taken
from tests.fixtures.memory import MemoryConsumer, MemoryTopic

TOPIC = "pageviews"
PARTITIONS = (0, 1, 2)
FIRST_TIME_MS = 1_779_000_000_000
SPECIAL: tuple[bytes | None, ...] = (None, b"", b"\0", b"\0" * 300, bytes(range(256)) * 400, "日本".encode())


def value(number: int) -> bytes | None:
    return SPECIAL[number // 40 % len(SPECIAL)] if number % 40 == 7 else f"value {number}".encode() * (number % 5)


def partition_of(number: int) -> int:
    """Of unlike sizes: 0 has a seventh of all, 1 has four."""
    return number * number % 7 % 3


def mock_of(producer: Producer) -> tuple[ctypes.CDLL, int]:
    """The functions of librdkafka's broker in memory, and the one that this producer has."""
    library = module._library()
    library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
    library.rd_kafka_handle_mock_cluster.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_partition_set_leader.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32]
    handle = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__).value
    return library, library.rd_kafka_handle_mock_cluster(handle)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """The address of librdkafka's own broker in memory, with records in three partitions."""
    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0, "linger.ms": 5})
    known = next(iter(producer.list_topics(timeout=10).brokers.values()))
    mock, cluster = mock_of(producer)
    for number in range(9_000):
        if number == 6_000:
            # What follows is of later leader epochs in one partition.
            assert producer.flush(30) == 0
            for leader in (-1, known.id):
                assert mock.rd_kafka_mock_partition_set_leader(cluster, TOPIC.encode(), 1, leader) == 0
        place = {"partition": partition_of(number), "timestamp": FIRST_TIME_MS + number // 2}
        producer.produce(TOPIC, value(number), key=f"key {number}".encode(), **place)
        producer.poll(0)
    assert producer.flush(30) == 0
    yield f"{known.host}:{known.port}"
    # The broker ends with it.
    del producer


def taken_by(consumer: Consumer, by: Fetcher, most_messages: int = 10_000, first_offset: int = 0) -> Taken:
    return taken(consumer, by, TOPIC, PARTITIONS, most_messages, first_offset)


@pytest.mark.parametrize("most_messages", [333, 10_000])
@pytest.mark.parametrize("first_offset", [0, 1_234])
@pytest.mark.parametrize("piece_bytes", [2_000, module.PIECE_BYTES])
def test_batches_hold_the_records_and_leave_the_consumer_where_its_own_call_does(
    broker: str, most_messages: int, first_offset: int, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(limits, "PIECE_BYTES", piece_bytes)
    one, other = consumer_of(broker), consumer_of(broker)
    by = fetcher(other, pytest.fail)
    assert type(by) is BatchFetcher
    ordinary = taken_by(one, Fetcher(one), most_messages, first_offset)
    batches = taken_by(other, by, most_messages, first_offset)
    assert batches == ordinary
    assert [epoch for _, _, epoch in batches.positions] == [0, 2, 0]
    assert [code for _, _, code, *_ in batches.failures] == [KafkaError._PARTITION_EOF] * 3
    if first_offset == 0:
        sent = [number for number in range(9_000) if partition_of(number) == 1]
        assert batches.records[1] == [(at, FIRST_TIME_MS + number // 2, value(number)) for at, number in enumerate(sent)]
    one.close()
    by.close()
    with pytest.raises(RuntimeError, match="closed"):
        by.fetch(0)


def test_large_values_are_taken_few_at_once(broker: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 2_000)
    monkeypatch.setattr(Fetcher, "MOST_MESSAGES", 50)
    consumer = consumer_of(broker)
    by = fetcher(consumer, pytest.fail)
    consumer.assign([TopicPartition(TOPIC, 1, 0)])
    counts: list[int] = []
    while not (fetched := by.fetch(0.2)).failures:
        sizes = [len(value or b"") for _, piece in fetched.records for _, _, value in rows_of(Records([piece]))]
        assert sum(sizes[:-50]) < 2_000
        counts.append(len(sizes))
    assert max(counts) > 50
    by.close()


def test_a_client_whose_messages_could_not_be_taken_can_be_closed(broker: str, monkeypatch: pytest.MonkeyPatch):
    consumer = consumer_of(broker)
    by = fetcher(consumer, pytest.fail)
    consumer.assign([TopicPartition(TOPIC, 1, 0)])

    def none_left(*_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(by, "_piece", none_left)

    def fetch_all() -> None:
        while by.fetch(0.2) is not None:
            pass

    with pytest.raises(MemoryError):
        fetch_all()
    closing = Thread(target=by.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()


def test_errors_are_those_of_the_consumers_own_call(broker: str):
    one, other = consumer_of(broker), consumer_of(broker)
    by = fetcher(other, pytest.fail)
    ordinary = taken_by(one, Fetcher(one), first_offset=1_000_000)
    assert taken_by(other, by, first_offset=1_000_000) == ordinary
    assert {found for _, _, found, *_ in ordinary.failures} == {KafkaError._AUTO_OFFSET_RESET}
    assert not any(ordinary.records.values())
    one.close()
    by.close()


def test_a_consumer_that_was_assigned_anew_gives_nothing_of_what_it_had_fetched_before(broker: str):
    consumer = consumer_of(broker)
    by = fetcher(consumer, pytest.fail)
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    while not (before := by.fetch(0.2, 10)):
        pass
    assert before.records[0][1].offsets[0] == 0
    consumer.assign([TopicPartition(TOPIC, 0, 500)])
    while not (after := by.fetch(0.2, 10)):
        pass
    assert after.records[0][1].offsets[0] == 500
    by.close()


class Lacking(ctypes.CDLL):
    """A library without the call."""

    def __getattr__(self, name: str) -> Any:
        if name == "rd_kafka_consume_batch_queue":
            raise AttributeError(f"undefined symbol: {name}")
        return super().__getattr__(name)


def test_what_is_not_known_is_read_by_the_consumers_own_call_and_told_once(broker: str, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(module, "_said", set())
    stand_in: Any = MemoryConsumer(MemoryTopic({0: [(FIRST_TIME_MS, b"a")]}))
    assert type(fetcher(stand_in, pytest.fail)) is Fetcher
    consumer = consumer_of(broker)
    with monkeypatch.context() as patch:
        # The pointer in the object is not one to a consumer.
        patch.setattr(module, "_NAME", re.compile(rb"something else\0"))
        assert [type(fetcher(consumer, said.append)) for _ in range(2)] == [Fetcher] * 2
        (text,) = said
        assert text == (
            "Kafka's records are taken one by one, which takes longer and gives the same: "
            "the object of confluent-kafka's consumer has no handle of librdkafka where it was"
        )
    with monkeypatch.context() as patch:
        # An older library: it has all but one of the functions.
        patch.setattr(module.ctypes, "CDLL", Lacking)
        module._library.cache_clear()
        by = fetcher(consumer, said.append)
        module._library.cache_clear()
    assert said[1:] == [text.partition(": ")[0] + ": undefined symbol: rd_kafka_consume_batch_queue"]
    assert type(by) is Fetcher
    assert [one for _, _, one in taken_by(consumer, by).records[1][:3]] == [value(number) for number in (1, 2, 5)]
    by.close()
