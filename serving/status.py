"""What is up, how far each strand has come, and where a person connects. A server that is down is shown so, never raised."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from confluent_kafka.admin import AdminClient
from psycopg.rows import dict_row

from contract.errors import BraidError, EngineUnavailable
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.settings import Settings
from serving.archive_ends import archive_extents
from serving.database import NO_TLS, connect, reader_address
from serving.disk import Disk, archive_bytes, disk, kafka_log
from serving.gaps import OpenGap, open_gaps, unjudged_gaps, with_empty
from serving.log_check import lost_positions
from serving.log_ends import LogEnds, OpenTransaction, log_ends, open_transactions
from serving.spark_page import is_standalone, page_address, read_page
from serving.turn import GoingOn, going_on
from serving.unread import unread_partitions

TIMEOUT_S = 4.0
NIMBUS_PORT = 6627
NOT_KNOWN = "not known: "
"""How a line begins that says only why Kafka did not say."""


@dataclass(frozen=True)
class Health:
    """Whether one server answers, and what it says."""

    name: str
    address: str
    up: bool
    detail: str


@dataclass(frozen=True)
class Position:
    """Next offsets of one partition; None where the server that knows it is down.

    `kafka` is the high watermark, and lags count offsets behind it. Readers are not given those from
    `last_stable_offset` on, as long as the transaction that begins there is open.
    """

    partition: int
    kafka: int | None
    last_stable_offset: int | None
    archive: int | None
    speed: int | None
    batch: int | None

    @property
    def held_back(self) -> int | None:
        """How many offsets no reader is given yet: a lag that is not the reader's."""
        if self.kafka is None or self.last_stable_offset is None:
            return None
        return max(0, self.kafka - self.last_stable_offset)

    @property
    def archive_lag(self) -> int | None:
        return None if self.kafka is None or self.archive is None else max(0, self.kafka - self.archive)

    @property
    def speed_lag(self) -> int | None:
        return None if self.kafka is None or self.speed is None else max(0, self.kafka - self.speed)


@dataclass(frozen=True)
class Status:
    """Everything that `status` shows; `lost_positions` says which readers stand still because the log is another one,
    `archive_gaps` what no file of the archive has, as long as nobody has written down that it is lost, and `unread` of
    which partitions a reader has not begun to read what is there. `still_shown` are the statements of what is forgotten that
    no published run knows, and `going_on` the runs that have not ended.
    """

    health: list[Health]
    positions: list[Position]
    open_transactions: list[OpenTransaction]
    lost_positions: list[str]
    archive_gaps: list[OpenGap]
    unread: list[str]
    last_run: dict[str, Any] | None
    ledger: list[dict[str, Any]]
    addresses: dict[str, str]
    still_shown: list[dict[str, Any]] = field(default_factory=list)
    disk: Disk | None = None
    going_on: list[GoingOn] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        positions = [
            asdict(p) | {"held_back": p.held_back, "archive_lag": p.archive_lag, "speed_lag": p.speed_lag}
            for p in self.positions
        ]
        transactions = [asdict(one) | {"since": one.since and one.since.isoformat()} for one in self.open_transactions]
        gaps = [asdict(gap) | {"advice": gap.advice} for gap in self.archive_gaps]
        runs = [run.as_dict() for run in self.going_on]
        lists = {"positions": positions, "open_transactions": transactions, "archive_gaps": gaps, "going_on": runs}
        return asdict(self) | lists


@dataclass
class _Probe:
    """The answer of one server: its health and what else it was asked for."""

    health: Health
    answer: dict[str, Any] = field(default_factory=dict)


