"""Ranges of offsets from one Kafka partition, in order and complete, as sub-ranges that fit into memory; what was fetched
beyond one is kept for the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from contract.errors import DataLost, EngineUnavailable, PositionLost
from contract.event import MAX_VALUE_BYTES
from contract.fetcher import fetcher
from contract.log_position import TRUNCATED, LogPosition
from contract.master import OffsetRange
from contract.records import FETCH_BYTES, Records
from contract.settings import Settings
from serving.log_check import answered_topic, ask_topic, topic_of

_READER = "the speed layer"
_CONSUME_TIMEOUT_S = 0.2
_STALLED_AFTER_S = 30.0
# What the client has fetched ahead, of all partitions of a bolt together. Of usual events its limit of 100,000 comes first.
_QUEUE_KB, _LEAST_QUEUE_KB = 32_768, 1_024


class RangeReader:
    """Reads the ranges of one partition; those that follow each other need no seek. Offsets are shifted as positions are."""

    def __init__(self, settings: Settings, partition: int, log: Callable[[str], None]) -> None:
        self._settings = settings
        self._partition = partition
        self._log = log
        self._most_bytes = settings.range_max_mb << 20
        self._mean_bytes = MAX_VALUE_BYTES
        self._admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
        self._topic_id = ""
        self._consumer = self._connect()
        self._fetcher = fetcher(self._consumer, log)
        self._knows_topic = False
        self._asked: Future[Any] | None = None
        self._prefetched = Records()
        self._next_offset: int | None = None
        self._reached_offset = 0
        self._shift = 0
        self._leader_epoch: int | None = None

    def _connect(self) -> Consumer:
        topic = topic_of(self._admin, self._settings)
        self._topic_id = topic.topic_id
        partitions_of_bolt = -(-len(topic.partitions) // self._settings.bolts)
        return Consumer(
            {
                "bootstrap.servers": self._settings.kafka_bootstrap,
                "group.id": "braid-speed",  # required by the client; offsets are never committed to Kafka
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.queue.backoff.ms": 10,
                "fetch.message.max.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": max(_LEAST_QUEUE_KB, _QUEUE_KB // partitions_of_bolt),
            }
        )

    def low_offset(self) -> int:
        """The first offset that the broker still has."""
        return self._watermarks()[0] + self._shift

    def stands_at(self, offset: int) -> bool:
        """Whether what it read last ended there."""
        return self._next_offset == offset

    def go_on(self, position: LogPosition) -> None:
        """The next range begins at the position; reading it raises PositionLost if that is none of the log that there is."""
        self._shift, self._leader_epoch = position.shift, position.leader_epoch
        # A client that has heard of the topic before does not ask whether the leader epoch reached so far.
        # guard: a reader's client knows nothing
        if self._knows_topic:
            # That asks Kafka, so if it fails the old one is still there.
            following = self._connect()
            self._fetcher.close()
            self._consumer, self._fetcher = following, fetcher(following, self._log)
        self._seek(position)
        self._next_offset = position.next_offset

    def position(self) -> LogPosition:
        """Where the last range that was read has ended, and in which topic: asked before and after, and ids never come back.

        So all of the range is of that topic. Raises PositionLost if it was made again meanwhile, EngineUnavailable,
        TopicUnusable.
        """
        assert self._asked is not None
        topic_id = answered_topic(self._asked, self._settings).topic_id
        # The database refuses records of another topic only once it knows one.
        # guard: a range is of one topic
        if topic_id != self._topic_id:
            raise PositionLost.topic(_READER, self._settings.topic, self._topic_id, topic_id)
        (at,) = self._consumer.position([TopicPartition(self._settings.topic, self._partition)])
        if at.leader_epoch is not None:
            # What is fetched beyond the range may be of a later epoch: it was in the log then, which is all that counts.
            self._leader_epoch = at.leader_epoch
        return LogPosition(self._next_offset or 0, topic_id, self._leader_epoch, self._shift)

    def read(self, wanted: OffsetRange) -> tuple[OffsetRange, Records]:
        """All records of the range, or of its beginning if they are more than range_max_mb; one at least, if it has one.

        The range must lie below the partition's last stable offset. Ends by position, because transactions leave offsets
        without a record. Raises DataLost if retention was faster,
        PositionLost if it goes on in a log that was cut, EngineUnavailable if nothing comes for 30 s.
        """
        if wanted.first_offset != self._next_offset:
            self._seek(LogPosition(wanted.first_offset, shift=self._shift))
        self._next_offset = None
        self._fetch_to(wanted.next_offset)
        offsets = self._prefetched.offsets
        inside = int(np.searchsorted(offsets, wanted.next_offset))
        # guard: a range is read in sub-ranges
        count = min(inside, self._prefetched.count_within(self._most_bytes))
        is_whole = count == inside and self._reached_offset >= wanted.next_offset
        self._next_offset = wanted.next_offset if is_whole else int(offsets[count - 1]) + 1
        # The answer comes while the caller decodes and counts.
        self._asked = ask_topic(self._admin, self._settings)
        return OffsetRange(self._partition, wanted.first_offset, self._next_offset), self._prefetched.take(count)

    def close(self) -> None:
        """Let go of the broker."""
        self._fetcher.close()

    def _seek(self, position: LogPosition) -> None:
        self._knows_topic = True
        self._consumer.assign([position.place(self._settings.topic, self._partition)])
        self._prefetched = Records()
        self._reached_offset = position.next_offset

    def _watermarks(self) -> tuple[int, int]:
        self._knows_topic = True
        place = TopicPartition(self._settings.topic, self._partition)
        low, high = self._consumer.get_watermark_offsets(place, timeout=10)
        return int(low), int(high)

    def _fetch_to(self, next_offset: int) -> None:
        deadline = time.monotonic() + _STALLED_AFTER_S
        while self._reached_offset < next_offset and self._prefetched.size_bytes < self._most_bytes:
            # As many as fit if they are like the last ones.
            fitting = 1 + (self._most_bytes - self._prefetched.size_bytes) // self._mean_bytes
            missing = min(next_offset - self._reached_offset, fitting)
            fetched = self._fetcher.fetch(_CONSUME_TIMEOUT_S, missing)
            for _, piece in fetched.records:
                self._prefetched.add(piece, self._shift)
                self._mean_bytes = 1 + piece.size_bytes // len(piece)
                self._reached_offset = int(piece.offsets[-1]) + self._shift + 1
            for failure in fetched.failures:
                self._handle(failure.error, failure.offset)
            if fetched:
                deadline = time.monotonic() + _STALLED_AFTER_S
            elif time.monotonic() > deadline:
                # The next read starts anew.
                cause = (
                    f"partition {self._partition}: nothing from offset {self._reached_offset} for {_STALLED_AFTER_S:.0f} s"
                )
                raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, cause)

    def _handle(self, error: KafkaError, offset: int) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._reached_offset = max(self._reached_offset, offset + self._shift)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            wanted, (low, high) = self._reached_offset - self._shift, self._watermarks()
            if wanted < low:
                raise DataLost.before_read(_READER, self._partition, wanted, low)
            if wanted > high:
                raise PositionLost.shorter(_READER, self._settings.topic, self._partition, wanted, high)
            if TRUNCATED in error.str():
                raise PositionLost.cut(_READER, self._settings.topic, self._partition, wanted, error.str())
            raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, error.str())
        elif error.fatal() or not (error.retriable() or code in _TRANSIENT):
            raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, error.str())


_TRANSIENT = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT)
