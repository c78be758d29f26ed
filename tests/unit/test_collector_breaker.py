"""The collector's circuit breaker, rates and load, at moments that the tests choose."""

from __future__ import annotations

import pytest

from ingest.collector.breaker import Breaker, State
from ingest.collector.load import Load
from ingest.collector.rates import Rates


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def closed(clock: Clock, told: list[str] | None = None) -> Breaker:
    breaker = Breaker((told if told is not None else []).append, clock)
    breaker.probed(None)
    return breaker


def test_it_begins_open_and_asks_at_once_and_the_first_answer_closes_it():
    clock = Clock()
    breaker = Breaker(clock=clock)
    assert (breaker.state, breaker.is_probe_due, breaker.enter()) == (State.OPEN, True, False)
    breaker.probed("no answer")
    assert (breaker.state, breaker.is_probe_due, breaker.reason) == (State.OPEN, False, "no answer")
    breaker.probed(None)
    assert [breaker.enter(), breaker.enter()] == [True, True]


def test_half_open_lets_one_through_at_a_time_and_the_first_success_all():
    clock, told = Clock(), list[str]()
    breaker = closed(clock, told)
    breaker.trip("away")
    breaker.probed(None)
    assert [breaker.enter(), breaker.enter()] == [True, False]
    breaker.succeeded()
    assert [breaker.enter(), breaker.enter()] == [True, True]
    assert told == [
        "breaker closed: Kafka answers",
        "breaker open: away",
        "breaker half open: Kafka answers again, and has not acknowledged yet",
        "breaker closed: Kafka acknowledges",
    ]


def test_several_failures_in_a_row_open_it_and_one_that_worked_begins_anew():
    breaker = closed(Clock())
    breaker.failed("a")
    breaker.failed("b")
    breaker.succeeded()
    for reason in "cd":
        breaker.failed(reason)
        assert breaker.state is State.CLOSED
    breaker.failed("e")
    assert (breaker.state, breaker.reason, breaker.enter()) == (State.OPEN, "e", False)


def test_open_it_asks_again_and_again_and_waits_longer_after_a_trial_that_failed():
    clock = Clock()
    breaker = closed(clock)
    breaker.trip("away")
    waits = []
    for _ in range(5):
        waits.append(breaker.retry_after_s)
        assert not breaker.is_probe_due
        clock.now += breaker.retry_after_s
        assert breaker.is_probe_due
        breaker.probed("still away")
        assert not breaker.is_probe_due
        clock.now += breaker.retry_after_s
        breaker.probed(None)
        assert breaker.enter()
        breaker.failed("not acknowledged")
        assert breaker.state is State.OPEN
    assert waits == [1, 2, 4, 8, 8]
    breaker.probed(None)
    assert breaker.enter()
    breaker.succeeded()
    breaker.trip("away")
    assert breaker.retry_after_s == 1


def test_who_is_told_late_changes_nothing_but_by_a_success():
    breaker = closed(Clock())
    breaker.trip("away")
    breaker.failed("of a request that went before")
    assert (breaker.state, breaker.reason) == (State.OPEN, "away")
    breaker.succeeded()
    assert breaker.state is State.CLOSED
    breaker.probed("asked before that")
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(("used_s", "weight"), [(0.0, 100), (0.5, 75), (1.9, 5), (4.0, 5)])
def test_who_is_busy_weighs_less_and_never_nothing(used_s: float, weight: int):
    clock, used = Clock(), Clock()
    load = Load(used, clock)
    clock.now, used.now = clock.now + 2, used.now + used_s
    assert load.weight_percent() == weight
    clock.now += 2
    assert load.weight_percent() == 100


def test_sites_that_anybody_makes_up_take_bounded_memory():
    clock = Clock()
    rates = Rates(1, clock)
    for number in range(20_000):
        assert rates.take({f"site-{number}": 2}) == 0
    assert rates.take({"site-19999": 1}) == 1
    assert rates.take({"site-0": 1}) == 0  # forgotten, so it begins anew
    assert len(rates._buckets) == 10_000
