"""Kafka's log has a budget of the disk; what the archive lacks is not deleted for it without a word."""

from __future__ import annotations

import os
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException
from rich.console import Console

from contract.errors import ArchiveDamaged, EngineUnavailable
from contract.extent import Extent
from contract.kafka_disk import LogDisk, LogLimits, bytes_behind, log_disk, shared_out
from contract.log_position import LogPosition
from contract.settings import Settings
from ingest.topic_budget import Log, LogExtent, refusal
from serving import disk as disk_module
from serving import status as status_module
from serving.disk import Disk, KafkaLog, archive_bytes, disk, kafka_log
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
        (folder / name / "00000000000000000000.log").write_bytes(os.urandom(size_bytes - 4_096))
        (folder / name / "00000000000000000070.log").write_bytes(os.urandom(4_096))
        (folder / name / "00000000000000000009.log.deleted").touch()
        with (folder / name / "00000000000000000000.index").open("wb") as index:
            index.truncate(10 * MB)  # a broker makes it so large, and nothing is in it
    return folder


def test_the_log_takes_what_is_written_of_its_own_topic(tmp_path: Path):
    found = log_disk("pageviews", "mine", broker(tmp_path))
    assert found
    assert found.log_bytes == {0: 8_192, 1: 4_096}
    assert found.segments == {0: {0: 4_096, 70: 4_096}, 1: {0: 0, 70: 4_096}}
    assert 0 < found.free_bytes < found.size_bytes
    assert found.half_of_free == (found.free_bytes + 12_288) // 2


def test_another_clusters_disk_is_not_measured(tmp_path: Path):
    assert log_disk("pageviews", "min", broker(tmp_path)) is None
    assert log_disk("pageviews", None, tmp_path) is None
    assert log_disk("pageviews", "mine", tmp_path / "nothing") is None


def kept_by_kafka(segments: dict[int, int], retention_bytes: int) -> int:
    """The first offset that a broker keeps, as it deletes: one segment after the other."""
    left = sorted(segments)
    while sum(segments[first] for first in left[1:]) >= retention_bytes:
        left.pop(0)
    return left[0]


@pytest.mark.parametrize("retention_bytes", [1, 400, 1_000, 1_001, 2_499, 2_500])
def test_what_stands_behind_an_offset_says_whether_a_limit_deletes_it(retention_bytes: int):
    # Records of the first two segments are large, and those of the last one small: their average says little.
    segments = {100: 1_000, 110: 1_000, 120: 500, 900: 400, 1_000: 600}
    for offset in range(100, 1_100):
        is_deleted = kept_by_kafka(segments, retention_bytes) > max(first for first in segments if first <= offset)
        assert (bytes_behind(segments, offset) >= retention_bytes) == is_deleted, offset
    # What Kafka has deleted itself, and what is not there yet.
    assert (bytes_behind(segments, 5), bytes_behind(segments, 5_000), bytes_behind({}, 5)) == (2_500, 0, 0)


def ends_at(offset: int, topic_id: str | None = "this") -> Any:
    return lambda partition: Extent(partition, LogPosition(offset, topic_id))


def down(partition: int) -> Extent:
    raise EngineUnavailable.at("HDFS", "http://namenode:9870", "refused")


def damaged(partition: int) -> Extent:
    raise ArchiveDamaged.of("/braid/x", "it has no footer")


def test_a_log_is_not_cut_below_what_the_archive_lacks():
    """8 GB of 200 records, then 2 GB of 800: by the average record 800 to 1,000 are 2 GB."""
    segments = {0: {0: 4 * GB, 100: 4 * GB, 200: GB, 600: GB}, 1: {0: GB}}
    ends = {0: LogExtent(0, 1_000), 1: LogExtent(0, 1_000)}
    log = Log("this", ends, MB, LogDisk(100 * GB, 50 * GB, {0: 10 * GB, 1: GB}, segments))
    assert refusal(2 * GB, log, ends_at(200)) is None
    said = refusal(2 * GB, log, ends_at(199)) or ""
    assert "of partition 0 the archive lacks 801 offsets, with up to 2,048 MB behind the first of them, and 2,048 MB" in said
    # Nobody reads there as far as its numbers say.
    assert "lacks 1,000 offsets" in (refusal(2 * GB, log, ends_at(900, "another")) or "")
    assert refusal(2 * GB, log, ends_at(900, None)) is None
    for unknown in (down, damaged):
        assert ", because the archive cannot be asked what it has: " in (refusal(2 * GB, log, unknown) or "")
    # Nothing is deleted, so nobody is asked.
    assert refusal(6 * GB + 1, log, down) is None


def test_where_the_brokers_disk_is_elsewhere_each_record_is_taken_to_be_as_long_as_it_may_be():
    log = Log("this", {0: LogExtent(0, 10_000)}, MB, None)
    assert refusal(2 * GB, log, ends_at(10_000 - 2_047)) is None
    said = refusal(2 * GB, log, ends_at(10_000 - 2_048)) or ""
    assert "of partition 0 the archive lacks 2,048 offsets, with up to 2,048 MB behind" in said
    assert ", because the archive cannot be asked" in (refusal(2 * GB, log, down) or "")
    assert refusal(10 * GB, log, down) is None


