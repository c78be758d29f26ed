"""The batch job's own steps; the engines are in tests/layer/test_batch.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch.job import shared_out
from contract.master import OffsetRange, Slice


@given(st.lists(st.integers(1, 1_000), max_size=40), st.integers(1, 12))
def test_shares_hold_each_slice_once_in_order_and_none_holds_much_more_than_its_part(lengths: list[int], count: int):
    slices = [Slice(OffsetRange(0, 0, 9_999), 7, 7 + length) for length in lengths]
    shares = shared_out(slices, count)
    assert [numbered for share in shares for numbered in share] == list(enumerate(slices))
    assert len(shares) <= count
    largest = max((sum(piece.next_offset - 7 for _, piece in share) for share in shares), default=0)
    # A slice goes where its middle falls, so a share may exceed its part by half a slice at each end.
    assert largest <= sum(lengths) / count + max(lengths, default=0)
