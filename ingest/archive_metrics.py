"""What an archiver counts, and why it is not ready if it is not."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.master import OffsetRange

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ArchiveMetrics:
    """Of one archiver, in a registry of Prometheus, or for nobody's eyes if there is none."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._waits = {"start": "it has not looked at the archive yet"}
        by_partition = ("partition",)
        self._records = Counter(
            "braid_archive_records",
            "Records in files that this process has written",
            ("partition", "outcome"),
            registry=registry,
        )
        self._files = Counter("braid_archive_files", "Files that it has written", by_partition, registry=registry)
        self._bytes = Counter("braid_archive_value_bytes", "Bytes of their records' values", by_partition, registry=registry)
        self._next_offset = Gauge(
            "braid_archive_next_offset", "Up to where the partition is on HDFS", by_partition, registry=registry
        )
        self._write = Histogram(
            "braid_archive_write_seconds",
            "From a file's beginning until it has its name, waiting for HDFS included",
            buckets=_SECONDS,
            registry=registry,
        )
        self._merges = Counter("braid_archive_merges", "Files made of smaller ones", by_partition, registry=registry)
        self._buffered = Gauge("braid_archive_buffered_bytes", "Values that are in no file yet", registry=registry)
        self._waiting = Gauge("braid_archive_waiting", "1 while it waits for a server or a person", registry=registry)
        self._waiting.set(1)

    def stored(self, offsets: OffsetRange, outcomes: dict[str, int], value_bytes: int, seconds: float) -> None:
        """A file has its name. `outcomes` says how many of its records were events, rejects or forgotten."""
        partition = str(offsets.partition)
        for outcome, records in outcomes.items():
            self._records.labels(partition, outcome).inc(records)
        self._files.labels(partition).inc()
        self._bytes.labels(partition).inc(value_bytes)
        self._next_offset.labels(partition).set(offsets.next_offset)
        self._write.observe(seconds)

    def stands_at(self, next_offsets: dict[int, int]) -> None:
        """It has looked, and goes on from there."""
        for partition, next_offset in next_offsets.items():
            self._next_offset.labels(str(partition)).set(next_offset)

    def merged(self, partition: int) -> None:
        """Small files are one."""
        self._merges.labels(str(partition)).inc()

    def buffers(self, size_bytes: int) -> None:
        """So much waits to be written."""
        self._buffered.set(size_bytes)

    def waits(self, part: str, reason: str) -> None:
        """Nothing is archived until that has passed. Parts of an archiver wait by themselves, some in threads."""
        self._waits[part] = reason
        self._waiting.set(1)

    def goes_on(self, part: str) -> None:
        """Nothing is in its way."""
        self._waits.pop(part, None)
        self._waiting.set(1 if self._waits else 0)

    def waits_for(self) -> str | None:
        """Why nothing is archived now; None while it goes on."""
        return next(iter(list(self._waits.values())), None)
