"""When events are due: the first at once, each other one after its distance in time to that one, divided by the speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contract.columns import integers

_SECOND_US = 1_000_000
_LONGEST_WAIT_S = 0.5
MOST_ROWS = 20_000
"""So many events are sent between two looks at the clock and at Ctrl-C."""


class Schedule:
    """Due times of events whose times do not fall; the clock starts with the first of them."""

    def __init__(self, speed: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._speed, self._clock_s = speed, clock_s
        self._start: tuple[int, float] | None = None

    def begin(self, time_us: int) -> None:
        """An event of this time is due now, unless the clock was started before."""
        if self._start is None:
            self._start = time_us, self._clock_s()

    def seconds_until(self, time_us: int) -> float:
        """How long it is until an event is due; negative if it is late."""
        assert self._start is not None
        first_us, started_s = self._start
        return (time_us - first_us) / _SECOND_US / self._speed - (self._clock_s() - started_s)

    def due(self, times_us: NDArray[np.int64]) -> int:
        """How many of the events, whose times do not fall, are due."""
        assert self._start is not None
        first_us, started_s = self._start
        passed_us = (self._clock_s() - started_s) * self._speed * _SECOND_US
        return int(np.searchsorted(times_us - first_us, passed_us, side="right"))


def paced(frames: Iterable[pl.DataFrame], schedule: Schedule, wait: Callable[[float], object]) -> Iterator[pl.DataFrame]:
    """The frames' events, in parts that are due when they come; an empty one after each `wait`, for a look at the rest."""
    for frame in frames:
        times_us = integers(frame["event_time"])
        first = 0
        while first < len(times_us):
            schedule.begin(int(times_us[first]))
            after = min(schedule.due(times_us), first + MOST_ROWS)
            if after <= first:
                wait(min(schedule.seconds_until(int(times_us[first])), _LONGEST_WAIT_S))
            yield frame[first:after]
            first = max(first, after)
