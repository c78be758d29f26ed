"""Readers go on in another log: one that follows the log which they read, and of which something is gone.

Offsets go on above all that was ever read, so none means two records: what the new log has is numbered from there, and what
both logs have is not read again. Where the speed layer was ahead of the archive, what it alone had read is lost to the
master dataset; the next run takes it out of the views, and the ledger says which offsets these were.
"""

from __future__ import annotations

from dataclasses import dataclass

import requests
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from hdfs import HdfsError

from contract.errors import EngineUnavailable, PositionLost
from contract.log_position import LogPosition, Topic
from contract.resumption import ResumedPartition, Resumption, Unarchived
from contract.settings import Settings
from serving.archive_ends import archive_extents
from serving.database import answering, connect
from serving.log_check import lost_positions, topic_of

_ANSWER_S = 10.0
_NOWHERE = LogPosition(0)


def plan_resumption(settings: Settings) -> Resumption:
    """How to go on where a position is none of the log that Kafka has. Changes nothing; valid while no archiver runs."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    topic = topic_of(admin, settings)
    with connect(settings, "reader") as connection, answering(connection):
        rows = connection.execute("SELECT * FROM log_positions").fetchall()
    speed = {partition: LogPosition(*at) for partition, *at in rows}
    try:
        _, extents = archive_extents(settings, _ANSWER_S)
    except (HdfsError, requests.RequestException) as error:
        raise EngineUnavailable.at("HDFS", settings.webhdfs_url, error) from error
    archive = {partition: extent.end for partition, extent in extents.items()}
    lost_archive = lost_positions(settings, admin, "the archiver", archive)
    lost_speed = lost_positions(settings, admin, "the speed layer", speed)
    parts = [
        resumed(
            partition,
            topic,
            # One that the topic does not have may be added to it, and begins at its first offset then.
            _low_offset(settings, partition) if partition in topic.partitions else 0,
            Standing(archive.get(partition, _NOWHERE), lost_archive.get(partition)),
            Standing(speed.get(partition, _NOWHERE), lost_speed.get(partition)),
        )
        for partition in sorted({*lost_archive, *lost_speed})
    ]
    return Resumption(
        tuple(part for part in parts if isinstance(part, ResumedPartition)),
        tuple(part for part in parts if isinstance(part, Unarchived)),
        tuple(part for part in parts if isinstance(part, int)),
    )


@dataclass(frozen=True)
class Standing:
    """Where a reader stands in a partition, and why it cannot go on there, None if it can."""

    at: LogPosition
    lost: PositionLost | None = None


def resumed(
    partition: int, topic: Topic, low_offset: int, archive: Standing, speed: Standing
) -> ResumedPartition | Unarchived | int:
    """How the readers of a partition go on, of which one cannot. Kafka's own first offset is low_offset.

    The partition's number alone where the archive goes on in the new log already.
    """
    archived, counted = archive.at, speed.at
    reason = archive.lost or speed.lost
    assert reason is not None
    if archive.lost is None:
        if archived.shift > counted.shift and archived.next_offset > counted.next_offset:
            return partition
        if missing := _unarchived(partition, topic, low_offset, archived, speed):
            return missing
        # All that the log has up to there is archived, so the archive says how to go on. Numbers change even where it is
        # ahead: that tells the speed layer to forget what is lost.
        log_offset, leader_epoch = archived.log_offset, archived.leader_epoch
    else:
        # What both logs have is archived. If nobody knows how much that is, all is read, and repeats count once.
        cut = archive.lost.cut_offset if archived.topic_id == topic.topic_id else None
        log_offset, leader_epoch = (low_offset, None) if cut is None or cut < low_offset else (cut, archived.leader_epoch)
    lost_offset = _lost_offset(topic, low_offset, archive, speed)
    return ResumedPartition(
        partition,
        archived.next_offset,
        # guard: a log that follows is numbered above all that was read
        max(archived.next_offset, counted.next_offset) + 1,
        topic.topic_id,
        leader_epoch,
        log_offset,
        lost_offset,
        max(lost_offset, counted.next_offset),
        str(reason).partition(";")[0],
    )


def _unarchived(partition: int, topic: Topic, low_offset: int, archived: LogPosition, speed: Standing) -> Unarchived | None:
    """What Kafka has kept of the old log, if the archive of the same one has not come so far."""
    kept = speed.lost.cut_offset if speed.lost else None
    if kept is None or speed.at.topic_id != topic.topic_id:
        return None
    # guard: what Kafka kept gets no new number
    is_behind = max(archived.log_offset, low_offset) < kept
    return Unarchived(partition, archived.next_offset, kept + archived.shift) if is_behind else None


def _lost_offset(topic: Topic, low_offset: int, archive: Standing, speed: Standing) -> int:
    """From where on neither the archive nor the log has what the speed layer has read, if that is so anywhere."""
    counted = speed.at
    # guard: what a reader that can go on has read is not lost
    if speed.lost is None and counted.topic_id is not None:
        return counted.next_offset
    if archive.lost is not None:
        return archive.at.next_offset
    if counted.topic_id not in (None, topic.topic_id):
        # An archive that is of this topic all the same had begun with no other.
        return archive.at.next_offset if archive.at.topic_id is None else 0
    kept = low_offset if speed.lost is None or speed.lost.cut_offset is None else speed.lost.cut_offset
    return min(kept + counted.shift, counted.next_offset)


def _low_offset(settings: Settings, partition: int) -> int:
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": "braid-position", "log_level": 2})
    try:
        low, _ = consumer.get_watermark_offsets(TopicPartition(settings.topic, partition), timeout=_ANSWER_S)
        return int(low)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    finally:
        consumer.close()
