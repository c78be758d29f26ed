"""A file of the archive is lost, and Kafka's retention has passed or not: a real Kafka, HDFS and database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from batch.audit import audit
from batch.run import run
from contract.errors import ArchiveBehind, ArchiveGap, RollbackRefused
from contract.losses import Kept, Loss, Losses
from contract.master import MASTER
from contract.settings import Settings
from contract.views import VIEWS, with_rollups
from ingest.accept import accept
from ingest.archive import Archiver, connect
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.stop import Stop
from ingest.topics import topic_of
from serving.database import connect as connect_database
from serving.gaps import OpenGap, plan_acceptance
from serving.handoff import record_lost
from serving.rollback import rollback
from serving.status import read_status
from tests.fixtures.database import emptying
from tests.fixtures.eventually import eventually
from tests.fixtures.kafka import expire, next_offsets_of
from tests.layer.test_batch import merged
from tests.layer.test_positions import count_all
from tests.oracle import Record, expected_rows, pipeline

NOW_MS = int(datetime.now(UTC).timestamp() * 1000)


@pytest.fixture
def whole(whole: Settings) -> Settings:
    """Whatever waits for the archive in vain waits for ever. Files stay as they are."""
    return replace(whole, archive_merge_files=1_000, batch_wait_s=100_000)


def quiet(line: str) -> None:
    pass


def send(settings: Settings, numbers: Iterable[int], day: int) -> list[Record]:
    """Events of one day, each tenth record a reject: number 4 n + p is offset n of partition p. What was sent."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    records: list[Record] = []
    for number in numbers:
        value = (
            f'{{"event_id":"{number}","event_time":"2025-11-{day}T10:00:00Z","site":"s","page":"/","visitor_id":"v{number}",'
            f'"status":200,"bytes_sent":1}}'
        ).encode()
        records.append((number % 4, number // 4, NOW_MS, b"bad" if number % 10 == 0 else value))
        producer.produce(settings.topic, records[-1][3], partition=number % 4)
    producer.flush()
    return records


def files_of(settings: Settings) -> ArchiveFiles:
    return ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)


def archive_all(settings: Settings) -> list[str]:
    """An archiver starts and comes to Kafka's end; what it says."""
    said: list[str] = []
    archiver = Archiver(settings, lambda: connect(settings), topic_of(settings), files_of(settings), Stop(), said.append)

    def done() -> None:
        archiver.step()
        assert archiver.next_offsets == next_offsets_of(settings)

    try:
        archiver.start()
        eventually(done, within_s=60)
    finally:
        archiver.close()
    return said


def lose(settings: Settings, partition: int, first_offset: int, next_offset: int, with_rejects: bool) -> None:
    """Files of these offsets are gone; the quarantine files beside them stay unless `with_rejects`."""
    files = files_of(settings)
    for file in files.ranges(partition):
        if first_offset <= file.first_offset < next_offset:
            assert file.next_offset <= next_offset
            if with_rejects:
                files.delete(file)
            else:
                Hdfs(settings.webhdfs_url).delete(files.path(MASTER, file))


def accept_gap(settings: Settings) -> Losses:
    """What compose/accept-gap does."""
    plan = plan_acceptance(settings)
    with connect_database(settings, "batch") as connection:
        record_lost(connection, plan.lost)
    accept(files_of(settings), plan, quiet)
    run(settings, quiet)
    return plan


def loss(partition: int, first_offset: int, next_offset: int) -> Loss:
    return Loss(partition, first_offset, next_offset, "gone", is_gap=True)


def ranges(plan: Losses) -> list[tuple[int, int, int]]:
    return [(lost.partition, lost.first_offset, lost.next_offset) for lost in plan.lost]


def query(settings: Settings, text: str) -> list[tuple[object, ...]]:
    with connect_database(settings, "reader") as connection:
        return connection.execute(text).fetchall()  # type: ignore[arg-type]


def assert_views(settings: Settings, records: Iterable[Record], lost: int) -> None:
    """All views are the oracle's of these records, and the ledger balances."""
    truth = pipeline(records)
    for view in with_rollups(VIEWS):
        assert merged(settings, view) == expected_rows(truth, view.name)
    sides = "sum(received), sum(counted), sum(quarantined), sum(in_flight), sum(abs(difference)), sum(lost)"
    ((*found,),) = query(settings, f"SELECT {sides} FROM ledger")
    assert found == [truth.received, truth.counted, truth.rejects.total(), 0, 0, lost]


def but(records: Iterable[Record], *gone: tuple[int, int, int]) -> list[Record]:
    """The records that are not on these offsets."""
    return [r for r in records if not any(p == r[0] and first <= r[1] < after for p, first, after in gone)]


def runs(settings: Settings) -> list[tuple[object, ...]]:
    return query(settings, "SELECT run_id, kind, state, is_live FROM runs ORDER BY run_id")


def gaps(settings: Settings) -> list[tuple[int, int, int, bool | None]]:
    found = read_status(settings).archive_gaps
    return [(gap.partition, gap.first_offset, gap.next_offset, gap.is_lost) for gap in found]


def both_ways(settings: Settings, check: Callable[[Settings], None]) -> None:
    """The check holds, and still does after a full run, and when the database is made anew from HDFS alone."""
    check(settings)
    run(settings, quiet, full=True)
    check(settings)
    with connect_database(settings, "postgres") as owner:
        owner.execute(emptying(owner))
    run(settings, quiet)
    check(settings)


def test_a_lost_file_that_views_have_counted_is_named_given_up_and_leaves_them(whole: Settings):
    records = send(whole, range(200), 20)
    archive_all(whole)
    # On a day that nothing comes to any more.
    records += send(whole, range(200, 280), 19)
    archive_all(whole)
    records += send(whole, range(280, 320), 20)
    archive_all(whole)
    count_all(whole)
    run(whole, quiet)
    lose(whole, 0, 50, 70, with_rejects=True)
    lose(whole, 2, 50, 70, with_rejects=False)
    expire(whole, {0: 80, 2: 60})
    records += send(whole, range(320, 400), 20)
    said = archive_all(whole)
    assert said[:2] == [str(ArchiveGap.lost(0, 50, 70)), str(ArchiveGap.lost(2, 50, 60))]
    count_all(whole)
    # Kafka had the end of the other gap.
    gone = [(0, 50, 70), (2, 50, 60)]
    assert gaps(whole) == [(*gap, True) for gap in gone]
    report = audit(whole, quiet)
    places = {f"partition {partition}, offsets [{first}, {after})" for partition, first, after in gone}
    archive, positions, ledger, recompute = report.checks
    assert {finding.place for finding in archive.findings} == {finding.place for finding in positions.findings} == places
    assert ledger.findings == []
    assert [finding.problem for finding in recompute.findings] == [str(ArchiveGap.lost(0, 50, 70))]
    before = runs(whole)
    with pytest.raises(ArchiveGap, match=r"partition 0 lacks offsets \[50, 70\), and Kafka has them no more"):
        run(whole, quiet)
    assert runs(whole) == before
    assert_views(whole, records, lost=0)

    assert ranges(accept_gap(whole)) == gone
    left = but(records, *gone)
    assert_views(whole, left, lost=30)
    assert runs(whole)[-1][1:] == ("full", "published", True)
    assert gaps(whole) == []
    with connect_database(whole, "batch") as connection, pytest.raises(RollbackRefused, match="no run before"):
        rollback(connection, None)
    known = query(whole, "SELECT partition, first_offset, next_offset, run_id FROM lost_offsets ORDER BY 1")
    assert known == [(*gap, runs(whole)[-1][0]) for gap in gone]

    # Once more changes nothing.
    files = [sorted(files_of(whole).ranges(partition)) for partition in range(4)]
    assert accept_gap(whole) == Losses()
    assert [sorted(files_of(whole).ranges(partition)) for partition in range(4)] == files
    assert query(whole, "SELECT partition, first_offset, next_offset, run_id FROM lost_offsets ORDER BY 1") == known
    assert runs(whole)[-1][1] == "incremental"
    report = audit(whole, quiet)
    assert report.ok, report.text()
    notes = [note.partition(" are lost for good")[0] for note in report.checks[0].notes if "lost for good" in note]
    assert notes == [f"partition {partition}: offsets [{first}, {after})" for partition, first, after in gone]
    both_ways(whole, lambda settings: assert_views(settings, left, lost=30))


def test_what_retention_took_before_it_was_archived_leaves_the_views_with_the_run_that_covers_it(whole: Settings):
    records = send(whole, range(200), 20)
    archive_all(whole)
    count_all(whole)
    run(whole, quiet)
    records += send(whole, range(200, 280), 20)
    count_all(whole)
    expire(whole, {0: 60})
    # Before an archiver is there to say so.
    assert gaps(whole) == [(0, 50, 60, True)]
    with pytest.raises(ArchiveGap, match=r"partition 0 lacks offsets \[50, 60\)"):
        run(whole, quiet)
    assert archive_all(whole)[0] == str(ArchiveGap.lost(0, 50, 60))
    assert gaps(whole) == [(0, 50, 60, True)]
    assert_views(whole, records, lost=0)
    assert ranges(accept_gap(whole)) == [(0, 50, 60)]
    assert_views(whole, but(records, (0, 50, 60)), lost=10)
    # Kept days never had them.
    assert runs(whole)[-1][1] == "incremental"


def test_a_gap_that_neither_reader_has_is_passed_by_both(whole: Settings):
    records = send(whole, range(200), 20)
    expire(whole, {1: 30})
    # Before there is a folder of it.
    assert gaps(whole) == [(1, 0, 30, True)]
    places = {finding.place for finding in audit(whole, quiet, "positions").checks[0].findings}
    assert "partition 1, offsets [0, 30)" in places
    assert archive_all(whole)[0] == str(ArchiveGap.lost(1, 0, 30))
    assert ranges(accept_gap(whole)) == [(1, 0, 30)]
    records += send(whole, range(200, 240), 20)
    count_all(whole)
    archive_all(whole)
    run(whole, quiet)
    assert_views(whole, but(records, (1, 0, 30)), lost=30)


def test_a_loss_that_is_known_only_after_a_run_has_begun_is_the_next_runs(whole: Settings):
    send(whole, range(200), 20)
    archive_all(whole)
    count_all(whole)

    def lose_it(line: str) -> None:
        # The run has its cut, and reads the files from now on.
        if line.startswith("run 1: cut at"):
            with connect_database(whole, "batch") as other:
                record_lost(other, plan.lost)

    plan = Losses((loss(0, 10, 20),))
    run(whole, lose_it)
    assert query(whole, "SELECT run_id FROM lost_offsets") == [(None,)]
    run(whole, quiet)
    assert runs(whole)[-1][1] == "full"
    assert query(whole, "SELECT run_id FROM lost_offsets") == [(runs(whole)[-1][0],)]


def test_what_kafka_still_has_is_not_given_up_but_archived_again(whole: Settings):
    records = send(whole, range(200), 20)
    archive_all(whole)
    records += send(whole, range(200, 280), 20)
    archive_all(whole)
    count_all(whole)
    lose(whole, 3, 0, 50, with_rejects=True)
    found = read_status(whole).archive_gaps
    assert found == [OpenGap(3, 0, 50, False)]
    assert "compose/engine compose restart archiver" in found[0].advice
    # A run waits for it, as for all that is on its way.
    with pytest.raises(ArchiveBehind, match="the archive of partition 3 ends at 0 but the cut is 70"):
        run(replace(whole, batch_wait_s=1), quiet)
    plan = plan_acceptance(whole)
    assert plan == Losses((), (Kept(3, 0, 50),))
    accept(files_of(whole), plan, quiet)
    assert archive_all(whole) == [f"archive of topic {whole.topic} goes on at {{0: 70, 1: 70, 2: 70, 3: 0}}"]
    run(whole, quiet)
    assert_views(whole, records, lost=0)


def test_ranges_of_the_ledger_do_not_overlap_however_often_and_largely_they_are_lost(whole: Settings):
    def known(*bounds: tuple[int, int]) -> list[tuple[object, ...]]:
        with connect_database(whole, "batch") as connection:
            record_lost(connection, [loss(1, first, after) for first, after in bounds])
        return query(whole, "SELECT first_offset, next_offset FROM lost_offsets ORDER BY 1")

    assert known((10, 20)) == [(10, 20)]
    assert known((10, 20)) == [(10, 20)]
    assert known((5, 30)) == [(5, 10), (10, 20), (20, 30)]
    assert known((0, 8), (40, 50)) == [(0, 5), (5, 10), (10, 20), (20, 30), (40, 50)]
