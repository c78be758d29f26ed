"""The audit between a real broker, HDFS and database: nothing is wrong with a good pipeline, and each damage is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from zlib import crc32

import polars as pl
import pytest
from confluent_kafka import Producer

from batch.archive import Archive
from batch.audit import audit
from batch.audit_archive import ArchiveAudit
from batch.findings import Check, Report
from batch.run import run
from contract.aggregate import aggregate, first_of_each
from contract.archive_file import Contents, decode, encode
from contract.event import Decoded
from contract.master import MASTER, QUARANTINE, OffsetRange, covering
from contract.settings import Settings
from contract.streams.page_views import PAGE_VIEWS
from contract.value_form import form_of
from contract.views import VIEWS, with_rollups
from ingest.archive_files import ArchiveFiles
from ingest.hdfs import Hdfs
from ingest.simulate import events
from serving.database import connect
from serving.handoff import Counts, commit_range
from tests.fixtures.archived import judged
from tests.fixtures.kafka import records_of


def quiet(line: str) -> None:
    pass


@dataclass
class Pipeline:
    """A topic, its archive and its speed layer, each as far as it was told to go."""

    settings: Settings
    next_offsets: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(4), 0))
    seen: pl.DataFrame | None = None

    @property
    def hdfs(self) -> Hdfs:
        return Hdfs(self.settings.webhdfs_url)

    @property
    def files(self) -> ArchiveFiles:
        return ArchiveFiles(self.hdfs, self.settings.archive_root)

    def flow(self, count: int, seed: int) -> None:
        """Simulated records go through Kafka into one more archive file a partition and one more speed commit."""
        producer = Producer({"bootstrap.servers": self.settings.kafka_bootstrap})
        for key, value in islice(events(seed, lambda: datetime.now(UTC), f"test-{seed}"), count):
            producer.produce(self.settings.topic, value, partition=crc32(key.encode()) % 4)
        producer.flush()
        records = records_of(self.settings)
        for partition, first in self.next_offsets.items():
            new = [r for r in records if r.partition() == partition and (r.offset() or 0) >= first]
            offsets = OffsetRange(partition, first, first + len(new))
            times_ms = [r.timestamp()[1] for r in new]
            stored, decoded = judged(partition, [r.offset() or 0 for r in new], times_ms, [r.value() for r in new])
            self.files.put(offsets, stored, decoded)
            self._commit(offsets, decoded)
            self.next_offsets[partition] = offsets.next_offset

    def _commit(self, offsets: OffsetRange, decoded: Decoded) -> None:
        identity = ("event_day", "event_id")
        fresh = first_of_each(decoded.events).with_columns(pl.col("event_time").dt.date().alias("event_day"))
        if self.seen is not None:
            fresh = fresh.join(self.seen, on=identity, how="anti")
        self.seen = pl.concat([fresh.select(identity), *([] if self.seen is None else [self.seen])])
        counts = Counts(len(decoded.events) + len(decoded.rejects), len(fresh), len(decoded.events) - len(fresh))
        rows = aggregate(fresh.drop("event_day"))
        with connect(self.settings, "speed") as connection:
            assert commit_range(connection, offsets, rows, counts, decoded.rejects, self.settings.topic)

    def audit(self) -> Report:
        return audit(self.settings, quiet)

    def audit_archive(self) -> Check:
        return ArchiveAudit(self.settings, Archive(self.settings), quiet).run()

    def change_file(self, path: str, change: Callable[[bytes], bytes]) -> None:
        self.hdfs.write(path, change(self.hdfs.read(path)))

    def path(self, partition: int, dataset: str = MASTER) -> str:
        """A file of the partition: its first."""
        return min(self.files.ranges(partition, dataset)).path(self.settings.archive_root, dataset)


@pytest.fixture
def pipeline(archived_topic: Settings, database: Settings) -> Pipeline:
    """Spark runs inside the test."""
    settings = replace(
        archived_topic,
        database_name=database.database_name,
        spark_master="local[2]",
        batch_wait_s=1,
        archive_grace_ms=3_600_000,
    )
    return Pipeline(settings)


def wrong(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.findings}


def test_a_good_pipeline_then_one_changed_row_and_one_wrong_count(pipeline: Pipeline) -> None:
    pipeline.flow(1_500, seed=1)
    run(pipeline.settings, quiet)
    pipeline.flow(1_500, seed=2)
    report = pipeline.audit()
    assert report.ok, report.text()
    archive, positions, ledger, recompute = report.checks
    files = sum(len(pipeline.files.ranges(p, d)) for p in range(4) for d in (MASTER, QUARANTINE))
    assert archive.looked_at.startswith(f"4 partitions, {files} files, 3,000 rows, ")
    assert positions.looked_at == "Kafka, archive, speed layer and live cut of 4 partitions"
    assert ledger.looked_at.startswith("3,000 received, ")
    assert "from 3,000 records below offsets" in recompute.looked_at
    with connect(pipeline.settings, "reader") as reader:
        runs = reader.execute("SELECT kind, state FROM runs ORDER BY run_id").fetchall()
        assert runs == [("incremental", "published"), ("audit", "audited")]
        verdicts = reader.execute("SELECT kind, verdict FROM drift_summary WHERE row_count > 0 ORDER BY run_id").fetchall()
        # Rows by day only audits compare.
        assert verdicts == [("incremental", "equal")] * len(VIEWS) + [("audit", "equal")] * len(with_rollups(VIEWS))
        # What readers see is as before.
        assert reader.execute("SELECT sum(counted) = (SELECT sum(views) FROM site_traffic) FROM ledger").fetchone() == (
            True,
        )
    with connect(pipeline.settings, "postgres") as owner:
        # The run's own rows are gone.
        assert owner.execute("SELECT count(DISTINCT run_id) FROM serving.batch_page_traffic").fetchone() == (1,)
        ((bucket, page),) = owner.execute(
            "UPDATE serving.batch_page_traffic SET views = views + 1 WHERE (tableoid, ctid) IN "
            "(SELECT tableoid, ctid FROM serving.batch_page_traffic ORDER BY page LIMIT 1) RETURNING bucket, page"
        ).fetchall()
        owner.execute("UPDATE serving.speed_ledger SET received = received + 7 WHERE partition = 2 AND epoch = 2")
    report = pipeline.audit()
    assert wrong(report) == {"ledger", "recompute"}
    (unbalanced,) = report.checks[2].findings
    assert (unbalanced.place, unbalanced.problem[:19]) == ("partition 2", "the difference is 7")
    records, summary, row = report.checks[3].findings
    assert records.place.startswith("partition 2, offsets below ")
    assert summary.place == "page_traffic"
    assert row.place.startswith(f"page_traffic bucket='{bucket:%Y-%m-%d %H:%M}Z' page={page!r} site=")
    assert "views was " in row.problem


def test_a_file_with_fewer_rows_than_were_received_is_noticed(pipeline: Pipeline) -> None:
    # A whole, well-formed file, but not the one that was there: only the ledger and the views know.
    pipeline.flow(500, seed=1)
    path = pipeline.path(1)

    def shorter(content: bytes) -> bytes:
        table, contents = decode(content, path)
        return encode(table.slice(1), replace(contents, events=contents.events - 1), PAGE_VIEWS)

    pipeline.change_file(path, shorter)
    report = pipeline.audit()
    assert wrong(report) == {"recompute"}
    assert report.checks[3].findings[0].place.startswith("partition 1, offsets below")


def test_nothing_is_wrong_before_the_first_event_and_an_archive_that_ends_too_soon_is(pipeline: Pipeline) -> None:
    assert pipeline.audit().ok
    pipeline.flow(500, seed=1)
    for file in pipeline.files.ranges(3):
        pipeline.files.delete(file)
    report = pipeline.audit()
    assert wrong(report) == {"recompute"}
    assert "the archive of partition 3 ends at 0 but the cut is" in report.checks[3].findings[0].problem
    with connect(pipeline.settings, "reader") as reader:
        assert reader.execute("SELECT state FROM runs ORDER BY run_id DESC LIMIT 1").fetchone() == ("failed",)


def flip(place: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[place] ^= 1
        return bytes(changed)

    return change


def test_one_flipped_byte_is_named_and_nothing_is_recomputed_from_it(pipeline: Pipeline) -> None:
    pipeline.flow(500, seed=1)
    # In a page, in the footer, in what the file says of itself.
    paths = {pipeline.path(partition): place for partition, place in enumerate((10, -20, -200))}
    in_a_page = next(iter(paths))
    pipeline.change_file(in_a_page, flip(paths[in_a_page]))
    report = pipeline.audit()
    assert [finding.place for finding in report.checks[0].findings] == [in_a_page]
    assert f"{in_a_page}: is damaged: no recompute can be right without it" in report.checks[3].findings[0].problem
    for path in [*paths][1:]:
        pipeline.change_file(path, flip(paths[path]))
    report = pipeline.audit()
    assert wrong(report) == {"archive", "recompute"}
    assert {finding.place for finding in report.checks[0].findings} == set(paths)
    assert all("is damaged: its " in finding.problem for finding in report.checks[0].findings)
    assert ": is damaged: " in report.checks[3].findings[0].problem


def test_damage_of_each_kind_is_named(pipeline: Pipeline) -> None:
    for seed in (1, 2, 3):
        pipeline.flow(1_000, seed)
    assert pipeline.audit_archive().findings == []
    root = pipeline.settings.archive_root
    with_rejects = next(p for p in range(4) if pipeline.files.ranges(p, QUARANTINE))
    quarantine_path = pipeline.path(with_rejects, QUARANTINE)
    others = [p for p in range(4) if p != with_rejects]
    pipeline.hdfs.delete(quarantine_path)
    # Moved to where another range belongs.
    moved = sorted(pipeline.files.ranges(others[0]))[1]
    elsewhere = OffsetRange(others[0], moved.first_offset, moved.next_offset + 1)
    assert pipeline.hdfs.rename(moved.path(root, MASTER), elsewhere.path(root, MASTER))
    gap = sorted(pipeline.files.ranges(others[1]))[1]
    pipeline.files.delete(gap)
    cut_off = pipeline.path(others[2])
    pipeline.change_file(cut_off, lambda content: content[:-7])
    found = {finding.place: finding.problem for finding in pipeline.audit_archive().findings}
    assert set(found) == {
        quarantine_path,
        elsewhere.path(root, MASTER),
        f"partition {others[1]}, offsets [{gap.first_offset}, {gap.next_offset})",
        cut_off,
    }
    assert found[quarantine_path].startswith("is gone: the master file of the same name says that ")
    assert f"it was written as offsets [{moved.first_offset}, {moved.next_offset}) of" in found[elsewhere.path(root, MASTER)]


def test_merged_files_are_whole_and_their_parts_stay_for_a_while(pipeline: Pipeline) -> None:
    for seed in (1, 2, 3):
        pipeline.flow(800, seed)
    parts = sorted(pipeline.files.ranges(0))
    merged = pipeline.files.merge(covering(0, parts, parts[-1].next_offset), 1 << 30)
    assert pipeline.audit_archive().findings == []
    pipeline.files.delete(parts[1])
    (finding,) = pipeline.audit_archive().findings
    assert finding.place == parts[1].path(pipeline.settings.archive_root, MASTER)
    assert finding.problem.startswith(f"is gone before its time: {merged.file_name} has its rows too")
    pipeline.settings = replace(pipeline.settings, archive_grace_ms=0)
    assert pipeline.audit_archive().findings == []


def test_a_damaged_part_is_not_merged(pipeline: Pipeline) -> None:
    for seed in (1, 2):
        pipeline.flow(400, seed)
    pipeline.change_file(pipeline.path(0), flip(100))
    parts = sorted(pipeline.files.ranges(0))
    with pytest.raises(Exception, match="bytes are not those that were written"):
        pipeline.files.merge(covering(0, parts, parts[-1].next_offset), 1 << 30)
    assert sorted(pipeline.files.ranges(0)) == parts


def test_contents_are_written_with_each_file(pipeline: Pipeline) -> None:
    pipeline.flow(800, 1)
    for partition in range(4):
        path = pipeline.path(partition)
        table, contents = decode(pipeline.hdfs.read(path), path)
        (file,) = pipeline.files.ranges(partition)
        assert contents == Contents(file, len(table), file.next_offset - len(table), form=form_of(PAGE_VIEWS))
