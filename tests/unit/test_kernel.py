"""The kernel: monoid laws of every view's rows, repeats, and agreement of the parts with the whole."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.aggregate import aggregate, columns_read, first_of_each, identity_halves, identity_hashes, merge
from contract.errors import CatalogueError
from contract.event import EVENT_SCHEMA
from contract.measures import Count, Distinct, Sum
from contract.views import VIEWS, View

MICROSECONDS = st.integers(1_431_820_800_000_000, 1_431_907_300_000_000)  # 17 May 2015 and a minute more


@st.composite
def event_frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "event_id": st.sampled_from([f"e{i}" for i in range(12)]),
                    "event_time": MICROSECONDS,
                    "site": st.sampled_from(["a", "b"]),
                    "page": st.sampled_from(["/", "/x", "/ä"]),
                    "visitor_id": st.sampled_from([f"v{i}" for i in range(30)]),
                    "status": st.sampled_from([200, 499, 500, 503]),
                    "bytes_sent": st.integers(0, 1 << 40),
                    "duration_ms": st.none() | st.floats(0, 86_400_000),
                }
            ),
            max_size=25,
        )
    )
    frame = pl.DataFrame(
        rows,
        schema={
            name: EVENT_SCHEMA[name] if name != "event_time" else pl.Int64
            for name in ("event_id", "event_time", "site", "page", "visitor_id", "status", "bytes_sent", "duration_ms")
        },
    )
    return frame.with_columns(
        pl.col("event_time").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        partition=pl.int_range(pl.len()).cast(pl.Int32) % 3,
        offset=pl.int_range(pl.len()),
    )


@settings(max_examples=30, deadline=None)
@given(event_frames(), st.integers(0, 25), st.integers(0, 25))
def test_fold_of_all_is_the_merge_of_any_split_in_any_order(events: pl.DataFrame, first: int, second: int):
    whole = aggregate(events)
    low, high = sorted((first, second))
    parts = [aggregate(part) for part in (events[:low], events[low:high], events[high:])]
    for view in VIEWS:
        a, b, c = (part[view.name] for part in parts)
        assert merge(view, [a, b, c]).equals(whole[view.name])
        assert merge(view, [c, merge(view, [b, a])]).equals(whole[view.name])
        assert merge(view, [whole[view.name], aggregate(events[:0])[view.name]]).equals(whole[view.name])
        assert whole[view.name].schema == view.schema


@settings(max_examples=60, deadline=None)
@given(event_frames())
def test_first_of_each_keeps_the_first_by_partition_and_offset(events: pl.DataFrame):
    seen: dict[tuple[object, str], tuple[int, int]] = {}
    for row in events.sort("partition", "offset").iter_rows(named=True):
        seen.setdefault((row["event_time"].date(), row["event_id"]), (row["partition"], row["offset"]))
    kept = first_of_each(events.sample(fraction=1, shuffle=True, seed=1))
    assert list(zip(kept["partition"], kept["offset"], strict=True)) == sorted(seen.values())


def of_identities(*identities: tuple[str, int]) -> pl.DataFrame:
    """Events with these ids and times in microseconds since 1970."""
    ids, times = zip(*identities, strict=True) if identities else ((), ())
    return pl.DataFrame({"event_id": pl.Series(ids, dtype=pl.String), "event_time": pl.Series(times, dtype=pl.Int64)}).cast(
        {"event_time": EVENT_SCHEMA["event_time"]}
    )


@given(st.lists(st.tuples(st.text(max_size=40), st.integers(0, 3 * 86_400_000_000))), st.integers(0, 5))
def test_identity_hashes_are_equal_where_id_and_day_are(identities: list[tuple[str, int]], first: int):
    events = of_identities(*identities, *identities)
    hashes = identity_hashes(events).tolist()
    assert len(set(hashes)) == len({(event_id, time // 86_400_000_000) for event_id, time in identities})
    assert hashes == identity_halves(events)[:, 0].tolist() == hashes[: len(identities)] * 2
    # Neither slices nor chunks of a frame change them.
    assert identity_hashes(events[first:]).tolist() == hashes[first:]
    assert identity_hashes(pl.concat([events[:first], events[first:]], rechunk=False)).tolist() == hashes


def test_identity_hashes_never_change():
    # Other processes and machines, of another version perhaps, must find the same ones.
    events = of_identities(("a", 0), ("a", 86_400_000_000), ("foobar", 0), ("ä" * 40, 1_431_820_800_000_000))
    assert identity_halves(events).tolist() == [
        [0x702F766A14C1ABD4, 0xA4D187592E34B57D],
        [0x66B663077CAC1A1D, 0xDD1483D5951D1373],
        [0xD5C031F18A285244, 0x39F1FDC2BE3650ED],
        [0xD47CA07C4BFA72D3, 0xDD632D7BDEAE8984],
    ]


def test_only_columns_that_views_read_are_needed():
    assert columns_read() == [
        "partition", "offset", "event_id", "event_time", "site", "status", "bytes_sent", "visitor_id", "duration_ms", "page",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Site-Traffic"}, "not a lower-case SQL identifier"),
        ({"keys": ("nothing",)}, "nothing is no text field"),
        ({"keys": ("status",)}, "status is no text field"),
        ({"keys": ("site", "site")}, "named twice"),
        ({"measures": (Distinct("visitors", of="visitor_id"),)}, "first measure must be a Count"),
        ({"measures": (Count("views"), Sum("views", of="bytes_sent"))}, "named twice"),
    ],
)
def test_a_wrong_view_is_refused_at_declaration(changes: dict[str, object], complaint: str):
    right = {"name": "v", "keys": ("site",), "bucket": VIEWS[0].bucket, "measures": VIEWS[0].measures}
    with pytest.raises(CatalogueError, match=complaint):
        View(**(right | changes))  # type: ignore[arg-type]


def test_a_bucket_divides_a_day():
    with pytest.raises(CatalogueError, match="does not divide a day"):
        View("v", ("site",), VIEWS[0].bucket * 7, VIEWS[0].measures)
