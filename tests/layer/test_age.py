"""A past that tests/age makes in one go is what the layers leave that live through it: file by file, row by row."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hdfs import InsecureClient
from psycopg import sql

from batch.audit import audit
from batch.run import run
from contract.archive_file import position
from contract.master import MASTER, QUARANTINE, Slice, archived_next_offset
from contract.settings import Settings
from contract.views import VIEWS
from ingest.archive import Archiver, connect
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.stop import Stop
from ingest.topics import topic_of
from serving.database import connect as connect_database
from serving.migrate import migrate
from tests.age.layout import flushes
from tests.age.making import RETENTION_DAYS, make
from tests.age.past import Past, Sent
from tests.fixtures.kafka import configure, expire, records_of, senders_times
from tests.layer.test_positions import count_all

PAST = Past(datetime(2026, 11, 30, 7, 30, tzinfo=UTC), days=9, events_a_day=400, partitions=4)
KEPT = 2
# Of a log, of a moment, or of what the database itself calls things.
APART = {"topic_id", "topic", "started_at", "published_at", "made_at", "advanced_at", "seen_at", "shown_sql"}
# Of runs whose rows are gone, the numbers that say how many there were.
SUMS = {"day_count", "row_count", "event_count"}
DRIFT = {"drift_view", "drift_bucket", "drift_row"}


class LiveArchiver:
    """The real archiver, whose clock stands still between the moments at which it writes."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._now_s = settings, 1.0
        self._sent: dict[int, int] = {}
        self._consumers: list[Consumer] = []
        self._producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
        files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
        self._archiver = Archiver(settings, self._connect, topic_of(settings), files, Stop(), print, lambda: self._now_s)
        self._archiver.start()

    def live_through(self, of_day: list[Sent]) -> None:
        """A day's records come one after the other, and are archived as they come."""
        flush_ms = self._settings.archive_flush_ms
        written = [
            (at_ms, offsets)
            for partition, sent in enumerate(of_day)
            for offsets, at_ms in flushes(partition, sent.first_offset, sent.kafka_times_ms, flush_ms)
        ]
        for moment in sorted({at_ms for at_ms, _ in written}):
            for offsets in (offsets for at_ms, offsets in written if at_ms == moment):
                sent = of_day[offsets.partition].between(offsets.first_offset, offsets.next_offset)
                for value, time_ms in zip(sent.values, sent.kafka_times_ms, strict=True):
                    self._producer.produce(self._settings.topic, value, None, offsets.partition, timestamp=time_ms)
                self._sent[offsets.partition] = offsets.next_offset
            assert self._producer.flush(30) == 0
            while not self._has_read():
                self._archiver.step()
            self._now_s += flush_ms / 1_000
            self._archiver.step()

    def close(self) -> None:
        self._archiver.close()

    def _has_read(self) -> bool:
        """Whether the archiver has all that was sent; it never goes back."""
        places = [TopicPartition(self._settings.topic, partition) for partition in self._sent]
        return all(at.offset >= self._sent[at.partition] for at in self._consumers[-1].position(places))

    def _connect(self) -> Consumer:
        self._consumers.append(connect(self._settings))
        return self._consumers[-1]


@contextmanager
def another_database(settings: Settings) -> Iterator[Settings]:
    other = replace(settings, database_name=f"test_{uuid.uuid4().hex[:12]}")
    migrate(other)
    try:
        yield other
    finally:
        with connect_database(settings, "postgres", "postgres") as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(other.database_name)))


def live(settings: Settings) -> None:
    """The archiver, the speed layer's counter, and a run at the end of each day but the last."""
    archiver = LiveArchiver(settings)
    try:
        for number, of_day in enumerate(PAST.sent()):
            archiver.live_through(of_day)
            count_all(settings)
            if number < PAST.days - 1:
                run(settings, print)
    finally:
        archiver.close()
    expire(settings, first_kept())


def first_kept() -> dict[int, int]:
    """Where Kafka's retention has come to."""
    *_, last_expired = list(PAST.sent())[: PAST.days - RETENTION_DAYS]
    return {partition: sent.next_offset for partition, sent in enumerate(last_expired)}


def in_kafka(settings: Settings) -> list[tuple[Any, ...]]:
    """Where each partition begins and ends, and its records."""
    records = [(m.partition(), m.offset(), m.timestamp(), m.value()) for m in records_of(settings, first_kept())]
    consumer = connect(settings)
    places = (TopicPartition(settings.topic, partition) for partition in range(PAST.partitions))
    watermarks = [(place.partition, *consumer.get_watermark_offsets(place, timeout=10)) for place in places]
    consumer.close()
    return [*watermarks, *records]


