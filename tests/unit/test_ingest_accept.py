"""What is lost is written into the archive: readers go on behind it, and every later file and database can know of it."""

from __future__ import annotations

import polars as pl
import pytest

from contract.archive_file import Lost, decode
from contract.errors import InputError
from contract.extent import Extent
from contract.log_position import LogPosition
from contract.losses import Loss, Losses
from contract.master import MASTER, QUARANTINE, OffsetRange, covering
from contract.master_rows import master_schema
from contract.replays import from_json, to_json
from contract.resumption import ResumedPartition, Resumption
from contract.streams.page_views import PAGE_VIEWS
from contract.value_form import form_of
from ingest.accept import accept
from ingest.archive_files import ArchiveFiles
from ingest.resume import resume
from tests.fixtures.archived import judged
from tests.fixtures.memory import MemoryStore

KAFKA_TIME_MS = 1_763_712_000_000


def archive(*bounds: tuple[int, int]) -> ArchiveFiles:
    """Files of these offsets, in whose records each is a reject."""
    files = ArchiveFiles(MemoryStore(), "/b")
    for first, after in bounds:
        offsets = range(first, after)
        records, decoded = judged(0, offsets, [KAFKA_TIME_MS] * len(offsets), [b"bad"] * len(offsets))
        files.put(OffsetRange(0, first, after), records, decoded, LogPosition(after, "first", 3))
    return files


def plan(*bounds: tuple[int, int]) -> Losses:
    losses = Losses(tuple(Loss(0, first, after, "gone", True) for first, after in bounds), topic_id="now")
    return from_json(Losses, to_json(losses), "serving gap-plan")


def lost_in(files: ArchiveFiles, file: OffsetRange) -> list[tuple[int, int, str]]:
    """What a file says is lost."""
    path = files.path(MASTER, file)
    table, contents = decode(files._store.read(path), path)
    assert (len(table), contents.form) == (contents.events, form_of(PAGE_VIEWS))
    assert pl.from_arrow(table).schema == master_schema()  # type: ignore[union-attr]
    assert all(lost.recorded_at[4] == "-" and lost.recorded_at.endswith("+00:00") for lost in contents.lost)
    return [(lost.first_offset, lost.next_offset, lost.reason) for lost in contents.lost]


def test_a_gap_becomes_a_file_without_records_that_says_why_and_when():
    files, said = archive((0, 5), (8, 10)), []
    accept(files, plan((5, 8)), said.append)
    assert sorted(files.ranges(0)) == [OffsetRange(0, 0, 5), OffsetRange(0, 5, 8), OffsetRange(0, 8, 10)]
    assert lost_in(files, OffsetRange(0, 5, 8)) == [(5, 8, "gone")]
    assert files.extent(0) == Extent(0, LogPosition(10, "first", 3))
    assert said == ["partition 0: offsets [5, 8) are written down as lost"]


def test_offsets_behind_the_end_are_a_file_in_the_log_of_the_end():
    files = archive((0, 5))
    accept(files, plan((5, 9)), lambda line: None)
    # In which epoch the log was there nobody has seen.
    assert files.position(0) == LogPosition(9, "first", None)
    empty = ArchiveFiles(MemoryStore(), "/b")
    accept(empty, plan((0, 9)), lambda line: None)
    # And the next topic of that name would not be known for another one.
    assert empty.position(0) == LogPosition(9, "now")


@pytest.mark.parametrize("bounds", [(4, 8), (5, 9), (0, 2), (6, 12)])
def test_what_a_file_has_is_not_given_up(bounds: tuple[int, int]):
    files = archive((0, 5), (8, 10))
    with pytest.raises(InputError, match=r"have some of offsets \[\d+, \d+\), and had none when this was planned"):
        accept(files, plan(bounds), lambda line: None)
    assert len(files.ranges(0)) == 2


def test_a_part_of_a_gap_is_written_down_and_the_rest_stays_open():
    files = archive((0, 5), (8, 10))
    accept(files, plan((5, 7)), lambda line: None)
    assert files.extent(0).gaps == (OffsetRange(0, 7, 8),)


def test_a_quarantine_file_without_its_master_file_is_set_aside_and_counts_no_more():
    files, said = archive((0, 5), (5, 8), (8, 10)), []
    for file in (OffsetRange(0, 5, 8), OffsetRange(0, 8, 10)):
        files._store.delete(files.path(MASTER, file))
    accept(files, plan((5, 8)), said.append)
    path = files.path(QUARANTINE, OffsetRange(0, 5, 8))
    assert said[0] == f"{path}.without-master: set aside, because its master file is gone"
    rejects, _ = decode(files._store.read(f"{path}.without-master"), path)
    assert rejects["offset"].to_pylist() == [5, 6, 7]
    assert sorted(files.ranges(0, QUARANTINE)) == [OffsetRange(0, 0, 5), OffsetRange(0, 8, 10)]
    assert files.clean(0) == 0


def test_a_merged_file_says_what_is_lost_of_its_offsets():
    files = archive((0, 5), (8, 10))
    accept(files, plan((5, 8)), lambda line: None)
    merged = files.merge(covering(0, files.ranges(0), 10), 1 << 30)
    assert merged == OffsetRange(0, 0, 10)
    assert lost_in(files, merged) == [(5, 8, "gone")]
    assert files.read(QUARANTINE, covering(0, [merged], 10))["offset"].to_list() == [0, 1, 2, 3, 4, 8, 9]


def test_of_a_loss_a_slice_has_its_own_part():
    lost = Lost(5, 8, "gone", "then")
    assert lost.within(0, 6) == (Lost(5, 6, "gone", "then"),)
    assert lost.within(6, 20) == (Lost(6, 8, "gone", "then"),)
    assert lost.within(8, 20) == lost.within(0, 5) == ()


def test_a_resumption_says_in_the_same_way_what_is_lost():
    files = archive((0, 10))
    resumption = Resumption((ResumedPartition(0, 10, 13, "second", None, 4, 10, 12, "it was made again"),))
    resume(files, resumption, lambda line: None)
    assert lost_in(files, OffsetRange(0, 10, 13)) == [(10, 12, "it was made again")]
    assert resumption.losses == Losses((Loss(0, 10, 12, "it was made again"),))
