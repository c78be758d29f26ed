"""The page's arithmetic: what is known and what is not, how often a question is asked, when something was away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InputError
from serving.page.budgets import machine_memory
from serving.page.freshness import Freshness
from serving.page.outages import WORTH_S, Outages
from serving.page.scope import RANGES, Scope
from serving.page.series import Outage, Row, columns, error_band
from serving.page.shares import Share, Shares


def row(at_s: int, views: int = 5) -> Row:
    return Row(at_s, views, 0, 0, 1, 1.0, 2.0, 3.0)


def test_a_step_without_a_row_is_zero_where_all_is_counted():
    table = columns([row(60)], 0, 179, 60, known_until_s=179)
    assert table["at_s"] == [0, 60, 120]
    assert table["batch"] == [0, 5, 0]
    assert table["visitors"] == [0, 1, 0]
    assert table["p95_ms"] == [None, 2.0, None]


def test_what_is_not_counted_yet_is_not_zero():
    table = columns([row(60)], 0, 299, 60, known_until_s=130)
    assert table["batch"] == [0, 5, 0, None, None]
    assert table["visitors_low"][3:] == [None, None]
    # A step that has just begun is known, as long as what comes is counted within seconds.
    assert columns([], 0, 121, 60, known_until_s=119)["batch"] == [0, 0, 0]
    assert columns([], 0, 131, 60, known_until_s=119)["batch"] == [0, 0, None]


def test_nothing_is_known_before_anything_was_told():
    assert columns([], 0, 119, 60, known_until_s=None)["batch"] == [None, None]


def test_while_no_event_could_come_no_step_is_zero_and_what_came_late_is_there():
    outages = [Outage("Kafka", 55, 200)]
    table = columns([row(60)], 0, 239, 60, known_until_s=239, outages=outages)
    # The steps that the outage does not cover whole are known as far as they go.
    assert table["batch"] == [0, 5, None, 0]
    assert columns([], 0, 239, 60, 239, [Outage("Kafka", 55, None)])["batch"] == [0, None, None, None]


def test_the_band_is_one_standard_error_of_the_sketch():
    assert error_band(1_000) == (977.02, 1022.98)
    assert error_band(None) == (None, None)


@given(st.integers(min_value=0, max_value=4_000_000_000), st.sampled_from(sorted(RANGES)))
def test_a_range_has_whole_steps_and_ends_with_the_one_that_now_is_in(second: int, name: str):
    now, one = datetime.fromtimestamp(second, UTC), RANGES[name]
    begin = one.begin(now)
    assert begin.timestamp() % one.step.total_seconds() == 0
    last = begin + one.span - one.step
    assert last <= now < last + one.step


@pytest.mark.parametrize(("site", "name"), [("a", "2h"), ("a" * 254, "1h"), ("a\0", "1h")])
def test_no_other_scope_is_asked_for(site: str, name: str):
    with pytest.raises(InputError):
        Scope.of(site, name)


def test_a_moment_is_covered_when_what_kafka_had_then_is_counted():
    freshness = Freshness()
    assert freshness.is_counted(0, {0: 10}) is None
    freshness.kafka_has(1, {0: 10, 1: 10})
    freshness.kafka_has(3, {0: 20, 1: 10})
    assert freshness.is_counted(4, {0: 15, 1: 10}) == 2  # half of what came between 1 and 3
    assert freshness.is_counted(4, {0: 20, 1: 10}) == 3
    # A partition that is new to it and that nobody counts holds all back.
    freshness.kafka_has(5, {0: 20, 1: 10, 2: 4})
    assert freshness.is_counted(6, {0: 20, 1: 10}) == 3
    assert freshness.is_counted(6, {0: 20, 1: 10, 2: 4}) == 5


def test_the_moment_stands_still_while_kafka_says_nothing_or_nobody_counts():
    freshness = Freshness()
    freshness.kafka_has(1, {0: 10})
    assert [freshness.is_counted(at, {0: 10}) for at in (1, 50, 99)] == [1, 1, 1]
    for at in range(100, 20_000):
        freshness.kafka_has(at, {0: 10 + at})
    assert freshness.is_counted(20_000, {0: 10}) == pytest.approx(1, abs=10)
    assert freshness.is_counted(20_001, {0: 30_000}) == 19_999


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_a_covered_moment_is_never_later_than_what_was_counted_and_never_goes_back(steps: list[tuple[int, int]]):
    freshness, end, counted, last = Freshness(), 0, 0, None
    ends: list[tuple[int, int]] = []
    for at, (came, wanted) in enumerate(steps):
        end += came
        counted = min(end, counted + wanted)
        freshness.kafka_has(at, {0: end})
        ends.append((at, end))
        covered = freshness.is_counted(at, {0: counted})
        if covered is None:
            # Not all is counted yet that was there at the first look.
            assert last is None
            assert counted < ends[0][1]
            continue
        assert last is None or last <= covered
        assert covered <= at
        # What Kafka had at each moment up to then is counted.
        assert all(had <= counted for moment, had in ends if moment <= covered)
        last = covered


def test_of_ten_seconds_in_which_nobody_looked_nothing_is_known():
    freshness = Freshness()
    freshness.kafka_has(1_000, {0: 1})
    freshness.is_counted(1_001, {0: 1})
    freshness.is_counted(1_004, {0: 1})
    freshness.is_counted(1_021, {0: 1})
    history = freshness.history(1_025)
    assert history["at"][-3:] == [1_000, 1_010, 1_020]
    assert history["age_s"][-3:] == [4, None, 21]


def asked_for(seconds: float, share: Share, took_s: float, scopes: int = 1) -> list[float]:
    """When a question is asked that takes so long, by somebody who wants to know all the time."""
    shares, times, now_s = Shares(), list[float](), 0.0
    while now_s < seconds:
        if shares.is_due("q", now_s):
            shares.asked("q", share, now_s, took_s, scopes)
            times.append(now_s)
        now_s += 1 / 16
    return times


@pytest.mark.parametrize("took_s", [0.002, 0.02, 0.5, 7])
@pytest.mark.parametrize("scopes", [1, 4])
def test_a_question_takes_no_more_than_its_share_however_long_it_takes(took_s: float, scopes: int):
    share, seconds = Share(least_s=0.25, of_core=0.006), 4_000.0
    # One scope of several; what was saved at the beginning, and the last one, come on top.
    assert len(asked_for(seconds, share, took_s, scopes)) * took_s <= seconds * share.of_core / scopes + 0.1 + took_s


def test_what_costs_little_is_asked_as_often_as_it_may_be():
    times = asked_for(100, Share(least_s=1, of_core=0.01), 0.002)
    assert len(times) in (99, 100, 101)


def test_a_first_answer_that_comes_late_delays_no_other():
    shares, share = Shares(), Share(0.25, 0.006)
    # Nothing is in a cache yet.
    shares.asked("q", share, 0, 0.07)
    assert [shares.is_due("q", at) for at in (0.2, 0.25)] == [False, True]


def test_a_busy_machine_does_not_make_a_question_dear():
    shares, share = Shares(), Share(1.0, 0.01)
    for number, took_s in enumerate((0.001, 5.0, 5.0, 5.0)):
        shares.asked("q", share, number, took_s)
    assert shares.is_due("q", 4)


def test_what_is_hurried_is_asked_at_once_and_paid_for_later():
    shares, share = Shares(), Share(1.0, 0.01)
    shares.asked("q", share, 0, 2.0)
    assert not shares.is_due("q", 100)
    shares.hurry("q")
    assert shares.is_due("q", 1)
    shares.asked("q", share, 1, 2.0)
    assert not shares.is_due("q", 380)
    shares.forget("q")
    assert shares.is_due("q", 2)


def test_an_outage_begins_when_it_was_last_seen_up_and_short_ones_are_none():
    outages = Outages()
    for at, is_up in ((10, True), (12, False), (11 + WORTH_S, True), (20, False), (30, False)):
        outages.see("Kafka", is_up, at)
    assert outages.all(31) == [Outage("Kafka", 10, 14), Outage("Kafka", 14, None)]
    outages.see("Kafka", True, 40)
    assert outages.of("Kafka", 41)[-1] == Outage("Kafka", 14, 40)
    assert outages.of("TimescaleDB", 41) == []
    assert outages.all(timedelta(days=2).total_seconds()) == []
    outages.see("ZooKeeper", False, 50)
    outages.see("ZooKeeper", True, 51)
    assert outages.of("ZooKeeper", 60) == []


def test_the_machines_memory_is_read_in_bytes():
    text = "MemTotal:       24682280 kB\nMemFree:          812340 kB\nMemAvailable:   11234567 kB\n"
    assert machine_memory(text) == {"total_bytes": 24_682_280 << 10, "available_bytes": 11_234_567 << 10}
