"""The kernel: monoid laws of every view's rows, repeats, and agreement of the parts with the whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.aggregate import aggregate, columns_aggregated, columns_read, first_of_each, identity_hashes, merge
from contract.columns import column_of, texts
from contract.errors import CatalogueError
from contract.event import EVENT_SCHEMA
from contract.keys import Host
from contract.loops import grouping
from contract.measures import Count, Distinct, Seen, Sum
from contract.views import VIEWS, View, catalogue_digest, with_rollups
from tests import oracle
from tests.fixtures.views import of_page_views

EVERY_MEASURE = (
    *VIEWS,
    of_page_views("visitor_days", ("site",), timedelta(days=1), (Count("views"), Seen("seen", of="visitor_id", bits=256))),
)
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
                    "referrer": st.none()
                    | st.sampled_from(["", "https://a.example/", "https://A.Example/x", "https://b.example", "x"]),
                }
            ),
            max_size=25,
        )
    )
    frame = pl.DataFrame(
        rows,
        schema={
            name: EVENT_SCHEMA[name] if name != "event_time" else pl.Int64
            for name in (
                "event_id",
                "event_time",
                "site",
                "page",
                "visitor_id",
                "status",
                "bytes_sent",
                "duration_ms",
                "referrer",
            )
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
    whole = aggregate(events, EVERY_MEASURE)
    low, high = sorted((first, second))
    parts = [aggregate(part, EVERY_MEASURE) for part in (events[:low], events[low:high], events[high:])]
    for view in EVERY_MEASURE:
        a, b, c = (part[view.name] for part in parts)
        assert merge(view, [a, b, c]).equals(whole[view.name])
        assert merge(view, [c, merge(view, [b, a])]).equals(whole[view.name])
        assert merge(view, [whole[view.name], aggregate(events[:0], EVERY_MEASURE)[view.name]]).equals(whole[view.name])
        assert whole[view.name].schema == view.schema


@settings(max_examples=60, deadline=None)
@given(event_frames())
def test_first_of_each_keeps_the_first_by_partition_and_offset(events: pl.DataFrame):
    seen: dict[tuple[object, str], tuple[int, int]] = {}
    for row in events.sort("partition", "offset").iter_rows(named=True):
        seen.setdefault((row["event_time"].date(), row["event_id"]), (row["partition"], row["offset"]))
    kept = first_of_each(events.sample(fraction=1, shuffle=True, seed=1))
    assert list(zip(kept["partition"], kept["offset"], strict=True)) == sorted(seen.values())


TEXTS = st.text(max_size=3) | st.text(max_size=40) | st.sampled_from(["a" * length for length in (7, 8, 9, 16, 255, 300)])


@given(st.lists(st.tuples(st.integers(0, 2), TEXTS)), st.booleans())
def test_rows_are_numbered_as_they_come(rows: list[tuple[int, str]], all_meet: bool):
    numbers: dict[tuple[int, str], int] = {}
    expected = [numbers.setdefault(row, len(numbers)) for row in rows]
    integers = np.array([integer for integer, _ in rows], np.int64)
    # With keys of zeros all texts of one length below 5 have the same hash, and so do others.
    keys = np.zeros(32, np.uint64) if all_meet else grouping.keys()
    found, firsts = grouping.number(integers, *texts(pl.Series([text for _, text in rows], dtype=pl.String)), keys, 2)
    assert found.tolist() == expected
    assert firsts.tolist() == [expected.index(number) for number in range(len(numbers))]


def test_many_rows_are_numbered():
    names = [f"{i % 3_000}" for i in range(10_000)]
    found, firsts = grouping.number(np.zeros(10_000, np.int64), *texts(pl.Series(names)), grouping.keys(), 2)
    assert found.tolist() == [i % 3_000 for i in range(10_000)]
    assert firsts.tolist() == list(range(3_000))


@given(st.lists(TEXTS))
def test_texts_are_sorted_by_their_bytes(names: list[str]):
    column = pl.Series(names, dtype=pl.String)
    in_order = grouping.sort(*texts(column), np.arange(len(names)))
    # Equal ones stay in their order.
    assert in_order.tolist() == sorted(range(len(names)), key=lambda row: names[row].encode())
    assert column_of("", pa.large_string(), *grouping.take(*texts(column), in_order)).to_list() == sorted(names)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, st.integers(0, 4 * 86_400_000_000)), max_size=30))
def test_rows_come_sorted_by_bucket_and_keys(items: list[tuple[str, str, int]]):
    events = pl.DataFrame(items, schema={"site": pl.String, "page": pl.String, "event_time": pl.Int64}, orient="row")
    view = of_page_views("v", ("site", "page"), timedelta(hours=1), (Count("views"),))
    rows = aggregate(events.cast({"event_time": EVENT_SCHEMA["event_time"]}), [view])["v"]
    expected = Counter((time // 3_600_000_000 * 3_600_000_000, site, page) for site, page, time in items)
    assert rows.cast({"bucket": pl.Int64}).rows() == sorted((*key, count) for key, count in expected.items())
    assert rows.schema == view.schema


def test_more_combinations_of_keys_than_64_bits_can_number():
    count = 3_000
    names = [str(i) for i in range(count)]
    first, last = 0, 60 * 365 * 86_400_000_000
    events = pl.DataFrame(dict.fromkeys(("site", "page", "visitor_id", "event_id"), names)).with_columns(
        event_time=pl.Series([first] * (count - 1) + [last]).cast(EVENT_SCHEMA["event_time"])
    )
    assert ((last - first) // 1_000_000) * count**4 > 1 << 64
    view = of_page_views("v", ("site", "page", "visitor_id", "event_id"), timedelta(seconds=1), (Count("views"),))
    assert set(columns_aggregated([view])) == set(events.columns)
    rows = aggregate(pl.concat([events, events[::-1]]), [view])["v"]
    assert rows["event_id"].to_list() == [*sorted(names[:-1]), names[-1]]
    assert rows["views"].to_list() == [2] * count


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
    assert hashes == hashes[: len(identities)] * 2
    # Neither slices nor chunks of a frame change them.
    assert identity_hashes(events[first:]).tolist() == hashes[first:]
    assert identity_hashes(pl.concat([events[:first], events[first:]], rechunk=False)).tolist() == hashes


def test_identity_hashes_never_change():
    # Other processes and machines, of another version perhaps, must find the same ones.
    events = of_identities(("a", 0), ("a", 86_400_000_000), ("foobar", 0), ("ä" * 40, 1_431_820_800_000_000))
    assert identity_hashes(events).tolist() == [
        0x702F766A14C1ABD4, 0x66B663077CAC1A1D, 0xD5C031F18A285244, 0xD47CA07C4BFA72D3,
    ]  # fmt: skip


def test_only_columns_that_views_read_are_needed():
    assert columns_read() == [
        "partition", "offset", "event_id", "event_time", "site", "status", "bytes_sent", "visitor_id", "duration_ms", "page",
        "referrer",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Site-Traffic"}, "not a lower-case SQL identifier"),
        ({"keys": ("nothing",)}, "nothing is no text of stream page_views"),
        ({"keys": ("status",)}, "status is no text of stream page_views"),
        ({"keys": ("site", "site")}, "named twice"),
        ({"measures": (Distinct("visitors", of="visitor_id"),)}, "first measure must be a Count"),
        ({"measures": (Count("views"), Sum("views", of="bytes_sent"))}, "named twice"),
        ({"name": "traffic_v2"}, "change the view under its name"),
    ],
)
def test_a_wrong_view_is_refused_at_declaration(changes: dict[str, object], complaint: str):
    right = {"name": "v", "keys": ("site",), "bucket": VIEWS[0].bucket, "measures": VIEWS[0].measures}
    with pytest.raises(CatalogueError, match=complaint):
        of_page_views(**(right | changes))  # type: ignore[arg-type]


def test_a_bucket_divides_a_day():
    with pytest.raises(CatalogueError, match="does not divide a day"):
        View("v", ("site",), VIEWS[0].bucket * 7, VIEWS[0].measures)


def test_the_host_of_a_referrer():
    urls = {
        "https://Example.org/a?b=c#d": "example.org",
        "http://user:pass@host.example:8080/": "host.example",
        "https://host.example?q": "host.example",
        "android-app://com.example": "com.example",
        f"https://{'a' * 253}/": "a" * 253,
        f"https://{'a' * 254}/": "",
        "https://[::1]/": "",
        "https:///path": "",
        "//host.example/": "",
        "host.example": "",
        "https://a b/": "",
        "": "",
        None: "",
    }
    hosts = Host("referrer_host", "referrer").derive(pl.Series(list(urls), dtype=pl.String))
    assert dict(zip(urls, hosts, strict=True)) == urls
    assert {url: oracle.host_of(url) for url in urls} == urls


@settings(max_examples=60, deadline=None)
@given(event_frames())
def test_views_are_counted_by_the_host_that_each_came_from(events: pl.DataFrame):
    (view,) = [view for view in VIEWS if view.name == "referrers"]
    rows = aggregate(events, [view])["referrers"]
    counted = {(bucket, site, host): views for bucket, site, host, views, _ in rows.iter_rows()}
    assert counted == Counter(
        (time.replace(minute=0, second=0, microsecond=0), site, oracle.host_of(referrer))
        for time, site, referrer in events.select("event_time", "site", "referrer").iter_rows()
    )


def test_a_derived_key_is_made_of_its_field():
    view = of_page_views("v", ("referrer_host",), timedelta(days=1), (Count("views"),))
    assert "referrer" in columns_read([view])
    assert "referrer_host" not in columns_read([view])


def test_digests_tell_declarations_apart():
    right = {"name": "v", "keys": ("site",), "bucket": VIEWS[0].bucket, "measures": VIEWS[0].measures}
    others = (
        {"name": "w"},
        {"keys": ("page",)},
        {"bucket": timedelta(hours=2)},
        {"measures": VIEWS[0].measures[:-1]},
        {"measures": (Count("views"), Count("errors", where=pl.col("status") >= 400), *VIEWS[0].measures[2:])},
    )
    views = [of_page_views(**(right | other)) for other in ({}, *others)]  # type: ignore[arg-type]
    assert len({view.digest for view in views}) == len(views)
    assert of_page_views(**right).digest == views[0].digest  # type: ignore[arg-type]
    # A catalogue has no two views of one name.
    named = [replace(view, name=f"v{number}") for number, view in enumerate(views)]
    by_day = replace(named[0], by_day=True)
    assert by_day.digest == named[0].digest
    assert len({catalogue_digest(some) for some in (named, named[1:], named[::-1], [], [by_day, *named[1:]])}) == 5
    # A rollup has new rows when those that it is of are new.
    assert len({replace(view, by_day=True).rollup.digest for view in views[:4]}) == 4


def test_digests_never_change():
    # Another digest of the same declaration would compute all history anew.
    assert [view.digest for view in VIEWS] == ["1c5db7b41d8f8354", "94908b2e21f67317", "ef0e58522273ada4"]


def test_by_day_makes_a_view_of_whole_days_that_readers_have_too():
    (view,) = [view for view in VIEWS if view.name == "page_traffic"]
    _, rollup = with_rollups([view])
    assert (rollup.name, rollup.keys, rollup.bucket) == ("page_traffic_by_day", view.keys, timedelta(days=1))
    assert with_rollups([replace(view, by_day=False)]) == (replace(view, by_day=False),)
    with pytest.raises(CatalogueError, match="view days: its rows are of a day already; leave by_day out"):
        View("days", ("site",), timedelta(days=1), VIEWS[0].measures, by_day=True)
    with pytest.raises(CatalogueError, match="view page_traffic_by_day is there twice; by_day of a view `v` makes a view"):
        with_rollups([view, View("page_traffic_by_day", ("site",), timedelta(hours=1), VIEWS[0].measures)])
    with pytest.raises(CatalogueError, match="view page_traffic_sketches: the name of another view's sketches"):
        with_rollups([view, View("page_traffic_sketches", ("site",), timedelta(hours=1), VIEWS[0].measures)])
    other = View("page_traffic_by_day", ("site",), timedelta(days=1), VIEWS[0].measures)
    with pytest.raises(CatalogueError, match="view page_traffic_by_day: the name of the rows of days of page_traffic"):
        with_rollups([other, replace(view, by_day=False)])


def test_bits_of_a_filter_are_a_power_of_two():
    with pytest.raises(CatalogueError, match="measure seen: 1000 bits are no power of two from 64 on"):
        Seen("seen", of="visitor_id", bits=1_000)
