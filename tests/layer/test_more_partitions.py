"""A topic that gets more partitions, and one that has fewer: a real Kafka, HDFS and database, and all readers but Storm."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pytest
from confluent_kafka import Producer
from pystorm.component import Tuple
from rich.console import Console

from batch.audit import audit
from batch.run import run
from contract.errors import PositionLost, TopicUnusable
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from ingest.archive import Archiver
from ingest.topics import add_partitions, ensure_topic, topic_of
from serving.database import connect
from serving.progress import wait_for_offsets
from serving.status import read_status
from speed.range_spout import RangeSpout
from speed.sketch_bolt import SketchBolt
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import next_offsets_of, records_of
from tests.layer.test_batch import merged
from tests.layer.test_ingest_archive import VALUE
from tests.layer.test_positions import archive_all, assert_whole, count_all, resume_topic, started, sums
from tests.oracle import expected_rows, pipeline


class Spout(RangeSpout):
    """The real spout; what it emits is kept."""

    def __init__(self) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger = logging.getLogger("spout")
        self.emitted: list[Tuple] = []

    def emit(self, values: list[int], tup_id: str) -> None:  # type: ignore[override]
        self.emitted.append(Tuple(tup_id, "", "", "", values))


class Bolt(SketchBolt):
    """The real bolt; the spout hears of its acks at once."""

    def __init__(self, spout: Spout) -> None:
        super().__init__(BytesIO(), BytesIO(), rdb_signal=None)
        self.logger, self._spout = logging.getLogger("bolt"), spout

    def ack(self, tup: Tuple) -> None:  # type: ignore[override]
        self._spout.ack(tup.id)

    def fail(self, tup: Tuple) -> None:  # type: ignore[override]
        self._spout.fail(tup.id)

    def emit(self, values: list[int]) -> None:  # type: ignore[override]
        pass


class Speed:
    """Spout and bolt without Storm."""

    def __init__(self) -> None:
        self.spout = Spout()
        self.bolt = Bolt(self.spout)
        for component in (self.spout, self.bolt):
            component.initialize({}, {})

    def step(self) -> None:
        self.spout.next_tuple()
        while self.spout.emitted:
            self.bolt.process(self.spout.emitted.pop(0))


@pytest.fixture
def speed_layer(whole: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Speed]:
    monkeypatch.setattr("contract.settings.Settings.from_env", lambda: whole)
    layer = Speed()
    yield layer
    layer.bolt.disconnect()


def send_to(settings: Settings, partitions: Iterable[int], numbers: Iterable[int]) -> None:
    """To each of the partitions the events of these numbers that are its own; each tenth is a reject."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    places = list(partitions)
    for number in numbers:
        value = b"bad" if number % 10 == 0 else VALUE % number
        producer.produce(settings.topic, value, partition=places[number % len(places)])
    assert producer.flush(30) == 0


def until_read(settings: Settings, archiver: Archiver, speed_layer: Speed) -> None:
    """Both readers have all that there is, found as they find it: nobody tells them of partitions."""
    ends = next_offsets_of(settings)

    def done() -> None:
        archiver.step()
        speed_layer.step()
        assert archiver.next_offsets == ends
        with connect(settings, "reader") as connection:
            assert dict(connection.execute("SELECT partition, next_offset FROM ledger").fetchall()) == ends

    eventually(done, within_s=60)


def assert_exact(settings: Settings) -> None:
    """Every view is the oracle's of all records, and the ledger says what became of each."""
    records = records_of(settings)
    truth = pipeline((r.partition(), r.offset(), r.timestamp()[1], r.value()) for r in records)  # type: ignore[misc]
    for view in with_rollups(VIEWS):
        assert merged(settings, view) == expected_rows(truth, view.name)
    with connect(settings, "reader") as connection:
        sides = (
            "sum(received)::int, sum(counted)::int, sum(duplicate)::int, sum(quarantined)::int, sum(abs(difference))::int"
        )
        found = connection.execute(f"SELECT {sides} FROM ledger").fetchall()  # type: ignore[arg-type]
    assert found == [(truth.received, truth.counted, truth.duplicate, truth.rejects.total(), 0)]


