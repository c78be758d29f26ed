"""Merging and deleting never change what a reader gets, and work is bounded."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from contract.master import OffsetRange, archived_next_offset, covering
from ingest.archive_plan import MERGED_FILE_BYTES, SMALL_FILE_BYTES, current, plan_merge, superseded
from ingest.hdfs import FileInfo

Files = dict[OffsetRange, FileInfo]


def listing(*ranges: tuple[int, int, int, int]) -> Files:
    """Files of partition 0 from (first, next, size_bytes, modified_ms)."""
    files = {OffsetRange(0, first, after): (size, modified) for first, after, size, modified in ranges}
    return {file: FileInfo(file.file_name, size, modified) for file, (size, modified) in files.items()}


def neighbours(*sizes: int, span: int = 10) -> Files:
    """Files of so many bytes, the first of `span` offsets and the others of 10."""
    bounds = [0, *range(span, span + 10 * len(sizes), 10)]
    return listing(*((bounds[at], bounds[at + 1], size, 0) for at, size in enumerate(sizes)))


def planned(files: Files, at_least: int) -> list[int]:
    slices = current(0, files)
    return [slices.index(part) for part in plan_merge(slices, files, at_least)]


def test_small_neighbours_are_merged_once_there_are_enough():
    assert planned(neighbours(*[5] * 3), 4) == []
    assert planned(neighbours(*[5] * 6), 4) == [0, 1, 2, 3, 4, 5]


def test_a_large_file_parts_the_runs_and_is_never_rewritten():
    assert planned(neighbours(5, 5, 5, SMALL_FILE_BYTES, 5, 5, 5, 5), 4) == [4, 5, 6, 7]


def test_a_file_that_outweighs_its_neighbours_waits_until_they_match_it():
    assert planned(neighbours(5, 5, 5, 5, 5, span=41), 4) == [1, 2, 3, 4]
    assert planned(neighbours(5, 5, 5, 5, 5, span=40), 4) == [0, 1, 2, 3, 4]


def test_a_merge_is_bounded_in_bytes():
    assert len(planned(neighbours(*[SMALL_FILE_BYTES - 1] * 9), 2)) == MERGED_FILE_BYTES // (SMALL_FILE_BYTES - 1)


def test_a_merged_away_file_goes_when_the_file_that_covers_it_is_old_enough():
    files = listing((0, 10, 1, 0), (10, 20, 1, 0), (0, 20, 2, 500), (20, 30, 1, 900))
    assert superseded(files, before_ms=500) == []
    assert superseded(files, before_ms=501) == [OffsetRange(0, 0, 10), OffsetRange(0, 10, 20)]


def test_the_age_of_a_merged_file_counts_although_a_younger_one_took_its_place():
    files = listing((0, 10, 1, 0), (10, 20, 1, 0), (0, 20, 2, 500), (20, 40, 1, 900), (0, 40, 1, 950))
    assert superseded(files, before_ms=600) == [OffsetRange(0, 0, 10), OffsetRange(0, 10, 20)]


def test_files_that_only_overlap_stay():
    assert superseded(listing((0, 10, 1, 0), (5, 15, 1, 0), (12, 30, 1, 0)), before_ms=1_000) == []


ranges = st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(1, 50), st.integers(0, 100)).map(
    lambda it: (it[0], it[0] + it[1], it[2], it[3])
)


@given(st.lists(ranges, max_size=12), st.integers(0, 120), st.integers(2, 4))
def test_what_is_archived_stays_covered_and_a_plan_is_a_run_of_neighbours(listed, before_ms: int, at_least: int):
    files = listing(*listed)
    next_offset = archived_next_offset(files)
    left = files.keys() - superseded(files, before_ms)
    assert covering(0, left, next_offset) == covering(0, files, next_offset)
    since = {file: info for file, info in files.items() if info.modified_ms < before_ms}
    assert not {part.file for part in current(0, since)} & set(superseded(files, before_ms))
    slices = plan_merge(current(0, files), files, at_least)
    assert len(slices) == 0 or len(slices) >= at_least
    assert all(one.next_offset == after.first_offset for one, after in pairwise(slices))
