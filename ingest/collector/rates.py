"""How many events a site may send: a bucket a site, which gets `per_s` tokens a second and holds those of two seconds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

BURST_S = 2
_MOST_SITES = 10_000


class Rates:
    """Takes a token an event; with 0 `per_s` all may go. Memory is bounded: of very many sites the oldest begin anew."""

    def __init__(self, per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock, self._burst = per_s, clock, per_s * BURST_S
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, sites: Mapping[str, int]) -> float:
        """0 if each site's events may go; else nothing is taken, and so many seconds later they may.

        More events than a bucket holds go when it is full, and are owed for afterwards.
        """
        if not self._per_s:
            return 0.0
        now = self._clock()
        tokens = {site: self._tokens(site, now) for site in sites}
        missing = max(min(events, self._burst) - tokens[site] for site, events in sites.items())
        # guard: a site keeps to its rate
        if missing > 0:
            return missing / self._per_s
        for site, events in sites.items():
            self._buckets[site] = (tokens[site] - events, now)
            self._buckets.move_to_end(site)
        while len(self._buckets) > _MOST_SITES:
            self._buckets.popitem(last=False)
        return 0.0

    def give_back(self, sites: Mapping[str, int]) -> None:
        """What was taken and did not go: who sends it again does not pay twice."""
        for site, events in sites.items():
            if site in self._buckets:
                tokens, at = self._buckets[site]
                self._buckets[site] = (tokens + events, at)

    def _tokens(self, site: str, now: float) -> float:
        tokens, at = self._buckets.get(site, (float(self._burst), now))
        return min(float(self._burst), tokens + (now - at) * self._per_s)
