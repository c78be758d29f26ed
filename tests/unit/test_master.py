"""The archive's names: round trips, covering slices that tile, and gaps that are named."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ArchiveGap
from contract.master import MASTER, OffsetRange, Slice, archived_next_offset, covering, without


def test_name_round_trip_and_strangers():
    file = OffsetRange(2, 5, 120)
    assert file.path("/braid", MASTER) == "/braid/master/partition=2/00000000000000000005-00000000000000000120.parquet"
    assert OffsetRange.of_file(2, file.file_name) == file
    assert OffsetRange.of_file(2, f".{file.file_name}.17.tmp") is None
    assert OffsetRange.of_file(2, "_SUCCESS") is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 15)), max_size=12), st.integers(0, 40))
def test_slices_tile_or_the_gap_is_named(starts: list[tuple[int, int]], cut: int):
    files = [OffsetRange(1, first, first + length) for first, length in starts]
    held = {offset for file in files for offset in range(file.first_offset, file.next_offset)}
    missing = sorted(set(range(cut)) - held)
    first_hole = next(offset for offset in range(60) if offset not in held)
    assert archived_next_offset(files) == first_hole
    if missing:
        with pytest.raises(ArchiveGap, match=rf"partition 1 lacks offsets \[{missing[0]}, "):
            covering(1, files, cut)
        return
    slices = covering(1, files, cut)
    assert [offset for piece in slices for offset in range(piece.first_offset, piece.next_offset)] == list(range(cut))
    assert all(
        piece.file.first_offset <= piece.first_offset and piece.next_offset <= piece.file.next_offset for piece in slices
    )
    assert len({piece.file for piece in slices}) == len(slices)


def test_merged_away_files_are_not_read():
    small = [OffsetRange(0, first, first + 10) for first in range(0, 50, 10)]
    merged = OffsetRange(0, 0, 50)
    assert [piece.file for piece in covering(0, [*small, merged], 45)] == [merged]


ranges = st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(1, 15)).map(
    lambda it: OffsetRange(it[0], it[1], it[1] + it[2])
)


@given(st.lists(st.tuples(ranges, st.integers(0, 3)), max_size=12), st.lists(ranges, max_size=12))
def test_without_leaves_the_other_offsets_and_their_files(files: list[tuple[OffsetRange, int]], unwanted: list[OffsetRange]):
    slices = [
        Slice(file, file.first_offset + less, file.next_offset)
        for file, less in files
        if file.first_offset + less < file.next_offset
    ]
    left = without(slices, unwanted)
    gone = {(one.partition, offset) for one in unwanted for offset in range(one.first_offset, one.next_offset)}
    offsets = [(piece.file, offset) for piece in left for offset in range(piece.first_offset, piece.next_offset)]
    assert offsets == [
        (piece.file, offset)
        for piece in slices
        for offset in range(piece.first_offset, piece.next_offset)
        if (piece.file.partition, offset) not in gone
    ]
    assert all(piece.first_offset < piece.next_offset for piece in left)
    # A slice is read once, so it is cut only where something is missing.
    assert not any(a.file == b.file and a.next_offset == b.first_offset for a, b in pairwise(left))
