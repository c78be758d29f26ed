"""The archiver over a topic and an HDFS in memory: whatever fails, each record is archived once."""

from __future__ import annotations

import io
import random
import threading
from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import DataLost, EngineUnavailable, TopicUnusable
from contract.event import EVENT_SCHEMA, REJECT_SCHEMA, decode
from contract.master import MASTER, QUARANTINE, OffsetRange, archived_next_offset, covering
from contract.settings import Settings
from ingest.archive import Archiver
from ingest.archive_files import ArchiveFiles
from ingest.background import Background, Worker
from tests.fixtures.memory import GAP, Crash, MemoryConsumer, MemoryStore, MemoryTopic

KAFKA_TIME_MS = 1_763_712_000_000
SETTINGS = replace(Settings(), archive_flush_rows=10, archive_flush_ms=5_000, archive_merge_files=3, archive_grace_ms=60_000)


def event(number: int) -> tuple[int, bytes]:
    value = (
        f'{{"event_id":"e:{number}","event_time":"2025-11-20T10:00:00.5Z","site":"s","page":"/",'
        f'"visitor_id":"v{number % 5}","status":200,"bytes_sent":{number}}}'
    )
    return KAFKA_TIME_MS + number, value.encode()


REJECT = (KAFKA_TIME_MS, b"not an event")


@dataclass
class World:
    """One topic, one store, a clock, and an archiver that can be started anew."""

    topic: MemoryTopic
    store: MemoryStore = field(default_factory=MemoryStore)
    clock_s: float = 1_763_712_000.0
    said: list[str] = field(default_factory=list)

    def archiver(self, settings: Settings = SETTINGS, writer: Worker | None = None) -> Archiver:
        files, consumer = ArchiveFiles(self.store, settings.archive_root), MemoryConsumer(self.topic)
        archiver = Archiver(settings, consumer, files, self, self.said.append, lambda: self.clock_s, writer)  # type: ignore[arg-type]
        archiver.start()
        return archiver

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.pass_s(seconds)
        return False

    def pass_s(self, seconds: float) -> None:
        self.clock_s += seconds
        self.store.now_ms = int(self.clock_s * 1000)

    def names(self, dataset: str, partition: int = 0) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.store.files if f"/{dataset}/partition={partition}/" in path)

    def frame(self, path: str) -> pl.DataFrame:
        frame = pl.from_arrow(pq.read_table(io.BytesIO(self.store.files[path][0])))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def archived(self, dataset: str, partition: int = 0) -> list[int]:
        """The offsets that a reader gets: of covering slices, and of quarantine files beside the same master file."""
        ranges = [OffsetRange.of_file(partition, name) for name in self.names(MASTER, partition)]
        files = [offsets for offsets in ranges if offsets]
        offsets: list[int] = []
        for part in covering(partition, files, archived_next_offset(files)):
            path = part.file.path(SETTINGS.archive_root, dataset)
            if dataset == MASTER or path in self.store.files:
                rows = self.frame(path)["offset"].to_list()
                offsets += [offset for offset in rows if part.first_offset <= offset < part.next_offset]
        return offsets


def test_a_file_is_written_when_it_is_full_or_old_and_its_name_is_its_offsets():
    world = World(MemoryTopic({0: [event(number) for number in range(4)], 1: []}))
    archiver = world.archiver()
    archiver.step()
    assert world.names(MASTER) == []
    world.pass_s(5)
    archiver.step()
    assert world.names(MASTER) == ["00000000000000000000-00000000000000000004.parquet"]
    world.topic.partitions[1] += [event(number) for number in range(10)]
    archiver.step()
    assert world.names(MASTER, 1) == ["00000000000000000000-00000000000000000010.parquet"]
    assert world.names(QUARANTINE) == []


