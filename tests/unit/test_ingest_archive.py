"""The archiver over a topic and an HDFS in memory: whatever fails, each record is archived once."""

from __future__ import annotations

import inspect
import io
import random
import threading
import time
from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import ArchiveGap, EngineUnavailable, PositionLost
from contract.event import REJECT_SCHEMA
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.losses import Loss, Losses
from contract.master import MASTER, QUARANTINE, OffsetRange, Slice, archived_next_offset, covering
from contract.master_rows import master_schema
from contract.records import Records
from contract.settings import Settings
from ingest.accept import accept
from ingest.archive import Archiver
from ingest.archive_files import ArchiveFiles
from ingest.as_received import values_of
from ingest.background import Background, Worker
from tests.fixtures.archived import judged
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
    step_s: float = 0.0
    """By how much the time of day was set."""
    said: list[str] = field(default_factory=list)

    beats: list[float] = field(default_factory=list)

    def archiver(self, settings: Settings = SETTINGS, writer: Worker | None = None) -> Archiver:
        files = ArchiveFiles(self.store, settings.archive_root)
        clocks = (lambda: self.clock_s, lambda: self.clock_s + self.step_s)
        connect, topic = lambda: MemoryConsumer(self.topic), self.topic.described
        arguments = (settings, connect, topic, files, self, self.said.append, *clocks)
        beat = lambda: self.beats.append(self.clock_s)  # noqa: E731
        archiver = Archiver(*arguments, writer, beat=beat)  # type: ignore[arg-type]
        archiver.start()
        return archiver

    stop_after: int = 10**9
    """How often it may be asked whether to stop before the answer is yes."""

    def is_set(self) -> bool:
        self.stop_after -= 1
        return self.stop_after < 0

    def wait(self, seconds: float) -> bool:
        self.pass_s(seconds)
        return False

    def pass_s(self, seconds: float) -> None:
        self.clock_s += seconds
        self.store.now_ms = int((self.clock_s + self.step_s) * 1000)

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


def test_an_archiver_that_has_much_to_do_beats_before_each_step():
    world = World(MemoryTopic({0: [event(number) for number in range(100)]}))
    archiver = world.archiver()
    for _ in range(5):
        world.pass_s(1)
        archiver.step()
    assert world.beats == [1_763_712_001.0 + second for second in range(5)]


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


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_clock_that_is_set_neither_holds_nor_hurries_a_file(step_s: float):
    world = World(MemoryTopic({0: [event(number) for number in range(4)]}))
    archiver = world.archiver()
    archiver.step()
    world.step_s = step_s
    world.pass_s(4)
    archiver.step()
    assert world.names(MASTER) == []
    world.pass_s(1)
    archiver.step()
    assert world.names(MASTER) == ["00000000000000000000-00000000000000000004.parquet"]


def test_an_archiver_measures_with_the_clock_that_nobody_sets():
    parameters = inspect.signature(Archiver).parameters
    assert (parameters["clock_s"].default, parameters["wall_s"].default) == (time.monotonic, time.time)


def test_what_is_held_of_all_partitions_is_bounded_by_bytes():
    # Less than a file's worth of each partition, and much more of all together.
    records = [(KAFKA_TIME_MS, b"x" * 60_000)] * 12
    world = World(MemoryTopic({partition: list(records) for partition in range(10)}))
    archiver = world.archiver(replace(SETTINGS, archive_flush_rows=1_000, archive_flush_mb=1))
    archiver.step()
    written = [partition for partition in range(10) if world.names(MASTER, partition)]
    assert 0 < len(written) < 10
    assert sum(60_000 * 12 for partition in range(10) if partition not in written) <= 2 << 20
    assert all(world.archived(QUARANTINE, partition) == list(range(12)) for partition in written)
    one = World(MemoryTopic({0: list(records) * 2}))
    one.archiver(replace(SETTINGS, archive_flush_rows=1_000, archive_flush_mb=1)).step()
    assert one.archived(QUARANTINE) == list(range(24))


