"""When what was away: as it is seen, for as long as the page runs, and no longer than a day."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from serving.page.series import Outage

_KEPT_S = 86_400.0
_MOST = 200
WORTH_S = 3.0
"""What is back within that was no outage."""


class Outages:
    """Times are Unix seconds."""

    def __init__(self) -> None:
        self._ended: deque[Outage] = deque(maxlen=_MOST)
        self._open: dict[str, Outage] = {}
        self._up_s: dict[str, float] = {}

    def see(self, what: str, is_up: bool, at_s: float) -> None:
        """It is up or down now. An outage begins when it was last seen up, for it was no later that it began."""
        began = self._open.pop(what, None)
        if is_up:
            if began and at_s - began.from_s >= WORTH_S:
                self._ended.append(replace(began, until_s=at_s))
            self._up_s[what] = at_s
        else:
            self._open[what] = began or Outage(what, self._up_s.get(what, at_s), None)

    def all(self, now_s: float) -> Sequence[Outage]:
        """Those of the last day, in the order in which they began."""
        while self._ended and (self._ended[0].until_s or 0) < now_s - _KEPT_S:
            self._ended.popleft()
        going_on = [outage for outage in self._open.values() if now_s - outage.from_s >= WORTH_S]
        return sorted((*self._ended, *going_on), key=lambda outage: outage.from_s)

    def of(self, what: str, now_s: float) -> list[Outage]:
        """Those of one server."""
        return [outage for outage in self.all(now_s) if outage.what == what]
