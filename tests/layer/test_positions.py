"""Positions of the readers where the topic is made again, is another one, or is shorter: a real Kafka, HDFS and database."""

from __future__ import annotations

import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from rich.console import Console

from batch.archive import Archive
from batch.audit import audit
from batch.run import run
from contract.errors import PositionLost, TimedOut
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.resumption import Resumption, Unarchived
from contract.settings import Settings
from ingest.archive import Archiver, connect
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.resume import resume
from ingest.stop import Stop
from ingest.topics import topic_of
from serving.database import Connection
from serving.database import connect as connect_database
from serving.handoff import Counts, begin_run, commit_range, positions, record_lost
from serving.log_check import lost_positions
from serving.progress import wait_for_archive, wait_for_offsets
from serving.resume import plan_resumption
from serving.status import read_status
from speed.day_filters import DayFilters
from speed.dedupe import RecentEvents
from speed.forgotten import Forgotten
from speed.range_counter import Counted, RangeCounter
from speed.reader import RangeReader
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import make_again, next_offsets_of
from tests.fixtures.pageviews import NO_REJECTS
from tests.layer.test_ingest_archive import VALUE, archived, archiver, send


@contextmanager
def started(settings: Settings) -> Iterator[Archiver]:
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    archiver = None
    try:
        archiver = Archiver(settings, lambda: connect(settings), topic_of(settings), files, Stop(), lambda line: None)
        archiver.start()
        yield archiver
    finally:
        if archiver:
            archiver.close()


def until_archived(archiver: Archiver, next_offset: int) -> None:
    def done() -> None:
        archiver.step()
        assert archiver.next_offsets == dict.fromkeys(range(4), next_offset)

    eventually(done, within_s=30)


def until_lost(archiver: Archiver) -> str:
    """What it says."""
    said: list[str] = []

    def lost() -> None:
        try:
            archiver.step()
        except PositionLost as error:
            said.append(str(error))
        assert said

    eventually(lost, within_s=60)
    return said[0]


@pytest.fixture
def quick(archived_topic: Settings) -> Settings:
    return replace(archived_topic, archive_flush_ms=1)


@pytest.mark.parametrize("records", [40, 400])
@pytest.mark.parametrize("lives_on", [True, False])
def test_an_archiver_takes_nothing_of_a_topic_that_was_made_again(quick: Settings, records: int, lives_on: bool):
    send(quick, 200)
    before = topic_of(quick)().topic_id
    with started(quick) as archiver:
        until_archived(archiver, 50)
        make_again(quick)
        send(quick, records)
        if lives_on:
            said = until_lost(archiver)
    if not lives_on:
        with pytest.raises(PositionLost) as lost, started(quick):
            pass
        said = str(lost.value)
    now = topic_of(quick)().topic_id
    assert f"has read the topic with the id {before}, but topic {quick.topic} has the id {now}: it was" in said
    assert archived(quick) == (dict.fromkeys(range(4), 50), 180, 20)


def test_an_archiver_process_stays_up_says_so_once_and_ends_when_it_is_told_to(archived_topic: Settings):
    send(archived_topic, 200)
    with archiver(archived_topic):
        eventually(lambda: _equal(archived(archived_topic)[1], 180), within_s=60)
    make_again(archived_topic)
    send(archived_topic, 400)
    with archiver(archived_topic) as process:
        assert process.stderr
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1]
    assert "it was made again, or it is another one; nothing is read until that is settled: `make resume-topic`; see" in said
    assert (process.returncode, len(rest.splitlines())) == (0, 1)


def _equal(found: object, expected: object) -> None:
    assert found == expected


def test_an_archiver_takes_nothing_of_another_topic_that_is_longer(quick: Settings, other_topic: Settings):
    send(quick, 200)
    with started(quick) as archiver:
        until_archived(archiver, 50)
    send(other_topic, 400)
    with (
        pytest.raises(PositionLost, match="it was made again, or it is another one"),
        started(replace(quick, topic=other_topic.topic)),
    ):
        pass


@pytest.mark.parametrize("records", [40, 400])
def test_positions_of_the_speed_layer_are_held_against_the_topic(topic: Settings, other_topic: Settings, records: int):
    send(topic, 200)
    admin = AdminClient({"bootstrap.servers": topic.kafka_bootstrap})
    positions = {partition: LogPosition(50, topic_of(topic)().topic_id, 0) for partition in range(4)}
    assert lost_positions(topic, admin, "the speed layer", positions) == {}
    assert lost_positions(topic, admin, "the speed layer", {0: LogPosition(20), 1: LogPosition(0, "x")}) == {}
    ahead = lost_positions(
        topic, admin, "the speed layer", {0: LogPosition(50), 1: LogPosition(70), 2: LogPosition(150, shift=100)}
    )
    assert [str(lost).partition(":")[0] for lost in ahead.values()] == [
        f"the speed layer goes on at offset 70 of partition 1, but topic {topic.topic} ends at 50"
    ]
    send(other_topic, 400)
    other = replace(topic, topic=other_topic.topic)
    assert sorted(lost_positions(other, admin, "the speed layer", positions)) == [0, 1, 2, 3]
    make_again(topic)
    send(topic, records)
    assert sorted(lost_positions(topic, admin, "the speed layer", positions)) == [0, 1, 2, 3]


