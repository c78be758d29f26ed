"""What stands in for the engines' clients: Kafka, HDFS and Spark in memory; PostgreSQL is the real one, with points added.

Only clients of third parties are replaced. All of Braid that calls them is the code that runs in production.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import polars as pl
import psycopg
import pyarrow.parquet as pq
from confluent_kafka import TopicPartition
from hdfs import HdfsError
from requests import RequestException

from batch import job
from contract.errors import EngineUnavailable
from contract.master import OffsetRange, Slice
from contract.settings import Settings
from tests.fixtures.memory import MemoryConsumer, MemoryMessage, MemoryStore, MemoryTopic
from tests.simulate.process import Killed, Process, current, point


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

    def execute(self, *arguments: Any) -> psycopg.Cursor[Any]:
        self._require()
        return self._connection.execute(*arguments)

    def cursor(self) -> psycopg.Cursor[Any]:
        self._require()
        return self._connection.cursor()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As psycopg's; the connection may be lost before the commit, or before its answer."""
        self._require()
        self._point("before BEGIN")
        with self._connection.transaction():
            yield
            self._require()
            self._point("before COMMIT", holds_locks=True)
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

    def _point(self, name: str, holds_locks: bool = False) -> None:
        lost = psycopg.OperationalError("server closed the connection unexpectedly")
        try:
            point(f"{self.user}: {name}", lost, holds_locks)
        except psycopg.OperationalError:
            self._lost = True
            raise


class SimulatedConsumer(MemoryConsumer):
    """confluent_kafka's Consumer: fetches of any size, an error now and then, and the end of a partition if asked for."""

    def __init__(self, config: Mapping[str, Any], topic: MemoryTopic, clock: Clock, chance: random.Random) -> None:
        super().__init__(topic, report_ends=bool(config.get("enable.partition.eof")))
        self._clock, self._chance = clock, chance

    def consume(self, count: int, timeout: float) -> list[MemoryMessage]:
        point("kafka: before fetch")
        messages = super().consume(self._chance.randint(1, count) if self._chance.random() < 0.3 else count, timeout)
        if not messages:
            self._clock.sleep(timeout)
        return messages

    def close(self) -> None:
        pass


@dataclass
class Clock:
    """The module `time` of a world."""

    now_s: float

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        point("asleep")


class Admin:
    """confluent_kafka's AdminClient: the last stable offsets."""

    def __init__(self, topic: MemoryTopic) -> None:
        self._topic = topic

    def list_offsets(self, asked: Mapping[TopicPartition, Any], **options: Any) -> dict[TopicPartition, SimpleNamespace]:
        return {one: _done(SimpleNamespace(offset=len(self._topic.partitions[one.partition]))) for one in asked}


def _done(value: Any) -> SimpleNamespace:
    return SimpleNamespace(result=lambda: value)


class HdfsClient:
    """hdfs.InsecureClient's listing."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def list(self, folder: str, status: bool) -> list[tuple[str, dict[str, Any]]]:
        try:
            files = self._store.list(folder)
        except EngineUnavailable as error:
            raise RequestException(str(error)) from error
        if not files:
            raise HdfsError(f"File {folder} does not exist.")
        return [(file.name, {"modificationTime": file.modified_ms, "replication": 1}) for file in files]


class Spark:
    """batch.job with its functions given to groups one by one instead of by a cluster; a task that fails is tried again."""

    _ATTEMPTS = 4

    def __init__(self, store: MemoryStore, chance: random.Random) -> None:
        self._store, self._chance = store, chance

    def session(self, settings: Settings) -> SimpleNamespace:
        return SimpleNamespace(stop=lambda: None)

    def read_slices(
        self, spark: Any, slices: Sequence[Slice], url: Callable[[OffsetRange], str], columns: Sequence[str]
    ) -> pl.DataFrame:
        parts = []
        for piece in slices:
            path = url(piece.file).removeprefix(Settings.hdfs_url)
            rows = pl.DataFrame(pl.from_arrow(pq.read_table(io.BytesIO(self._store.read(path)))))
            parts.append(rows.filter(pl.col("offset").is_between(piece.first_offset, piece.next_offset, closed="left")))
        return pl.concat(parts).select(columns)

    def count_records(self, rows: pl.DataFrame) -> Counter[int]:
        return Counter(rows["partition"].to_list())

    def read_rejects(self, rows: pl.DataFrame, first_offsets: Mapping[int, int]) -> pl.DataFrame:
        first = pl.col("partition").replace_strict(first_offsets, return_dtype=pl.Int64)
        return rows.filter(pl.col("offset") >= first)

    def compute(self, events: pl.DataFrame, settings: Settings, run_id: int, offsets: int) -> list[job.DayCounts]:
        """Groups by (day, shard) and then by day, in any order; a day's task may run again although it was successful."""
        sharded = events.with_columns(
            pl.col("event_time").dt.date().alias("day"), (pl.col("event_id").hash(7) % 2).alias("shard")
        )
        partials: dict[Any, list[Any]] = {}
        for (day, _), group in sharded.group_by("day", "shard", maintain_order=True):
            partials.setdefault(day, []).append(job.fold_group((_scalar(day), _scalar(0)), group.to_arrow()))
        done = []
        days = list(partials)
        self._chance.shuffle(days)
        for day in days:
            group = job.pa.concat_tables(partials[day])
            counts = self._task(lambda day=day, group=group: job.write_day(settings, run_id, (_scalar(day),), group))
            if self._chance.random() < 0.2:
                self._task(lambda day=day, group=group: job.write_day(settings, run_id, (_scalar(day),), group))
            done += [job.DayCounts(**row) for row in counts.to_pylist()]
        return done

    def _task(self, action: Callable[[], Any]) -> Any:
        for attempt in range(self._ATTEMPTS):
            try:
                return action()
            except EngineUnavailable:
                if attempt == self._ATTEMPTS - 1:
                    raise
        return None


def _scalar(value: Any) -> SimpleNamespace:
    return SimpleNamespace(as_py=lambda: value)
