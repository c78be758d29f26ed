"""Ranges of offsets from one Kafka partition, in order and complete; what was fetched beyond one is kept for the next."""

from __future__ import annotations

import time
from bisect import bisect_left

from confluent_kafka import Consumer, KafkaError, TopicPartition

from contract.errors import DataLost, EngineUnavailable
from contract.master import OffsetRange
from contract.records import CONSUME_MESSAGES, Records, parted
from contract.settings import Settings

_CONSUME_TIMEOUT_S = 0.2
_STALLED_AFTER_S = 30.0


class RangeReader:
    """Reads the ranges of one partition; those that follow each other need no seek."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._settings = settings
        self._partition = partition
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_bootstrap,
                "group.id": "braid-speed",  # required by the client; offsets are never committed to Kafka
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.queue.backoff.ms": 10,
                "queued.max.messages.kbytes": 65_536,
            }
        )
        self._prefetched = Records()
        self._next_offset: int | None = None
        self._reached_offset = 0

    def low_offset(self) -> int:
        """The first offset that the broker still has."""
        low, _ = self._consumer.get_watermark_offsets(TopicPartition(self._settings.topic, self._partition), timeout=10)
        return int(low)

    def read(self, wanted: OffsetRange) -> Records:
        """All records of the range; it must lie below the partition's last stable offset.

        Ends by position, because transactions leave offsets without a record. Raises DataLost if retention was faster,
        EngineUnavailable if nothing comes for 30 s.
        """
        if wanted.first_offset != self._next_offset:
            self._seek(wanted.first_offset)
        self._fetch_to(wanted.next_offset)
        self._next_offset = wanted.next_offset
        return self._prefetched.take(bisect_left(self._prefetched.offsets, wanted.next_offset))

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def _seek(self, offset: int) -> None:
        self._consumer.assign([TopicPartition(self._settings.topic, self._partition, offset)])
        self._prefetched = Records()
        self._reached_offset = offset

    def _fetch_to(self, next_offset: int) -> None:
        deadline = time.monotonic() + _STALLED_AFTER_S
        while self._reached_offset < next_offset:
            missing = min(CONSUME_MESSAGES, next_offset - self._reached_offset)
            messages = self._consumer.consume(missing, _CONSUME_TIMEOUT_S)
            records, errors = parted(messages)
            if records:
                self._prefetched.add(records)
                self._reached_offset = self._prefetched.offsets[-1] + 1
            for message in errors:
                self._handle(message.error(), message.offset())
            if messages:
                deadline = time.monotonic() + _STALLED_AFTER_S
            elif time.monotonic() > deadline:
                # The records may be in other hands than expected; the next read starts anew.
                self._next_offset = None
                cause = (
                    f"partition {self._partition}: nothing from offset {self._reached_offset} for {_STALLED_AFTER_S:.0f} s"
                )
                raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, cause)

    def _handle(self, error: KafkaError, offset: int | None) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._reached_offset = max(self._reached_offset, offset or 0)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise DataLost.before_read("the speed layer", self._partition, self._reached_offset, self.low_offset())
        elif error.fatal() or not (error.retriable() or code in _TRANSIENT):
            self._next_offset = None
            raise EngineUnavailable.at("Kafka", self._settings.kafka_bootstrap, error.str())


_TRANSIENT = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT)