def read_status(settings: Settings, show_password: bool = False) -> Status:
    """Asks all servers at once; takes a few seconds at most, however many are down. No password unless it is asked for."""
    checks = (_kafka, _namenode, _nimbus, _spark, _database)
    with ThreadPoolExecutor(len(checks)) as pool:
        kafka, namenode, nimbus, spark, database = pool.map(lambda check: check(settings), checks)
    ledger = database.answer.get("ledger", [])
    extents: dict[int, Extent] = namenode.answer.get("extents", {})
    held = {partition: extent.end for partition, extent in extents.items()}
    archived = {partition: end.next_offset for partition, end in held.items()}
    stored = database.answer.get("log_positions", {})
    speed = {row["partition"]: row["next_offset"] for row in ledger}
    # Kafka's own offsets, as the reader counts that is farther.
    shifts = {p: max(at[p].shift for at in (held, stored) if p in at) for p in {*held, *stored}}
    ends: dict[int, LogEnds] = kafka.answer.get("ends", {})
    batch = {row["partition"]: row["batch_next_offset"] for row in ledger}
    partitions = sorted({*ends, *archived, *speed})
    return Status(
        health=[probe.health for probe in (kafka, namenode, nimbus, spark, database)],
        positions=[
            Position(
                p,
                ends[p].high_watermark + shifts.get(p, 0) if p in ends else None,
                ends[p].last_stable_offset + shifts.get(p, 0) if p in ends else None,
                archived.get(p),
                speed.get(p),
                batch.get(p),
            )
            for p in partitions
        ],
        open_transactions=kafka.answer.get("open", []),
        lost_positions=_lost(settings, held, stored) if kafka.health.up else [],
        archive_gaps=_gaps(settings, extents, ends) if kafka.health.up and namenode.health.up else unjudged_gaps(extents),
        unread=_unread(
            settings,
            ends,
            ({"the archiver": archived.keys()} if namenode.health.up else {})
            | ({"the speed layer": speed.keys()} if database.health.up else {}),
        ),
        last_run=database.answer.get("last_run"),
        ledger=ledger,
        addresses=addresses(settings, show_password),
        still_shown=database.answer.get("still_shown", []),
        disk=disk(
            settings,
            kafka.answer.get("log"),
            ends,
            extents if namenode.health.up else None,
            namenode.answer.get("archive_bytes"),
        ),
        going_on=database.answer.get("going_on", []),
    )


def addresses(settings: Settings, show_password: bool = False) -> dict[str, str]:
    """What a person or a client on this machine connects to; without the reader's password, unless it is to be shown."""
    # guard: no password is shown unasked
    password = {"SQL password": settings.secret("database_reader_password")} if show_password else {}
    return {
        "SQL (role reader)": reader_address(settings, "127.0.0.1", settings.port_database, show_password),
        "SQL through JDBC": (
            f"jdbc:postgresql://127.0.0.1:{settings.port_database}/{settings.database_name}?user=reader&{NO_TLS}"
        ),
        **(
            password or {"SQL password": "in build/secrets/database_reader_password; `make status SHOW_PASSWORD=1` shows it"}
        ),
        "Kafka bootstrap": f"127.0.0.1:{settings.port_kafka}",
        "Kafka topic": settings.topic,
        "HDFS NameNode page": f"http://127.0.0.1:{settings.port_namenode}",
        "Spark master page": f"http://127.0.0.1:{settings.port_spark}",
        "Collector": f"http://127.0.0.1:{settings.port_collector}",
        "Live page": f"http://127.0.0.1:{settings.port_page}",
        "Prometheus, with METRICS=1": f"http://127.0.0.1:{settings.port_prometheus}",
    }


def _probe(name: str, address: str, ask: Callable[[], tuple[str, dict[Any, Any]]]) -> _Probe:
    try:
        detail, answer = ask()
    # Whatever a client library raises means the same here: the server does not answer as it should.
    except Exception as error:
        return _Probe(Health(name, address, False, _first_line(error)))
    return _Probe(Health(name, address, True, detail), answer)


def _first_line(error: Exception) -> str:
    # Chained client errors bury the reason; the innermost says it.
    cause: BaseException = error
    while not isinstance(error, BraidError) and (cause.__cause__ or cause.__context__):
        cause = cause.__cause__ or cause.__context__ or cause
    return (" ".join(str(cause).split()) or type(cause).__name__)[:200]


