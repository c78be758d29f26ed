"""Kafka to HDFS, exactly once: the file's name is the offset; a crash repeats a file, never skips one.

Nothing breaks if a second archiver runs, or an old one wakes up: they write overlapping files, which readers bear.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from contract import logs
from contract.decoder import Decoded, decoder_of
from contract.errors import ArchiveDamaged, ArchiveGap, EngineUnavailable, PositionLost, TopicUnusable
from contract.fetcher import Fetcher, fetcher
from contract.forgotten import Rules
from contract.log_position import TRUNCATED, LogPosition, Topic
from contract.master import OffsetRange
from contract.records import FETCH_BYTES, Records
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles, Outdated
from ingest.archive_metrics import ArchiveMetrics
from ingest.archive_plan import SMALL_FILE_BYTES, current, plan_merge, superseded
from ingest.background import AtOnce, Worker
from ingest.hdfs import until_available
from ingest.stop import Stop

_CONSUME_S = 0.2
_ANSWER_S = 10
_MERGE_BYTES = 384 << 20
"""What a merged file takes in the memory of whoever reads it; of usual events MERGED_FILE_BYTES are two thirds of it."""
_REPORT_EVERY_S = 60
_LOOK_AGAIN_S = 5
_READER = "the archiver"
_logger = logging.getLogger(logs.NAME)
_T = TypeVar("_T")


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
            "fetch.message.max.bytes": FETCH_BYTES,
            "log_level": 2,
        }
    )


@dataclass
class _Buffer:
    """Records of one partition from a position on that are not in a file yet."""

    position: LogPosition
    since_s: float | None = None
    records: Records = field(default_factory=Records)


class Archiver:
    """Copies every partition of the topic of the files' stream; waits out an unavailable Kafka or HDFS.

    Offsets that are in no file are archived again if Kafka has them. Those that Kafka has no more it names once, and goes
    on behind them: what comes now must not be lost as well. A log that is not the one it has read is no reason to end
    either: it says so once, takes nothing, and looks again.
    `topic` asks Kafka which topic there is now; EngineUnavailable, TopicUnusable. Partitions that it has got since the last
    time are archived too, from their first offset on.

    `beat` is called again and again for as long as it does not hang; a file that is merged may take a minute.

    `rules` says what is forgotten as of now; EngineUnavailable. No file gets it.

    Files are written one after the other by `writer`: if that has a thread of its own, while the next records are read.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Consumer],
        topic: Callable[[], Topic],
        files: ArchiveFiles,
        stop: Stop,
        log: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        writer: Worker | None = None,
        rules: Callable[[], Rules] = Rules,
        beat: Callable[[], None] = lambda: None,
        metrics: ArchiveMetrics | None = None,
    ) -> None:
        self._settings, self._connect, self._topic, self._files = settings, connect, topic, files
        self._consumer: Any = None
        self._fetcher: Fetcher
        self._stop, self._log, self._writer = stop, log, writer or AtOnce()
        self._rules, self._beat, self._metrics = rules, beat, metrics or ArchiveMetrics()
        # The time of day may be set; only what is compared with HDFS's own times is asked of it.
        self._clock_s, self._wall_s = clock_s, wall_s
        self._flush_bytes = settings.archive_flush_mb << 20
        self._buffers: dict[int, _Buffer] = {}
        self._lost: set[OffsetRange] = set()
        """Offsets that neither a file nor Kafka had at the last start."""
        self._archived: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        """Up to where files were at the last start, or are by what this archiver has written since."""
        self._overtaken = False
        """Whether nothing more is written before the next start."""
        self._started_in: str | None = None
        self._looked_s = clock_s()
        self._started_with = ""
        self._named_lost: set[OffsetRange] = set()
        self._files_since_tidy: dict[int, int] = {}
        self._unmergeable: set[OffsetRange] = set()
        self._reported_s, self._events, self._rejects = clock_s(), 0, 0

    @property
    def next_offsets(self) -> dict[int, int]:
        """Up to where each partition is on HDFS."""
        return dict(sorted(self._archived.items()))

    def run(self) -> None:
        """Archive until `stop` is set. What is not in a file then is read again at the next start."""
        said = ""
        while not self._stop.is_set():
            try:
                self.start()
                while not self._stop.is_set():
                    self.step()
            except (PositionLost, TopicUnusable) as error:
                self._metrics.waits("start", str(error))
                if str(error) != said:
                    self._log(str(error))
                    said = str(error)
                self._wait(_LOOK_AGAIN_S)

    def start(self) -> None:
        """Find out from the file names where each partition goes on. Raises PositionLost if that is no place in this log."""
        self._writer.settle()
        if self._until_available("start", self._open):
            self._metrics.stands_at(self._archived)
            text = f"archive of topic {self._settings.topic} goes on at {self.next_offsets}"
            # guard: a gap is named at once
            for lost in sorted(self._lost - self._named_lost):
                self._log(str(ArchiveGap.lost(lost.partition, lost.first_offset, lost.next_offset)))
            self._named_lost |= self._lost
            if text != self._started_with:
                self._log(text)
            self._started_with = text

    def step(self) -> None:
        """Take what Kafka has, then write the files that are due."""
        self._beat()
        self._writer.check()
        if self._overtaken:
            self.start()
        fetched = self._fetcher.fetch(_CONSUME_S)
        self._metrics.buffers(self._held_bytes())
        for partition, piece in fetched.records:
            buffer = self._buffers[partition]
            buffer.records.add(piece, buffer.position.shift)
        for failure in fetched.failures:
            self._understand(failure.partition, failure.error)
        self._see_gaps()
        # guard: a set clock neither holds nor hurries a file
        now_s = self._clock_s()
        due = [p for p, buffer in self._buffers.items() if buffer.since_s is not None and self._is_due(buffer, now_s)]
        # A client that lives on may wait for ever for records of a topic that was deleted, and say nothing.
        too_much = self._held_bytes() > 2 * self._flush_bytes
        looks = due or too_much or now_s - self._looked_s >= _LOOK_AGAIN_S
        if looks and (found := self._same_topic()):
            self._looked_s = now_s
            for partition in due:
                self.flush(partition)
            # guard: all partitions together are bounded
            while self._held_bytes() > 2 * self._flush_bytes and not self._stop.is_set():
                self.flush(max(self._buffers, key=lambda partition: self._buffers[partition].records.size_bytes))
            # guard: partitions that are added are archived
            if not found.partitions <= self._buffers.keys():
                # What is in a file by then is not read again.
                self._flush_all()
                self.start()
        if now_s - self._reported_s >= _REPORT_EVERY_S:
            self._log(f"{self._events} events and {self._rejects} rejects archived since the start; at {self.next_offsets}")
            self._reported_s = now_s

    def flush(self, partition: int) -> None:
        """Write the partition's buffer as one file, named by the offsets from its start up to the consumer's position."""
        buffer, position = self._buffers[partition], self._position(partition)
        offsets = OffsetRange(partition, buffer.position.next_offset, position.next_offset)
        self._buffers[partition] = _Buffer(position)
        self._writer.do(partial(self._put, offsets, buffer.records, buffer.position, position))

    def _flush_all(self) -> None:
        for partition, buffer in self._buffers.items():
            if self._position(partition) != buffer.position:
                self.flush(partition)

    def _put(self, offsets: OffsetRange, records: Records, began: LogPosition, position: LogPosition) -> None:
        partition = offsets.partition
        received = decoder_of(self._files.stream).decode_records(partition, records, compare=True)

        def put() -> Decoded | None:
            # guard: files of a log that was cut stay alone
            self._overtaken = self._overtaken or self._is_overtaken(began, position, partition)
            if self._overtaken:
                return None
            while True:
                rules = self._rules()
                # guard: what is forgotten is not archived again
                decoded, forgotten = rules.keep(received)
                with suppress(Outdated):
                    self._files.put(offsets, records, decoded, position, forgotten, partial(self._stands, rules))
                    return decoded

        began_s = self._clock_s()
        decoded = self._until_available("file", put)
        if decoded is None:
            return
        outcomes = {"event": len(decoded.events), "reject": len(decoded.rejects)}
        outcomes["forgotten"] = len(received.events) + len(received.rejects) - sum(outcomes.values())
        self._metrics.stored(offsets, outcomes, records.size_bytes, self._clock_s() - began_s)
        if self._settings.logs_commits:
            extra = asdict(offsets) | outcomes
            _logger.info("partition %s: offsets [%s, %s) are on HDFS", *astuple(offsets), extra=extra)
        self._archived[partition] = offsets.next_offset
        self._reached[partition] = max(self._reached[partition], offsets.next_offset)
        self._events += len(decoded.events)
        self._rejects += len(decoded.rejects)
        self._files_since_tidy[partition] += 1
        if self._files_since_tidy[partition] >= self._settings.archive_merge_files:
            self.tidy(partition)

    def _stands(self, rules: Rules) -> bool:
        """Whether nothing was said since."""
        return self._rules().version == rules.version

    def _is_overtaken(self, began: LogPosition, position: LogPosition, partition: int) -> bool:
        """Whether another archiver has stored more since, and the log has another leader epoch than when the buffer began.

        It may have lost records then that are in those files, and what took their place was read here. A start finds out.
        """
        if position.leader_epoch == began.leader_epoch:
            return False
        return max((file.next_offset for file in self._files.ranges(partition)), default=0) > self._reached[partition]

    def tidy(self, partition: int) -> None:
        """Merge small files and delete those merged away long enough ago. Nothing depends on it, so it never waits."""
        self._files_since_tidy[partition] = 0
        try:
            files = self._files.ranges(partition)
            for old in superseded(files, int(self._wall_s() * 1000) - self._settings.archive_grace_ms):
                self._files.delete(old)
                del files[old]
            # A file that cannot be merged counts as a large one.
            sizes = files | {
                file: replace(files[file], size_bytes=SMALL_FILE_BYTES) for file in self._unmergeable & files.keys()
            }
            if slices := plan_merge(current(partition, files), sizes, self._settings.archive_merge_files):
                rules = self._rules()
                # guard: a merge is bounded
                merged = self._files.merge(slices, _MERGE_BYTES, rules, partial(self._stands, rules))
                if merged is None:
                    self._unmergeable.update(part.file for part in slices)
                    self._log(
                        f"partition {partition}: {len(slices)} files do not fit into one, by size or columns; they stay"
                    )
                else:
                    self._metrics.merged(partition)
                    self._log(f"partition {partition}: merged {len(slices)} files into {merged.file_name}")
        except Outdated:
            self._log(f"partition {partition}: something was to be forgotten meanwhile; small files stay for now")
        except (ArchiveDamaged, EngineUnavailable) as error:
            self._log(f"{error}; small files stay for now")

    def _open(self) -> bool:
        topic, found = self._settings.topic, self._topic()
        asking = self._connect()
        watermarks = {partition: self._watermarks(asking, partition) for partition in found.partitions}
        asking.close()
        lost: set[OffsetRange] = set()
        positions: dict[int, LogPosition] = {}
        reached: dict[int, int] = {}
        for partition in sorted({*found.partitions, *self._files.partitions()}):
            if removed := self._files.clean(partition):
                self._log(f"partition {partition}: removed {removed} file(s) that a crash left half done")
            extent = self._files.extent(partition)
            # guard: an archive goes on in its own topic
            if extent.end.topic_id not in (None, found.topic_id):
                raise PositionLost.topic(_READER, topic, extent.end.topic_id, found.topic_id)
            if partition in found.partitions:
                low, high = watermarks[partition]
                position = extent.go_on(low)
                # A client that goes on below the end does not ask whether the log still reaches that.
                # guard: a log that ends below the archive fills no gap
                if position.next_offset < extent.end.next_offset and extent.end.log_offset > high:
                    raise PositionLost.shorter(_READER, topic, partition, extent.end.log_offset, high)
                lost.update(extent.lost(low))
                positions[partition] = replace(position, topic_id=found.topic_id)
                reached[partition] = extent.end.next_offset
            # guard: the archive's partitions are the topic's
            elif extent.end.log_offset > 0:
                raise PositionLost.partition(_READER, topic, partition, extent.end.next_offset, len(found.partitions))
        self._lost, self._reached, self._overtaken = lost, reached, False
        self._archived = {partition: position.next_offset for partition, position in positions.items()}
        self._buffers = {partition: _Buffer(position) for partition, position in positions.items()}
        self._files_since_tidy = dict.fromkeys(positions, self._settings.archive_merge_files - 1)
        self._started_in = found.topic_id
        self.close()
        # A client that has heard of the topic before does not ask whether the leader epoch reached so far.
        # guard: a client that knows nothing goes on
        self._consumer = self._connect()
        self._fetcher = fetcher(self._consumer, self._log)
        self._consumer.assign([position.place(topic, partition) for partition, position in positions.items()])
        return True

    def close(self) -> None:
        """Let go of the broker."""
        if self._consumer is not None:
            self._fetcher.close()
            self._consumer = None

    def _until_available(self, part: str, action: Callable[[], _T]) -> _T | None:
        """As until_available; meanwhile /readyz says what is waited for."""

        def waits(line: str) -> None:
            self._metrics.waits(part, line)
            self._log(line)

        found = until_available(action, self._wait, waits)
        self._metrics.goes_on(part)
        return found

    def _wait(self, seconds: float) -> bool:
        self._beat()
        return self._stop.wait(seconds)

    def _same_topic(self) -> Topic | None:
        """The topic that it started in: all that was read is of it, for ids never come back; None if asked to stop.

        Raises PositionLost if it is another one: then nobody knows which of the two the last records are of.
        """
        found = self._until_available("topic", self._topic)
        # guard: a file holds records of one topic
        if found is not None and found.topic_id != self._started_in:
            raise PositionLost.topic(_READER, self._settings.topic, str(self._started_in), found.topic_id)
        return None if self._stop.is_set() else found

    def _see_gaps(self) -> None:
        """Start the clock of partitions that moved: by records, or by offsets of transactions that hold none."""
        for partition, buffer in self._buffers.items():
            if buffer.since_s is None and self._position(partition).next_offset > buffer.position.next_offset:
                buffer.since_s = self._clock_s()

    def _held_bytes(self) -> int:
        return sum(buffer.records.size_bytes for buffer in self._buffers.values())

    def _position(self, partition: int) -> LogPosition:
        begin = self._buffers[partition].position
        found = self._consumer.position([TopicPartition(self._settings.topic, partition)])[0]
        # Before the first record the position is a negative constant.
        if found.offset <= begin.log_offset:
            return begin
        return replace(begin, next_offset=found.offset + begin.shift, leader_epoch=found.leader_epoch)

    def _is_due(self, buffer: _Buffer, now_s: float) -> bool:
        return (
            len(buffer.records) >= self._settings.archive_flush_rows
            or buffer.records.size_bytes >= self._flush_bytes
            or (now_s - (buffer.since_s or now_s)) * 1000 >= self._settings.archive_flush_ms
        )

    def _understand(self, partition: int, error: KafkaError) -> None:
        """Go on behind records that are gone, stop in another log; anything else the client tries again by itself."""
        # Nobody tells an assigned consumer of a topic that is gone: the archiver looks for it by itself.
        if error.code() != KafkaError._AUTO_OFFSET_RESET:
            self._log(f"Kafka at {self._settings.kafka_bootstrap}: {error.str()}")
            return
        if not self._same_topic():
            return
        topic, wanted = self._settings.topic, self._position(partition).log_offset
        asked = self._until_available("offsets", lambda: self._watermarks(self._consumer, partition))
        low, high = asked or (wanted, wanted)
        is_cut = wanted >= low and TRUNCATED in error.str()
        if not low <= wanted <= high or is_cut:
            # What was read before the log lost it is nowhere else.
            self._flush_all()
        if wanted > high:
            raise PositionLost.shorter(_READER, topic, partition, wanted, high)
        if is_cut:
            raise PositionLost.cut(_READER, topic, partition, wanted, error.str())
        # What is in no file yet is read again: a client that was assigned anew does not know where it stood.
        self.start()

    def _watermarks(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        try:
            return consumer.get_watermark_offsets(TopicPartition(self._settings.topic, partition), timeout=_ANSWER_S)
        except KafkaException as error:
            raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, error.args[0].str()) from error