def test_partitions_that_are_added_are_archived_counted_published_and_audited(whole: Settings, speed_layer: Speed):
    with started(whole) as archiver:
        send_to(whole, range(4), range(200))
        until_read(whole, archiver, speed_layer)
        run(whole, lambda line: None)
        assert add_partitions(whole, 6) == 4
        assert add_partitions(whole, 6) == 6
        send_to(whole, range(6), range(200, 440))
        # What a published run has counted is a repeat in whatever partition it comes again.
        send_to(whole, [5], range(1, 40))
        until_read(whole, archiver, speed_layer)
        assert_exact(whole)
        run(whole, lambda line: None)
        assert_exact(whole)
        wait_for_offsets(whole, next_offsets_of(whole), 0, Console(stderr=True))
        with connect(whole, "reader") as connection:
            covered = connection.execute("SELECT partition, batch_next_offset FROM ledger ORDER BY partition").fetchall()
        assert dict(covered) == next_offsets_of(whole)
        assert [partition for partition, _ in covered] == list(range(6))
        report = audit(whole, lambda line: None)
        assert report.ok, report.text()
        # The setting is for a new topic.
        assert ensure_topic(whole) is False
        assert read_status(whole).unread == []


def test_a_run_that_began_before_a_partition_was_there_publishes_without_it(whole: Settings, speed_layer: Speed):
    with started(whole) as archiver:
        send_to(whole, range(4), range(100))
        until_read(whole, archiver, speed_layer)

        def grow_meanwhile(line: str) -> None:
            if "computing" in line:
                add_partitions(whole, 5)
                send_to(whole, [4], range(100, 150))
                until_read(whole, archiver, speed_layer)

        run(whole, grow_meanwhile)
        assert_exact(whole)
        run(whole, lambda line: None, full=True)
        assert_exact(whole)


def test_a_partition_that_nobody_reads_is_named(whole: Settings, monkeypatch: pytest.MonkeyPatch):
    send_to(whole, range(4), range(100))
    archive_all(whole)
    count_all(whole)
    add_partitions(whole, 6)
    assert audit(whole, lambda line: None, only="positions").ok
    send_to(whole, [5], range(100, 120))
    text = "nobody reads partition 5 yet, and the topic has its offsets [0, 20), the first of which came at "
    (check,) = audit(whole, lambda line: None, only="positions").checks
    assert (check.findings, [note.startswith(text) for note in check.notes]) == ([], [True])
    (said,) = read_status(whole).unread
    assert said.startswith(text)
    monkeypatch.setattr("serving.unread.WITHIN", timedelta(0))
    (check,) = audit(whole, lambda line: None, only="positions").checks
    (finding,) = check.findings
    assert (finding.place, finding.problem) == ("partition 5", said)
    archive_all(whole)
    (finding,) = audit(whole, lambda line: None, only="positions").checks[0].findings
    assert finding.problem.startswith("the speed layer does not read partition 5 yet, and the topic has its offsets [0, 20)")
    count_all(whole)
    assert audit(whole, lambda line: None, only="positions").ok


def test_a_topic_with_fewer_partitions_is_another_one_until_it_is_resumed(whole: Settings, other_topic: Settings):
    add_partitions(whole, 6)
    with pytest.raises(TopicUnusable, match=r"has 6 partitions and Kafka takes none away, so it cannot have 4; nothing was"):
        add_partitions(whole, 4)
    send_to(whole, [5], range(60))
    archive_all(whole)
    count_all(whole)
    fewer = replace(whole, topic=other_topic.topic)
    send_to(fewer, range(4), range(60, 100))
    with (
        pytest.raises(PositionLost, match=re.escape(f"but topic {fewer.topic} has the id {topic_of(fewer)().topic_id}:")),
        started(fewer),
    ):
        pass
    places = {finding.place for finding in audit(fewer, lambda line: None, only="positions").checks[0].findings}
    assert places == {"the archiver", "the speed layer", "partition 5"}
    plan = resume_topic(fewer)
    assert [(part.partition, part.next_offset, part.log_offset) for part in plan.partitions] == [(5, 61, 0)]
    archive_all(fewer)
    count_all(fewer)
    assert sums(fewer) == (90, 100, 90, 10, 0, 0, 0)
    assert_whole(fewer)
    assert audit(fewer, lambda line: None, only="positions").ok
    # It may get the partition one day, and that is numbered on.
    add_partitions(fewer, 6)
    send_to(fewer, [5], range(100, 120))
    archive_all(fewer)
    count_all(fewer)
    assert sums(fewer) == (108, 120, 108, 12, 0, 0, 0)
    assert_whole(fewer)
