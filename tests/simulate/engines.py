"""What stands in for the engines' clients: Kafka, HDFS and Spark in memory; PostgreSQL is the real one, with points added.

Only clients of third parties are replaced. All of Braid that calls them is the code that runs in production.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import psycopg
from confluent_kafka import KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]
from hdfs import HdfsError
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from requests import RequestException

from contract.errors import EngineUnavailable
from tests.fixtures.memory import MemoryConsumer, MemoryStore, MemoryTopic
from tests.simulate.process import Killed, Process, current, point, transaction_open

_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]


class Sessions:
    """Connections to the real database, used again by later processes: opening one costs more than a transaction."""

    def __init__(self, connect: Callable[..., psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._free: dict[str, list[psycopg.Connection[Any]]] = {}
        self._open: list[Session] = []
        self.commits = 0

    def open(self, *, user: str, **options: Any) -> Session:
        """What `psycopg.connect` gives."""
        point(f"{user}: before it connects", psycopg.OperationalError("connection refused"))
        free = self._free.setdefault(user, [])
        session = Session(self, user, free.pop() if free else self._connect(user=user, **options))
        self._open.append(session)
        return session

    def give_back(self, session: Session, connection: psycopg.Connection[Any]) -> None:
        """A process is done with a session."""
        self._open.remove(session)
        self._free[session.user].append(connection)

    def end(self, process: Process) -> None:
        """A process has ended: the server ends its sessions."""
        for session in [session for session in self._open if session.owner is process]:
            session.close()

    def close(self) -> None:
        """Close all connections."""
        for connections in self._free.values():
            for connection in connections:
                connection.close()


class Session:
    """A connection of one process, with points before BEGIN, before COMMIT and after COMMIT."""

    def __init__(self, sessions: Sessions, user: str, connection: psycopg.Connection[Any]) -> None:
        self._sessions, self._connection = sessions, connection
        self._given_back = self._lost = False
        self.user, self.owner, self.info = user, current(), connection.info
        # What a session learns of types is forgotten with it: the next one asks again, as a new connection does.
        self.adapters = AdaptersMap(connection.adapters)

    def execute(self, *arguments: Any, **options: Any) -> psycopg.Cursor[Any]:
        self._require()
        if self.info.transaction_status == TransactionStatus.IDLE:
            # A statement alone is a transaction, which can be cut off at the same points.
            with self.transaction():
                return self._connection.execute(*arguments, **options)
        return self._connection.execute(*arguments, **options)

    def cursor(self) -> psycopg.Cursor[Any]:
        self._require()
        return self._connection.cursor()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As psycopg's; the connection may be lost before the commit, or before its answer."""
        self._require()
        self._point("before BEGIN")
        with transaction_open(), self._connection.transaction():
            yield
            self._require()
            self._point("before COMMIT")
        self._sessions.commits += 1
        self._point("after COMMIT")

    def close(self) -> None:
        if not self._given_back:
            self._given_back = self._lost = True
            self._sessions.give_back(self, self._connection)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _require(self) -> None:
        if self.owner is not None and self.owner.killed:
            raise Killed
        if self._lost:
            raise psycopg.OperationalError("the connection is lost")

    def _point(self, name: str) -> None:
        lost = psycopg.OperationalError("server closed the connection unexpectedly")
        try:
            point(f"{self.user}: {name}", lost)
        except psycopg.OperationalError:
            self._lost = True
            raise


class SimulatedConsumer(MemoryConsumer):
    """confluent_kafka's Consumer: fetches of any size, an error now and then, and the end of a partition if asked for."""

    def __init__(self, config: Mapping[str, Any], topic: MemoryTopic, clock: Clock, chance: random.Random) -> None:
        super().__init__(topic, report_ends=bool(config.get("enable.partition.eof")))
        self._clock, self._chance = clock, chance

    def consume(self, count: int, timeout: float) -> list[Message]:
        point("kafka: before fetch")
        messages = super().consume(self._chance.randint(1, count) if self._chance.random() < 0.3 else count, timeout)
        if not messages:
            self._clock.sleep(timeout)
        return messages


@dataclass
class Clock:
    """The module `time` of a world."""

    now_s: float
    step_s: float = 0.0
    """By how much the time of day was set since the start."""

    def time(self) -> float:
        return self.now_s + self.step_s

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def monotonic(self) -> float:
        return self.now_s

    def said(self) -> str:
        """The time of day as statements say it."""
        return datetime.fromtimestamp(self.time(), UTC).isoformat(timespec="seconds")

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        point("asleep")