def test_files_that_are_too_much_for_memory_stay_as_they_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ingest.archive._MERGE_BYTES", 100_000)
    # It is nothing on the disk.
    world = World(MemoryTopic({0: [(KAFKA_TIME_MS, b"x" * 60_000), event(1)] * 3}))
    archiver = world.archiver(replace(SETTINGS, archive_flush_rows=2))
    for first in (0, 2, 4):
        archiver._put(
            OffsetRange(0, first, first + 2),
            Records.of([first, first + 1], [KAFKA_TIME_MS] * 2, [b"x" * 60_000, event(first)[1]]),
            LogPosition(first),
            LogPosition(first + 2),
        )
    names = world.names(MASTER)
    archiver.tidy(0)
    assert world.names(MASTER) == names
    assert world.archived(QUARANTINE) == [0, 2, 4]
    assert sum("do not fit into one" in line for line in world.said) == 1
    archiver.tidy(0)
    assert sum("do not fit into one" in line for line in world.said) == 1


def test_a_merge_holds_one_file_at_a_time_however_large_the_records_are():
    store = MemoryStore()
    files = ArchiveFiles(store, "/b")
    parts = [OffsetRange(0, 100 * number, 100 * (number + 1)) for number in range(24)]
    for part in parts:
        offsets = list(range(part.first_offset, part.next_offset))
        values = [b"x" * 60_000 if offset % 2 else event(offset)[1] for offset in offsets]
        files.put(part, *judged(0, offsets, [KAFKA_TIME_MS] * 100, values))
    before, seen = pa.total_allocated_bytes(), []
    store.fault = lambda operation, path: seen.append(pa.total_allocated_bytes() - before)
    whole = [Slice(part, part.first_offset, part.next_offset) for part in parts]
    assert files.merge(whole, 1 << 30) == OffsetRange(0, 0, 2_400)
    # All rows are 72 MB, and what waits for its row group is 32 MiB at most.
    assert 30_000_000 < max(seen) < 40_000_000
    store.fault = lambda operation, path: None
    merged = [Slice(OffsetRange(0, 0, 2_400), 0, 2_400)]
    for dataset, first in ((MASTER, 0), (QUARANTINE, 1)):
        rows = files.read(dataset, merged)
        assert rows["offset"].to_list() == list(range(first, 2_400, 2))
        assert rows.equals(files.read(dataset, whole))


def test_files_hold_the_columns_of_the_contract_and_each_value_that_does_not_follow_from_them():
    plain = event(3)[1].replace(b".5Z", b".500Z")
    world = World(
        MemoryTopic({0: [event(0), (KAFKA_TIME_MS, b"x" * 70_000), (KAFKA_TIME_MS, None), (KAFKA_TIME_MS, plain)]})
    )
    archiver = world.archiver()
    archiver.step()
    archiver.flush(0)
    offsets = OffsetRange(0, 0, 4)
    events, rejects = (world.frame(offsets.path(SETTINGS.archive_root, dataset)) for dataset in (MASTER, QUARANTINE))
    assert events.schema == master_schema()
    assert rejects.schema == REJECT_SCHEMA
    assert events["value"].to_list() == [event(0)[1], b""]
    read = ArchiveFiles(world.store, SETTINGS.archive_root).read(MASTER, [Slice(offsets, 0, 4)])
    assert values_of(read) == [event(0)[1], plain]
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


def lost(first_offset: int, next_offset: int) -> str:
    """How the archiver names a gap."""
    return str(ArchiveGap.lost(0, first_offset, next_offset))


def in_files(world: World) -> list[int]:
    """Every offset that some master file has a record of."""
    paths = [OffsetRange.of_file(0, name).path(SETTINGS.archive_root, MASTER) for name in world.names(MASTER)]  # type: ignore[union-attr]
    return sorted({offset for path in paths for offset in world.frame(path)["offset"].to_list()})


def lose(world: World, first_offset: int, next_offset: int) -> None:
    """A file of the archive is gone; what it was merged into, if it was, too."""
    gone = OffsetRange(0, first_offset, next_offset)
    for name in world.names(MASTER):
        file = OffsetRange.of_file(0, name)
        if file and file.first_offset < gone.next_offset and gone.first_offset < file.next_offset:
            world.store.delete(file.path(SETTINGS.archive_root, MASTER))