def _kafka(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[str, Any]]:
        ends = log_ends(settings)
        answer = {"ends": ends, "open": open_transactions(settings, ends), "log": kafka_log(settings, ends)}
        return f"topic {settings.topic}, {len(ends)} partitions", answer

    return _probe("Kafka", settings.kafka_bootstrap, ask)


def _lost(settings: Settings, archived: Mapping[int, LogPosition], stored: Mapping[int, LogPosition]) -> list[str]:
    """Which positions are none of the log that Kafka has; that they could not be asked for, if so."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    try:
        readers = (("the archiver", archived), ("the speed layer", stored))
        return [str(lost) for name, held in readers for lost in lost_positions(settings, admin, name, held).values()]
    except BraidError as error:
        return [f"{NOT_KNOWN}{error}"]


def _gaps(settings: Settings, extents: Mapping[int, Extent], ends: Mapping[int, LogEnds]) -> list[OpenGap]:
    try:
        return open_gaps(settings, with_empty(extents, ends), ends)
    except BraidError:
        return unjudged_gaps(extents)


def _unread(settings: Settings, ends: Mapping[int, LogEnds], known: Mapping[str, Set[int]]) -> list[str]:
    """Which partitions have records that one of these readers has not begun with; that Kafka could not be asked, if so."""
    try:
        return [one.text() for one in unread_partitions(settings, ends, known)]
    except BraidError as error:
        return [f"{NOT_KNOWN}{error}"]


def _namenode(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[str, Any]]:
        files, extents = archive_extents(settings, TIMEOUT_S)
        answer = {"extents": extents, "archive_bytes": archive_bytes(settings, TIMEOUT_S)}
        return f"{files} files of the master dataset", answer

    return _probe("HDFS NameNode", settings.webhdfs_url, ask)


def _nimbus(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[Any, Any]]:
        socket.create_connection((settings.nimbus_host, NIMBUS_PORT), timeout=TIMEOUT_S).close()
        return "accepts connections", {}

    return _probe("Storm Nimbus", f"{settings.nimbus_host}:{NIMBUS_PORT}", ask)


def _spark(settings: Settings) -> _Probe:
    address = page_address(settings)

    def ask() -> tuple[str, dict[str, Any]]:
        if not is_standalone(settings):
            return f"{settings.spark_master} is not a standalone master: not asked", {}
        page = read_page(settings)
        # guard: a master that takes no runs is not up
        if page["status"] != "ALIVE":
            raise EngineUnavailable.for_now("Spark", settings.spark_master, f"is {page['status']}", "it takes no runs")
        return f"{page['aliveworkers']} workers", {}

    return _probe("Spark master", address, ask)


def _database(settings: Settings) -> _Probe:
    def ask() -> tuple[str, dict[str, Any]]:
        with connect(settings, "reader") as connection, connection.cursor(row_factory=dict_row) as cursor:
            ledger = cursor.execute("SELECT * FROM ledger ORDER BY partition").fetchall()
            positions = cursor.execute("SELECT * FROM log_positions").fetchall()
            still_shown = cursor.execute(
                "SELECT number, kind, said_at::text FROM forgotten WHERE run_id IS NULL ORDER BY number"
            ).fetchall()
            last_run = cursor.execute(
                "SELECT run_id, kind, state, started_at::text, published_at::text, "
                "extract(epoch FROM duration)::float8 AS duration_s, is_live, error "
                "FROM runs WHERE kind <> 'audit' ORDER BY run_id DESC LIMIT 1"
            ).fetchone()
            runs = going_on(connection)
        stored = {row.pop("partition"): LogPosition(**row) for row in positions}
        answer = {
            "ledger": ledger,
            "last_run": last_run,
            "log_positions": stored,
            "still_shown": still_shown,
            "going_on": runs,
        }
        return f"database {settings.database_name}", answer

    return _probe("TimescaleDB", f"{settings.database_host}:{settings.database_port}", ask)
