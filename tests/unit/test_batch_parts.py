"""What a batch run brings to the database comes in parts of bounded size, whatever is in its rows."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import handoff

TEXTS = st.one_of(st.none(), st.sampled_from(["", "/", "ü" * 300, "x" * 3_000]))


@given(rows=st.lists(st.tuples(TEXTS, st.binary(max_size=900), st.lists(st.integers(0, 9), max_size=90)), max_size=60))
def test_slices_hold_every_row_once_and_are_bounded(rows: list[tuple[str | None, bytes, list[int]]]):
    frame = pl.DataFrame(rows, schema={"page": pl.String, "visitors": pl.Binary, "latency": pl.List(pl.Int64)}, orient="row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handoff, "ARGUMENT_BYTES", 2_000)
        patch.setattr(handoff, "_ARGUMENT_ROWS", 7)
        slices = list(handoff._slices(frame))
        parts = list(handoff._parts({"a": frame, "b": frame}))
    assert pl.concat([frame.clear(), *slices]).equals(frame)
    for one in slices:
        held = sum(len((page or "").encode()) + len(sketch) + 8 * len(bins) for page, sketch, bins in one.rows())
        assert len(one) == 1 or (held <= 2_000 and len(one) <= 7)
    assert len(parts) == max(1, 2 * len(slices))


def test_a_task_without_rows_has_a_part_that_carries_its_claim():
    assert list(handoff._parts({})) == [{}]
