"""When to give up waiting: what advances may take as long as it likes, what stands still for too long is a failure."""

from __future__ import annotations

import time
from collections.abc import Callable


class Standstill:
    """For how long a position has not been further than ever before; too long after `limit_s`.

    To go back is no advance, nor is to come to where it was before.
    """

    def __init__(self, limit_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock_s = limit_s, clock_s
        self._furthest = float("-inf")
        self._since_s = clock_s()

    def see(self, position: float) -> bool:
        """Whether the position, where it is now, has advanced."""
        # guard: a wait that advances goes on
        advanced = position > self._furthest
        if advanced:
            self._furthest, self._since_s = position, self._clock_s()
        return advanced

    @property
    def stood_s(self) -> float:
        """Seconds since it last advanced."""
        return self._clock_s() - self._since_s

    @property
    def too_long(self) -> bool:
        """Whether to give up."""
        return self.stood_s > self._limit_s
