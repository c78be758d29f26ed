"""What a viewer has chosen: a site or all, and a range of time that ends now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from contract.errors import InputError
from contract.event import SITE_LENGTH

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Range:
    """`span` of time in rows of `step`; `by_day`: asked of the views that have a row a day."""

    text: str
    span: timedelta
    step: timedelta

    @property
    def by_day(self) -> bool:
        return self.step == _DAY

    def begin(self, now: datetime) -> datetime:
        """Where the first row begins: rows are whole, and the last one is the one that `now` is in."""
        step_s = self.step.total_seconds()
        last = datetime.fromtimestamp(now.timestamp() // step_s * step_s, UTC)
        return last - self.span + self.step


RANGES = {
    "15m": Range("15 minutes", timedelta(minutes=15), timedelta(minutes=1)),
    "1h": Range("hour", timedelta(hours=1), timedelta(minutes=1)),
    "6h": Range("6 hours", timedelta(hours=6), timedelta(minutes=5)),
    "24h": Range("24 hours", timedelta(hours=24), timedelta(minutes=15)),
    "7d": Range("7 days", timedelta(days=7), timedelta(hours=1)),
    "30d": Range("30 days", timedelta(days=30), _DAY),
    "1y": Range("year", timedelta(days=365), _DAY),
    "10y": Range("10 years", timedelta(days=3_653), _DAY),
}
DEFAULT_RANGE = "1h"


@dataclass(frozen=True)
class Scope:
    """One site, or all where it is empty, and the name of a range."""

    site: str
    range_name: str

    @classmethod
    def of(cls, site: str, range_name: str) -> Scope:
        """As it stands in an address. Raises InputError."""
        if range_name not in RANGES:
            raise InputError(f"range={range_name!r} is none of {', '.join(RANGES)}")
        if len(site) > SITE_LENGTH or "\0" in site:
            raise InputError(f"site= has {len(site)} characters, or one that no site has; at most {SITE_LENGTH}")
        return cls(site, range_name)

    @property
    def range(self) -> Range:
        return RANGES[self.range_name]
