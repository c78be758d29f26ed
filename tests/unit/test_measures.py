"""Measures beside counts and sketches: the laws of merging, and plain Python, of every type of field they may be of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Exactly
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.aggregate import aggregate, columns_read, merge
from contract.errors import CatalogueError
from contract.fields import Decimal
from contract.keys import Range
from contract.measures import Count, Distinct, Measure, Quantiles, Seen, Sum, decimal_sql
from contract.measures_of_many import Histogram, Mean
from contract.measures_of_one import First, Min
from contract.measures_refused import TDigest, TopK
from contract.stream import Stream
from contract.streams.page_views import PAGE_VIEWS
from contract.view import View
from tests.fixtures.measured import bits, measured
from tests.fixtures.trips import FIELDS, HOUR, ROWS, TRIPS, VIEW, frame, stream


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=20).map(frame), st.integers(0, 20), st.integers(0, 20))
def test_fold_of_all_is_the_merge_of_any_split_in_any_order(events: pl.DataFrame, first: int, second: int):
    whole = aggregate(events, TRIPS.views)["trips"]
    low, high = sorted((first, second))
    a, b, c = (aggregate(part, TRIPS.views)["trips"] for part in (events[:low], events[low:high], events[high:]))
    # Of doubles the bits, which tell zeros apart that are equal.
    for merged in (
        merge(VIEW, [a, b, c]),
        merge(VIEW, [c, merge(VIEW, [b, a])]),
        merge(VIEW, [whole, aggregate(events[:0], TRIPS.views)["trips"]]),
        aggregate(events[::-1], TRIPS.views)["trips"],
    ):
        assert bits(merged).equals(bits(whole))
    assert whole.schema == VIEW.schema


def test_a_zero_has_one_sign_whichever_comes_first():
    loads = [{"at": datetime(2026, 5, 17, tzinfo=UTC), "load": load, "huge": 0} for load in (0.0, -0.0, 0.0, -0.0, -0.0)]
    for events in (frame(loads), frame(loads[::-1])):
        row = aggregate(events, TRIPS.views)["trips"].row(0, named=True)
        assert [np.signbit(row[name]) for name in ("least_load", "greatest_load")] == [False, False]
        assert row["first_load"][47:] == row["last_load"][47:] == "0.0"


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=20).map(frame))
def test_each_row_has_what_plain_python_makes_of_its_events(events: pl.DataFrame):
    rows = aggregate(events, TRIPS.views)["trips"].rows(named=True)
    of_row: dict[tuple[datetime, str], list[dict[str, Any]]] = {}
    for event in events.iter_rows(named=True):
        of_row.setdefault((event["at"].replace(minute=0), event["kind"] or ""), []).append(event)
    assert [(row["bucket"], row["kind"]) for row in rows] == sorted(of_row)
    for row in rows:
        its = of_row[row["bucket"], row["kind"]]
        assert row["trips"] == len(its)
        assert row["cheap"] == sum(event["fare"] is not None and event["fare"] < Exactly("9.99") for event in its)
        assert row["members"] == sum(event["is_member"] is True and event["kind"] == "a" for event in its)
        for measure in VIEW.measures[3:]:
            assert row[measure.name] == measured(TRIPS, measure, its), measure.name


def test_columns_of_records_are_read_only_for_what_is_first_or_last():
    assert columns_read(TRIPS.views)[:4] == ["partition", "offset", "id", "at"]
    assert "offset" in First("x", of="note").bound(TRIPS).reads


@pytest.mark.parametrize(
    ("measure", "complaint"),
    [
        (Sum("load"), "measure load: a sum of doubles depends on their order.*make load a Decimal"),
        (Mean("x", of="load"), "a sum of doubles depends on their order"),
        (Sum("huge"), r"millions of huge may not fit 64 bits as a sum: its limits are beyond 2\^40"),
        (Sum("note"), "measure note: note is no number"),
        (Quantiles("x", of="floor"), "floor may be negative.*Histogram has bounds of its own"),
        (Quantiles("x", of="kind"), "kind is no number"),
        (Distinct("x", of="floor"), "floor is no text"),
        (Seen("x", of="at"), "at is no text"),
        (Min("x", of="note"), "note is none of Integer, Decimal, Double, Timestamp"),
        (Histogram("x", of="kind", bounds=(1,)), "kind is no number"),
        (Histogram("x", of="fare", bounds=("0.001",)), "a bound has more decimal places than fare, which has 2"),
        (Histogram("x", of="floor", bounds=(0.5,)), "a bound has more decimal places than floor, which has 0"),
        (Histogram("x", of="huge", bounds=(10**19,)), "a bound is beyond 64 bits in the smallest unit of huge"),
        (Histogram("x", of="fare", bounds=(10**17,)), "a bound is beyond 64 bits in the smallest unit of fare"),
        (Count("x", where=pl.col("floor")), "its condition is not true or false of each event by itself"),
        (Count("x", where=pl.col("floor").max() > 1), "its condition is not true or false of each event by itself"),
        (Count("x", where=pl.col("note") > 1), "its condition cannot be asked: cannot compare string with numeric"),
        (First("x", of="nothing"), "measure x: nothing is no field of stream trips"),
        (Count("x", where=pl.col("nothing") > 1), "nothing is no field of stream trips"),
    ],
)
def test_a_measure_that_cannot_be_exact_is_refused(measure: Measure, complaint: str):
    with pytest.raises(CatalogueError, match=f"view trips: .*{complaint}"):
        stream(Count("trips"), measure)


@pytest.mark.parametrize(
    ("declare", "complaint"),
    [
        (
            lambda: TopK("pages", of="page", k=10),
            "measure pages: what a top-k keeps depends on the order; make",
        ),
        (lambda: Distinct("x", of="note", precision=16), "measure x: its precision, 16, is none of 10 to 15"),
        (lambda: TDigest("latency", of="ms"), "measure latency: a t-digest's centroids depend on the order.*Quantiles"),
        (lambda: Histogram("x", of="floor", bounds=(2, 1)), r"measure x: \(2, 1\) are not up to 64 bounds that rise"),
        (lambda: Histogram("x", of="floor", bounds=()), "are not up to 64 bounds that rise"),
        (lambda: Histogram("x", of="load", bounds=(float("nan"),)), "are not up to 64 bounds that rise"),
        (lambda: Histogram("x", of="load", bounds=(0.0, float("inf"))), "are not up to 64 bounds that rise"),
        (lambda: Histogram("x", of="fare", bounds=("much",)), "are not up to 64 bounds that rise"),
    ],
)
def test_what_no_view_can_have_is_refused_with_what_to_use(declare: Any, complaint: str):
    with pytest.raises(CatalogueError, match=complaint):
        declare()


def test_keys_are_derived_from_any_type_of_field():
    keys = ("level", "price", "hour", "weekday", "membership")
    trips = stream(Count("trips"), keys=keys)
    at = datetime(2026, 5, 17, 23, 40, tzinfo=UTC)
    events = frame(
        [
            {"at": at, "floor": -2, "fare": Exactly("9.98"), "ended_at": at, "is_member": True, "huge": 0},
            {
                "at": at,
                "floor": 3,
                "fare": Exactly("9.99"),
                "ended_at": at + timedelta(hours=6),
                "is_member": False,
                "huge": 0,
            },
            {"at": at, "huge": 0},
        ]
    )
    # 23:40 in UTC is 05:10 of the next day in India; half an hour past midnight in New York is Monday.
    assert aggregate(events, trips.views)["trips"].select(keys).rows() == [
        ("", "", "05", "", ""), ("3", "9.99", "05", "1", "false"), ("below", "0", "05", "7", "true"),
    ]  # fmt: skip


def test_bounds_are_compared_exactly():
    above = 2**53 + 1  # no double is that
    ranges = {
        "of_huge": Range("of_huge", "huge", (above,)),
        "of_fare": Range("of_fare", "fare", ("9.985", 9.99)),
    }
    trips = replace(stream(Count("trips")), derived=tuple(ranges.values()), views=())
    trips = replace(trips, views=(View("trips", tuple(ranges), HOUR, (Count("trips"),)),))
    at = datetime(2026, 5, 17, tzinfo=UTC)
    rows = [
        {"at": at, "fare": Exactly(fare), "huge": huge}
        for fare, huge in (("9.98", above), ("9.99", above - 1), ("-100", above + 1))
    ]
    assert aggregate(frame(rows), trips.views)["trips"].select(*ranges).rows() == [
        (str(above), "below"), ("below", "9.99"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.col("floor").is_in([1, 2, 3, 4]), pl.col("floor").is_in([1, 2, 9, 4])),
        (pl.col("floor").is_in(pl.Series([1])), pl.col("floor").is_in(pl.Series([2]))),
        (pl.col("floor").is_between(1, 3), pl.col("floor").is_between(1, 3, closed="none")),
        ((pl.col("floor") + 1).is_between(1, 3), (pl.col("floor") + 1).is_between(1, 3, closed="none")),
        (pl.col("note").str.contains("."), pl.col("note").str.contains(".", literal=True)),
    ],
)
def test_a_condition_that_changes_makes_another_view(one: pl.Expr, other: pl.Expr):
    first, again, second = (stream(Count("trips"), Count("x", where=where)).views[0].digest for where in (one, one, other))
    assert first == again != second


def test_a_condition_that_its_words_say_whole_has_the_digest_of_before():
    # Another one would give the stacks that have such a view new tables.
    conditions = (pl.col("status") >= 500, ~pl.col("referrer").is_null() & (pl.col("page") != "/"))
    views = [View("v", ("site",), HOUR, (Count("n"), Count("x", where=where)), stream=PAGE_VIEWS) for where in conditions]
    assert [view.digest for view in views] == ["d637acba51c13f36", "73a79a9ee26a9d52"]


def test_decimals_are_shown_with_all_their_digits():
    # PostgreSQL rounds 123456789123456789 / 1000000000 to 16 digits, and multiplies exactly.
    assert decimal_sql("{0}", 9) == "({0}::numeric * 0.000000001)"
    assert [decimal_sql("x", places) for places in (0, 2)] == ["x", "(x::numeric * 0.01)"]


def test_a_type_that_changes_makes_another_view():
    others = [replace_field("fare", Decimal("fare", "", 3, "-100", "100", optional=True)), TRIPS]
    assert len({other.views[0].digest for other in others}) == 2


def replace_field(name: str, field: Any) -> Stream:
    fields = tuple(field if one.name == name else one for one in FIELDS)
    view = View("trips", ("kind",), HOUR, (Count("trips"), Sum("fare")))
    return Stream("trips", "One trip", "trips", fields, ("id",), "at", "id", views=(view,))