def archived_in_files(*ends: int, epochs: list[tuple[int, int]] | None = None) -> World:
    """An archive of as many files, each written in an archiver's run of its own."""
    world, before = World(MemoryTopic({0: []})), 0
    if epochs:
        world.topic.epochs[0] = epochs
    for end in ends:
        world.topic.partitions[0] += [event(number) for number in range(before, end)]
        archiver = world.archiver(KEEP_SMALL)
        archiver.step()
        if archiver.next_offsets != {0: end}:
            archiver.flush(0)
        before = end
    world.said.clear()
    return world


KEEP_SMALL = replace(SETTINGS, archive_merge_files=1_000)


def test_records_that_retention_deleted_before_they_were_read_are_named_and_the_archiver_goes_on():
    world = World(MemoryTopic({0: [event(number) for number in range(15)]}, low_offsets={0: 5}))
    archiver = world.archiver()
    assert world.said == [lost(0, 5), "archive of topic pageviews goes on at {0: 5}"]
    archiver.step()
    assert in_files(world) == list(range(5, 15))
    # A later start has the same gap, and says so as well.
    world.said.clear()
    assert world.archiver().next_offsets == {0: 15}
    assert world.said == [lost(0, 5), "archive of topic pageviews goes on at {0: 15}"]


def test_an_archiver_that_retention_overtakes_while_it_runs_files_what_it_has_and_goes_on():
    world = World(MemoryTopic({0: [event(number) for number in range(4)]}))
    archiver = world.archiver()
    archiver.step()
    world.topic.partitions[0] += [event(number) for number in range(4, 30)]
    world.topic.low_offsets[0] = 12
    archiver.step()
    archiver.step()
    assert (in_files(world), world.said[1:]) == (
        [*range(4), *range(12, 30)],
        [lost(4, 12), "archive of topic pageviews goes on at {0: 12}"],
    )
    # The client is assigned anew, and the same is said once.
    archiver.start()
    assert world.said.count(lost(4, 12)) == 1


def test_a_lost_file_that_kafka_still_has_is_archived_again():
    world = archived_in_files(3, 6, 9)
    lose(world, 3, 6)
    archiver = world.archiver()
    assert archiver.next_offsets == {0: 3}
    archiver.step()
    archiver.flush(0)
    assert (world.archived(MASTER), world.said) == (list(range(9)), ["archive of topic pageviews goes on at {0: 3}"])


def test_of_a_lost_file_the_end_is_archived_again_if_kafka_has_that_alone():
    world = archived_in_files(3, 6, 9)
    lose(world, 3, 6)
    world.topic.low_offsets[0] = 5
    archiver = world.archiver()
    assert world.said == [lost(3, 5), "archive of topic pageviews goes on at {0: 5}"]
    archiver.step()
    archiver.flush(0)
    assert in_files(world) == [0, 1, 2, *range(5, 9)]


def test_behind_a_lost_file_that_kafka_has_no_more_the_archiver_goes_on_where_all_files_end():
    world = archived_in_files(3, 6, 9, epochs=[(0, 0), (2, 7)])
    lose(world, 3, 6)
    world.topic.low_offsets[0] = 7
    archiver = world.archiver()
    assert world.said == [lost(3, 6), "archive of topic pageviews goes on at {0: 9}"]
    world.topic.partitions[0] += [event(number) for number in range(9, 20)]
    archiver.step()
    assert in_files(world) == [*range(3), *range(6, 20)]
    assert ArchiveFiles(world.store, SETTINGS.archive_root).position(0) == LogPosition(20, "first", 2)


def test_a_gap_behind_which_files_were_written_is_filled_as_far_as_kafka_has_it():
    world = archived_in_files(3, 6, 9, 12, 15)
    lose(world, 3, 6)
    lose(world, 9, 12)
    world.topic.low_offsets[0] = 7
    archiver = world.archiver()
    assert world.said == [lost(3, 6), "archive of topic pageviews goes on at {0: 9}"]
    archiver.step()
    archiver.flush(0)
    assert in_files(world) == [*range(3), *range(6, 15)]


@pytest.mark.parametrize("refilled", [0, 1])
def test_a_log_that_ends_below_the_archive_fills_no_gap(refilled: int):
    world = archived_in_files(3, 6, 9)
    lose(world, 3, 6)
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [event(100)] * refilled
    with pytest.raises(PositionLost, match="goes on at offset 9 of partition 0, but topic pageviews ends at"):
        world.archiver()