class Admin:
    """confluent_kafka's AdminClient: the partitions, where their logs begin and end, and the topic's id."""

    def __init__(self, topic: MemoryTopic) -> None:
        self._topic = topic

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=dict.fromkeys(self._topic.partitions))})

    def list_offsets(self, asked: Mapping[TopicPartition, Any], **options: Any) -> dict[TopicPartition, SimpleNamespace]:
        return {one: self._offset(one.partition, which) for one, which in asked.items()}

    def _offset(self, partition: int, which: Any) -> SimpleNamespace:
        if partition not in self._topic.partitions:
            return _failed(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        if which is _EARLIEST:
            return _done(SimpleNamespace(offset=self._topic.low_offsets.get(partition, 0), leader_epoch=None))
        epoch, _ = self._topic.epochs_of(partition)[-1]
        return _done(SimpleNamespace(offset=len(self._topic.partitions[partition]), leader_epoch=epoch))

    def describe_topics(self, topics: TopicCollection, **options: Any) -> dict[str, SimpleNamespace]:
        point("kafka: before the topic's id")
        partitions = [SimpleNamespace(id=partition) for partition in self._topic.partitions]
        return {topics.topic_names[0]: _done(SimpleNamespace(topic_id=self._topic.topic_id, partitions=partitions))}


def _done(value: Any) -> SimpleNamespace:
    return SimpleNamespace(result=lambda timeout=None: value)


def _failed(error: Exception) -> SimpleNamespace:
    def result(timeout: float | None = None) -> None:
        raise error

    return SimpleNamespace(result=result)


Entries = list[tuple[str, dict[str, Any]]]


class HdfsClient:
    """hdfs.InsecureClient's listing, and its reading."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    @contextmanager
    def read(self, path: str, offset: int) -> Iterator[BytesIO]:
        with _failures_of_the_client():
            content = self._store.read(path, offset)
        yield BytesIO(content)

    # Its name means the method from there on.
    def list(self, folder: str, status: bool) -> Entries:
        assert status
        with _failures_of_the_client():
            files, folders = self._store.list(folder), self._store.folders(folder)
        if not files and not folders:
            raise HdfsError(f"File {folder} does not exist.", exception="FileNotFoundException")
        inside: Entries = [(name, {}) for name in folders]
        return inside + [
            (file.name, {"modificationTime": file.modified_ms, "replication": 1, "length": file.size_bytes})
            for file in files
        ]


@contextmanager
def _failures_of_the_client() -> Iterator[None]:
    try:
        yield
    except EngineUnavailable as error:
        raise RequestException(str(error)) from error


class Spark:
    """A SparkContext whose tasks run one by one in the driver; one that fails is tried again, others may be too."""

    _ATTEMPTS = 4
    defaultParallelism = 2  # noqa: N815 Spark's own name

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def parallelize(self, items: list[Any], partitions: int) -> Rdd:
        assert len(items) == partitions
        return Rdd(self, [[item] for item in items])

    def broadcast(self, value: Any) -> SimpleNamespace:
        return SimpleNamespace(value=value)

    def runJob(self, rdd: Rdd, function: Callable[[Iterator[Any]], list[Any]], wanted: list[int]) -> list[Any]:  # noqa: N802
        return [item for number in wanted for item in function(iter(rdd.partitions[number]))]

    def stop(self) -> None:
        pass

    def task(self, action: Callable[[], list[Any]]) -> list[Any]:
        """The action's result."""
        for attempt in range(self._ATTEMPTS):
            try:
                done = action()
                break
            except EngineUnavailable:
                if attempt == self._ATTEMPTS - 1:
                    raise
        if self.chance.random() < 0.1:
            try:
                return action()
            except EngineUnavailable:
                pass
        return done


@dataclass
class Rdd:
    """Spark's RDD, as lists, one a partition; each step is done at once."""

    spark: Spark
    partitions: list[list[Any]]

    def mapPartitionsWithIndex(self, function: Callable[[int, Iterator[Any]], Iterable[Any]]) -> Rdd:  # noqa: N802 Spark's
        done: dict[int, list[Any]] = {}
        for index in self.spark.chance.sample(range(len(self.partitions)), len(self.partitions)):
            items = self.partitions[index]
            done[index] = self.spark.task(lambda index=index, items=items: list(function(index, iter(items))))
        return Rdd(self.spark, [done[index] for index in range(len(self.partitions))])

    def mapPartitions(self, function: Callable[[Iterator[Any]], Iterable[Any]]) -> Rdd:  # noqa: N802 Spark's
        return self.mapPartitionsWithIndex(lambda _, items: function(items))

    def map(self, function: Callable[[Any], Any]) -> Rdd:
        return self.mapPartitions(lambda items: map(function, items))

    def flatMap(self, function: Callable[[Any], Iterable[Any]]) -> Rdd:  # noqa: N802 Spark's
        return self.mapPartitions(lambda items: (made for item in items for made in function(item)))

    def partitionBy(self, count: int, number_of: Callable[[int], int]) -> Rdd:  # noqa: N802 Spark's
        dealt: list[list[Any]] = [[] for _ in range(count)]
        for key, value in (pair for items in self.partitions for pair in items):
            dealt[number_of(key) % count].append((key, value))
        for items in dealt:
            self.spark.chance.shuffle(items)
        return Rdd(self.spark, dealt)

    def collect(self) -> list[Any]:
        return [item for items in self.partitions for item in items]