def test_a_range_comes_with_the_topic_and_the_epoch_that_it_was_read_in(topic: Settings):
    send(topic, 200)
    reader = RangeReader(topic, 1, print)
    try:
        reader.go_on(LogPosition(1_010, topic_of(topic)().topic_id, 0, shift=1_000))
        wanted = OffsetRange(1, 1_010, 1_030)
        read, records = reader.read(wanted)
        assert (read, records.offsets.tolist()) == (wanted, list(range(1_010, 1_030)))
        assert reader.position() == LogPosition(1_030, topic_of(topic)().topic_id, 0, 1_000)
        assert (reader.stands_at(1_030), reader.low_offset()) == (True, 1_000)
        before = topic_of(topic)().topic_id
        make_again(topic)
        reader.go_on(LogPosition(0))
        send(topic, 200)
        reader.read(OffsetRange(1, 0, 50))
        assert reader.position().topic_id == topic_of(topic)().topic_id != before
    finally:
        reader.close()


def test_a_commit_of_another_topic_changes_nothing(speed: Connection):
    def commit(first: int, after: int, position: LogPosition) -> bool:
        counts = Counts(0, 0, 0)
        return commit_range(speed, OffsetRange(0, first, after), {}, counts, NO_REJECTS, "pageviews", position=position)

    assert commit(0, 10, LogPosition(10, "first", 3))
    with pytest.raises(PositionLost, match=r"offsets \[10, 20\) of partition 0 were read in the topic with the id second"):
        commit(10, 20, LogPosition(20, "second", 0))
    with pytest.raises(PositionLost, match=r"\(shift 7\), but the speed layer has read first \(shift 0\)"):
        commit(10, 20, LogPosition(20, "first", 3, 7))
    assert positions(speed)[0] == LogPosition(10, "first", 3)
    assert commit(10, 20, LogPosition(20, "first", 5))
    assert positions(speed)[0] == LogPosition(20, "first", 5)


def test_a_run_is_of_one_topic_unless_it_takes_over_what_followed(speed: Connection, batch: Connection):
    commit_range(
        speed, OffsetRange(0, 0, 10), {}, Counts(0, 0, 0), NO_REJECTS, "pageviews", position=LogPosition(10, "first", 3)
    )
    assert begin_run(batch, "full", archive={0: LogPosition(8, "first", 3), 1: LogPosition(0)})
    for end, taken in (
        (LogPosition(12, "second"), None),
        (LogPosition(12, "second"), {0: 12}),
        (LogPosition(10, "second", 0, 2), {0: 10}),
    ):
        with pytest.raises(PositionLost, match="the archive of partition 0 ends in the topic with the id second"):
            begin_run(batch, "full", taken, archive={0: end})
    begin_run(batch, "full", {0: 12}, archive={0: LogPosition(12, "second", 0, 11)})
    assert positions(speed)[0] == LogPosition(12, "second", 0, 11)


@pytest.mark.parametrize("commits_before", [0, 1, 5], ids=["none", "one", "past the end that was seen"])
def test_what_the_speed_layer_commits_while_a_run_looks_is_below_the_cut(
    speed: Connection, batch: Connection, commits_before: int
):
    """The archive has the log numbered anew; the speed layer, which has read it up to 10, can go on by the old numbers."""

    def commit(first: int, after: int, at: LogPosition) -> bool:
        return commit_range(speed, OffsetRange(0, first, after), {}, Counts(0, 0, 0), NO_REJECTS, "pageviews", position=at)

    commit(0, 10, LogPosition(10, "first", 3))
    # So far a run has looked: 10 of the log are 16 in the archive.
    seen = LogPosition(16, "first", 3, 6)
    for number in range(commits_before):
        commit(10 + 2 * number, 12 + 2 * number, LogPosition(12 + 2 * number, "first", 4))
    run = begin_run(batch, "full", {0: seen.next_offset}, archive={0: seen}, going_on={0})
    counted = 10 + 2 * commits_before
    assert run.cut[0].next_offset == counted + 6
    assert positions(speed)[0] == LogPosition(counted + 6, "first", 4 if commits_before else 3, 6)
    # No record is read twice, or left out.
    assert commit(counted + 6, counted + 8, LogPosition(counted + 8, "first", 4, 6))


