"""The topic as all parts expect it: made once, checked at every later start."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from contract.errors import EngineUnavailable, TopicUnusable
from contract.settings import Settings

_ANSWER_S = 30
_LOOK_S = 0.05
_TIMESTAMP_TYPE = "message.timestamp.type"
_CONFIG = {
    # decode() refuses events more than a day ahead of the record's time, so that time must be the broker's own.
    _TIMESTAMP_TYPE: "LogAppendTime",
    "retention.ms": str(7 * 86_400_000),
    "max.message.bytes": str(1 << 20),
    "compression.type": "producer",
}


def ensure_topic(settings: Settings) -> bool:
    """Whether the topic had to be created; TopicUnusable if it exists otherwise than the settings say."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    try:
        return _create(admin, settings) or _check(admin, settings)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error


def topic_id_of(settings: Settings) -> Callable[[], str]:
    """Asks for the id of the topic: one that is made again has another. Raises EngineUnavailable, TopicUnusable."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})

    def ask() -> str:
        try:
            asked = admin.describe_topics(TopicCollection([settings.topic]), request_timeout=_ANSWER_S)
            return str(asked[settings.topic].result(_ANSWER_S).topic_id)
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
        asked = {TopicPartition(settings.topic, partition): OffsetSpec.latest() for partition in partitions}
        answers = admin.list_offsets(asked, request_timeout=_ANSWER_S)
        ends = {str(place.partition): answer.result().offset for place, answer in answers.items()}
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    return {partition: end for partition, end in ends.items() if end}


def _create(admin: AdminClient, settings: Settings) -> bool:
    topic = NewTopic(settings.topic, settings.topic_partitions, config=_CONFIG)
    try:
        admin.create_topics([topic], request_timeout=_ANSWER_S)[settings.topic].result(_ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    _wait_until_known(admin, settings)
    return True


def _wait_until_known(admin: AdminClient, settings: Settings) -> None:
    """The controller has the topic; a broker hears of it a moment later, and until then tells clients that there is none."""
    deadline = time.monotonic() + _ANSWER_S
    while True:
        found = admin.list_topics(settings.topic, timeout=_ANSWER_S).topics[settings.topic]
        led = [partition for partition in found.partitions.values() if partition.leader >= 0]
        if found.error is None and len(led) == settings.topic_partitions:
            return
        if time.monotonic() > deadline:
            raise EngineUnavailable.at(
                "Kafka", settings.kafka_bootstrap, f"topic {settings.topic} was created and is not there after {_ANSWER_S} s"
            )
        time.sleep(_LOOK_S)


def _check(admin: AdminClient, settings: Settings) -> bool:
    found = len(admin.list_topics(settings.topic, timeout=_ANSWER_S).topics[settings.topic].partitions)
    if found != settings.topic_partitions:
        raise TopicUnusable.partitions(settings.topic, found, settings.topic_partitions)
    resource = ConfigResource(ResourceType.TOPIC, settings.topic)
    config = admin.describe_configs([resource], request_timeout=_ANSWER_S)[resource].result(_ANSWER_S)
    timestamp_type = config[_TIMESTAMP_TYPE].value
    if timestamp_type != _CONFIG[_TIMESTAMP_TYPE]:
        raise TopicUnusable.timestamps(settings.topic, timestamp_type)
    return False