def in_archive(settings: Settings) -> dict[str, Any]:
    """By path all files, those that are merged away too: their rows, and where they say that the log stood."""
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    found: dict[str, Any] = {}
    for partition in range(PAST.partitions):
        for dataset in (MASTER, QUARANTINE):
            for file in sorted(files.ranges(partition, dataset)):
                whole = Slice(file, file.first_offset, file.next_offset)
                found[file.path("", dataset)] = files.read(dataset, [whole]).rows()
        ranges = files.ranges(partition)
        assert archived_next_offset(ranges) > 0
        for file, info in ranges.items():
            at = position(files.footer(file, info), file.file_name)
            found[f"position of {file.path('', MASTER)}"] = replace(at, topic_id=None)
    return found


def in_database(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """By table all rows, but for the columns that are apart by nature; those of commits as one a key and epoch."""
    with connect_database(settings, "postgres") as owner:
        columns: dict[str, list[str]] = {}
        for table, column in owner.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns AS c JOIN information_schema.tables AS t "
            "USING (table_schema, table_name) WHERE c.table_schema = 'serving' AND t.table_type = 'BASE TABLE' "
            "ORDER BY c.table_name, c.ordinal_position"
        ):
            if column not in APART:
                columns.setdefault(table, []).append(column)
        queries = {
            table: sql.SQL("SELECT {} FROM {}").format(
                sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names),
                sql.Identifier("serving", table),
            )
            for table, names in columns.items()
        }
        for view in VIEWS:
            # How many rows there are of a key depends on how large the ranges were.
            group = sql.SQL(", ").join(map(sql.Identifier, ("partition", "epoch", *view.group)))
            merges = (sql.SQL(measure.sql_merge).format(sql.Identifier(measure.name)) for measure in view.measures)
            queries[f"speed_{view.name}"] = sql.SQL("SELECT {}, {} FROM {} GROUP BY {}").format(
                group,
                sql.SQL(", ").join(sql.SQL("({})::text").format(merge) for merge in merges),
                sql.Identifier("serving", f"speed_{view.name}"),
                group,
            )
        return {table: sorted(owner.execute(query).fetchall(), key=repr) for table, query in queries.items()}


def without_sums_of_gone_runs(tables: dict[str, list[tuple[Any, ...]]], settings: Settings) -> dict[str, Any]:
    """What is left out on purpose: how many rows runs had whose rows are deleted, and how they compared."""
    first_whole = PAST.days - 1 - settings.keep_runs
    return tables | {
        table: [row for row in rows if int(row[0]) > first_whole]
        for table, rows in tables.items()
        if table in DRIFT or table == "run"
    }


@pytest.mark.long
def test_a_past_that_is_made_is_what_one_leaves_that_was_lived_through(whole: Settings, other_topic: Settings):
    flush_ms = 6 * 3_600_000
    made = replace(
        whole,
        archive_flush_ms=flush_ms,
        archive_merge_files=3,
        archive_grace_ms=0,
        keep_runs=KEPT,
        dedupe_false_positive_rate=1e-12,
    )
    with another_database(made) as other:
        lived = replace(other, topic=other_topic.topic, archive_root=f"{made.archive_root}-lived")
        try:
            for one in (made, lived):
                # The broker would delete what is old while it is lived through.
                configure(one, "retention.ms", "-1")
            with senders_times(lived):
                live(lived)
            said: list[str] = []
            counts = make(made, PAST, said.append)
            assert counts.runs == PAST.days - 1
            assert in_kafka(made) == in_kafka(lived)
            files, expected = in_archive(made), in_archive(lived)
            assert files.keys() == expected.keys()
            assert files == expected
            assert len(files) > 20
            tables, expected_tables = (without_sums_of_gone_runs(in_database(one), one) for one in (made, lived))
            assert all(
                expected_tables[table] for table in ("speed_page_traffic", "batch_page_traffic", "day_filter", "reject")
            )
            for table in expected_tables:
                assert tables[table] == expected_tables[table], table
            assert len(expected_tables["drift_view"]) > 2
            assert audit(made, print).ok
            # And runs go on from there.
            assert run(made, print).received == counts.records - sum(
                len(sent) for of_day in list(PAST.sent())[:-1] for sent in of_day
            )
        finally:
            InsecureClient(made.webhdfs_url, user="braid", timeout=30).delete(lived.archive_root, recursive=True)
