"""A circuit breaker before Kafka: while it is open no request waits for what will not come, and it closes by itself.

closed: all requests go. open: none does, and Kafka is asked every so often. half open: Kafka answers; one request at a time
goes, and the first whose records are acknowledged closes the breaker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

_FAILURES = 3
_WAIT_S, _LONGEST_WAIT_S = 1.0, 8.0


class State(Enum):
    """What the breaker does with a request."""

    CLOSED = "closed"
    HALF_OPEN = "half open"
    OPEN = "open"


class Breaker:
    """Begins open until Kafka has answered once. `told` hears of each change, with the reason."""

    def __init__(self, told: Callable[[str], None] = lambda line: None, clock: Callable[[], float] = time.monotonic) -> None:
        self.state, self.reason = State.OPEN, "Kafka has not answered yet"
        self._told, self._clock = told, clock
        self._failures, self._on_trial, self._is_new = 0, False, True
        self._wait_s, self._probe_at = _WAIT_S, clock()

    @property
    def retry_after_s(self) -> float:
        """When a request may be worth sending again."""
        return max(1.0, self._probe_at - self._clock()) if self.state is State.OPEN else 1.0

    @property
    def is_probe_due(self) -> bool:
        """Whether Kafka is to be asked now."""
        return self.state is State.OPEN and self._clock() >= self._probe_at

    def enter(self) -> bool:
        """Whether a request may go; who goes says how it ended, by succeeded() or failed()."""
        # guard: an open breaker lets nothing through
        if self.state is State.OPEN or (self.state is State.HALF_OPEN and self._on_trial):
            return False
        self._on_trial = self.state is State.HALF_OPEN
        return True

    def succeeded(self) -> None:
        """Kafka acknowledged; also that of a request that went before the breaker opened."""
        self._failures, self._on_trial, self._wait_s = 0, False, _WAIT_S
        self._become(State.CLOSED, "Kafka acknowledges")

    def failed(self, reason: str) -> None:
        """Kafka did not acknowledge in time: several of those open the breaker, the one on trial does at once."""
        self._failures += 1
        if self.state is State.HALF_OPEN:
            self._wait_s = min(_LONGEST_WAIT_S, self._wait_s * 2)
        if self.state is State.HALF_OPEN or self._failures >= _FAILURES:
            self.trip(reason)

    def trip(self, reason: str) -> None:
        """Kafka is known to be away."""
        self._on_trial = False
        if self.state is not State.OPEN:
            self._probe_at = self._clock() + self._wait_s
        self._become(State.OPEN, reason)

    def probed(self, problem: str | None) -> None:
        """What Kafka answered; None: it has the topic, and each partition a leader."""
        if self.state is not State.OPEN:
            return
        if problem is None:
            self._failures = 0
            if self._is_new:
                self._become(State.CLOSED, "Kafka answers")
            else:
                self._become(State.HALF_OPEN, "Kafka answers again, and has not acknowledged yet")
            self._is_new = False
        else:
            self._probe_at = self._clock() + self._wait_s
            self.reason = problem

    def _become(self, state: State, reason: str) -> None:
        if state is not self.state:
            self.state, self.reason = state, reason
            self._told(f"breaker {state.value}: {reason}")
