"""Whether Kafka still has the log that positions were taken in: asked before a reader goes on, and to show the state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from contract.errors import EngineUnavailable, PositionLost, TopicUnusable
from contract.log_position import TRUNCATED, LogPosition, Topic, cut_offset
from contract.settings import Settings

_ANSWER_S = 5.0
_PATIENCE_S = 10.0
_CONSUME_S = 0.1


def topic_of(admin: AdminClient, settings: Settings) -> Topic:
    """The topic that there is now. Raises EngineUnavailable, TopicUnusable."""
    return answered_topic(ask_topic(admin, settings), settings)


def ask_topic(admin: AdminClient, settings: Settings) -> Future[Any]:
    """The question alone, for `answered_topic`."""
    asked: Mapping[str, Future[Any]] = admin.describe_topics(TopicCollection([settings.topic]), request_timeout=_ANSWER_S)
    return asked[settings.topic]


def answered_topic(asked: Future[Any], settings: Settings) -> Topic:
    """The answer; raises as `topic_of` does."""
    try:
        return Topic.of(asked.result(_ANSWER_S))
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicUnusable.missing(settings.topic, settings.kafka_bootstrap) from None
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    except TimeoutError as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, "no answer in time") from error


def require_positions(settings: Settings, admin: AdminClient, reader: str, positions: Mapping[int, LogPosition]) -> None:
    """PositionLost, of the first partition, if one of the positions is none of the log that Kafka has.

    What retention deleted is no matter of this. Raises EngineUnavailable and TopicUnusable too.
    """
    for error in lost_positions(settings, admin, reader, positions).values():
        raise error


def require_topic(settings: Settings, admin: AdminClient, reader: str, topic_id: str | None) -> Topic:
    """The topic that there is; PositionLost if it has another id. Raises EngineUnavailable and TopicUnusable too."""
    found = topic_of(admin, settings)
    if topic_id not in (None, found.topic_id):
        raise PositionLost.topic(reader, settings.topic, str(topic_id), found.topic_id)
    return found


def lost_positions(
    settings: Settings, admin: AdminClient, reader: str, positions: Mapping[int, LogPosition]
) -> dict[int, PositionLost]:
    """Those positions, by partition, that are none of the log that Kafka has, each with what is wrong with it."""
    found = topic_of(admin, settings)
    lost: dict[int, PositionLost] = {}
    read = {partition: at for partition, at in positions.items() if at.next_offset > 0}
    for partition, at in read.items():
        # guard: the speed layer goes on in its own topic
        if at.topic_id not in (None, found.topic_id):
            lost[partition] = PositionLost.topic(reader, settings.topic, str(at.topic_id), found.topic_id)
        # Of a log that follows another nothing may have been read yet, and then it need not have the partition.
        # guard: no partition is taken away
        elif partition not in found.partitions and at.log_offset > 0:
            lost[partition] = PositionLost.partition(
                reader, settings.topic, partition, at.next_offset, len(found.partitions)
            )
    held = {partition: at for partition, at in read.items() if partition in found.partitions and partition not in lost}
    return lost | (_cut_below(settings, reader, held) if held else {})


def places_in_log(
    settings: Settings, admin: AdminClient, reader: str, positions: Mapping[int, LogPosition]
) -> dict[int, int]:
    """Up to which of its own offsets Kafka's log has what was read up to these positions; 0 where nobody can tell."""
    topic_id = topic_of(admin, settings).topic_id
    lost = lost_positions(settings, admin, reader, positions)
    places: dict[int, int] = {}
    for partition, at in positions.items():
        place = lost[partition].cut_offset if partition in lost else at.log_offset
        places[partition] = (place or 0) if at.topic_id == topic_id else 0
    return places


def _cut_below(settings: Settings, reader: str, positions: Mapping[int, LogPosition]) -> dict[int, PositionLost]:
    """What the broker says when a client goes on from these positions."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": "braid-position",  # asked for by the client, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            # One record, or the end, is enough.
            "fetch.message.max.bytes": 1_024,
            "fetch.wait.max.ms": 10,
            "queued.max.messages.kbytes": 1_024,
            "log_level": 2,
        }
    )
    try:
        consumer.assign([at.place(settings.topic, partition) for partition, at in positions.items()])
        waiting, lost = set(positions), {}
        deadline = time.monotonic() + _PATIENCE_S
        while waiting:
            for message in consumer.consume(100, _CONSUME_S):
                error, partition = message.error(), message.partition()
                if partition not in waiting or (error and error.code() not in (_END, KafkaError._AUTO_OFFSET_RESET)):
                    continue
                waiting.remove(partition)
                if error and error.code() == KafkaError._AUTO_OFFSET_RESET:
                    at, (_, high) = positions[partition], _watermarks(consumer, settings, partition)
                    if at.log_offset > high:
                        lost[partition] = PositionLost.shorter(reader, settings.topic, partition, at.log_offset, high)
                    elif TRUNCATED in error.str():
                        lost[partition] = PositionLost.cut(reader, settings.topic, partition, at.log_offset, error.str())
                    if partition in lost and TRUNCATED in error.str():
                        lost[partition].cut_offset = cut_offset(error.str())
            if waiting and time.monotonic() > deadline:
                cause = f"partition {min(waiting)}: neither a record nor the end after {_PATIENCE_S:.0f} s"
                raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, cause)
        return lost
    finally:
        consumer.close()


def _watermarks(consumer: Consumer, settings: Settings, partition: int) -> tuple[int, int]:
    try:
        return consumer.get_watermark_offsets(TopicPartition(settings.topic, partition), timeout=_ANSWER_S)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error


_END = KafkaError._PARTITION_EOF
