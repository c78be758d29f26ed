"""When a question may be asked again: each has a share of one core, whatever the answer costs.

So what the page costs follows neither from how much is stored nor from who looks: a question that takes ten times as long is
asked a tenth as often. One that is asked for several scopes shares its share among them. What is not used is saved, up to a
bound: after a quiet time, and at the beginning, a question is asked at once, whatever it took last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

_REMEMBERED = 20
_SAVED_S = 0.1
"""Of a core's time."""


@dataclass(frozen=True)
class Share:
    """Not more often than every `least_s`, and of one core no more than `of_core`."""

    least_s: float
    of_core: float


@dataclass
class _Account:
    took_s: deque[float]
    saved_s: float
    asked_s: float
    next_s: float


class Shares:
    """Whose turn it is. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._accounts: dict[Hashable, _Account] = {}

    def is_due(self, question: Hashable, now_s: float) -> bool:
        """Whether it may be asked; one that never was may be."""
        account = self._accounts.get(question)
        return account is None or now_s >= account.next_s

    def asked(self, question: Hashable, share: Share, now_s: float, took_s: float, scopes: int = 1) -> None:
        """It was answered now, or refused, after so long."""
        account = self._accounts.setdefault(question, _Account(deque(maxlen=_REMEMBERED), _SAVED_S, now_s, now_s))
        account.took_s.append(took_s)
        earned_s = (now_s - account.asked_s) * share.of_core / scopes
        # What else runs on the machine makes an answer late and not dear: the quickest of the last ones says what it costs.
        # guard: what an answer costs says when it is asked again
        account.saved_s = min(_SAVED_S, account.saved_s + earned_s) - min(account.took_s)
        account.asked_s = now_s
        account.next_s = now_s + max(share.least_s, -account.saved_s * scopes / share.of_core)

    def hurry(self, question: Hashable) -> None:
        """Something has happened: it may be asked at once."""
        if question in self._accounts:
            self._accounts[question].next_s = 0

    def forget(self, question: Hashable) -> None:
        """Nobody wants to know any more."""
        self._accounts.pop(question, None)
