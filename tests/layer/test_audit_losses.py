"""The audit names losses that no reader has noticed: each is planted, as it would be without its guard, in real servers."""

from __future__ import annotations

from batch.audit import audit
from batch.run import run
from contract.log_position import LogPosition
from contract.master import OffsetRange
from contract.settings import Settings
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.topics import topic_of
from serving.database import connect
from serving.handoff import Counts, commit_range
from tests.fixtures.archived import judged
from tests.fixtures.kafka import make_again, records_of
from tests.fixtures.pageviews import NO_REJECTS
from tests.layer.test_positions import archive_all, count_all, send_new


def assert_named(settings: Settings, **expected: list[str]) -> None:
    """The audit finds these places first, by check, and nothing in other checks."""
    report = audit(settings, lambda line: None)
    found = {check.name: [finding.place for finding in check.findings] for check in report.checks if check.findings}
    assert {name: places[: len(expected.get(name, places))] for name, places in found.items()} == expected, report.text()


def archive_goes_on(settings: Settings, partition: int, first_offset: int, at: LogPosition) -> None:
    """Files of the archive as of an archiver that does not look which log it reads."""
    records = [r for r in records_of(settings) if r.partition() == partition and (r.offset() or 0) >= first_offset]
    columns = [r.offset() or 0 for r in records], [r.timestamp()[1] for r in records], [r.value() for r in records]
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), settings.archive_root)
    files.put(OffsetRange(partition, first_offset, at.next_offset), *judged(partition, *columns), at)


def test_a_topic_that_both_readers_took_for_the_one_they_had_read(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    count_all(whole)
    run(whole, lambda line: None)
    make_again(whole)
    send_new(whole, 200, 400)
    # Of these nobody reads the first 50 of each partition.
    now = topic_of(whole)().topic_id
    for partition in range(4):
        archive_goes_on(whole, partition, 50, LogPosition(100, now, 0))
    with connect(whole, "postgres") as owner:
        owner.execute("UPDATE serving.speed_progress SET topic_id = %s", [now])
    count_all(whole)
    run(whole, lambda line: None)
    assert_named(whole, archive=[f"partition {partition}, from offset 50 on" for partition in range(4)])


def test_records_that_the_speed_layer_alone_passed_over(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    at = LogPosition(20, topic_of(whole)().topic_id, 0)
    with connect(whole, "speed") as connection:
        commit_range(connection, OffsetRange(2, 0, 20), {}, Counts(0, 0, 0), NO_REJECTS, whole.topic, position=at)
    count_all(whole)
    # Rows that differ are named after it.
    assert_named(whole, recompute=["partition 2, offsets below 50"])


def test_rejects_that_are_gone_from_the_quarantine(whole: Settings):
    send_new(whole, 0, 200)
    archive_all(whole)
    count_all(whole)
    with connect(whole, "postgres") as owner:
        owner.execute(
            'DELETE FROM serving.reject WHERE (partition, "offset") IN (SELECT 2, min("offset") FROM serving.reject '
            "WHERE partition = 2)"
        )
    assert_named(whole, ledger=["partition 2"])
