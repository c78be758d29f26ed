"""What Kafka's log and the archive take of the disk, how fast they grow, and when that comes near to a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]
from hdfs import HdfsError
from requests import RequestException

from contract import webhdfs
from contract.errors import BraidError
from contract.extent import Extent
from contract.kafka_disk import LogDisk, LogLimits, bytes_behind, log_disk
from contract.log_position import LogPosition
from contract.settings import Settings
from serving.log_ends import LogEnds, came_at

_ANSWER_S = 4.0
_NEAR = 0.8
"""Of a budget, or of the disk: so much is worth a word."""
_LAG_NEAR = 0.5
"""Of what retention leaves: an archiver that is so far behind has as much time left as it was away."""
_LAG_OFFSETS = 0.1
"""Of a log: below this its age is not looked up, for that takes a fetch."""
_DAY = timedelta(days=1)
_T = TypeVar("_T")


@dataclass(frozen=True)
class KafkaLog:
    """What limits the topic's log, what it takes where that can be seen, and how many offsets came in the last 24 hours.

    Of a log that has not kept so much, as many as come in 24 hours at its pace. None of what Kafka does not tell.
    """

    limits: LogLimits | None
    disk: LogDisk | None
    day_offsets: int | None


@dataclass(frozen=True)
class Disk:
    """Bytes; None where that is not known: the broker is elsewhere, nothing limits its log, or a server is down.

    `archive_bytes` is with all copies, and `archive_day_bytes` what it has grown by in the last 24 hours, about.
    """

    kafka_bytes: int | None
    kafka_budget_bytes: int | None
    kafka_day_bytes: int | None
    archive_bytes: int | None
    archive_day_bytes: int | None
    free_bytes: int | None
    size_bytes: int | None
    warnings: list[str]


def kafka_log(settings: Settings, ends: Mapping[int, LogEnds]) -> KafkaLog:
    """What Kafka tells of it: a broker that refuses one of these questions may be well."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})

    def limits() -> LogLimits:
        resource = ConfigResource(ResourceType.TOPIC, settings.topic)
        answer = admin.describe_configs([resource], request_timeout=_ANSWER_S)[resource].result(_ANSWER_S)
        return LogLimits.of_config({name: entry.value for name, entry in answer.items()})

    return KafkaLog(
        _told(limits),
        _told(lambda: log_disk(settings.topic, admin.list_topics(settings.topic, timeout=_ANSWER_S).cluster_id)),
        _told(lambda: _day_offsets(settings, admin, ends)),
    )


