"""What a batch run brings to the database comes in calls of bounded size, whatever is in its rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from io import BytesIO

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.share import Files, Found, rejects_of
from contract.master import QUARANTINE, OffsetRange, Slice
from serving import handoff
from tests.fixtures.pageviews import NO_REJECTS, reject

TEXTS = st.one_of(st.none(), st.sampled_from(["", "/", "ü" * 300, "x" * 3_000]))


@given(rows=st.lists(st.tuples(TEXTS, st.binary(max_size=900), st.lists(st.integers(0, 9), max_size=90)), max_size=60))
def test_slices_hold_every_row_once_and_are_bounded(rows: list[tuple[str | None, bytes, list[int]]]):
    frame = pl.DataFrame(rows, schema={"page": pl.String, "visitors": pl.Binary, "latency": pl.List(pl.Int64)}, orient="row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handoff, "ARGUMENT_BYTES", 2_000)
        patch.setattr(handoff, "_ARGUMENT_ROWS", 7)
        slices = list(handoff._slices(frame))
        parts = list(handoff._calls({"a": frame, "b": frame}))
    assert pl.concat([frame.clear(), *slices]).equals(frame)
    for one in slices:
        held = sum(len((page or "").encode()) + len(sketch) + 8 * len(bins) for page, sketch, bins in one.rows())
        assert len(one) == 1 or (held <= 2_000 and len(one) <= 7)
    assert len(parts) == max(1, 2 * len(slices))


@given(first=st.integers(0, 5), wanted=st.sets(st.integers(5, 40)), after=st.integers(41, 50))
def test_slices_of_rejects_tile_their_range(first: int, wanted: set[int], after: int):
    rejects = pl.concat([NO_REJECTS, *(reject(3, offset) for offset in sorted(wanted, reverse=True))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handoff, "_ARGUMENT_ROWS", 4)
        parts = list(handoff._judged_slices(OffsetRange(3, first, after), rejects))
    assert [offset for _, part in parts for offset in part["offset"]] == sorted(wanted)
    assert max(len(part) for _, part in parts) <= 4
    assert [offset for offsets, _ in parts for offset in range(offsets.first_offset, offsets.next_offset)] == list(
        range(first, after)
    )
    assert all(
        offsets.partition == 3 and offsets.first_offset <= offset < offsets.next_offset
        for offsets, part in parts
        for offset in part["offset"]
    )


class MadeUpFiles(Files):
    """Quarantine files whose every third offset is a reject."""

    def __init__(self) -> None:
        self.asked: list[OffsetRange] = []

    def read(self, dataset: str, wanted: Sequence[OffsetRange]) -> Iterator[bytes]:
        """The one file."""
        (file,) = wanted
        assert dataset == QUARANTINE
        self.asked.append(file)
        content = BytesIO()
        pl.concat([NO_REJECTS, *(reject(file.partition, offset) for offset in odd(file))]).write_parquet(content)
        yield content.getvalue()


def odd(offsets: OffsetRange) -> list[int]:
    return [offset for offset in range(offsets.first_offset, offsets.next_offset) if offset % 3 == 0]


@given(
    pieces=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9), st.booleans()), max_size=12),
    gap=st.integers(0, 12),
    shuffle=st.randoms(),
)
def test_ranges_with_their_rejects_have_every_offset_of_the_slices_once(
    pieces: list[tuple[int, int, bool]], gap: int, shuffle: random.Random
):
    found, ends = [], [7, 0]
    for number, (partition, length, has_rejects) in enumerate(pieces):
        first = ends[partition] + (number == gap)
        ends[partition] = first + length
        file = OffsetRange(partition, first, first + length + 2)
        rejects = len(odd(OffsetRange(partition, first, first + length))) if has_rejects else 0
        found.append(Found(Slice(file, first, first + length), 5, rejects, ()))
    offsets = sorted((one.offsets.partition, at) for one in found for at in range(*_ends(one.offsets)))
    rejected = [(one.offsets.partition, at) for one in found if one.rejects for at in odd(one.offsets)]
    files = MadeUpFiles()
    shuffle.shuffle(found)
    brought = list(rejects_of(files, found))
    assert [(whole.partition, at) for whole, _ in brought for at in range(*_ends(whole))] == offsets
    assert [(whole.partition, at) for whole, frame in brought for at in frame["offset"]] == sorted(rejected)
    assert len(files.asked) == sum(one.rejects > 0 for one in found)
    # Slices without rejects cost no call of their own, but for the last one of a partition or before a gap.
    assert len(brought) <= len(files.asked) + 3


def _ends(offsets: OffsetRange) -> tuple[int, int]:
    return offsets.first_offset, offsets.next_offset


def test_a_task_without_rows_has_a_part_that_carries_its_claim():
    assert list(handoff._calls({})) == [{}]
