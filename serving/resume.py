"""Readers go on in another log: one that follows the log which they read, and of which something is gone.

Offsets go on above all that was ever read, so none means two records: what the new log has is numbered from there, and what
both logs have is not read again. Where the speed layer was ahead of the archive, what it alone had read is lost to the
master dataset; the next run takes it out of the views, and the ledger says which offsets these were.
"""

from __future__ import annotations

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
    nowhere = LogPosition(0)
    resumed: list[ResumedPartition] = []
    unarchived: list[Unarchived] = []
    archived: list[int] = []
    for partition in sorted({*lost_archive, *lost_speed}):
        end, counted = archive.get(partition, nowhere), speed.get(partition, nowhere)
        if partition in lost_archive:
            resumed.append(_in_both(settings, topic, partition, end, counted, lost_archive[partition]))
        elif end.shift > counted.shift:
            archived.append(partition)
        elif missing := _unarchived(settings, topic, partition, end, counted, lost_speed[partition]):
            unarchived.append(missing)
        else:
            resumed.append(_in_the_speed_layer(settings, topic, partition, end, counted, lost_speed[partition]))
    return Resumption(tuple(resumed), tuple(unarchived), tuple(archived))


def _in_both(
    settings: Settings, topic: Topic, partition: int, archived: LogPosition, counted: LogPosition, error: PositionLost
) -> ResumedPartition:
    """What both logs have is archived. If nobody knows how much that is, all is read, and repeats count once."""
    low = _low_offset(settings, topic, partition)
    cut = error.cut_offset if archived.topic_id == topic.topic_id else None
    log_offset, leader_epoch = (low, None) if cut is None or cut < low else (cut, archived.leader_epoch)
    return ResumedPartition(
        partition,
        archived.next_offset,
        max(archived.next_offset, counted.next_offset) + 1,
        topic.topic_id,
        leader_epoch,
        log_offset,
        archived.next_offset,
        max(archived.next_offset, counted.next_offset),
        _reason(error),
    )


def _unarchived(
    settings: Settings, topic: Topic, partition: int, archived: LogPosition, counted: LogPosition, error: PositionLost
) -> Unarchived | None:
    """What Kafka has kept of the old log, if the archive of the same one has not come so far."""
    kept = error.cut_offset
    if kept is None or counted.topic_id != topic.topic_id:
        return None
    # guard: what Kafka kept gets no new number
    is_behind = max(archived.log_offset, _low_offset(settings, topic, partition)) < kept
    return Unarchived(partition, archived.next_offset, kept + archived.shift) if is_behind else None


def _in_the_speed_layer(
    settings: Settings, topic: Topic, partition: int, archived: LogPosition, counted: LogPosition, error: PositionLost
) -> ResumedPartition:
    """All that the log has up to the archive's end is archived, so that says how to go on.

    Numbers change even where the archive is ahead: that tells the speed layer to forget what is lost.
    """
    kept = _low_offset(settings, topic, partition) if error.cut_offset is None else error.cut_offset
    lost_offset = min(kept + counted.shift, counted.next_offset) if counted.topic_id == topic.topic_id else 0
    return ResumedPartition(
        partition,
        archived.next_offset,
        max(archived.next_offset, counted.next_offset) + 1,
        topic.topic_id,
        archived.leader_epoch,
        archived.log_offset,
        lost_offset,
        max(lost_offset, counted.next_offset),
        _reason(error),
    )


def _reason(error: PositionLost) -> str:
    return str(error).partition(";")[0]


def _low_offset(settings: Settings, topic: Topic, partition: int) -> int:
    # One that the topic does not have may be added to it, and begins at its first offset then.
    if partition not in topic.partitions:
        return 0
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": "braid-position", "log_level": 2})
    try:
        low, _ = consumer.get_watermark_offsets(TopicPartition(settings.topic, partition), timeout=_ANSWER_S)
        return int(low)
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    finally:
        consumer.close()