def test_what_kafka_has_lost_of_a_log_does_not_lead_the_speed_layer_ahead(speed: Connection, batch: Connection):
    """A commit that was under way when the log was cut says nothing of what is there now; nor does one of another topic."""

    def commit(partition: int, topic_id: str) -> None:
        offsets, at = OffsetRange(partition, 0, 10), LogPosition(10, topic_id, 3)
        commit_range(speed, offsets, {}, Counts(0, 0, 0), NO_REJECTS, "pageviews", position=at)

    commit(0, "first")
    commit(1, "gone")
    end = LogPosition(12, "first", 5, 6)
    begin_run(batch, "full", {0: 12, 1: 12}, archive={0: end, 1: end}, going_on={1})
    assert [positions(speed)[partition] for partition in (0, 1)] == [end, end]


@pytest.fixture
def whole(quick: Settings, database: Settings) -> Settings:
    """A topic, an archive and a database; Spark runs inside the test."""
    return replace(quick, database_name=database.database_name, spark_master="local[2]", batch_wait_s=1, rescue_offsets=1)


def send_new(settings: Settings, first: int, count: int) -> None:
    """Events that nobody has seen, and each tenth record a reject."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    for number in range(first, first + count):
        producer.produce(settings.topic, b"bad" if number % 10 == 0 else VALUE % number, partition=number % 4)
    producer.flush()


def count_all(settings: Settings) -> None:
    """The speed layer's own reader, counter and commit, without Storm."""
    with connect_database(settings, "speed") as connection:

        def commit(offsets: OffsetRange, counted: Counted) -> None:
            counts = Counts(counted.received, counted.counted, counted.duplicate, counted.forgotten)
            arguments = (counted.rows, counts, counted.rejects, settings.topic, counted.generation)
            known = {"position": counted.position, "known_statement": counted.statement}
            commit_range(connection, offsets, *arguments, **known)  # type: ignore[arg-type]

        days = DayFilters.of_database(lambda: connection, 1 << 20, print)
        forgotten = Forgotten.of_database(lambda: connection, settings)
        log_ends = next_offsets_of(settings)
        stored = positions(connection, len(log_ends))
        for partition, log_end in log_ends.items():
            at = stored[partition]
            end = log_end + at.shift
            reader = RangeReader(settings, partition, print)
            recent = RecentEvents(settings.dedupe_window_offsets, 1e-12)
            counter = RangeCounter(
                reader,
                recent,
                days,
                commit,
                lambda partition: positions(connection)[partition],
                lambda line: None,
                1_000,
                forgotten,
            )
            try:
                if at.next_offset < end:
                    counter.count(OffsetRange(partition, at.next_offset, end))
            finally:
                reader.close()


def archive_all(settings: Settings) -> None:
    with started(settings) as archiver:

        def done() -> None:
            archiver.step()
            ends = next_offsets_of(settings)
            files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
            assert {partition: files.position(partition).log_offset for partition in ends} == ends

        eventually(done, within_s=60)


def resume_topic(settings: Settings) -> Resumption:
    """What compose/resume-topic does."""
    plan = plan_resumption(settings)
    resume(ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root), plan, lambda line: None)
    with connect_database(settings, "batch") as connection:
        record_lost(connection, plan.losses.lost)
    run(settings, lambda line: None)
    return plan


def sums(settings: Settings) -> tuple[int, ...]:
    """Views of all sites; received, counted, quarantined, in flight, difference and lost of all partitions."""
    with connect_database(settings, "reader") as connection:
        query = (
            "SELECT (SELECT sum(views) FROM site_traffic)::int, sum(received)::int, sum(counted)::int, "
            "sum(quarantined)::int, sum(in_flight)::int, sum(difference)::int, sum(lost)::int FROM ledger"
        )
        return connection.execute(query).fetchall()[0]


