"""The topic's log stays within its part of the disk, and what the archive has not got yet is not deleted for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from contract.errors import ArchiveDamaged, EngineUnavailable
from contract.extent import Extent
from contract.kafka_disk import RETENTION_BYTES, SEGMENT_BYTES, LogDisk, log_disk, shared_out, unarchived_bytes
from contract.settings import Settings

_ANSWER_S = 30


@dataclass(frozen=True)
class LogExtent:
    """Kafka's first offset and high watermark of a partition."""

    first_offset: int
    high_watermark: int


def keep_to_budget(settings: Settings, extent: Callable[[int], Extent]) -> str:
    """Limits each partition's log by bytes, and says how. `extent` tells what the archive has of a partition.

    The budget is BRAID_KAFKA_DISK_MB, or half of what is free beside the log and in it. A limit that would delete what no
    file of the archive has, or that may do so because the archive does not answer, is not set: the earlier one stays.
    Raises EngineUnavailable of Kafka.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    try:
        cluster = admin.list_topics(settings.topic, timeout=_ANSWER_S)
        partitions = sorted(cluster.topics[settings.topic].partitions)
        disk = log_disk(settings.topic, cluster.cluster_id)
        budget_bytes = settings.kafka_disk_mb << 20 or (disk.half_of_free if disk else 0)
        if not budget_bytes:
            return "the broker's disk is not here: how many bytes it keeps stays as it is (BRAID_KAFKA_DISK_MB sets it)"
        retention_bytes, segment_bytes = shared_out(budget_bytes, len(partitions))
        if disk and (reason := refusal(retention_bytes, disk, _ends(admin, settings.topic, partitions), extent)):
            return reason
        _set(admin, settings.topic, {RETENTION_BYTES: retention_bytes, SEGMENT_BYTES: segment_bytes})
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    whose = "BRAID_KAFKA_DISK_MB" if settings.kafka_disk_mb else "half of what is free"
    return f"Kafka's log of it may take {budget_bytes >> 20:,} MB of disk ({whose})"


def refusal(
    retention_bytes: int, disk: LogDisk, ends: Mapping[int, LogExtent], extent: Callable[[int], Extent]
) -> str | None:
    """Why a partition must not be limited to so many bytes now; None if that deletes nothing that the archive has not."""
    for partition, log_bytes in disk.log_bytes.items():
        # Kafka deletes none of a log that is no longer than this.
        if partition not in ends or log_bytes <= retention_bytes:
            continue
        end = ends[partition]
        try:
            archived = extent(partition).go_on(end.first_offset).log_offset
        except (ArchiveDamaged, EngineUnavailable) as error:
            return f"Kafka's log is not cut to its budget, because the archive cannot be asked what it has: {error}"
        missing = unarchived_bytes(log_bytes, end.first_offset, archived, end.high_watermark)
        # guard: what is not archived is not deleted
        if missing > retention_bytes:
            return (
                f"Kafka's log is not cut to its budget: of partition {partition} the archive lacks "
                f"{end.high_watermark - archived:,} offsets, some {missing >> 20:,} MB, and {retention_bytes >> 20:,} MB "
                "would be kept; `make up` again when the archiver has them (`make logs S=archiver`)"
            )
    return None


def _ends(admin: AdminClient, topic: str, partitions: list[int]) -> dict[int, LogExtent]:
    places = [TopicPartition(topic, partition) for partition in partitions]
    first, high = (
        {place.partition: answer.result().offset for place, answer in asked.items()}
        for asked in (
            admin.list_offsets(dict.fromkeys(places, which), request_timeout=_ANSWER_S)
            for which in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
    )
    return {partition: LogExtent(first[partition], high[partition]) for partition in partitions}


def _set(admin: AdminClient, topic: str, limits: Mapping[str, int]) -> None:
    entries = [ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in limits.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource], request_timeout=_ANSWER_S)[resource].result(_ANSWER_S)
