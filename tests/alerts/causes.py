"""What makes each alert fire on a real stack, and how that ends. Causes of one group go on at the same time."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from contract.master import MASTER
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.topics import add_partitions
from serving.database import connect
from tests.drill.faults import BATCH, BatchRun, Faults
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import make_again
from tests.fixtures.stack import ROOT, Stack

_DISK_MB, _FULL_MB = 1_024, 870
_FAR_BEHIND = 1_050_000
_SESSIONS = 75
_WITHIN_S = 180


@dataclass(frozen=True)
class Place:
    """The stack, and what can be done to it."""

    stack: Stack
    faults: Faults

    def own(self, statement: str) -> None:
        """A statement of the database's owner."""
        with connect(self.stack.settings, "postgres") as connection:
            connection.execute(statement.encode())

    def send(self, values: Any, partition: int = -1) -> None:
        """Values into the topic, each of them."""
        # Packed, for some are alike by the million, and the disk is small.
        config = {"bootstrap.servers": self.stack.settings.kafka_bootstrap, "linger.ms": 50, "compression.type": "zstd"}
        producer, failed = Producer(config), []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(error)

        for value in values:
            while True:
                try:
                    producer.produce(self.stack.settings.topic, value, partition=partition, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert failed == []

    def batch(self, *options: str, check: bool = True) -> None:
        """A batch run, to its end."""
        done = subprocess.run([*BATCH, *options], cwd=ROOT, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr

    def going_on(self) -> None:
        """A run goes on, or AssertionError."""
        assert self.stack.ask("SELECT FROM runs WHERE state = 'running'"), "no run goes on"


@dataclass(frozen=True)
class Cause:
    """Within `done` the alerts come to fire. Where one looks back for minutes, they do not end with it."""

    alerts: tuple[str, ...]
    text: str
    done: Callable[[Place], AbstractContextManager[None]]
    ends: bool = True


def event(site: str, number: int) -> bytes:
    """An event of now."""
    fields = {"event_id": f"{site}-{number}", "event_time": datetime.now(UTC).isoformat(), "site": site, "page": "/"}
    return json.dumps(fields | {"visitor_id": "v", "status": 200, "bytes_sent": number}).encode()


@contextmanager
def drift(place: Place) -> Iterator[None]:
    (table,) = place.faults.owner_asks(
        "SELECT relname FROM pg_class WHERE relnamespace = 'serving'::regnamespace AND relkind = 'r' "
        "AND relname ~ '^speed_site_traffic' ORDER BY relname LIMIT 1"
    )
    place.own(f"UPDATE serving.{table[0]} SET views = views + 1")
    place.batch("batch", "python", "-m", "batch", "run", "--wait")
    yield
    place.batch("batch", "python", "-m", "batch", "run", "--wait")


@contextmanager
def failed_run(place: Place) -> Iterator[None]:
    place.send(event("failed", number) for number in range(10))
    place.stack.wait_until_counted()
    place.batch("-e", "SPARK_MASTER=spark:nowhere", "batch", check=False)
    yield


@contextmanager
def half_forgotten(place: Place) -> Iterator[None]:
    """`make forget` that broke off before its run."""
    site = place.stack.ask("SELECT site FROM site_traffic WHERE batch_views > 0 ORDER BY site LIMIT 1")[0][0]
    plan = place.stack.tools("-m", "ingest", "forget-plan", "--site", site)
    said = place.stack.compose("run", "--rm", "-T", "--no-deps", "tools", "-m", "ingest", "say", text=plan)
    record = ("run", "--rm", "-T", "--no-deps", "batch", "python", "-m", "serving", "record-forgotten")
    place.stack.compose(*record, text=said)
    place.stack.tools("-m", "ingest", "forget")
    yield


@contextmanager
def frozen_run(place: Place) -> Iterator[None]:
    run = BatchRun(place.faults)
    eventually(place.going_on, _WITHIN_S)
    with run.frozen():
        yield
    run.finish()


@contextmanager
def wrong_ledger(place: Place) -> Iterator[None]:
    newest = "SELECT partition, epoch FROM serving.speed_ledger ORDER BY epoch DESC, partition LIMIT 1"
    ((partition, epoch),) = place.faults.owner_asks(newest)
    change = "UPDATE serving.speed_ledger SET received = received {} 1 "
    change += f"WHERE partition = {partition} AND epoch = {epoch}"
    place.own(change.format("+"))
    yield
    place.own(change.format("-"))


@contextmanager
def two_days_ago(place: Place) -> Iterator[None]:
    change = "UPDATE serving.run SET published_at = published_at {} interval '2 days' "
    change += "WHERE run_id = (SELECT run_id FROM public.runs WHERE is_live)"
    place.own(change.format("-"))
    yield
    place.own(change.format("+"))


@contextmanager
def no_events(place: Place) -> Iterator[None]:
    place.send(repeat(b"not an event", 3_000))
    yield


@contextmanager
def open_transaction(place: Place) -> Iterator[None]:
    producer = Producer(
        {
            "bootstrap.servers": place.stack.settings.kafka_bootstrap,
            "transactional.id": f"alerts-{uuid.uuid4().hex[:6]}",
            "transaction.timeout.ms": 900_000,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(place.stack.settings.topic, event("open", 1), partition=0)
    producer.flush(30)
    yield
    producer.abort_transaction(30)


@contextmanager
def full_disk(place: Place) -> Iterator[None]:
    file = "/ballast/kafka/ballast"
    place.faults.inside("ballast", "dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={_FULL_MB}")
    try:
        yield
    finally:
        place.faults.inside("ballast", "rm", "-f", file)


@contextmanager
def many_sessions(place: Place) -> Iterator[None]:
    with ExitStack() as sessions:
        for _ in range(_SESSIONS):
            sessions.enter_context(connect(place.stack.settings, "postgres"))
        yield


def killed(service: str) -> Callable[[Place], AbstractContextManager[None]]:
    """The container is gone within the block."""

    @contextmanager
    def within(place: Place) -> Iterator[None]:
        place.faults.kill_and_keep_down(service)
        try:
            yield
        finally:
            place.faults.start(service)

    return within


@contextmanager
def no_archiver(place: Place) -> Iterator[None]:
    """It is gone; a file is gone, too; and a partition comes that it has never seen."""
    settings = place.stack.settings
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    gone = min(files.ranges(0, MASTER))
    with killed("archiver")(place):
        files.delete(gone)
        partitions = 1 + max(place.stack.shifts())
        add_partitions(settings, partitions + 1)
        place.send((event("new", number) for number in range(100)), partition=partitions)
        place.send(event("behind", number) for number in range(1_000))
        yield


@contextmanager
def no_commits(place: Place) -> Iterator[None]:
    """The database refuses what the speed layer brings, and ever more comes."""
    change = """DO $$ DECLARE one regprocedure; BEGIN
        FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'serving'::regnamespace AND proname = 'commit_range' LOOP
            EXECUTE format('{} EXECUTE ON FUNCTION %s {} speed', one); END LOOP; END $$"""
    place.own(change.format("REVOKE", "FROM"))
    try:
        place.send(repeat(event("again", 1), _FAR_BEHIND), partition=1)
        yield
    finally:
        place.own(change.format("GRANT", "TO"))


@contextmanager
def dying_bolts(place: Place) -> Iterator[None]:
    """Each time the worker goes with one of them, and Storm starts all anew."""
    for _ in range(3):
        before = place.faults.processes("supervisor", "SketchBolt")
        place.faults.kill("supervisor", "-f", "SketchBolt")

        def started(before: set[str] = before) -> None:
            assert len(place.faults.processes("supervisor", "SketchBolt") - before) >= len(before) > 0

        eventually(started, _WITHIN_S)
    yield


@contextmanager
def hanging_exporter(place: Place) -> Iterator[None]:
    """The database freezes while the exporter waits for a lock: no time limit of the server's runs any more."""

    def waits() -> None:
        (sessions,) = place.stack.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND wait_event_type = 'Lock'", "postgres"
        )[0]
        assert sessions, "the exporter does not wait"

    with place.faults.held("LOCK TABLE serving.run IN ACCESS EXCLUSIVE MODE"):
        eventually(waits, _WITHIN_S)
        with place.faults.frozen("timescaledb"):
            yield


@contextmanager
def another_topic(place: Place) -> Iterator[None]:
    make_again(place.stack.settings)
    yield


GROUPS: dict[str, tuple[Cause, ...]] = {
    "database": (
        Cause(("BraidViewsDrifted",), "speed rows are changed by hand, then a run", drift),
        Cause(("BraidRunFailed",), "a run without a Spark master", failed_run),
        Cause(("BraidForgottenShown",), "make forget, broken off before its run", half_forgotten),
        Cause(("BraidRunStandsStill",), "a run's driver is frozen", frozen_run),
        Cause(("BraidLedgerDifference",), "the ledger is changed by hand", wrong_ledger),
        Cause(("BraidNothingPublished",), "the live run is of two days ago", two_days_ago),
        Cause(("BraidQuarantineGrows",), "3,000 records that are no events", no_events, ends=False),
        Cause(("BraidTransactionOpen",), "a producer leaves a transaction open", open_transaction),
        Cause(("BraidDiskNearlyFull", "BraidDiskWarning"), "the disk of Kafka's log is filled", full_disk),
        Cause(("BraidConnectionsRunOut",), f"{_SESSIONS} sessions of the database", many_sessions),
        Cause(("BraidServerDown",), "Nimbus is killed", killed("nimbus")),
    ),
    "readers": (
        Cause(
            ("BraidProcessDown", "BraidArchiveStandsStill", "BraidPartitionUnread", "BraidArchiveGap"),
            "the archiver is killed, a file deleted, a partition added",
            no_archiver,
        ),
        Cause(
            ("BraidSpeedStandsStill", "BraidSpeedFarBehind", "BraidRangesFail"),
            f"role speed may not commit; {_FAR_BEHIND:,} records come",
            no_commits,
        ),
        Cause(("BraidSpeedRestarts",), "bolts are killed three times", dying_bolts, ends=False),
    ),
    "kafka": (Cause(("BraidCollectorNotReady",), "Kafka is killed", killed("kafka")),),
    "exporter": (Cause(("BraidStatusStale",), "the database freezes while the exporter waits for it", hanging_exporter),),
    "topic": (Cause(("BraidReaderLost",), "the topic is made again", another_topic, ends=False),),
}
CAUSES = [cause for causes in GROUPS.values() for cause in causes]
