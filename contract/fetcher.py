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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message

from contract.records import NONE, PADDING_BYTES, PIECE_BYTES, PIECE_RECORDS, Piece, pieces_of

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
    """Records in the order of their offsets, each piece with its partition; and errors."""

    records: Sequence[tuple[int, Piece]]
    failures: Sequence[Failure]

    def __bool__(self) -> bool:
        return bool(self.records or self.failures)


class Fetcher:
    """Takes messages by the consumer's own call."""

    MOST_MESSAGES = 500
    """In one call of the client's, whatever is asked for: it bounds what large values take in memory until they are counted.

    By the consumer's own call each is an object that Python's cyclic collector knows. These are too few to wake it.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def fetch(self, timeout_s: float, most_messages: int = PIECE_RECORDS) -> Fetched:
        """As many messages, or fewer if no more come in time or they are large; an error is in place of one."""
        records: list[Message] = []
        failures: list[Failure] = []
        for message in self._consumer.consume(min(most_messages, self.MOST_MESSAGES), timeout_s):
            if (error := message.error()) is None:
                records.append(message)
            else:
                failures.append(Failure(error, message.partition() or 0, message.offset() or 0))
        pieces = [
            (partition or 0, piece)
            for partition, some in groupby(records, Message.partition)
            for piece in _pieces(list(some))
        ]
        return Fetched(pieces, failures)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def _pieces(messages: Sequence[Message]) -> Iterator[Piece]:
    times_ms = [time_ms for _, time_ms in map(Message.timestamp, messages)]
    # Records, unlike errors, always have an offset.
    return pieces_of(list(map(Message.offset, messages)), times_ms, list(map(Message.value, messages)))  # type: ignore[arg-type]


class BatchFetcher(Fetcher):
    """Takes messages from librdkafka's queue."""

    def __init__(self, consumer: Consumer, library: ctypes.CDLL, client: int) -> None:
        super().__init__(consumer)
        # Submitting the topology imports this module too, and compiles nothing.
        from contract.loops import messages

        self._loops = messages
        self._library = library
        self._queue = library.rd_kafka_queue_get_consumer(client)
        self._timestamp, self._destroy = map(
            _address, (library.rd_kafka_message_timestamp, library.rd_kafka_message_destroy)
        )
        self._messages = np.zeros(PIECE_RECORDS, np.uint64)

    def fetch(self, timeout_s: float, most_messages: int = PIECE_RECORDS) -> Fetched:
        """As many messages, or fewer if no more come in time or they are large; an error is in place of one."""
        if self._queue is None:
            # It says that it is closed.
            return super().fetch(timeout_s, most_messages)
        found = self._wait(int(timeout_s * 1000), min(most_messages, PIECE_RECORDS))
        if found < 0:
            # It says why.
            return super().fetch(0, most_messages)
        pieces: list[tuple[int, Piece]] = []
        failures: list[Failure] = []
        first = 0
        try:
            while first < found:
                count, size_bytes = self._loops.run(self._messages, first, found, PIECE_BYTES)
                if count:
                    pieces.append(self._piece(first, count, size_bytes))
                    first += count
                else:
                    failures.append(self._failure(int(self._messages[first])))
                    first += 1
        finally:
            # A client waits for its messages when it is closed.
            # guard: messages are given back
            for left in self._messages[first:found].tolist():
                self._library.rd_kafka_message_destroy(left)
        return Fetched(pieces, failures)

    def _wait(self, timeout_ms: int, most: int) -> int:
        """How many messages there are now; -1 if it has failed."""
        found = size_bytes = 0
        # guard: large values are few
        while found < most and size_bytes < PIECE_BYTES:
            asked = min(most - found, self.MOST_MESSAGES)
            place = self._messages.ctypes.data + found * self._messages.itemsize
            came = self._library.rd_kafka_consume_batch_queue(self._queue, 0 if found else timeout_ms, place, asked)
            if came < 0:
                return found or -1
            size_bytes += self._loops.size_bytes(self._messages, found, found + came)
            found += came
            if came < asked:
                break
        return found

    def _piece(self, first: int, count: int, size_bytes: int) -> tuple[int, Piece]:
        partition = _Message.from_address(int(self._messages[first])).partition
        offsets, times_ms, lengths = (np.empty(count, np.int64) for _ in range(3))
        text = np.empty(size_bytes + PADDING_BYTES, np.uint8)
        self._loops.take(self._messages, first, self._timestamp, self._destroy, offsets, times_ms, lengths, text, NONE)
        return partition, Piece(offsets, times_ms, lengths, text)

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


def _address(function: Any) -> np.uint64:
    return np.uint64(ctypes.cast(function, ctypes.c_void_p).value or 0)


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
