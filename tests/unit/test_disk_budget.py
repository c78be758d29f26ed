"""Kafka's log has a budget of the disk; what the archive lacks is not deleted for it without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from contract.errors import EngineUnavailable
from contract.extent import Extent
from contract.kafka_disk import LogDisk, LogLimits, log_disk, shared_out, unarchived_bytes
from contract.log_position import LogPosition
from contract.settings import Settings
from ingest.topic_budget import LogExtent, refusal
from serving.disk import Disk, KafkaLog, disk
from serving.log_ends import LogEnds
from serving.report import print_status
from serving.status import Status

MB, GB = 1 << 20, 1 << 30
SETTINGS = Settings()
DAY_MS = 86_400_000


@pytest.mark.parametrize("budget_bytes", [16 * MB, 100 * MB, 5 * GB, 300 * GB])
@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_all_partitions_with_the_segments_under_way_stay_within_the_budget(budget_bytes: int, partitions: int):
    retention_bytes, segment_bytes = shared_out(budget_bytes, partitions)
    limits = LogLimits(retention_bytes, segment_bytes, None)
    assert (limits.budget_bytes(partitions) or 0) <= budget_bytes
    # Little of it is left unused, and a segment is a small part of what is kept.
    assert (limits.budget_bytes(partitions) or 0) > budget_bytes * 0.99
    assert MB <= segment_bytes <= GB
    assert retention_bytes >= segment_bytes


def test_kafkas_minus_one_is_no_limit():
    limits = LogLimits.of_config({"retention.bytes": "-1", "segment.bytes": "1073741824", "retention.ms": "604800000"})
    assert (limits.retention_bytes, limits.budget_bytes(2), limits.retention_ms) == (None, None, 604_800_000)
    assert LogLimits.of_config({"retention.bytes": "5", "segment.bytes": "2", "retention.ms": "-1"}) == LogLimits(5, 2, None)


def broker(folder: Path) -> Path:
    """What a broker's log.dirs has: two partitions of the topic, and one of another whose name begins alike."""
    folder.joinpath("meta.properties").write_text("#made\ncluster.id=mine\nversion=1\n")
    for name, size_bytes in (("pageviews-0", 8_192), ("pageviews-1", 4_096), ("pageviews-0-0", 65_536)):
        (folder / name).mkdir()
        (folder / name / "00000000000000000000.log").write_bytes(os.urandom(size_bytes))
        with (folder / name / "00000000000000000000.index").open("wb") as index:
            index.truncate(10 * MB)  # a broker makes it so large, and nothing is in it
    return folder


def test_the_log_takes_what_is_written_of_its_own_topic(tmp_path: Path):
    found = log_disk("pageviews", "mine", broker(tmp_path))
    assert found
    assert found.log_bytes == {0: 8_192, 1: 4_096}
    assert 0 < found.free_bytes < found.size_bytes
    assert found.half_of_free == (found.free_bytes + 12_288) // 2


def test_another_clusters_disk_is_not_measured(tmp_path: Path):
    assert log_disk("pageviews", "min", broker(tmp_path)) is None
    assert log_disk("pageviews", None, tmp_path) is None
    assert log_disk("pageviews", "mine", tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("first", "archived", "high", "expected"),
    [(0, 0, 0, 0), (10, 10, 20, 1_000), (10, 15, 20, 500), (10, 20, 20, 0), (10, 25, 20, 0), (10, 3, 20, 1_000)],
)
def test_what_is_not_archived_is_a_share_of_the_log(first: int, archived: int, high: int, expected: int):
    assert unarchived_bytes(1_000, first, archived, high) == expected