def found(archived: int, free_bytes: int = 50 * GB, log_bytes: int = 4 * GB, age_days: float = 0, **changed: Any) -> Disk:
    limits = LogLimits(changed.get("retention_bytes", 9 * GB), GB, 7 * DAY_MS)
    segments = dict.fromkeys(range(1000, 2000, 125), log_bytes // 8)
    log = KafkaLog(limits, LogDisk(100 * GB, free_bytes, {0: log_bytes}, {0: segments}), day_offsets=200)
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
    # Segments are of 512 MB and 125 offsets, and 5 GB are kept: five segments are half of that.
    assert found(1_375, retention_bytes=5 * GB).warnings == []
    said = " ".join(found(1_374, retention_bytes=5 * GB).warnings)
    assert "partition 0: the archive lacks 626 offsets, some 2,560 MB of the 5,120 MB that Kafka keeps" in said
    assert "BRAID_KAFKA_DISK_MB" in said
    # Where bytes do not limit it, or are not known, age does.
    for days, warned in ((3.4, 0), (3.6, 1)):
        first = datetime.now(UTC) - timedelta(days=days)
        monkeypatch.setattr("serving.disk.came_at", lambda settings, partition, offset, first=first: first)
        assert len(found(1_800, retention_bytes=None).warnings) == 1 + warned
    unlimited, lags = found(1_800, retention_bytes=None).warnings
    assert "nothing but time limits Kafka's log: `make up` gives it a budget" in unlimited
    assert "the first 3.6 days old, and Kafka keeps 7.0 days" in lags


def test_where_the_brokers_disk_is_elsewhere_nothing_is_made_up():
    log = KafkaLog(LogLimits(None, GB, 7 * DAY_MS), None, 200)
    of = disk(SETTINGS, log, {0: LogEnds(0, 10, 10)}, {0: Extent(0, LogPosition(10))}, None)
    assert of == Disk(None, None, None, None, None, None, None, [])
    assert disk(SETTINGS, None, {}, None, None) == of
    # Nobody asked for a limit there, unless somebody did.
    asked = disk(replace(SETTINGS, kafka_disk_mb=5), log, {}, {}, None)
    assert ["nothing but time limits" in warning for warning in asked.warnings] == [True]


class Refusing:
    """A client of a broker that answers some questions, and not others."""

    came: ClassVar[dict[int, int]] = {}

    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(cluster_id="mine")

    def describe_configs(self, resources: list[Any], request_timeout: float) -> dict[Any, Future[Any]]:
        refused = Future[Any]()
        refused.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
        return dict.fromkeys(resources, refused)

    def list_offsets(self, asked: dict[Any, Any], request_timeout: float) -> dict[Any, Future[Any]]:
        told = {place: Future[Any]() for place in asked}
        for place, answer in told.items():
            if place.partition in self.came:
                answer.set_result(SimpleNamespace(offset=self.came[place.partition]))
            else:
                answer.set_exception(TimeoutError())
        return told


def test_a_figure_that_is_not_told_is_not_known_and_no_server_is_down_for_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disk_module, "AdminClient", Refusing)
    for name in ("log_ends", "open_transactions"):
        monkeypatch.setattr(status_module, name, lambda *arguments: {0: LogEnds(0, 10, 10)} if len(arguments) == 1 else [])
    probe = status_module._kafka(SETTINGS)
    assert probe.health.up
    assert probe.answer["log"] == KafkaLog(None, None, None)
    of = disk(SETTINGS, probe.answer["log"], {0: LogEnds(0, 10, 10)}, {0: Extent(0, LogPosition(10))}, 100)
    assert of == Disk(None, None, None, 100, None, None, None, [])
    nobody = replace(SETTINGS, webhdfs_url="http://127.0.0.1:9")
    assert archive_bytes(nobody, 1) is None


@pytest.mark.parametrize("state", ["ALIVE", "STANDBY", "RECOVERING"])
def test_a_spark_master_that_takes_no_runs_is_not_up(state: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(status_module, "read_page", lambda settings: {"status": state, "aliveworkers": 1})
    health = status_module._spark(SETTINGS).health
    assert (health.up, health.detail == "1 workers") == (state == "ALIVE",) * 2
    assert health.up or f"is {state} (it takes no runs)" in health.detail


def test_what_is_left_of_less_than_a_day_is_not_taken_for_a_day(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disk_module, "AdminClient", Refusing)
    hours = {0: 6.0}

    def came_at(settings: Settings, partition: int, offset: int) -> datetime | None:
        return datetime.now(UTC) - timedelta(hours=hours[partition]) if partition in hours else None

    monkeypatch.setattr("serving.disk.came_at", came_at)

    def day_offsets(**came: int) -> int | None:
        monkeypatch.setattr(Refusing, "came", {int(name[1:]): first for name, first in came.items()})
        return kafka_log(SETTINGS, {0: LogEnds(500, 900, 900), 1: LogEnds(0, 300, 300), 2: LogEnds(7, 9, 9)}).day_offsets

    # Of partition 0 the last six hours are left. Partition 1 has all that ever came, and 2 nothing that is young.
    assert day_offsets(p0=500, p1=0, p2=-1) == 4 * 400 + 300
    assert day_offsets(p0=600, p1=100, p2=-1) == 300 + 200
    # Nobody says how old the first record is.
    assert day_offsets(p0=600, p1=100, p2=7) is None


def test_status_shows_disk_and_warnings():
    status = Status([], [], [], [], [], [], None, [], {}, disk=found(1_000, log_bytes=9 * GB))
    with (console := Console(width=200)).capture() as shown:
        print_status(status, console)
    text = shown.get()
    assert [line.split("  ")[0] for line in text.splitlines() if " 10240 " in line] == ["Kafka's log of the topic"]
    assert all(warning in text for warning in status.as_dict()["disk"]["warnings"])
    assert len(status.as_dict()["disk"]["warnings"]) == 2
