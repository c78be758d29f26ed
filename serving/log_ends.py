"""Where Kafka's log of each partition begins and ends, and what an open transaction holds back from its readers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from contract.errors import BraidError, EngineUnavailable, TopicUnusable
from contract.settings import Settings

_ANSWER_S = 4.0
_PARTITIONS_EVERY_S = 30.0
_FIRST, _LAST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class LogEnds:
    """The first offset that Kafka still has of a partition; below `high_watermark` all are there, and readers are given
    those below `last_stable_offset`: there the earliest transaction begins that is still open."""

    first_offset: int
    last_stable_offset: int
    high_watermark: int

    @property
    def held_back(self) -> int:
        """How many offsets are there and kept from readers."""
        return max(0, self.high_watermark - self.last_stable_offset)


@dataclass(frozen=True)
class OpenTransaction:
    """The earliest transaction of a partition that has neither been committed nor aborted; `since` is when its first
    record came, None if Kafka did not show it. Which producer it is of no call of this client tells."""

    partition: int
    first_offset: int
    held_back: int
    since: datetime | None

    def text(self) -> str:
        """For people."""
        age = f" since {self.since:%Y-%m-%d %H:%M:%S}Z" if self.since else ""
        return (
            f"a transaction of some producer, open{age}, holds back {self.held_back:,} offsets of "
            f"partition {self.partition} from {self.first_offset} on"
        )


def log_ends(settings: Settings) -> dict[int, LogEnds]:
    """Of each partition of the topic, within seconds. Raises EngineUnavailable, TopicUnusable."""
    try:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
        places = _partitions(admin, settings)
        first = _offsets(admin, places, _FIRST, IsolationLevel.READ_UNCOMMITTED)
        # In this order: where no transaction is open, the later answer is the greater one, and nothing seems held back.
        # guard: the high watermark is asked first
        high = _offsets(admin, places, _LAST, IsolationLevel.READ_UNCOMMITTED)
        stable = _offsets(admin, places, _LAST, IsolationLevel.READ_COMMITTED)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    return {partition: LogEnds(first[partition], stable[partition], high[partition]) for partition in sorted(high)}


class HighWatermarks:
    """Asks again and again on one connection, for who wants to know often: a new client costs many times the question."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # A broker that is back is found within a second.
        self._admin = AdminClient(
            {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 1_000}
        )
        self._places: list[TopicPartition] = []
        self._asked_s = float("-inf")

    def ask(self) -> dict[int, int]:
        """Of each partition, within seconds. Raises EngineUnavailable, TopicUnusable."""
        try:
            if time.monotonic() - self._asked_s > _PARTITIONS_EVERY_S:
                self._places, self._asked_s = _partitions(self._admin, self._settings), time.monotonic()
            return _offsets(self._admin, self._places, _LAST, IsolationLevel.READ_UNCOMMITTED)
        except KafkaException as error:
            self._asked_s = float("-inf")
            raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, error.args[0].str()) from error


def _partitions(admin: AdminClient, settings: Settings) -> list[TopicPartition]:
    topic = admin.list_topics(settings.topic, timeout=_ANSWER_S).topics[settings.topic]
    if topic.error:
        raise TopicUnusable.missing(settings.topic, settings.kafka_bootstrap)
    return [TopicPartition(settings.topic, partition) for partition in topic.partitions]


def open_transactions(settings: Settings, ends: Mapping[int, LogEnds]) -> list[OpenTransaction]:
    """The earliest one of each partition that has any. Raises EngineUnavailable."""
    return [
        OpenTransaction(
            partition, end.last_stable_offset, end.held_back, came_at(settings, partition, end.last_stable_offset)
        )
        for partition, end in ends.items()
        if end.held_back
    ]


def in_the_way(settings: Settings, waiting_at: Mapping[int, int]) -> OpenTransaction | None:
    """The open transaction that a reader waits for who stands at these offsets, by partition, and wants more of each.

    None if one of them waits for something else: it is not given all that Kafka would give. None too if Kafka does not say.
    """
    try:
        ends = log_ends(settings)
        if not waiting_at or any(p not in ends or offset < ends[p].last_stable_offset for p, offset in waiting_at.items()):
            return None
        return next(iter(open_transactions(settings, {partition: ends[partition] for partition in waiting_at})), None)
    except BraidError:
        return None


def _offsets(
    admin: AdminClient, places: list[TopicPartition], which: OffsetSpec, isolation: IsolationLevel
) -> dict[int, int]:
    answers = admin.list_offsets(dict.fromkeys(places, which), isolation_level=isolation, request_timeout=_ANSWER_S)
    return {place.partition: int(answer.result().offset) for place, answer in answers.items()}


def came_at(settings: Settings, partition: int, offset: int) -> datetime | None:
    """When the first record from an offset on came, committed or not."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": "braid-status",  # asked for by the client, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_uncommitted",
            "fetch.message.max.bytes": 1,  # a fetch brings one batch of records at least
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(settings.topic, partition, offset)])
        message = consumer.poll(_ANSWER_S)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    finally:
        consumer.close()
    if message is None or message.error() is not None:
        return None
    return datetime.fromtimestamp(message.timestamp()[1] // 1_000, UTC)