def test_a_gap_of_a_log_that_another_one_has_followed_is_lost():
    world = archived_in_files(3, 6, 9)
    world.topic.made_again("second")
    files = ArchiveFiles(world.store, SETTINGS.archive_root)
    files.put_empty(OffsetRange(0, 9, 10), LogPosition(10, "second", None, 10))
    lose(world, 3, 6)
    world.topic.partitions[0] += [event(number) for number in range(20, 30)]
    archiver = world.archiver()
    assert world.said == [lost(3, 6), "archive of topic pageviews goes on at {0: 10}"]
    archiver.step()
    assert in_files(world) == [*range(3), *range(6, 9), *range(10, 20)]


def test_what_both_logs_have_is_not_read_into_a_gap_under_another_number():
    # The log was cut at 8 and followed by itself: its offset 8 is 10 from then on, so its 5 would be 7.
    world = archived_in_files(3, 6, 9)
    world.topic.cut(0, 8)
    files = ArchiveFiles(world.store, SETTINGS.archive_root)
    files.put_empty(OffsetRange(0, 9, 10), LogPosition(10, "first", 2, 2))
    lose(world, 6, 9)
    archiver = world.archiver()
    assert world.said == [lost(6, 9), "archive of topic pageviews goes on at {0: 10}"]
    accept(files, Losses((Loss(0, 6, 9, "gone", True),)), world.said.append)
    assert files.extent(0) == Extent(0, LogPosition(10, "first", 2, 2))
    # Its neighbour is of the earlier log too, though what is between them was written down since.
    lose(world, 3, 6)
    assert files.extent(0).lost(0) == [OffsetRange(0, 3, 6)]
    archiver.step()
    assert in_files(world) == [0, 1, 2]


def test_a_topic_that_ends_before_the_archive_stops_the_archiver():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    world.archiver().step()
    world.topic.partitions[0] = [event(0)]
    archiver = world.archiver()
    with pytest.raises(
        PositionLost,
        match="the archiver goes on at offset 10 of partition 0, but topic pageviews ends at 1: 9 records that were read",
    ):
        archiver.step()


@pytest.mark.parametrize("refilled", [0, 3, 9])
@pytest.mark.parametrize("lives_on", [True, False])
def test_a_log_that_was_cut_below_the_archive_stops_the_archiver_however_much_came_after(refilled: int, lives_on: bool):
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    archiver = world.archiver()
    archiver.step()
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [event(number) for number in range(100, 100 + refilled)]
    if not lives_on:
        archiver = world.archiver()
    with pytest.raises(PositionLost, match="the archiver goes on at offset 10 of partition 0, but topic pageviews "):
        archiver.step()
    assert world.archived(MASTER) == list(range(10))


def test_a_log_that_was_cut_above_the_archive_is_no_loss_to_it():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    world.archiver().step()
    world.topic.partitions[0] += [event(number) for number in range(10, 15)]
    world.topic.cut(0, 12)
    world.topic.partitions[0] += [event(number) for number in range(20, 28)]
    world.archiver().step()
    assert world.archived(MASTER) == list(range(20))


@pytest.mark.parametrize("held", [0, 9])
def test_an_archiver_that_another_one_overtook_takes_nothing_of_a_log_that_lost_what_is_archived(held: int):
    world = World(MemoryTopic({0: [event(number) for number in range(held)]}))
    slow, fast = world.archiver(), world.archiver()
    slow.step()
    world.topic.partitions[0] += [event(number) for number in range(held, 20)]
    fast.step()
    world.topic.cut(0, 15)
    world.topic.partitions[0] += [event(number) for number in range(100, 110)]
    slow.step()
    with pytest.raises(PositionLost, match="the archiver goes on at offset 20 of partition 0"):
        slow.step()
    assert world.names(MASTER) == [OffsetRange(0, 0, 20).file_name]


def test_an_archiver_that_another_one_overtook_goes_on_behind_it_if_a_broker_started_and_nothing_is_lost():
    world = World(MemoryTopic({0: [event(number) for number in range(20)]}))
    slow, fast = world.archiver(), world.archiver()
    fast.step()
    world.topic.cut(0, 20)
    world.topic.partitions[0] += [event(number) for number in range(20, 30)]
    slow.step()
    slow.step()
    assert (world.archived(MASTER), slow.next_offsets) == (list(range(30)), {0: 30})