def test_files_hold_the_columns_of_the_contract_and_the_whole_rejected_value():
    world = World(MemoryTopic({0: [event(0), (KAFKA_TIME_MS, b"x" * 70_000), (KAFKA_TIME_MS, None)]}))
    archiver = world.archiver()
    archiver.step()
    archiver.flush(0)
    offsets = OffsetRange(0, 0, 3)
    events, rejects = (world.frame(offsets.path(SETTINGS.archive_root, dataset)) for dataset in (MASTER, QUARANTINE))
    assert events.schema == EVENT_SCHEMA
    assert rejects.schema == REJECT_SCHEMA
    assert rejects["value"].to_list() == [b"x" * 70_000, None]
    columns = pq.read_schema(io.BytesIO(world.store.files[offsets.path(SETTINGS.archive_root, MASTER)][0]))
    assert str(columns.field("site").type) == "string"
    assert str(columns.field("event_time").type) == "timestamp[us, tz=UTC]"


def test_a_range_without_events_is_a_file_without_rows():
    world = World(MemoryTopic({0: [REJECT, GAP]}))
    archiver = world.archiver()
    archiver.step()
    archiver.flush(0)
    assert world.names(MASTER) == world.names(QUARANTINE) == ["00000000000000000000-00000000000000000002.parquet"]
    assert world.archived(MASTER) == []
    world.topic.partitions[0].append(GAP)
    archiver.step()
    world.pass_s(5)
    archiver.step()
    assert world.names(MASTER)[1:] == ["00000000000000000002-00000000000000000003.parquet"]


def test_a_start_goes_on_where_the_names_end_and_removes_what_a_crash_left():
    world = World(MemoryTopic({0: [event(0), REJECT, event(2)]}))
    quarantined = OffsetRange(0, 0, 3).path(SETTINGS.archive_root, QUARANTINE)

    def crash(operation: str, path: str) -> None:
        if (operation, path) == ("renamed", quarantined):
            raise Crash

    archiver = world.archiver()
    archiver.step()
    world.store.fault = crash
    with pytest.raises(Crash):
        archiver.flush(0)
    world.store.fault = lambda operation, path: None
    world.store.files[f"{SETTINGS.archive_root}/{MASTER}/partition=0/.x.tmp"] = (b"half", 0)
    assert world.names(QUARANTINE)
    restarted = world.archiver()
    # The quarantine file stays: another archiver may be about to write the master file beside it.
    assert (world.names(MASTER), world.names(QUARANTINE)) == ([], [OffsetRange(0, 0, 3).file_name])
    assert world.said[-2:] == [
        "partition 0: removed 1 file(s) that a crash left half done",
        "archive of topic pageviews goes on at {0: 0}",
    ]
    world.topic.partitions[0].append(event(3))
    restarted.step()
    restarted.flush(0)
    assert (world.archived(MASTER), world.archived(QUARANTINE)) == ([0, 2, 3], [1])
    # Now that a larger master file covers its range, it goes.
    assert world.archiver().next_offsets == {0: 4}
    assert world.names(QUARANTINE) == [OffsetRange(0, 0, 4).file_name]


def test_an_unavailable_hdfs_is_waited_for_with_growing_pauses():
    world, failures = World(MemoryTopic({0: [event(0)]})), [8]

    def unavailable(operation: str, path: str) -> None:
        if operation == "write" and failures[0]:
            failures[0] -= 1
            raise EngineUnavailable.at("HDFS", "http://namenode:9870", "refused")

    archiver = world.archiver()
    archiver.step()
    world.store.fault = unavailable
    started_s = world.clock_s
    archiver.flush(0)
    assert world.archived(MASTER) == [0]
    # 0.5 s, then twice as long each time, but never more than 5 s; up to a fifth less by chance.
    assert 20 < world.clock_s - started_s < 30
    assert world.said[1].endswith("does not answer (refused); `make status` shows what is up; trying again in 0.5 s")


def test_small_files_are_merged_and_later_deleted():
    world = World(MemoryTopic({0: []}))
    archiver = world.archiver()
    for number in range(0, 60, 2):
        world.topic.partitions[0] += [event(number), REJECT]
        archiver.step()
        archiver.flush(0)
        world.pass_s(10)
    assert world.archived(MASTER) == list(range(0, 60, 2))
    assert world.archived(QUARANTINE) == list(range(1, 60, 2))
    assert len(world.names(MASTER)) < 20
    world.pass_s(60)
    archiver.tidy(0)
    assert len(world.names(MASTER)) <= 6
    assert world.names(MASTER) == world.names(QUARANTINE)
    assert world.archived(MASTER) == list(range(0, 60, 2))


