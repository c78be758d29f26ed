"""How much disk Kafka's log of the topic may take, and takes: sums, and one look at the broker's volume where that is here.

Kafka deletes a whole segment, the oldest, once those behind it have `retention.bytes`. So a partition takes that and one
segment, and a budget is shared out with both. Kafka looks every five minutes: what comes in between is on top of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FOLDER = Path("/var/lib/braid/kafka")
"""The broker's log.dirs; who looks there has its volume at the broker's own place, read-only."""
RETENTION_BYTES, SEGMENT_BYTES, RETENTION_MS = "retention.bytes", "segment.bytes", "retention.ms"
_SEGMENTS = 8
_LARGEST_SEGMENT_BYTES = 1 << 30
_SMALLEST_SEGMENT_BYTES = 1 << 20


@dataclass(frozen=True)
class LogLimits:
    """What the topic's settings say of each partition; retention_bytes is None where only time limits it."""

    retention_bytes: int | None
    segment_bytes: int
    retention_ms: int | None

    @classmethod
    def of_config(cls, config: Mapping[str, str]) -> Self:
        """As Kafka tells them; -1 is no limit there."""
        retention_bytes, retention_ms = int(config[RETENTION_BYTES]), int(config[RETENTION_MS])
        return cls(
            None if retention_bytes < 0 else retention_bytes,
            int(config[SEGMENT_BYTES]),
            None if retention_ms < 0 else retention_ms,
        )

    def budget_bytes(self, partitions: int) -> int | None:
        """What so many partitions take, but for what comes until Kafka looks again; None: no limit."""
        return None if self.retention_bytes is None else (self.retention_bytes + self.segment_bytes) * partitions


def shared_out(budget_bytes: int, partitions: int) -> tuple[int, int]:
    """retention.bytes and segment.bytes of each partition: all stay within the budget, with segments under way."""
    share = budget_bytes // partitions
    segment = min(_LARGEST_SEGMENT_BYTES, max(_SMALLEST_SEGMENT_BYTES, share // _SEGMENTS))
    return max(share - segment, segment), segment


@dataclass(frozen=True)
class LogDisk:
    """The disk that the broker's log is on, what each partition of the topic takes of it, and the records in its segments,
    in bytes by first offset."""

    size_bytes: int
    free_bytes: int
    log_bytes: Mapping[int, int]
    segments: Mapping[int, Mapping[int, int]]

    @property
    def half_of_free(self) -> int:
        """The budget if nobody sets one: the log grows into it without changing it."""
        return (self.free_bytes + sum(self.log_bytes.values())) // 2


def log_disk(topic: str, cluster_id: str | None, folder: Path = FOLDER) -> LogDisk | None:
    """None where the log of this cluster is not in the folder: a broker elsewhere has a disk of its own."""
    try:
        properties = (folder / "meta.properties").read_text(encoding="utf-8")
        disk = os.statvfs(folder)
        parts = {
            int(found[1]): path
            for path in folder.iterdir()
            if (found := re.fullmatch(rf"{re.escape(topic)}-(\d+)", path.name))
        }
    except OSError:
        return None
    # guard: the disk is the broker's
    if cluster_id is None or f"cluster.id={cluster_id}" not in properties.splitlines():
        return None
    files = {partition: _files(path) for partition, path in sorted(parts.items())}
    return LogDisk(
        # As df says it: what is kept for root or others is none of the disk.
        (disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize,
        disk.f_bavail * disk.f_frsize,
        {partition: _taken_bytes(of) for partition, of in files.items()},
        {partition: _segments(of) for partition, of in files.items()},
    )


def bytes_behind(segments: Mapping[int, int], offset: int) -> int:
    """What stands behind the segment that holds an offset: Kafka deletes the offset once that is `retention.bytes`."""
    # guard: an offset is deleted with its segment
    holding = max((first for first in segments if first <= offset), default=min(segments, default=0))
    return sum(size_bytes for first, size_bytes in segments.items() if first > holding)


def _files(folder: Path) -> dict[str, os.stat_result]:
    found = {}
    # Kafka deletes segments meanwhile.
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                found[path.name] = path.stat()
    return found


def _taken_bytes(files: Mapping[str, os.stat_result]) -> int:
    # Index files are made larger than what is in them, so blocks count.
    return sum(file.st_blocks * 512 for file in files.values())


def _segments(files: Mapping[str, os.stat_result]) -> dict[int, int]:
    return {int(named[1]): file.st_size for name, file in files.items() if (named := re.fullmatch(r"(\d{20})\.log", name))}