def test_records_that_were_read_before_the_log_lost_them_are_archived():
    world = World(MemoryTopic({0: [event(number) for number in range(10)], 1: [event(0)]}))
    archiver = world.archiver()
    archiver.step()
    world.topic.partitions[0] += [event(number) for number in range(10, 15)]
    archiver.step()
    world.topic.cut(0, 7)
    with pytest.raises(PositionLost, match="offset 15 of partition 0"):
        archiver.step()
    assert (world.archived(MASTER), world.archived(MASTER, 1)) == (list(range(15)), [0])


@pytest.mark.parametrize("records", [5, 20])
@pytest.mark.parametrize("lives_on", [True, False])
def test_a_topic_that_was_made_again_stops_the_archiver_before_it_takes_a_record(records: int, lives_on: bool):
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    archiver = world.archiver()
    archiver.step()
    world.topic.made_again("second")
    world.topic.partitions[0] += [event(number) for number in range(100, 100 + records)]
    text = "has read the topic with the id first, but topic pageviews has the id second: it was made again, or"
    with pytest.raises(PositionLost, match=text):
        archiver.step() if lives_on else world.archiver()
    assert world.archived(MASTER) == list(range(10))


def test_an_archiver_that_met_another_log_says_so_once_and_goes_on_when_its_own_is_back():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    world.archiver().step()
    own = replace(world.topic)
    world.topic.made_again("second")
    files, consumer = ArchiveFiles(world.store, SETTINGS.archive_root), lambda: MemoryConsumer(world.topic)
    archiver = Archiver(SETTINGS, consumer, world.topic.described, files, world, world.said.append, lambda: world.clock_s)  # type: ignore[arg-type]
    world.said.clear()
    world.stop_after = 20
    archiver.run()
    assert len(world.said) == 1
    world.topic.topic_id, world.topic.partitions = own.topic_id, own.partitions
    world.topic.partitions[0] += [event(number) for number in range(10, 20)]
    world.stop_after = 20
    archiver.run()
    assert (world.said[1], world.archived(MASTER)) == ("archive of topic pageviews goes on at {0: 10}", list(range(20)))


def test_an_archiver_that_met_a_log_that_was_cut_says_so_once():
    world = World(MemoryTopic({0: [event(number) for number in range(10)]}))
    world.archiver().step()
    world.topic.cut(0, 7)
    world.topic.partitions[0] += [event(number) for number in range(100, 120)]
    files, consumer = ArchiveFiles(world.store, SETTINGS.archive_root), lambda: MemoryConsumer(world.topic)
    archiver = Archiver(SETTINGS, consumer, world.topic.described, files, world, world.said.append, lambda: world.clock_s)  # type: ignore[arg-type]
    world.said.clear()
    world.stop_after = 30
    archiver.run()
    assert [line.partition(" at ")[0] for line in world.said] == [
        "archive of topic pageviews goes on",
        "the archiver goes on",
    ]
    assert world.archived(MASTER) == list(range(10))


def test_an_archive_without_positions_goes_on_where_its_names_end():
    world = World(MemoryTopic({0: [event(number) for number in range(20)]}))
    times_ms, values = zip(*world.topic.partitions[0][:10], strict=True)
    files = ArchiveFiles(world.store, SETTINGS.archive_root)
    files.put(OffsetRange(0, 0, 10), *judged(0, range(10), times_ms, values))
    world.archiver().step()
    assert world.archived(MASTER) == list(range(20))
    assert files.position(0) == LogPosition(20, "first", 0)


def test_a_merged_file_knows_the_position_at_its_end():
    world = World(MemoryTopic({0: []}))
    archiver = world.archiver()
    for number in range(4):
        world.topic.partitions[0].append(event(number))
        archiver.step()
        archiver.flush(0)
        world.topic.epochs[0] = [*world.topic.epochs_of(0), (2 * number + 2, number + 1)]
        archiver = world.archiver()
    assert any(name.startswith("0" * 20 + "-") and not name.endswith("01.parquet") for name in world.names(MASTER))
    files = ArchiveFiles(world.store, SETTINGS.archive_root)
    archiver.tidy(0)
    assert files.position(0) == LogPosition(4, "first", 6)


