"""Simulated traffic is the same for the same arguments, in the promised proportions, at the promised pace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from contract.event import EVENTS, decode
from ingest.simulate import MISTAKES, RESENT_WITHIN, Shares, day_curve, events, pace

NOW = datetime(2025, 11, 21, 8, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
COUNT = 30_000


def stream(seed: int = 1, count: int = COUNT, now: datetime = NOW) -> list[tuple[str, bytes]]:
    return list(islice(events(seed, lambda: now, "test"), count))


def test_the_same_arguments_give_the_same_traffic():
    assert stream(count=500) == stream(count=500)
    assert stream(count=500) != stream(seed=2, count=500)


def test_a_later_start_repeats_no_id():
    ids = [
        set(decode(0, range(500), [NOW_MS] * 500, [value for _, value in stream(count=500, now=start)]).events["event_id"])
        for start in (NOW, NOW + timedelta(milliseconds=1))
    ]
    assert not ids[0] & ids[1]
    assert f"test-{NOW_MS}:0" in ids[0]


def test_lateness_repeats_mistakes_and_popularity_have_the_promised_shares():
    records = stream()
    values = [value for _, value in records]
    decoded = decode(0, range(COUNT), [NOW_MS] * COUNT, values)
    kinds = set(decoded.rejects["reason"])
    assert 10 <= len(decoded.rejects) <= 60
    assert len(kinds) >= 6
    accepted = decoded.events
    late = accepted.filter(accepted["event_time"] < NOW)
    assert 0.015 < len(late) / COUNT < 0.025
    assert late["event_time"].min() >= NOW - timedelta(days=3)  # type: ignore[operator]
    assert 0.007 < len(accepted) / COUNT - accepted["event_id"].n_unique() / COUNT < 0.013
    pages = accepted["page"].value_counts(sort=True)["count"].to_list()
    assert 1.6 < pages[0] / pages[1] < 2.4
    assert 25 < accepted["duration_ms"].median() < 45  # type: ignore[operator]
    assert [key for key, _ in records[:50]] == accepted["visitor_id"].to_list()[:50]


def test_other_shares_on_request():
    records = list(islice(events(1, lambda: NOW, "test", shares=Shares(late=1, twice=0, malformed=0.2)), 5_000))
    decoded = decode(0, range(5_000), [NOW_MS] * 5_000, [value for _, value in records])
    assert 0.18 < len(decoded.rejects) / 5_000 < 0.22
    assert decoded.events["event_time"].max() < NOW  # type: ignore[operator]
    assert decoded.events["event_id"].is_unique().all()


def test_late_events_are_of_all_ages_up_to_the_days_on_request():
    shares = Shares(late=1, twice=0, malformed=0, late_days=40)
    values = [value for _, value in islice(events(1, lambda: NOW, "test", shares=shares), 2_000)]
    times = decode(0, range(2_000), [NOW_MS] * 2_000, values).events["event_time"]
    assert times.min() >= NOW - timedelta(days=40)  # type: ignore[operator]
    assert times.dt.date().n_unique() == 41


def test_a_repeat_has_the_same_key_and_comes_soon():
    first: dict[bytes, tuple[int, str]] = {}
    distances = []
    for position, (key, value) in enumerate(stream()):
        at, same_key = first.setdefault(value, (position, key))
        if at != position and value:
            assert key == same_key
            distances.append(position - at)
    assert 0 < max(distances) < 1.1 * RESENT_WITHIN


OF_LINES = {"not_a_log_line", "not_a_request"}
"""Reasons that only who reads a log can know."""


def test_there_is_one_mistake_for_each_reason():
    values = [mistake(stream(count=1)[0][1]) for mistake in MISTAKES]
    reasons = decode(0, range(len(values)), [NOW_MS] * len(values), values).rejects["reason"].to_list()
    assert sorted(reasons) == sorted(EVENTS.reasons.keys() - OF_LINES)


def test_the_day_has_a_mean_of_one():
    rates = [day_curve(NOW + timedelta(minutes=minute)) for minute in range(1_440)]
    assert sum(rates) / len(rates) == pytest.approx(1)
    assert (min(rates), max(rates)) == (pytest.approx(0.8), pytest.approx(1.2))
    assert day_curve(NOW.replace(hour=20)) == max(rates)


def test_the_pace_is_the_rate_and_a_stall_costs_at_most_a_second():
    clock_s, sent = [100.0], []
    waits = iter([0.05] * 200 + [30.0] + [0.05] * 20)

    def wait(seconds: float) -> bool:
        passed = next(waits, None)
        clock_s[0] += passed or 0
        return passed is None

    ticks = list(pace(iter([("k", b"")] * 10**6), lambda: 1_000.0, sent.extend, wait, lambda: clock_s[0]))
    assert sum(ticks) == len(sent) == pytest.approx(10_000 + 1_000 + 1_000, abs=2)
    assert max(ticks) == pytest.approx(1_000, abs=1)


def test_the_pace_ends_with_the_records():
    clock_s = iter(range(100))
    assert sum(pace([("k", b"")] * 7, lambda: 3.0, lambda records: None, lambda seconds: False, lambda: next(clock_s))) == 7
