"""What a consumer has is taken as columns, many records at once, and no object is made of each.

confluent-kafka makes an object of every message. librdkafka, which it is made of, gives many messages at once as
pointers; a compiled loop copies their values out. All else is left to the consumer: what is assigned, where it stands,
and which errors there are. It calls the same function of librdkafka itself. Where the library is not as it is known here,
the consumer's own call is used, with the same results. A consumer must be assigned to and never subscribe, nor have
callbacks: they would be called without the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message

from contract.records import Records

_NAME = re.compile(rb"[^\0]*#consumer-[0-9]+\0")
_LONGEST_NAME = 128
_said: set[str] = set()


@dataclass(frozen=True)
class Failure:
    """An error that came in place of a record; the end of a partition is one too."""

    error: KafkaError
    partition: int
    offset: int


@dataclass(frozen=True)
class Fetched:
    """Records in the order of their offsets, those of one partition in one or more pieces; and errors."""

    records: Sequence[tuple[int, Records]]
    failures: Sequence[Failure]

    def __bool__(self) -> bool:
        return bool(self.records or self.failures)


class Fetcher:
    """Takes messages by the consumer's own call."""

    MOST_MESSAGES = 500
    """At once, whatever is asked for: it bounds what large values take in memory until they are counted.

    By the consumer's own call each is an object that Python's cyclic collector knows. These are too few to wake it, and
    stay in the processor's cache: of 10,000 at once each takes half as long again."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def fetch(self, most_messages: int, timeout_s: float) -> Fetched:
        """As many messages, or fewer if no more come in time."""
        records: list[Message] = []
        failures: list[Failure] = []
        for message in self._consumer.consume(min(most_messages, self.MOST_MESSAGES), timeout_s):
            if (error := message.error()) is None:
                records.append(message)
            else:
                failures.append(Failure(error, message.partition() or 0, message.offset() or 0))
        of_partitions = [(partition or 0, Records.of(list(some))) for partition, some in groupby(records, Message.partition)]
        return Fetched(of_partitions, failures)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


class BatchFetcher(Fetcher):
    """Takes messages from librdkafka's queue."""

    def __init__(self, consumer: Consumer, library: ctypes.CDLL, client: int) -> None:
        super().__init__(consumer)
        # Submitting the topology imports this module too, and compiles nothing.
        from contract.loops import messages

        self._loops = messages
        self._library = library
        self._queue = library.rd_kafka_queue_get_consumer(client)
        self._functions = [
            np.uint64(ctypes.cast(function, ctypes.c_void_p).value or 0)
            for function in (library.rd_kafka_message_timestamp, library.rd_kafka_message_destroy)
        ]
        self._messages = np.zeros(self.MOST_MESSAGES, np.uint64)

    def fetch(self, most_messages: int, timeout_s: float) -> Fetched:
        """As many messages, or fewer if no more come in time."""
        if self._queue is None:
            # It says that it is closed.
            return super().fetch(most_messages, timeout_s)
        most, timeout_ms = min(most_messages, self.MOST_MESSAGES), int(timeout_s * 1000)
        count = self._library.rd_kafka_consume_batch_queue(self._queue, timeout_ms, self._messages.ctypes.data, most)
        if count < 0:
            # It says why.
            return super().fetch(most_messages, 0)
        if count == 0:
            return Fetched((), ())
        partitions, offsets, times_ms = (np.empty(count, np.int64) for _ in range(3))
        ends, present = np.empty(count + 1, np.int64), np.empty(count, np.bool_)
        text = np.empty(self._loops.size_bytes(self._messages, count), np.uint8)
        rows = self._loops.take(self._messages, count, *self._functions, partitions, offsets, times_ms, ends, present, text)
        failures = [self._failure(message) for message in self._messages[: count - rows].tolist()]
        content, places = text.tobytes(), ends[: rows + 1].tolist()
        values: list[bytes | None] = [content[first:after] for first, after in pairwise(places)]
        for none in np.flatnonzero(~present[:rows]).tolist():
            values[none] = None
        records = []
        for first, after in pairwise([*np.flatnonzero(np.diff(partitions[:rows], prepend=-1)).tolist(), rows]):
            size_bytes = places[after] - places[first]
            of_partition = Records(
                offsets[first:after].tolist(), times_ms[first:after].tolist(), values[first:after], size_bytes
            )
            records.append((int(partitions[first]), of_partition))
        return Fetched(records, failures)

    def close(self) -> None:
        """Close the consumer."""
        if self._queue is not None:
            self._library.rd_kafka_queue_destroy(self._queue)
            self._queue = None
        super().close()

    def _failure(self, message: int) -> Failure:
        told = _Message.from_address(message)
        reason = self._library.rd_kafka_message_errstr(message)
        error = KafkaError(told.error, reason.decode("utf-8", "replace"))
        failure = Failure(error, max(told.partition, 0), max(told.offset, 0))
        self._library.rd_kafka_message_destroy(message)
        return failure


