"""What a replay did, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date, datetime

import msgspec
import polars as pl

from ingest.progress import duration


@dataclass
class Replayed:
    """What was sent, or would be; a reader of each partition that stands at next_offsets has read all of it.

    `copies` is how many more records of the same events the archive has. Of a dry run `seconds` is what it would take, 0 if
    nobody knows.
    """

    topic: str
    dry_run: bool
    events: int = 0
    copies: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None
    days: dict[date, int] = field(default_factory=dict)
    seconds: float = 0.0
    next_offsets: dict[str, int] = field(default_factory=dict)

    def add(self, events: pl.DataFrame) -> None:
        """Count these events, of which there is at least one."""
        first, last = events.select(first=pl.col("event_time").min(), last=pl.col("event_time").max()).row(0)
        self.first_time = first if self.first_time is None else min(first, self.first_time)
        self.last_time = last if self.last_time is None else max(last, self.last_time)
        for day, count in events.group_by(pl.col("event_time").dt.date()).len().iter_rows():
            self.days[day] = self.days.get(day, 0) + count
        self.events += len(events)

    def text(self) -> str:
        """The result for people."""
        what = f"{self.events:,} events of {self.first_time:%Y-%m-%d %H:%M:%S}Z to {self.last_time:%Y-%m-%d %H:%M:%S}Z"
        copies = f"{self.copies:,} further copies in the archive left out"
        if self.dry_run:
            of_days = ", ".join(f"{day}: {events:,}" for day, events in sorted(self.days.items()))
            how = f"in {duration(self.seconds)}" if self.seconds else "as fast as possible"
            return f"would send {what} to topic {self.topic} {how} ({of_days}); {copies}"
        rate = self.events / max(self.seconds, 1e-3)
        return f"sent {what} to topic {self.topic} in {duration(self.seconds)}, {rate:,.0f}/s; {copies}"

    def json(self) -> str:
        """The result for programs."""
        days = {day.isoformat(): events for day, events in sorted(self.days.items())}
        return msgspec.json.encode({**asdict(self), "days": days}).decode()
