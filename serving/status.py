"""What is up, how far each part has come, and where a person connects. A part that is down is shown so, never raised."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import hdfs
import requests
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from psycopg.rows import dict_row

from contract.errors import BraidError
from contract.master import MASTER, OffsetRange, archived_next_offset, folder
from contract.settings import Settings
from serving.database import connect, reader_dsn

TIMEOUT_S = 4.0
NIMBUS_PORT = 6627
SPARK_PAGE_PORT = 8080


@dataclass(frozen=True)
class Health:
    """Whether one server answers, and what it says."""

    name: str
    address: str
    up: bool
    detail: str


@dataclass(frozen=True)
class Position:
    """Next offsets of one partition; None where the part that knows it is down. Lags count offsets behind Kafka's end."""

    partition: int
    kafka: int | None
    archive: int | None
    speed: int | None
    batch: int | None

    @property
    def archive_lag(self) -> int | None:
        return None if self.kafka is None or self.archive is None else max(0, self.kafka - self.archive)

    @property
    def speed_lag(self) -> int | None:
        return None if self.kafka is None or self.speed is None else max(0, self.kafka - self.speed)


@dataclass(frozen=True)
class Status:
    """Everything that `status` shows."""

    health: list[Health]
    positions: list[Position]
    last_run: dict[str, Any] | None
    ledger: list[dict[str, Any]]
    addresses: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        lags = [{"archive_lag": p.archive_lag, "speed_lag": p.speed_lag} for p in self.positions]
        return asdict(self) | {"positions": [asdict(p) | lag for p, lag in zip(self.positions, lags, strict=True)]}


@dataclass
class _Probe:
    """The answer of one server: its health and what else it was asked for."""

    health: Health
    answer: dict[str, Any] = field(default_factory=dict)


def read_status(settings: Settings) -> Status:
    """Asks all servers at once; takes a few seconds at most, however many are down."""
    checks = (_kafka, _namenode, _nimbus, _spark, _database)
    with ThreadPoolExecutor(len(checks)) as pool:
        kafka, namenode, nimbus, spark, database = pool.map(lambda check: check(settings), checks)
    ledger = database.answer.get("ledger", [])
    speed = {row["partition"]: row["next_offset"] for row in ledger}
    batch = {row["partition"]: row["batch_next_offset"] for row in ledger}
    partitions = sorted({*kafka.answer, *namenode.answer, *speed})
    return Status(
        health=[probe.health for probe in (kafka, namenode, nimbus, spark, database)],
        positions=[Position(p, kafka.answer.get(p), namenode.answer.get(p), speed.get(p), batch.get(p)) for p in partitions],
        last_run=database.answer.get("last_run"),
        ledger=ledger,
        addresses=addresses(settings),
    )


def addresses(settings: Settings) -> dict[str, str]:
    """What a person or a client on this machine connects to."""
    return {
        "SQL (role reader)": reader_dsn(settings, "127.0.0.1", settings.port_database),
        "Kafka bootstrap": f"127.0.0.1:{settings.port_kafka}",
        "Kafka topic": settings.topic,
        "HDFS NameNode page": f"http://127.0.0.1:{settings.port_namenode}",
        "Spark master page": f"http://127.0.0.1:{settings.port_spark}",
    }


def _probe(name: str, address: str, ask: Callable[[], tuple[str, dict[Any, Any]]]) -> _Probe:
    try:
        detail, answer = ask()
    # Whatever a client library raises means the same here: the server does not answer as it should.
    except Exception as error:
        return _Probe(Health(name, address, False, _first_line(error)))
    return _Probe(Health(name, address, True, detail), answer)


def _first_line(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    # Chained client errors bury the reason; the innermost says it.
    cause: BaseException = error
    while not isinstance(error, BraidError) and (cause.__cause__ or cause.__context__):
        cause = cause.__cause__ or cause.__context__ or cause
    return (" ".join(str(cause).split()) or type(cause).__name__)[:200]


def watermarks(settings: Settings) -> dict[int, tuple[int, int]]:
    """The first offset that Kafka still has, and the end, of each partition of the topic. Raises what the client raises."""
    errors: list[KafkaError] = []
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": "braid-status",
            "log_level": 0,
            "error_cb": errors.append,
        }
    )
    try:
        topic = consumer.list_topics(settings.topic, timeout=TIMEOUT_S).topics[settings.topic]
        if topic.error:
            raise ConnectionError(f"topic {settings.topic}: {topic.error.str()}")
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(settings.topic, partition), timeout=TIMEOUT_S)
            for partition in topic.partitions
        }
    finally:
        consumer.close()


def _kafka(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[int, int]]:
        ends = {partition: high for partition, (_, high) in watermarks(settings).items()}
        return f"topic {settings.topic}, {len(ends)} partitions", ends

    return _probe("Kafka", settings.kafka_bootstrap, ask)


def _namenode(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[int, int]]:
        client = hdfs.InsecureClient(settings.webhdfs_url, timeout=TIMEOUT_S)
        folders = (
            client.list(f"{settings.archive_root}/{MASTER}") if client.status(settings.archive_root, strict=False) else []
        )
        partitions = sorted(int(name.partition("=")[2]) for name in folders if name.startswith("partition="))
        files = {p: client.list(folder(settings.archive_root, MASTER, p)) for p in partitions}
        ranges = {p: [found for name in names if (found := OffsetRange.of_file(p, name))] for p, names in files.items()}
        detail = f"{sum(map(len, ranges.values()))} files of the master dataset"
        return detail, {p: archived_next_offset(found) for p, found in ranges.items()}

    return _probe("HDFS NameNode", settings.webhdfs_url, ask)


def _nimbus(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[Any, Any]]:
        socket.create_connection((settings.nimbus_host, NIMBUS_PORT), timeout=TIMEOUT_S).close()
        return "accepts connections", {}

    return _probe("Storm Nimbus", f"{settings.nimbus_host}:{NIMBUS_PORT}", ask)


def _spark(settings: Settings) -> _Probe:
    master = urlsplit(settings.spark_master)
    address = f"http://{master.hostname}:{SPARK_PAGE_PORT}"

    def ask() -> tuple[str, dict[Any, Any]]:
        if master.scheme != "spark":
            return f"{settings.spark_master} is not a standalone master: not asked", {}
        page = requests.get(f"{address}/json/", timeout=TIMEOUT_S)
        page.raise_for_status()
        return f"{page.json()['aliveworkers']} workers", {}

    return _probe("Spark master", address, ask)


def _database(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[str, Any]]:
        with connect(settings, "reader") as connection, connection.cursor(row_factory=dict_row) as cursor:
            ledger = cursor.execute("SELECT * FROM ledger ORDER BY partition").fetchall()
            last_run = cursor.execute(
                "SELECT run_id, kind, state, started_at::text, published_at::text, "
                "extract(epoch FROM duration)::float8 AS duration_s, is_live, error "
                "FROM runs WHERE kind <> 'audit' ORDER BY run_id DESC LIMIT 1"
            ).fetchone()
        return f"database {settings.database_name}", {"ledger": ledger, "last_run": last_run}

    return _probe("TimescaleDB", f"{settings.database_host}:{settings.database_port}", ask)
