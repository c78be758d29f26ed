"""Kafka to HDFS, exactly once: the file's name is the offset; a crash repeats a file, never skips one.

Nothing breaks if a second archiver runs, or an old one wakes up: they write overlapping files, which readers bear.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contract.errors import ArchiveDamaged, DataLost, EngineUnavailable, TopicUnusable
from contract.event import decode
from contract.master import OffsetRange, archived_next_offset
from contract.records import CONSUME_MESSAGES, Records, parted
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles
from ingest.archive_plan import current, plan_merge, superseded
from ingest.background import AtOnce, Worker
from ingest.hdfs import until_available
from ingest.stop import Stop

FLUSH_BYTES = 32 << 20
"""Values of one partition after which its file is written whatever their number: bounds memory."""
_CONSUME_S = 0.2
_ANSWER_S = 10
_REPORT_EVERY_S = 60


def connect(settings: Settings) -> Consumer:
    """A consumer that commits nothing and refuses to skip."""
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": "braid-archiver",  # asked for by the client, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": 32_768,
            # While a file is written the queue fills; by default the client would then rest for a second.
            "fetch.queue.backoff.ms": 10,
            "log_level": 2,
        }
    )


@dataclass
class _Buffer:
    """Records of one partition from first_offset on that are not in a file yet."""

    first_offset: int
    since_s: float | None = None
    size_bytes: int = 0
    records: Records = field(default_factory=Records)

    def add(self, messages: Sequence[Message]) -> None:
        """Append records of the partition, in order."""
        self.records.add(messages)
        self.size_bytes += sum(map(len, filter(None, map(Message.value, messages))))


class Archiver:
    """Copies every partition of the topic; waits out an unavailable Kafka or HDFS, and stops only for lost data.

    Files are written one after the other by `writer`: if that has a thread of its own, while the next records are read.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        files: ArchiveFiles,
        stop: Stop,
        log: Callable[[str], None],
        clock_s: Callable[[], float] = time.time,
        writer: Worker | None = None,
    ) -> None:
        self._settings, self._consumer, self._files = settings, consumer, files
        self._stop, self._log, self._clock_s, self._writer = stop, log, clock_s, writer or AtOnce()
        self._buffers: dict[int, _Buffer] = {}
        self._archived: dict[int, int] = {}
        self._files_since_tidy: dict[int, int] = {}
        self._reported_s, self._events, self._rejects = clock_s(), 0, 0

    @property
    def next_offsets(self) -> dict[int, int]:
        """Up to where each partition is on HDFS."""
        return dict(sorted(self._archived.items()))

    def run(self) -> None:
        """Archive until `stop` is set. What is not in a file then is read again at the next start."""
        self.start()
        while not self._stop.is_set():
            self.step()

    def start(self) -> None:
        """Find out from the file names where each partition goes on."""
        until_available(self._open, self._stop.wait, self._log)
        self._log(f"archive of topic {self._settings.topic} goes on at {self.next_offsets}")

    def step(self) -> None:
        """Take what Kafka has, then write the files that are due."""
        self._writer.check()
        records, errors = parted(self._consumer.consume(CONSUME_MESSAGES, _CONSUME_S))
        for partition, of_partition in groupby(records, Message.partition):
            self._buffers[partition].add(list(of_partition))
        for message in errors:
            self._understand(message.partition() or 0, message.error())
        self._see_gaps()
        now_s = self._clock_s()
        for partition, buffer in self._buffers.items():
            if buffer.since_s is not None and not self._stop.is_set() and self._is_due(buffer, now_s):
                self.flush(partition)
        if now_s - self._reported_s >= _REPORT_EVERY_S:
            self._log(f"{self._events} events and {self._rejects} rejects archived since the start; at {self.next_offsets}")
            self._reported_s = now_s

    def flush(self, partition: int) -> None:
        """Write the partition's buffer as one file, named by the offsets from its start up to the consumer's position."""
        buffer = self._buffers[partition]
        offsets = OffsetRange(partition, buffer.first_offset, self._position(partition))
        self._buffers[partition] = _Buffer(offsets.next_offset)
        self._writer.do(partial(self._put, offsets, buffer.records))

    def _put(self, offsets: OffsetRange, records: Records) -> None:
        partition = offsets.partition
        decoded = decode(partition, records.offsets, records.kafka_times_ms, records.values)

        def put() -> bool:
            self._files.put(offsets, decoded)
            return True

        if not until_available(put, self._stop.wait, self._log):
            return
        self._archived[partition] = offsets.next_offset
        self._events += len(decoded.events)
        self._rejects += len(decoded.rejects)
        self._files_since_tidy[partition] += 1
        if self._files_since_tidy[partition] >= self._settings.archive_merge_files:
            self.tidy(partition)

    def tidy(self, partition: int) -> None:
        """Merge small files and delete those merged away long enough ago. Nothing depends on it, so it never waits."""
        self._files_since_tidy[partition] = 0
        try:
            files = self._files.ranges(partition)
            for old in superseded(files, int(self._clock_s() * 1000) - self._settings.archive_grace_ms):
                self._files.delete(old)
                del files[old]
            if slices := plan_merge(current(partition, files), files, self._settings.archive_merge_files):
                merged = self._files.merge(slices)
                self._log(f"partition {partition}: merged {len(slices)} files into {merged.file_name}")
        except (ArchiveDamaged, EngineUnavailable) as error:
            self._log(f"{error}; small files stay for now")

    def _open(self) -> None:
        topic = self._settings.topic
        try:
            metadata = self._consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
        except KafkaException as error:
            raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, error.args[0].str()) from error
        if metadata.error is not None:
            raise TopicUnusable.missing(topic, self._settings.kafka_bootstrap)
        for partition in metadata.partitions:
            if removed := self._files.clean(partition):
                self._log(f"partition {partition}: removed {removed} file(s) that a crash left half done")
            self._archived[partition] = archived_next_offset(self._files.ranges(partition))
            self._buffers[partition] = _Buffer(self._archived[partition])
            self._files_since_tidy[partition] = self._settings.archive_merge_files - 1
        self._consumer.assign([TopicPartition(topic, *start) for start in self.next_offsets.items()])

    def _see_gaps(self) -> None:
        """Start the clock of partitions that moved: by records, or by offsets of transactions that hold none."""
        for partition, buffer in self._buffers.items():
            if buffer.since_s is None and self._position(partition) > buffer.first_offset:
                buffer.since_s = self._clock_s()

    def _position(self, partition: int) -> int:
        # Before the first record the position is a negative constant.
        position = self._consumer.position([TopicPartition(self._settings.topic, partition)])[0].offset
        return max(position, self._buffers[partition].first_offset)

    def _is_due(self, buffer: _Buffer, now_s: float) -> bool:
        return (
            len(buffer.records.offsets) >= self._settings.archive_flush_rows
            or buffer.size_bytes >= FLUSH_BYTES
            or (now_s - (buffer.since_s or now_s)) * 1000 >= self._settings.archive_flush_ms
        )

    def _understand(self, partition: int, error: KafkaError) -> None:
        """Stop for records that are gone; anything else the client tries again by itself."""
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicUnusable.missing(self._settings.topic, self._settings.kafka_bootstrap)
        if error.code() != KafkaError._AUTO_OFFSET_RESET:
            self._log(f"Kafka at {self._settings.kafka_bootstrap}: {error.str()}")
            return
        wanted = self._position(partition)
        low, high = until_available(lambda: self._watermarks(partition), self._stop.wait, self._log) or (wanted, wanted)
        if wanted < low:
            raise DataLost.before_read("the archiver", partition, wanted, low)
        if wanted > high:
            raise TopicUnusable.replaced("the archiver", self._settings.topic, partition, wanted, high)
        self._consumer.seek(TopicPartition(self._settings.topic, partition, wanted))

    def _watermarks(self, partition: int) -> tuple[int, int]:
        try:
            return self._consumer.get_watermark_offsets(TopicPartition(self._settings.topic, partition), timeout=_ANSWER_S)
        except KafkaException as error:
            raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, error.args[0].str()) from error
