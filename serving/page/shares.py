"""When a question may be asked again: each has a share of one core, whatever the answer costs.

So what the page costs follows neither from how much is stored nor from who looks: a question that takes ten times as long is
asked a tenth as often. One that is asked for several scopes shares its share among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

_REMEMBERED = 5


@dataclass(frozen=True)
class Share:
    """Not more often than every `least_s`, and of one core no more than `of_core`."""

    least_s: float
    of_core: float


class Shares:
    """Whose turn it is. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._took_s: dict[Hashable, deque[float]] = {}
        self._next_s: dict[Hashable, float] = {}

    def is_due(self, question: Hashable, now_s: float) -> bool:
        """Whether it may be asked; one that never was may be."""
        return now_s >= self._next_s.get(question, now_s)

    def asked(self, question: Hashable, share: Share, now_s: float, took_s: float, scopes: int = 1) -> None:
        """It was answered now, or refused, after so long."""
        took = self._took_s.setdefault(question, deque(maxlen=_REMEMBERED))
        took.append(took_s)
        # What else runs on the machine makes an answer late and not dear: the quickest of the last ones says what it costs.
        # guard: what an answer costs says when it is asked again
        self._next_s[question] = now_s + max(share.least_s, min(took) * scopes / share.of_core)

    def hurry(self, question: Hashable) -> None:
        """Something has happened: it may be asked at once."""
        self._next_s.pop(question, None)

    def forget(self, question: Hashable) -> None:
        """Nobody wants to know any more."""
        self._took_s.pop(question, None)
        self._next_s.pop(question, None)
