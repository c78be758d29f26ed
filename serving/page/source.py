"""Whether one of the two that are asked all the time, database and Kafka, answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

AWAY_S = 5.0
"""Who has not answered for so long is away, even if no connection broke."""


@dataclass
class Source:
    """When it answered last, and what went wrong since."""

    at_s: float | None = None
    error: str | None = None

    def answered(self, at_s: float) -> None:
        self.at_s, self.error = at_s, None

    def why_away(self, now_s: float) -> str | None:
        """None if it is there."""
        if self.error is not None:
            return self.error
        # guard: silence is no answer
        if self.at_s is None or now_s - self.at_s > AWAY_S:
            return "no answer" if self.at_s is None else f"no answer since {_clock_time(self.at_s)}"
        return None


def _clock_time(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S} UTC"