def test_partitions_that_are_added_are_archived_from_their_first_record_on_and_nothing_is_read_twice():
    world = World(MemoryTopic({0: [event(number) for number in range(4)]}))
    archiver = world.archiver()
    archiver.step()
    for _ in range(2):
        world.topic.add_partition()
    world.topic.partitions[2] += [event(number) for number in range(100, 107)]
    world.pass_s(5)
    archiver.step()
    # What it held of the others is in a file by then, and goes on after it.
    assert world.names(MASTER) == ["00000000000000000000-00000000000000000004.parquet"]
    world.topic.partitions[0] += [event(number) for number in range(4, 8)]
    archiver.step()
    world.pass_s(5)
    archiver.step()
    assert [world.archived(MASTER, partition) for partition in range(3)] == [list(range(8)), [], list(range(7))]
    assert world.names(MASTER)[1:] == ["00000000000000000004-00000000000000000008.parquet"]
    assert archiver.next_offsets == {0: 8, 1: 0, 2: 7}
    assert world.said[-1] == "archive of topic pageviews goes on at {0: 4, 1: 0, 2: 0}"


def test_what_is_held_when_a_partition_is_added_is_written_first():
    world = World(MemoryTopic({0: [event(number) for number in range(4)]}))
    archiver = world.archiver(replace(SETTINGS, archive_flush_ms=60_000))
    archiver.step()
    world.topic.add_partition()
    world.pass_s(5)
    archiver.step()
    assert world.archived(MASTER) == list(range(4))
    # As a power failure does: only the archiver's file has them now.
    world.topic.cut(0, 4)
    world.topic.partitions[1] += [event(number) for number in range(100, 110)]
    archiver.step()
    assert world.archived(MASTER, 1) == list(range(10))


@pytest.mark.parametrize("records", [0, 30])
def test_a_topic_with_fewer_partitions_is_refused_because_it_is_another_one(records: int):
    # Nothing but the last partition's files say which topic it was, or nothing at all, as files of an older version.
    world = World(MemoryTopic({0: [], 1: [event(number) for number in range(10)]}))
    world.archiver().step()
    world.topic.made_again("second", partitions=1)
    world.topic.partitions[0] += [event(number) for number in range(records)]
    with pytest.raises(PositionLost, match="has read the topic with the id first, but topic pageviews has the id second"):
        world.archiver()
    older = World(MemoryTopic({0: [event(number) for number in range(records)]}))
    times_ms, values = zip(*(event(number) for number in range(10)), strict=True)
    ArchiveFiles(older.store, SETTINGS.archive_root).put(OffsetRange(1, 0, 10), *judged(1, range(10), times_ms, values))
    with pytest.raises(
        PositionLost,
        match="the archiver goes on at offset 10 of partition 1, but topic pageviews has 1 partitions, and Kafka takes none "
        "away: it was made again, or it is another one; nothing is read until that is settled: `make resume-topic`",
    ):
        older.archiver()


def test_a_topic_that_follows_one_with_more_partitions_is_read_and_may_get_them_later():
    world = World(MemoryTopic({0: [event(number) for number in range(10)], 1: [event(number) for number in range(20, 30)]}))
    world.archiver().step()
    world.topic.made_again("second", partitions=1)
    world.topic.partitions[0] += [event(number) for number in range(30, 40)]
    # What `make resume-topic` writes.
    files = ArchiveFiles(world.store, SETTINGS.archive_root)
    for partition in range(2):
        files.put_empty(OffsetRange(partition, 10, 11), LogPosition(11, "second", None, 11))
    archiver = world.archiver()
    archiver.step()
    assert archiver.next_offsets == {0: 21}
    world.topic.add_partition()
    world.topic.partitions[1] += [event(number) for number in range(40, 50)]
    world.pass_s(5)
    archiver.step()
    archiver.step()
    assert archiver.next_offsets == {0: 21, 1: 21}
    assert world.archived(MASTER, 1) == [*range(10), *range(11, 21)]


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
        files.put(OffsetRange(0, first, after), *judged(0, range(first, after), times_ms, values))
    slices = covering(0, files.ranges(0), 5)
    assert files.read(MASTER, slices)["offset"].to_list() == [0, 2, 4]
    assert files.merge(slices, 1 << 30) == OffsetRange(0, 0, 5)
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