def test_a_log_is_not_cut_below_what_the_archive_lacks():
    log = LogDisk(100 * GB, 50 * GB, {0: 10 * GB, 1: GB})
    ends = {0: LogExtent(0, 1_000), 1: LogExtent(0, 1_000)}

    def ends_at(offset: int) -> Any:
        return lambda partition: Extent(partition, LogPosition(offset))

    def down(partition: int) -> Extent:
        raise EngineUnavailable.at("HDFS", "http://namenode:9870", "refused")

    assert refusal(2 * GB, log, ends, ends_at(900)) is None
    assert refusal(2 * GB, log, ends, ends_at(800)) is None
    said = refusal(2 * GB, log, ends, ends_at(799)) or ""
    assert "of partition 0 the archive lacks 201 offsets, some 2,058 MB, and 2,048 MB would be kept" in said
    assert "the archive cannot be asked what it has: " in (refusal(2 * GB, log, ends, down) or "")
    # Nothing is deleted, so nobody is asked.
    assert refusal(10 * GB, log, ends, down) is None


def found(archived: int, free_bytes: int = 50 * GB, log_bytes: int = 4 * GB, age_days: float = 0, **changed: Any) -> Disk:
    limits = LogLimits(changed.get("retention_bytes", 9 * GB), GB, 7 * DAY_MS)
    log = KafkaLog(limits, LogDisk(100 * GB, free_bytes, {0: log_bytes}), day_offsets=200)
    return disk(SETTINGS, log, {0: LogEnds(1_000, 2_000, 2_000)}, {0: Extent(0, LogPosition(archived))}, 400 * MB)


@pytest.fixture(autouse=True)
def _ages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.disk.came_at", lambda settings, partition, offset: None)


def test_growth_is_what_came_in_a_day():
    of = found(2_000)
    assert (of.kafka_bytes, of.kafka_budget_bytes, of.warnings) == (4 * GB, 10 * GB, [])
    assert (of.kafka_day_bytes, of.archive_day_bytes) == (4 * GB * 200 // 1_000, 400 * MB * 200 // 2_000)


def test_a_budget_and_a_disk_that_are_nearly_used_up_are_said():
    assert found(2_000, log_bytes=8 * GB - 1).warnings == []
    assert "takes 8,192 of the 10,240 MB that it may" in " ".join(found(2_000, log_bytes=8 * GB).warnings)
    assert found(2_000, free_bytes=20 * GB + 1).warnings == []
    assert "20,480 of 102,400 MB are free" in " ".join(found(2_000, free_bytes=20 * GB).warnings)


def test_an_archive_that_nears_what_retention_leaves_is_said(monkeypatch: pytest.MonkeyPatch):
    # 4 GB are 1,000 offsets, and 5 GB are kept: half of that are 625.
    assert found(1_376, retention_bytes=5 * GB).warnings == []
    said = " ".join(found(1_375, retention_bytes=5 * GB).warnings)
    assert "partition 0: the archive lacks 625 offsets, some 2,560 MB of the 5,120 MB that Kafka keeps" in said
    assert "BRAID_KAFKA_DISK_MB" in said
    # Where bytes do not limit it, or are not known, age does.
    from datetime import UTC, datetime, timedelta

    for days, warned in ((3.4, 0), (3.6, 1)):
        first = datetime.now(UTC) - timedelta(days=days)
        monkeypatch.setattr("serving.disk.came_at", lambda settings, partition, offset, first=first: first)
        assert len(found(1_800, retention_bytes=None).warnings) == warned
    assert "the first 3.6 days old, and Kafka keeps 7.0 days" in found(1_800, retention_bytes=None).warnings[0]


def test_where_the_brokers_disk_is_elsewhere_nothing_is_made_up():
    log = KafkaLog(LogLimits(None, GB, 7 * DAY_MS), None, 200)
    of = disk(SETTINGS, log, {0: LogEnds(0, 10, 10)}, {0: Extent(0, LogPosition(10))}, None)
    assert of == Disk(None, None, None, None, None, None, None, [])
    assert disk(SETTINGS, None, {}, None, None) == of


def test_status_shows_disk_and_warnings():
    status = Status([], [], [], [], [], [], None, [], {}, disk=found(1_000, log_bytes=9 * GB))
    with (console := Console(width=200)).capture() as shown:
        print_status(status, console)
    text = shown.get()
    assert [line.split("  ")[0] for line in text.splitlines() if " 10240 " in line] == ["Kafka's log of the topic"]
    assert all(warning in text for warning in status.as_dict()["disk"]["warnings"])
    assert len(status.as_dict()["disk"]["warnings"]) == 2