def assert_whole(settings: Settings) -> None:
    """Readers stand in the log that there is, and a producer's wait ends."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    with connect_database(settings, "batch") as connection:
        assert lost_positions(settings, admin, "the speed layer", positions(connection)) == {}
    ends = {partition: extent.end for partition, extent in Archive(settings).extents().items()}
    assert lost_positions(settings, admin, "the archiver", ends) == {}
    wait_for_offsets(settings, next_offsets_of(settings), 0, Console(stderr=True))
    assert plan_resumption(settings) == Resumption()


def test_nothing_is_resumed_where_nothing_is_lost(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    assert plan_resumption(whole) == Resumption()
    count_all(whole)
    assert plan_resumption(whole) == Resumption()


@pytest.mark.parametrize("records", [40, 400])
def test_in_a_topic_that_was_made_again_all_is_counted_once_and_what_was_read_stays(whole: Settings, records: int):
    send_new(whole, 0, 200)
    archive_all(whole)
    count_all(whole)
    make_again(whole)
    send_new(whole, 200, records)
    # A shorter one has nothing to read; that it is another one the spout finds out.
    with pytest.raises(PositionLost) if records == 400 else nullcontext():
        count_all(whole)
    plan = resume_topic(whole)
    assert [(part.archived_offset, part.next_offset, part.log_offset) for part in plan.partitions] == [(50, 51, 0)] * 4
    archive_all(whole)
    count_all(whole)
    total = 200 + records
    assert sums(whole) == (total * 9 // 10, total, total * 9 // 10, total // 10, 0, 0, 0)
    assert_whole(whole)
    run(whole, lambda line: None, full=True)
    assert sums(whole) == (total * 9 // 10, total, total * 9 // 10, total // 10, 0, 0, 0)


def test_what_the_speed_layer_alone_had_read_is_named_and_goes_out_of_the_views(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    send_new(whole, 200, 40)
    count_all(whole)
    make_again(whole)
    send_new(whole, 240, 80)
    resume_topic(whole)
    archive_all(whole)
    count_all(whole)
    assert sums(whole) == (252, 280, 252, 28, 0, 0, 40)
    assert_whole(whole)
    with connect_database(whole, "reader") as connection:
        lost = connection.execute("SELECT partition, first_offset, next_offset FROM lost_offsets ORDER BY 1").fetchall()
    assert lost == [(partition, 50, 60) for partition in range(4)]


def speed_reads_what_is_lost(settings: Settings, partitions: Collection[int], first_offset: int, next_offset: int) -> None:
    """The speed layer counts records that the log has no more, as after a power failure: in it they were never sent."""
    counts = Counts(next_offset - first_offset, next_offset - first_offset, 0)
    at = LogPosition(next_offset, topic_of(settings)().topic_id, 0)
    with connect_database(settings, "speed") as connection:
        for partition in partitions:
            offsets = OffsetRange(partition, first_offset, next_offset)
            commit_range(connection, offsets, {}, counts, NO_REJECTS, settings.topic, position=at)


def test_what_kafka_kept_of_a_lost_log_is_archived_before_it_is_resumed(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    send_new(whole, 200, 80)
    count_all(whole)
    speed_reads_what_is_lost(whole, range(4), 70, 80)
    # Numbered anew these would count beside what the speed layer has of them.
    assert plan_resumption(whole) == Resumption(unarchived=tuple(Unarchived(partition, 50, 70) for partition in range(4)))
    with pytest.raises(TimedOut, match="stood still at offset 50 of partition 0, and Kafka has kept up to 70"):
        wait_for_archive(lambda: plan_resumption(whole), 0, Console(stderr=True))
    archive_all(whole)
    wait_for_archive(lambda: plan_resumption(whole), 0, Console(stderr=True))
    plan = resume_topic(whole)
    assert [(part.log_offset, part.next_offset, part.lost_offset, part.lost_next_offset) for part in plan.partitions] == [
        (70, 81, 70, 80)
    ] * 4
    send_new(whole, 280, 40)
    archive_all(whole)
    count_all(whole)
    assert sums(whole) == (288, 320, 288, 32, 0, 0, 40)
    assert_whole(whole)


def test_a_resumption_that_broke_off_before_its_run_announces_no_more_than_it_did(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    count_all(whole)
    speed_reads_what_is_lost(whole, range(4), 50, 60)
    files = ArchiveFiles(Hdfs(whole.webhdfs_url), whole.archive_root)
    resume(files, plan_resumption(whole), lambda line: None)
    # Fewer than were lost: no broker has begun an epoch, which alone shows it in a log that is as long.
    send_new(whole, 200, 20)
    archive_all(whole)
    again = plan_resumption(whole)
    assert again == Resumption(archived=(0, 1, 2, 3))
    with connect_database(whole, "batch") as connection:
        record_lost(connection, again.losses.lost)
    run(whole, lambda line: None)
    count_all(whole)
    # Brought to the database by what the files say.
    assert sums(whole) == (198, 220, 198, 22, 0, 0, 40)
    assert_whole(whole)


def test_the_audit_of_a_topic_that_was_made_again_names_both_readers(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    count_all(whole)
    make_again(whole)
    send_new(whole, 200, 400)
    (check,) = audit(whole, lambda line: None, only="positions").checks
    assert {finding.place for finding in check.findings} == {"the archiver", "the speed layer"}
    assert all("it was made again, or it is another one" in finding.problem for finding in check.findings)
    said = read_status(replace(whole, nimbus_host="127.0.0.2", spark_master="local[2]")).lost_positions
    assert sorted(said) == sorted(finding.problem for finding in check.findings)