def _told(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    # guard: a figure that is not told is no server that is down
    except (KafkaException, TimeoutError):
        return None


def _day_offsets(settings: Settings, admin: AdminClient, ends: Mapping[int, LogEnds]) -> int | None:
    since = OffsetSpec.for_timestamp(int((time.time() - _DAY.total_seconds()) * 1000))
    places = {TopicPartition(settings.topic, partition): since for partition in ends}
    asked = admin.list_offsets(places, request_timeout=_ANSWER_S)
    offsets = 0.0
    # No offset: no record is so young.
    for partition, first in ((place.partition, one.result(_ANSWER_S).offset) for place, one in asked.items()):
        came = max(0, ends[partition].high_watermark - first) if first >= 0 else 0
        # guard: what is left of a day is not the day
        if came and first == ends[partition].first_offset > 0:
            age = _age(settings, partition, first)
            if age is None or age <= timedelta():
                return None
            offsets += came * max(1.0, _DAY / age)
        else:
            offsets += came
    return round(offsets)


def archive_bytes(settings: Settings, timeout_s: float) -> int | None:
    """What the archive takes with all copies, files that were merged away included; None if the NameNode does not tell."""
    client = webhdfs.connect(settings.webhdfs_url, timeout_s)
    try:
        found = client.content(settings.archive_root, strict=False)
    except (HdfsError, RequestException):
        return None
    return int(found["spaceConsumed"]) if found else 0


def disk(
    settings: Settings,
    log: KafkaLog | None,
    ends: Mapping[int, LogEnds],
    extents: Mapping[int, Extent] | None,
    archived_bytes: int | None,
) -> Disk:
    """All of it, with what is to be said about it. What is None nobody has answered."""
    archived_offsets = sum(extent.end.next_offset for extent in (extents or {}).values())
    seen = log.disk if log else None
    taken = sum(seen.log_bytes.values()) if seen else None
    offsets = sum(end.high_watermark - end.first_offset for end in ends.values())
    limits, day_offsets = (log.limits, log.day_offsets) if log else (None, None)
    found = Disk(
        kafka_bytes=taken,
        kafka_budget_bytes=limits.budget_bytes(len(ends)) if limits else None,
        kafka_day_bytes=taken * day_offsets // offsets
        if taken is not None and day_offsets is not None and offsets
        else None,
        archive_bytes=archived_bytes,
        archive_day_bytes=(
            archived_bytes * day_offsets // archived_offsets
            if archived_bytes and day_offsets is not None and archived_offsets
            else None
        ),
        free_bytes=seen.free_bytes if seen else None,
        size_bytes=seen.size_bytes if seen else None,
        warnings=[],
    )
    found.warnings.extend(_full(found))
    # Where the broker's disk is elsewhere, whoever has it limits it.
    if limits and limits.retention_bytes is None and (seen or settings.kafka_disk_mb):
        found.warnings.append(
            "nothing but time limits Kafka's log: `make up` gives it a budget of the disk, and `make logs S=topic` says why "
            "it has none"
        )
    if limits and extents is not None:
        found.warnings.extend(_lags(settings, limits, seen, ends, extents))
    return found


def _full(found: Disk) -> list[str]:
    told = []
    taken, budget = found.kafka_bytes, found.kafka_budget_bytes
    if taken is not None and budget is not None and taken >= _NEAR * budget:
        told.append(
            f"Kafka's log takes {taken >> 20:,} of the {budget >> 20:,} MB that it may: when those are taken, it keeps "
            "fewer days than its time allows; BRAID_KAFKA_DISK_MB gives it more"
        )
    if found.free_bytes is not None and found.size_bytes and found.size_bytes - found.free_bytes >= _NEAR * found.size_bytes:
        told.append(
            f"the disk is nearly full: {found.free_bytes >> 20:,} of {found.size_bytes >> 20:,} MB are free; "
            "docs/operations.md, 'what grows', says what can be made smaller"
        )
    return told


def _lags(
    settings: Settings,
    limits: LogLimits,
    seen: LogDisk | None,
    ends: Mapping[int, LogEnds],
    extents: Mapping[int, Extent],
) -> list[str]:
    """Of which partitions Kafka may soon delete what the archive has not got."""
    told = []
    for partition, end in sorted(ends.items()):
        archived = extents.get(partition, Extent(partition, LogPosition(0))).go_on(end.first_offset).log_offset
        missing = end.high_watermark - archived
        reasons = []
        kept, segments = limits.retention_bytes, seen.segments.get(partition) if seen else None
        if kept is not None and segments is not None and missing > 0:
            unarchived = bytes_behind(segments, archived)
            # guard: a lag that nears what retention leaves is said
            if unarchived >= _LAG_NEAR * kept:
                reasons.append(f"some {unarchived >> 20:,} MB of the {kept >> 20:,} MB that Kafka keeps")
        limit_ms = limits.retention_ms
        if limit_ms is not None and missing > _LAG_OFFSETS * (end.high_watermark - end.first_offset):
            age = _age(settings, partition, max(archived, end.first_offset))
            if age is not None and age >= _LAG_NEAR * timedelta(milliseconds=limit_ms):
                reasons.append(f"the first {_days(age)} old, and Kafka keeps {_days(timedelta(milliseconds=limit_ms))}")
        if reasons:
            told.append(
                f"partition {partition}: the archive lacks {missing:,} offsets, {' and '.join(reasons)}: Kafka deletes them "
                "unread if the archiver does not go on; `make logs S=archiver` says why, and a greater BRAID_KAFKA_DISK_MB "
                "with `make up` gives it time"
            )
    return told


def _age(settings: Settings, partition: int, offset: int) -> timedelta | None:
    try:
        came = came_at(settings, partition, offset)
    except BraidError:
        return None
    return None if came is None else datetime.now(UTC) - came


def _days(age: timedelta) -> str:
    return f"{age / _DAY:.1f} days"
