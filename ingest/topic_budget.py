"""The topic's log stays within its part of the disk, and what the archive has not got yet is not deleted for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
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
from contract.kafka_disk import RETENTION_BYTES, SEGMENT_BYTES, LogDisk, LogLimits, bytes_behind, log_disk, shared_out
from contract.settings import Settings
from ingest.topics import topic_of

PATIENCE_S = 60.0
"""At a cold start Kafka may be there before HDFS."""
_ANSWER_S, _AGAIN_S = 30, 2.0
_MAX_MESSAGE_BYTES = "max.message.bytes"


@dataclass(frozen=True)
class LogExtent:
    """Kafka's first offset and high watermark of a partition."""

    first_offset: int
    high_watermark: int


@dataclass(frozen=True)
class Log:
    """The topic's log as Kafka has it: by partition where it begins and ends, how long a record may be, and what it takes of
    the disk, None where that is not here."""

    topic_id: str
    ends: Mapping[int, LogExtent]
    record_bytes: int
    disk: LogDisk | None

    def lacking_bytes(self, partition: int, archived_offset: int) -> int:
        """A partition that is limited to more than this loses nothing from the offset on."""
        if self.disk is not None and (segments := self.disk.segments.get(partition)):
            return bytes_behind(segments, archived_offset)
        return (self.ends[partition].high_watermark - archived_offset) * self.record_bytes


def keep_to_budget(
    settings: Settings,
    extent: Callable[[int], Extent],
    patience_s: float = PATIENCE_S,
    wait: Callable[[float], object] = time.sleep,
) -> str:
    """Limits each partition's log by bytes, and says how. `extent` tells what the archive has of a partition.

    The budget is BRAID_KAFKA_DISK_MB, or half of what is free beside the log and in it. A smaller limit that would delete
    what no file of the archive has, or that may do so because the archive does not answer for so long, is not set: the
    earlier one stays. Raises EngineUnavailable of Kafka, TopicUnusable.
    """
    topic = topic_of(settings)()
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2})
    try:
        disk = log_disk(settings.topic, admin.list_topics(settings.topic, timeout=_ANSWER_S).cluster_id)
        budget_bytes = settings.kafka_disk_mb << 20 or (disk.half_of_free if disk else 0)
        if not budget_bytes:
            return "the broker's disk is not here: how many bytes it keeps stays as it is (BRAID_KAFKA_DISK_MB sets it)"
        retention_bytes, segment_bytes = shared_out(budget_bytes, len(topic.partitions))
        config = _config(admin, settings.topic)
        kept_bytes = LogLimits.of_config(config).retention_bytes
        # guard: only a smaller limit deletes more
        if kept_bytes is None or retention_bytes < kept_bytes:
            log = Log(topic.topic_id, _ends(admin, settings.topic, topic.partitions), int(config[_MAX_MESSAGE_BYTES]), disk)
            deadline_s = time.monotonic() + patience_s
            if reason := refusal(retention_bytes, log, _answered(extent, deadline_s, wait)):
                return f"Kafka's log is not cut to its budget{reason}"
        _set(admin, settings.topic, {RETENTION_BYTES: retention_bytes, SEGMENT_BYTES: segment_bytes})
    except KafkaException as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, error.args[0].str()) from error
    except TimeoutError as error:
        raise EngineUnavailable.at("Kafka", settings.kafka_bootstrap, "no answer in time") from error
    whose = "BRAID_KAFKA_DISK_MB" if settings.kafka_disk_mb else "half of what is free"
    return f"Kafka's log of it may take {budget_bytes >> 20:,} MB of disk ({whose})"


def refusal(retention_bytes: int, log: Log, extent: Callable[[int], Extent]) -> str | None:
    """Why a partition must not be limited to so many bytes now; None if that deletes nothing that the archive has not."""
    for partition, end in sorted(log.ends.items()):
        # Kafka deletes nothing then, and nobody need be asked.
        if log.lacking_bytes(partition, end.first_offset) < retention_bytes:
            continue
        try:
            found = extent(partition)
        except (ArchiveDamaged, EngineUnavailable) as error:
            return f", because the archive cannot be asked what it has: {error}"
        # guard: what was archived of another topic is nothing of this one
        is_of_it = found.end.topic_id in (None, log.topic_id)
        archived = max(end.first_offset, found.go_on(end.first_offset).log_offset) if is_of_it else end.first_offset
        missing = end.high_watermark - archived
        lacking_bytes = log.lacking_bytes(partition, archived)
        # guard: what is not archived is not deleted
        if missing > 0 and lacking_bytes >= retention_bytes:
            return (
                f": of partition {partition} the archive lacks {missing:,} offsets, with up to {lacking_bytes >> 20:,} MB "
                f"behind the first of them, and {retention_bytes >> 20:,} MB would be kept; `make up` again when the "
                "archiver has them (`make logs S=archiver`)"
            )
    return None


def _answered(
    extent: Callable[[int], Extent], deadline_s: float, wait: Callable[[float], object]
) -> Callable[[int], Extent]:
    """The same, asked again until then while the archive does not answer."""

    def ask(partition: int) -> Extent:
        while True:
            try:
                return extent(partition)
            except EngineUnavailable:
                # guard: HDFS may come later than Kafka
                if time.monotonic() >= deadline_s:
                    raise
            wait(_AGAIN_S)

    return ask


def _config(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    answer = admin.describe_configs([resource], request_timeout=_ANSWER_S)[resource].result(_ANSWER_S)
    return {name: entry.value for name, entry in answer.items()}


def _ends(admin: AdminClient, topic: str, partitions: Iterable[int]) -> dict[int, LogExtent]:
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
