"""Records that are no events, as the malformed drill sends them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

from ingest.simulate import MISTAKES, Shares, events

_EVENT = next(islice(events(1, lambda: datetime.now(UTC), "malformed", shares=Shares(0, 0, 0)), 1))[1]
MALFORMED = tuple(mistake(_EVENT) for mistake in MISTAKES)
