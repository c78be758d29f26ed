"""History as if it happened now: new ids, times moved to the present, another site's name. It counts as new."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import polars as pl

from contract.event import EVENT_SCHEMA, SITE_LENGTH

SITE_PREFIX = "replay."


@dataclass
class Shift:
    """An event of time `from_us` happens at `to_us`, and the others as far from it as they were, divided by `speed`."""

    from_us: int
    to_us: int
    speed: float = 1.0
    source: str = field(default_factory=lambda: f"replay-{uuid.uuid4().hex}")
    _sequence: int = 0

    def apply(self, events: pl.DataFrame) -> pl.DataFrame:
        """The events as new ones; their ids are numbered through all calls."""
        first, self._sequence = self._sequence, self._sequence + len(events)
        times_us = self.to_us + (pl.col("event_time").to_physical() - self.from_us) / self.speed
        return events.with_columns(
            event_id=pl.lit(f"{self.source}:") + pl.int_range(first, self._sequence).cast(pl.String),
            event_time=times_us.cast(pl.Int64).cast(EVENT_SCHEMA["event_time"]),
            site=(pl.lit(SITE_PREFIX) + pl.col("site")).str.slice(0, SITE_LENGTH),
        )