def test_records_that_retention_deleted_stop_the_archiver():
    world = World(MemoryTopic({0: [event(number) for number in range(9)]}, low_offsets={0: 5}))
    archiver = world.archiver()
    with pytest.raises(
        DataLost, match=r"the archiver needs offset 0 of partition 0, but the broker's first is 5: 5 records"
    ):
        archiver.step()


def test_a_topic_that_ends_before_the_archive_stops_the_archiver():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    world.archiver().step()
    world.topic.partitions[0] = [event(0)]
    archiver = world.archiver()
    with pytest.raises(
        TopicUnusable, match="the archiver goes on at offset 10 of partition 0, but topic pageviews ends at 1: it is not"
    ):
        archiver.step()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.1]), st.sampled_from([0.0, 0.02, 0.1]))
def test_random_crashes_and_outages_neither_lose_nor_repeat_a_record(seed: int, crashes: float, outages: float):
    rng = random.Random(seed)
    world = World(MemoryTopic({0: [], 1: []}))
    trouble = True

    def fault(operation: str, path: str) -> None:
        if trouble and rng.random() < crashes:
            raise Crash
        if trouble and rng.random() < outages:
            raise EngineUnavailable.at("HDFS", "memory", operation)

    world.store.fault = fault
    archiver, number = None, 0
    for turn in range(40):
        trouble = turn < 36
        for _ in range(rng.randint(0, 12)):
            number += 1
            world.topic.partitions[rng.randrange(2)].append(
                rng.choice([event(number), event(number), event(number), REJECT, GAP])
            )
        try:
            archiver = archiver or world.archiver()
            archiver.step()
        except Crash:
            archiver = None
        world.pass_s(rng.choice([0.1, 2, 6, 40]))
    archiver = world.archiver()
    archiver.step()
    for partition, records in world.topic.partitions.items():
        archiver.flush(partition)
        kinds = {MASTER: [], QUARANTINE: []}
        for offset, record in enumerate(records):
            if record is not GAP:
                kinds[QUARANTINE if record == REJECT else MASTER].append(offset)
        assert {dataset: world.archived(dataset, partition) for dataset in kinds} == kinds


def test_overlapping_files_are_read_and_merged_with_each_offset_once():
    records = [event(0), REJECT, event(2), REJECT, event(4)]
    world = World(MemoryTopic({0: records}))
    files = ArchiveFiles(world.store, SETTINGS.archive_root)
    for first, after in ((0, 4), (1, 5)):
        times_ms, values = zip(*records[first:after], strict=True)
        files.put(OffsetRange(0, first, after), decode(0, range(first, after), times_ms, values))
    slices = covering(0, files.ranges(0), 5)
    assert files.read(MASTER, slices)["offset"].to_pylist() == [0, 2, 4]
    assert files.merge(slices) == OffsetRange(0, 0, 5)
    assert (world.archived(MASTER), world.archived(QUARANTINE)) == ([0, 2, 4], [1, 3])


def test_records_are_read_while_a_file_is_written():
    world, may_write = World(MemoryTopic({0: [event(number) for number in range(10)]})), threading.Event()

    def slow(operation: str, path: str) -> None:
        assert may_write.wait(timeout=60)

    with Background() as background:
        archiver = world.archiver(writer=background)
        world.store.fault = slow
        archiver.step()
        world.topic.partitions[0] += [event(number) for number in range(10, 15)]
        archiver.step()
        assert (archiver.next_offsets, world.archived(MASTER)) == ({0: 0}, [])
        may_write.set()
        archiver.flush(0)
    assert (archiver.next_offsets, world.archived(MASTER)) == ({0: 15}, list(range(15)))


def test_a_file_that_cannot_be_written_stops_the_archiver():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))

    def broken(operation: str, path: str) -> None:
        raise Crash

    def steps() -> None:
        with Background() as background:
            archiver = world.archiver(writer=background)
            world.store.fault = broken
            while True:
                archiver.step()

    with pytest.raises(Crash):
        steps()