class _Message(ctypes.Structure):
    """rd_kafka_message_t."""

    _fields_ = (
        ("error", ctypes.c_int),
        ("topic", ctypes.c_void_p),
        ("partition", ctypes.c_int32),
        ("value", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_length", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("private", ctypes.c_void_p),
    )


class _NotAsKnown(Exception):
    """Why messages cannot be taken from librdkafka's queue."""


def fetcher(consumer: Consumer, log: Callable[[str], None]) -> Fetcher:
    """What takes most at once from the consumer. If that is its own call, `log` gets the reason, once in a process."""
    if not isinstance(consumer, Consumer):
        # What only behaves like one has no library.
        return Fetcher(consumer)
    try:
        library = _library()
        return BatchFetcher(consumer, library, _client(consumer, library))
    except _NotAsKnown as reason:
        text = f"Kafka's records are taken one by one, which takes longer and gives the same: {reason}"
        # guard: the slower way is told once
        if text not in _said:
            log(text)
        _said.add(text)
    return Fetcher(consumer)


@cache
def _library() -> ctypes.CDLL:
    """The librdkafka that this process has loaded with confluent-kafka."""
    if sys.maxsize < 2**63 - 1 or not os.path.exists("/proc/self/maps"):
        raise _NotAsKnown("this is no Linux of 64 bits")
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        found = re.search(r"(/\S*librdkafka\S*)$", maps.read(), re.MULTILINE)
    if found is None:
        raise _NotAsKnown("confluent-kafka has loaded no librdkafka")
    pointer = ctypes.c_void_p
    known = {
        "rd_kafka_name": (pointer, [pointer]),
        "rd_kafka_queue_get_consumer": (pointer, [pointer]),
        "rd_kafka_queue_destroy": (None, [pointer]),
        "rd_kafka_consume_batch_queue": (ctypes.c_ssize_t, [pointer, ctypes.c_int, pointer, ctypes.c_size_t]),
        "rd_kafka_message_errstr": (ctypes.c_char_p, [pointer]),
        "rd_kafka_message_destroy": (None, [pointer]),
        "rd_kafka_message_timestamp": (ctypes.c_int64, [pointer, pointer]),
    }
    try:
        library = ctypes.CDLL(found[1])
        for name, (result, arguments) in known.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise _NotAsKnown(str(error)) from error
    return library


def _client(consumer: Any, library: ctypes.CDLL) -> int:
    """The library's own handle of a consumer, which confluent-kafka has first in its object and gives to nobody.

    rd_kafka_name only adds to the pointer, and what is there is read so that a wrong one is no crash but no name.
    """
    unknown = _NotAsKnown("the object of confluent-kafka's consumer has no handle of librdkafka where it was")
    if type(consumer).__basicsize__ < object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p):
        raise unknown
    client = ctypes.c_void_p.from_address(id(consumer) + object.__basicsize__).value
    try:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            name = os.pread(memory.fileno(), _LONGEST_NAME, library.rd_kafka_name(client)) if client else b""
    except (OSError, OverflowError) as error:
        raise unknown from error
    # guard: a handle is proved
    if client is None or not _NAME.match(name):
        raise unknown
    return client
