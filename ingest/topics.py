"""The topic as all parts expect it: made once, checked at every later start, and given more partitions on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from contract.errors import EngineUnavailable, TopicUnusable
from contract.log_position import Topic
from contract.settings import Settings

_ANSWER_S = 30
_LOOK_S = 0.05
_LOOKS_EVERY_MS = 10 * 60_000
"""The broker looks every five minutes what is too old, and deletes it a minute later."""
_TIMESTAMP_TYPE = "message.timestamp.type"
_CONFIG = {
    # decode() refuses events more than a day ahead of the record's time, so that time must be the broker's own.
    _TIMESTAMP_TYPE: "LogAppendTime",
    "retention.ms": str(7 * 86_400_000),
    "max.message.bytes": str(1 << 20),
    "compression.type": "producer",
}


def ensure_topic(settings: Settings) -> bool:
    """Whether the topic had to be created; TopicUnusable if one exists whose records' times nobody can check.

    One that exists has the partitions that it has: the setting is for a new one.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    try:
        return _create(admin, settings) or _check(admin, settings)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error


def add_partitions(settings: Settings, count: int) -> int:
    """The topic has `count` partitions from now on, in all; returns how many it had. Raises TopicUnusable if those are more.

    Those that it has keep their records. A key may go to another partition from now on.
    """
    had = len(topic_of(settings)().partitions)
    if count < had:
        raise TopicUnusable.fewer(settings.topic, had, count)
    if count > had:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
        wanted = [NewPartitions(settings.topic, count)]
        try:
            admin.create_partitions(wanted, request_timeout=_ANSWER_S)[settings.topic].result(_ANSWER_S)
            _wait_until_known(admin, settings, count)
        except KafkaException as error:
            raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    return had


def topic_of(settings: Settings) -> Callable[[], Topic]:
    """Asks which topic there is now. Raises EngineUnavailable, TopicUnusable."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})

    def ask() -> Topic:
        try:
            asked = admin.describe_topics(TopicCollection([settings.topic]), request_timeout=_ANSWER_S)
            return Topic.of(asked[settings.topic].result(_ANSWER_S))
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicUnusable.missing(settings.topic, settings.kafka_bootstrap) from None
            raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
        except TimeoutError as error:
            raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, "no answer in time") from error

    return ask


def next_offsets(settings: Settings) -> dict[str, int]:
    """Where each partition that is not empty ends now: a reader that stands there has read all of it."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    try:
        partitions = sorted(admin.list_topics(settings.topic, timeout=_ANSWER_S).topics[settings.topic].partitions)
        ends = _ends(admin, settings.topic, partitions)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    return {str(partition): end for partition, end in ends.items() if end}


def _ends(admin: AdminClient, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
    answers = admin.list_offsets(asked, request_timeout=_ANSWER_S)
    return {place.partition: answer.result().offset for place, answer in answers.items()}


def kept_until_ms(settings: Settings, kafka_time_ms: int) -> int | None:
    """Until when, at the latest, Kafka has a record that came then; None: for ever.

    A segment goes as a whole, when its last record is as old as retention.ms, and takes records for as long as segment.ms.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    resource = ConfigResource(ResourceType.TOPIC, settings.topic)
    try:
        config = admin.describe_configs([resource], request_timeout=_ANSWER_S)[resource].result(_ANSWER_S)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    retention_ms, segment_ms = (int(config[name].value) for name in ("retention.ms", "segment.ms"))
    return None if retention_ms < 0 else kafka_time_ms + segment_ms + retention_ms + _LOOKS_EVERY_MS


def _create(admin: AdminClient, settings: Settings) -> bool:
    topic = NewTopic(settings.topic, settings.topic_partitions, config=_CONFIG)
    try:
        admin.create_topics([topic], request_timeout=_ANSWER_S)[settings.topic].result(_ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    _wait_until_known(admin, settings, settings.topic_partitions)
    return True


def _wait_until_known(admin: AdminClient, settings: Settings, partitions: int) -> None:
    """The controller has them; a broker hears of it a moment later, and until then tells clients that there are none."""
    deadline = time.monotonic() + _ANSWER_S
    while True:
        found = admin.list_topics(settings.topic, timeout=_ANSWER_S).topics[settings.topic]
        led = [partition for partition in found.partitions.values() if partition.leader >= 0]
        if found.error is None and len(led) >= partitions and _is_led(admin, settings.topic, found.partitions):
            return
        if time.monotonic() > deadline:
            raise EngineUnavailable.at(
                "Kafka",
                settings.kafka_bootstrap,
                f"{partitions} partitions of topic {settings.topic} were created and are not there after {_ANSWER_S} s",
            )
        time.sleep(_LOOK_S)


def _is_led(admin: AdminClient, topic: str, partitions: Iterable[int]) -> bool:
    """Whether the leader of each partition knows that it leads: metadata names it a moment before."""
    try:
        _ends(admin, topic, partitions)
    except KafkaException:
        return False
    return True


def _check(admin: AdminClient, settings: Settings) -> bool:
    resource = ConfigResource(ResourceType.TOPIC, settings.topic)
    config = admin.describe_configs([resource], request_timeout=_ANSWER_S)[resource].result(_ANSWER_S)
    timestamp_type = config[_TIMESTAMP_TYPE].value
    if timestamp_type != _CONFIG[_TIMESTAMP_TYPE]:
        raise TopicUnusable.timestamps(settings.topic, timestamp_type)
    return False
