"""The limits that a real broker has of a topic after `make up`: never smaller ones that delete what is not archived."""

from __future__ import annotations

from dataclasses import replace

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from contract.errors import EngineUnavailable
from contract.extent import Extent
from contract.kafka_disk import LogDisk, LogLimits
from contract.log_position import LogPosition
from contract.settings import Settings
from ingest import topic_budget
from ingest.topic_budget import keep_to_budget
from ingest.topics import topic_of

MB = 1 << 20
RECORDS = 100


def limits_of(settings: Settings) -> LogLimits:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    resource = ConfigResource(ResourceType.TOPIC, settings.topic)
    return LogLimits.of_config(
        {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result().items()}
    )


@pytest.fixture
def filled(topic: Settings) -> Settings:
    """A topic with records in one partition, of which Kafka knows by bytes no limit yet."""
    producer = Producer({"bootstrap.servers": topic.kafka_bootstrap})
    for _ in range(RECORDS):
        producer.produce(topic.topic, b"x", partition=0)
    assert producer.flush(30) == 0
    assert limits_of(topic).retention_bytes is None
    return topic


class Archive:
    """It has the partition up to an offset, after having failed for some times."""

    def __init__(self, next_offset: int, topic_id: str | None = None, fails: int = 0) -> None:
        self.end, self.fails, self.asked = LogPosition(next_offset, topic_id), fails, 0

    def extent(self, partition: int) -> Extent:
        self.asked += 1
        if self.asked <= self.fails:
            raise EngineUnavailable.at("HDFS", "http://namenode:9870", "refused")
        return Extent(partition, self.end)


def with_budget(settings: Settings, megabytes: int) -> Settings:
    return replace(settings, kafka_disk_mb=megabytes)


def test_a_budget_is_set_and_a_smaller_one_only_when_it_deletes_nothing_that_is_not_archived(filled: Settings):
    """The broker's disk is elsewhere for whoever tests: each record may have a megabyte and more."""
    partitions = filled.topic_partitions
    lagging, whole = Archive(RECORDS - 50), Archive(RECORDS)
    said = keep_to_budget(with_budget(filled, 40 * partitions), lagging.extent)
    assert "of partition 0 the archive lacks 50 offsets, with up to 50 MB" in said
    assert (limits_of(filled).retention_bytes, lagging.asked) == (None, 1)

    said = keep_to_budget(with_budget(filled, 40 * partitions), whole.extent)
    assert said == f"Kafka's log of it may take {40 * partitions} MB of disk (BRAID_KAFKA_DISK_MB)"
    limits = limits_of(filled)
    assert (limits.retention_bytes, limits.segment_bytes) == (35 * MB, 5 * MB)

    # A greater one deletes nothing: nobody is asked, whatever the archive lacks.
    assert "may take" in keep_to_budget(with_budget(filled, 48 * partitions), lagging.extent)
    assert limits_of(filled).retention_bytes == 42 * MB
    assert lagging.asked == 1
    assert "is not cut" in keep_to_budget(with_budget(filled, 40 * partitions), lagging.extent)
    assert limits_of(filled).retention_bytes == 42 * MB


def test_what_was_archived_of_another_topic_is_nothing_of_this_one(filled: Settings):
    wanted = with_budget(filled, 40 * filled.topic_partitions)
    said = keep_to_budget(wanted, Archive(RECORDS, "another").extent)
    assert f"the archive lacks {RECORDS} offsets" in said
    assert "may take" in keep_to_budget(wanted, Archive(RECORDS, topic_of(filled)().topic_id).extent)


def test_an_archive_that_comes_later_is_waited_for_and_one_that_does_not_come_is_said(filled: Settings):
    wanted = with_budget(filled, 40 * filled.topic_partitions)
    waits: list[float] = []
    said = keep_to_budget(wanted, Archive(RECORDS, fails=3).extent, patience_s=0, wait=waits.append)
    assert "because the archive cannot be asked what it has: HDFS at" in said
    assert (waits, limits_of(filled).retention_bytes) == ([], None)
    assert "may take" in keep_to_budget(wanted, Archive(RECORDS, fails=3).extent, wait=waits.append)
    assert len(waits) == 3


def test_half_of_what_is_free_is_the_budget_where_the_brokers_disk_is_here(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
):
    partitions = filled.topic_partitions
    nothing = Archive(0)
    assert "the broker's disk is not here" in keep_to_budget(filled, nothing.extent)
    assert limits_of(filled).retention_bytes is None

    found = LogDisk(1 << 40, 79 * MB * partitions, {0: MB * partitions}, {0: {0: 10 * MB, 10: 35 * MB}})
    monkeypatch.setattr(topic_budget, "log_disk", lambda topic, cluster_id: found)
    assert "the archive lacks 100 offsets, with up to 35 MB behind" in keep_to_budget(filled, nothing.extent)
    said = keep_to_budget(filled, Archive(10).extent)
    assert said == f"Kafka's log of it may take {40 * partitions} MB of disk (half of what is free)"
    assert limits_of(filled).retention_bytes == 35 * MB
