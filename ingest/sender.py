"""Records into the topic, each exactly once: idempotent producer, acknowledged by all in-sync replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.errors import DeliveryFailed, EngineUnavailable, TopicUnusable
from contract.settings import Settings
from ingest.stop import Stop

_ANSWER_S = 10
_BY_KEY = -1  # the partitioner chooses

Record = tuple[str | None, bytes]
"""Key and value."""
Report = Callable[[KafkaError | None, Message], None]
"""Is told what became of a record."""


def configuration(settings: Settings) -> dict[str, Any]:
    """What all our producers have in common."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 20,
        # The partitioner of Java's clients, so that a visitor keeps its partition whichever client sends.
        "partitioner": "murmur2_random",
        "message.timeout.ms": 120_000,
        "log_level": 2,
    }


def connect(settings: Settings, report_all: bool = False) -> Producer:
    """A producer whose broker answers and has the topic; else EngineUnavailable or TopicUnusable, within seconds.

    With `report_all` it also reports records that arrived, for whoever must know where.
    """
    # A report of each record that arrived takes as long as sending it.
    producer = Producer(configuration(settings) | {"delivery.report.only.error": not report_all})
    try:
        topic = producer.list_topics(settings.topic, timeout=_ANSWER_S).topics[settings.topic]
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    if topic.error is not None:
        raise TopicUnusable.missing(settings.topic, settings.kafka_bootstrap)
    return producer


class Sender:
    """Sends to one topic.

    Its methods raise DeliveryFailed once Kafka did not take a record, and KeyboardInterrupt after Ctrl-C.
    """

    def __init__(self, settings: Settings, producer: Producer, stop: Stop) -> None:
        self.sent = 0
        self._producer, self._topic, self._bootstrap = producer, settings.topic, settings.kafka_bootstrap
        self._stop, self._failed = stop, 0
        self._first_error: KafkaError | None = None

    def send(
        self, records: Iterable[Record], partitions: Iterable[int] | None = None, reports: Iterable[Report] | None = None
    ) -> None:
        """Queue records; waits while the queue is full. Without `partitions` each one's key says where it goes.

        `reports`, if there are any, call on_failure of the failures they are told.
        """
        produce, topic = self._producer.produce, self._topic
        places, callbacks = partitions or repeat(_BY_KEY), reports or repeat(self.on_failure)
        for (key, value), partition, callback in zip(records, places, callbacks, strict=False):
            while True:
                try:
                    # Arguments by position, because with names the call takes twice as long.
                    produce(topic, value, key, partition, callback)
                    break
                except BufferError:
                    self._producer.poll(0.1)
                    self._check()
                except KafkaException as error:
                    self._failed, self._first_error = self._failed + 1, error.args[0]
                    self._check()
            self.sent += 1

    def poll(self) -> None:
        """Take the delivery reports that are there."""
        self._producer.poll(0)
        self._check()

    @property
    def delivered(self) -> int:
        """How many records Kafka has acknowledged."""
        return self.sent - self._failed - len(self._producer)

    def finish(self) -> None:
        """Wait until every record is delivered."""
        while self._producer.flush(0.2):  # short waits, so that Ctrl-C is heard
            self._check()
        self._check()

    def abandon(self) -> None:
        """Drop what is still queued, after a second for what is under way; `delivered` then says how far it came."""
        self._producer.flush(1)
        self._producer.purge()
        self._producer.flush(1)

    def on_failure(self, error: KafkaError | None, message: Message) -> None:
        """A record was not taken; the next call says so."""
        self._failed += 1
        self._first_error = self._first_error or error

    def _check(self) -> None:
        self._stop.raise_if_interrupted()
        if self._first_error is not None:
            raise DeliveryFailed.of(self._bootstrap, self._failed, self.delivered, self._first_error.str())
